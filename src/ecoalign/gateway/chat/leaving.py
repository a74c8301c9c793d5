"""Clients that leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive

__all__ = ["Gone", "Staying", "left"]


class Gone(Exception):
    """The client has left; there is nobody to answer."""


async def left(receive: Receive) -> None:
    """Returns when the client has gone. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Staying:
    """A block that is cancelled when the client leaves; `async with Staying(receive): ...`.

    The block runs in the task that enters it, as with `asyncio.timeout`.

    Raises:
        Gone: the client left before the block had ended.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        """Begin to watch."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to cancel")
        self._task = task
        self._watch = asyncio.create_task(left(self._receive))
        self._watch.add_done_callback(self._leave)

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            watch.exception()  # A connection that cannot be listened to is gone as well.
            self._gone = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the watch."""
        self._watch.remove_done_callback(self._leave)
        self._watch.cancel()
        # Whoever else cancels the task at the same time gets what they asked for.
        if self._gone and not self._task.uncancel() and isinstance(error, asyncio.CancelledError):
            raise Gone from None
