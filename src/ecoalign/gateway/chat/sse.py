"""The usage in a stream of server-sent events that passes by."""

from __future__ import annotations

from collections.abc import Mapping

from ecoalign.gateway.limits import JsonError, parse_json

__all__ = ["UsageReader"]

_MOST = 1024 * 1024
"""Bytes of one event that are looked at; a longer one passes by unread."""


class UsageReader:
    """Reads the usage of a stream of chunks.

    Args:
        hide: leave out the chunk that holds nothing but the usage, since the client did not ask
            for it.

    Attributes:
        usage: as the server gave it; None if it has not.
    """

    def __init__(self, *, hide: bool) -> None:
        self.usage: object = None
        self._hide = hide
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """What is passed on of `piece` and of what was held back; whole events only."""
        self._rest += piece
        shown = b""
        while True:
            end = _end_of_event(self._rest)
            if end < 0:
                break
            event, self._rest = self._rest[:end], self._rest[end:]
            if self._pass(event):
                shown += event
        if len(self._rest) > _MOST:
            shown, self._rest = shown + self._rest, b""
        return shown

    def end(self) -> bytes:
        """What is left at the end."""
        rest, self._rest = self._rest, b""
        return rest

    def _pass(self, event: bytes) -> bool:
        if b'"usage"' not in event:
            return True
        text = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        try:
            chunk = parse_json(text)
        except JsonError:
            return True
        if not isinstance(chunk, Mapping) or chunk.get("usage") is None:
            return True
        self.usage = chunk["usage"]
        return not (self._hide and chunk.get("choices") == [])


def _end_of_event(text: bytes) -> int:
    ends = [
        at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := text.find(mark)) >= 0
    ]
    return min(ends, default=-1)
