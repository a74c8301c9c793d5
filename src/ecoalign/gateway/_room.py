"""Room for what all requests hold in memory, shared out between their owners."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Room:
    """What all requests may take together, in bytes or in pixels.

    An owner may hold as much as is left free: half where it is alone, a third where two want all
    they can get.

    Attributes:
        free: what nobody holds.
        held: by owner.
        waiting: who wants how much, the first come first.
    """

    free: int
    held: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[asyncio.Future[None], Share, int]] = field(default_factory=list)

    def has_room(self, owner: str | None, size: int) -> bool:
        """Whether `size` more may be held."""
        left = self.free - size
        return left >= 0 if owner is None else self.held.get(owner, 0) + size <= left

    def change(self, owner: str | None, size: int) -> None:
        """Hold `size` more, or less; then those who wait get what is free."""
        self.free -= size
        if owner is not None:
            now = self.held.pop(owner, 0) + size
            if now:
                self.held[owner] = now
        if size < 0:
            for one in tuple(self.waiting):
                turn, share, wanted = one
                if not turn.done() and share.take(wanted):
                    turn.set_result(None)


@dataclass(slots=True)
class Share:
    """What one request holds of it."""

    room: Room
    owner: str | None
    held: int = 0

    def take(self, size: int) -> bool:
        """Hold so much more, if there is room."""
        if not self.room.has_room(self.owner, size):
            return False
        self.held += size
        self.room.change(self.owner, size)
        return True

    async def wait(self, size: int, seconds: float) -> bool:
        """The same, with some time for others to end; whether there was room."""
        if self.take(size):
            return True
        if len(self.room.waiting) >= _MOST_WAITING:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = turn, self, size
        self.room.waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            # It may have had its turn in the same moment.
            return turn.done() and not turn.cancelled()
        finally:
            self.room.waiting.remove(place)
        return True

    def less(self, size: int) -> None:
        """Hold so much less, if it is that much."""
        size = min(max(0, size), self.held)
        self.held -= size
        self.room.change(self.owner, -size)

    def release(self) -> None:
        """The request is over."""
        self.less(self.held)


_MOST_WAITING = 256
"""Requests that wait for room; more are refused at once."""
