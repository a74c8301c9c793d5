"""When a request must have ended: its seconds count from the moment its head was read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ecoalign.gateway._errors import ApiError, out_of_time

GRACE = 0.1
"""Seconds after its end in which a run that keeps its own time hands over what it has; then it is
cut off."""

CLEANUP = 0.05
"""Seconds that what was cut off has to come to its end before its client is told."""


_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time of one request.

    The reading of its body counts, too: a client cannot tell it from any other wait, and part of
    it may be a wait for room in the server's memory.

    Attributes:
        arrived: when its head was read, as of `time.monotonic`.
        seconds: that it may take from then on; None for as long as any.
    """

    arrived: float
    seconds: float | None

    @property
    def left(self) -> float | None:
        """Seconds until its end, >= 0; None if there is none."""
        if self.seconds is None:
            return None
        return max(0.0, self.arrived + self.seconds - time.monotonic())

    @asynccontextmanager
    async def limit(
        self, doing: Callable[[], str], *, spent: Callable[[], bool]
    ) -> AsyncGenerator[None, None]:
        """A block that is cut off at the end of the time.

        Args:
            doing: what the request was waiting for, for the message ("its turn").
            spent: whether anything may have been spent.

        Raises:
            ApiError: 504, the time is over.
        """
        try:
            async with asyncio.timeout(self.left) as scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise self.over(doing(), spent=spent()) from None

    def over(self, doing: str, *, spent: bool) -> ApiError:
        """The error of a request whose time is over."""
        return out_of_time(f"{self.seconds or 0.0:g} s", doing, spent=spent)

    async def settled(self, work: asyncio.Task[object]) -> None:
        """Wait for what ends a request, but not beyond its time: then it goes on by itself."""
        wait = self.left
        if wait is not None:
            # In time for what there is to be sent; where the time is over, for a moment.
            wait = wait - _MARGIN if wait > _MARGIN else GRACE
        # Not cancelled with the one who waits.
        await asyncio.wait([work], timeout=wait)
