"""Traces that are kept for a while, in bounded memory, each for the key that paid for it."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.trace.events import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecoalign.trace.events import Event

__all__ = ["Traces", "new_id"]


def new_id() -> str:
    """A name for a trace that nobody can guess."""
    return f"trace-{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class _Kept:
    owner: str
    packed: bytes = field(repr=False)


class Traces:
    """The traces of this process.

    Args:
        most: bytes of memory, packed; the oldest traces go first. 0 keeps none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def held(self) -> int:
        """Bytes in use."""
        return self._held

    async def keep(self, name: str, owner: str, events: Sequence[Event]) -> bool:
        """Keep a trace under `name` for `owner`; whether there was room for it."""
        packed = await asyncio.to_thread(_pack, tuple(events))
        if len(packed) > self._most:
            return False
        self._kept[name] = _Kept(owner, packed)
        self._held += len(packed)
        while self._held > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._held -= len(oldest.packed)
        return True

    async def read(self, name: str, owner: str) -> bytes | None:
        """The trace as JSON lines; None if there is none, or it is somebody else's."""
        kept = self._kept.get(name)
        if kept is None or kept.owner != owner:
            return None
        return await asyncio.to_thread(zlib.decompress, kept.packed)


def _pack(events: tuple[Event, ...]) -> bytes:
    lines = "".join(to_json(event) + "\n" for event in events)
    return zlib.compress(lines.encode(), 1)
