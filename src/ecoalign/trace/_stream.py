"""The events of a run as they happen, from a run that tells of each as it records it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from ecoalign.trace.events import Event

__all__ = ["stream_events"]


async def stream_events(
    run: Callable[[Callable[[Event], None]], Coroutine[Any, Any, object]],
) -> AsyncGenerator[Event, None]:
    """Start a run and yield its events; the last one is `Finished`.

    Closing the iterator early cancels the run and its calls. Cancelling the task that reads it
    does, too; the events that are left, `RunFailed` the last, come before the cancellation.

    Args:
        run: makes the run; it is handed the function that is to be told of every event.

    Raises:
        EcoAlignError: what the run raises, after a `RunFailed` event.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue()
    task = asyncio.create_task(run(queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        await task
    except asyncio.CancelledError:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        while not queue.empty():
            if (event := queue.get_nowait()) is not None:
                yield event
        raise
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            # A reader who left early has no use for it; unread, asyncio would complain.
            task.exception()
