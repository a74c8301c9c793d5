"""A signal to end is as clean as Ctrl-C: what was spent is said, and the trace is kept."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from ecoalign.cli._errors import Terminated

T = TypeVar("T")


class Ending:
    """What SIGTERM does while a command runs: it ends what `run` runs, or else raises Terminated.

    Attributes:
        asked: whether the signal has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. Ctrl-C and SIGTERM cancel it, and it may clean up.

        Raises:
            Terminated: SIGTERM has ended it.
            KeyboardInterrupt: Ctrl-C has.
        """

        async def watched() -> T:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                return await work
            finally:
                self._task = None

        try:
            return asyncio.run(watched())
        except asyncio.CancelledError:
            if self.asked:
                raise Terminated from None
            raise

    def end(self, signal_number: int, frame: FrameType | None) -> None:
        """The handler. A second signal does not wait for what the first one has begun to end."""
        first, self.asked = not self.asked, True
        if first and self._task is not None and self._loop is not None:
            self._task.cancel()
            self._loop.call_soon_threadsafe(lambda: None)  # so that it wakes up
            return
        raise Terminated


@contextmanager
def ended_by_signal() -> Iterator[Ending]:
    """Handle SIGTERM as `Ending` does, as far as this is the main thread; what was before is put
    back."""
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = signal.signal(signal.SIGTERM, ending.end)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, before)
