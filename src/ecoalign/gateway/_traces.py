"""Traces of runs: redacted ones for the keys that paid for them, whole ones for the operator."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from ecoalign.errors import InputError
from ecoalign.trace import Trace, redacted
from ecoalign.trace.events import Event, to_json

_log = logging.getLogger("ecoalign.gateway")


class TraceStore:
    """Traces that are kept for a while, in bounded memory, each for the key that paid for it.

    What a key can read is redacted (`ecoalign.trace.redacted`): no text that was not scored safe.

    Args:
        most: bytes of memory, packed; the oldest traces go first. 0 keeps none.
        folder: to which whole traces are written, for the operator; None for none.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, most: int, folder: Path | None = None) -> None:
        self._most = most
        self._folder = folder
        self._held = 0
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        if folder is not None:
            try:
                folder.mkdir(0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"the folder for traces {folder} cannot be made: {error.strerror}"
                ) from None

    @staticmethod
    def new_name() -> str:
        """A name for a trace that cannot be guessed."""
        return f"trace-{secrets.token_hex(16)}"

    async def write(self, name: str, events: Sequence[Event]) -> None:
        """Write a whole trace to the operator's folder, if there is one. That it cannot be written
        is logged, and no request fails of it."""
        if self._folder is not None:
            trace = Trace(tuple(events))
            try:
                await asyncio.to_thread(trace.save, self._folder / f"{name}.jsonl")
            except (InputError, OSError) as error:
                _log.error("a trace could not be written", exc_info=error)

    async def keep(self, name: str, owner: str, events: Sequence[Event]) -> bool:
        """Keep a trace under `name` for `owner`; whether there was room for it."""
        packed = await asyncio.to_thread(_pack, tuple(events))
        if len(packed) > self._most:
            return False
        self._kept[name] = owner, packed
        self._held += len(packed)
        while self._held > self._most:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._held -= len(oldest)
        return True

    async def read(self, name: str, owner: str) -> bytes | None:
        """The trace as JSON lines; None if there is none, or it is of another key."""
        kept = self._kept.get(name)
        if kept is None or kept[0] != owner:
            return None
        return await asyncio.to_thread(zlib.decompress, kept[1])


def _pack(events: tuple[Event, ...]) -> bytes:
    lines = "".join(to_json(event) + "\n" for event in redacted(events))
    return zlib.compress(lines.encode(), 1)
