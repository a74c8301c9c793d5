"""A clock that tests move."""

from __future__ import annotations

import asyncio


class Clock:
    """Time that passes only when told to; `sleep` tells it and notes the wait."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def no_wait(seconds: float) -> None:
    """A `sleep` that lets the others run and takes no time."""
    await asyncio.sleep(0)
