"""Turns on the event loop for what holds it long."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

LONG = 32_768
"""Characters of a request from which on its prompts are made in turn: it takes milliseconds."""

_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def turn(size: int) -> None:
    """Wait, where a text is long, until it is its turn to be worked on.

    Each turn begins in an iteration of the event loop of its own, and between two of them the loop
    looks at its connections: however many runs are ready to go on, whoever asks for something small
    waits for one of them.

    Args:
        size: characters of the text.
    """
    if size < LONG:
        return
    lock = _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        await asyncio.sleep(0)
