"""The calls of tools in a stream, put together from their pieces.

Servers number the pieces in ways of their own: from 1, all with 0, or not at all; with one id for a
call, a new one in every piece, or none; with the name once or in each piece.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ecoalign.gateway.chat._protocol import Json

_MOST_CHECKS = 64
"""Of whether the arguments of a call are whole: each reads them all."""


@dataclass(slots=True)
class _Call:
    """What has come of one call."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    checks: int = 0


class PassedCalls:
    """Puts calls together; a piece costs what is in it, however many there are."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def add(self, pieces: object) -> None:
        """Take what a chunk has of calls.

        Raises:
            ValueError: one of them is no object.
        """
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, Mapping):
                raise ValueError("a tool call that is none")
            self._add(piece)

    def add_older(self, piece: object) -> None:
        """Take a piece of the one call of servers that know the older form only."""
        if isinstance(piece, Mapping):
            self._add({"index": 0, "function": piece})

    def whole(self) -> list[Json]:
        """The calls, in the order in which they began."""
        return [
            {
                "id": call.id,
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in self._calls
        ]

    def _add(self, piece: Mapping[str, object]) -> None:
        function = piece.get("function")
        fields = function if isinstance(function, Mapping) else {}
        index, given, name = piece.get("index"), _text(piece.get("id")), _text(fields.get("name"))
        said = fields.get("arguments")
        # Some servers send the arguments as the object itself.
        words = (
            said if isinstance(said, str) else json.dumps(said, ensure_ascii=False) if said else ""
        )
        call = self._place(index, given, name, words)
        call.id = call.id or given
        if name != call.name:
            call.name += name
        if words:
            call.arguments.append(words)

    def _place(self, index: object, given: str, name: str, words: str) -> _Call:
        """The call that a piece belongs to, which may begin with it."""
        numbered = isinstance(index, int)
        known = self._by_index.get(index) if isinstance(index, int) else None
        if not numbered and self._calls:
            known = self._calls[-1]
        if known is not None and not _begins_another(known, given, name, words):
            return known
        call = _Call()
        self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call


def _begins_another(call: _Call, given: str, name: str, words: str) -> bool:
    """Whether a piece, by its number a part of `call`, begins another one: it names a tool, and has
    an id of its own or arguments after those of the call are whole."""
    if not name:
        return False
    if given and call.id:
        none = not any(map(str.strip, call.arguments))
        return given != call.id and (none or name != call.name or _is_whole(call))
    return words.lstrip().startswith("{") and _is_whole(call)


def _is_whole(call: _Call) -> bool:
    """Whether the arguments so far are a JSON object."""
    call.checks += 1
    if call.checks > _MOST_CHECKS:
        return False
    words = "".join(call.arguments)
    if not words.rstrip().endswith("}"):
        return False
    try:
        json.loads(words)
    except (ValueError, RecursionError):
        return False
    return True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
