"""Server-sent events: comments while the search runs, then the answer, which has been scored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from starlette.responses import Response

from ecoalign.gateway._errors import ApiError, of_error
from ecoalign.gateway.chat._job import left
from ecoalign.gateway.chat._response import DONE, data, dumped
from ecoalign.trace.events import (
    ActionsChosen,
    Called,
    PathChosen,
    RootScanned,
    StepStarted,
    ThoughtAdded,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ecoalign.gateway._config import GatewayConfig
    from ecoalign.gateway._service import Outcome
    from ecoalign.gateway.chat._job import Job
    from ecoalign.gateway.chat._request import ChatCall
    from ecoalign.trace.events import Event

__all__ = ["EventStream", "Progress", "Run", "Stream"]

ALIVE = b": ecoalign\n\n"


class Progress:
    """Turns events into comments, not too many.

    Args:
        apart: least seconds between two comments.
        clock: seconds.
    """

    def __init__(self, apart: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._apart = apart
        self._clock = clock
        self._last = -float("inf")
        self._tokens = 0
        self._calls = 0
        self._step = 0
        self._thoughts = 0
        self._stage = "start"

    def see(self, event: Event) -> bytes | None:
        """The comment that is due after `event`; None if none is."""
        if isinstance(event, Called):
            self._tokens += event.charged.total
            self._calls += 1
            self._stage = event.stage
        elif isinstance(event, RootScanned):
            self._stage = "scanned"
        elif isinstance(event, StepStarted):
            self._step = event.step
            self._stage = "step"
        elif isinstance(event, ActionsChosen):
            self._stage = "execute"
        elif isinstance(event, ThoughtAdded):
            self._thoughts += 1
        elif isinstance(event, PathChosen):
            self._stage = "chosen"
        else:
            return None
        now = self._clock()
        if now - self._last < self._apart:
            return None
        self._last = now
        return self.comment()

    def comment(self) -> bytes:
        """Where the search stands."""
        body = {
            "stage": self._stage,
            "step": self._step,
            "thoughts": self._thoughts,
            "calls": self._calls,
            "tokens": self._tokens,
        }
        return b": ecoalign " + dumped(body) + b"\n\n"


_log = logging.getLogger("ecoalign.gateway")


class Run(Protocol):
    """What a stream needs of the call that it answers."""

    @property
    def call(self) -> ChatCall: ...

    @property
    def job(self) -> Job: ...

    @property
    def trace(self) -> str | None: ...

    def headers(self) -> Mapping[str, str]: ...

    async def finished(self, task: asyncio.Task[Outcome]) -> Outcome: ...

    async def stopped(self, task: asyncio.Task[Outcome]) -> None: ...


class Stream:
    """The comments of one stream.

    Args:
        config: how often there are comments.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._progress = Progress(config.progress)
        self._keepalive = config.keepalive
        self._comment: bytes | None = None
        self._news = asyncio.Event()
        self._moving = asyncio.Event()

    def see(self, event: Event) -> None:
        """Take an event of the search."""
        comment = self._progress.see(event)
        if comment is not None:
            # A reader who is slow gets the newest only, so nothing piles up.
            self._comment = comment
            self._news.set()
        if isinstance(event, Called) and event.error is None:
            self._moving.set()

    async def begun(self, task: asyncio.Task[Outcome], disconnect: asyncio.Task[None]) -> None:
        """Returns when there is progress, an end, nobody left, or after a while.

        Until then an error can still have its own status.
        """
        moving = asyncio.create_task(self._moving.wait())
        try:
            await asyncio.wait(
                {task, disconnect, moving},
                timeout=self._keepalive,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            moving.cancel()

    def response(self, run: Run, task: asyncio.Task[Outcome]) -> EventStream:
        """The response that streams what `task` brings."""
        return EventStream(self._parts(run, task), run.headers())

    async def _parts(self, run: Run, task: asyncio.Task[Outcome]) -> AsyncGenerator[bytes, None]:
        try:
            async for comment in self._comments(task):
                yield comment
            try:
                outcome = await run.finished(task)
            except ApiError as error:
                yield failed(error)
                return
            except Exception as error:
                # The response has begun: a broken connection would tell the client less.
                _log.error("a search failed in its stream", exc_info=error)
                yield failed(error)
                return
            usage = run.call.include_usage
            for chunk in run.job.envelope.chunks(outcome, run.trace, include_usage=usage):
                yield data(chunk)
            yield DONE
        finally:
            await run.stopped(task)

    async def _comments(self, task: asyncio.Task[Outcome]) -> AsyncGenerator[bytes, None]:
        while not task.done():
            news = asyncio.create_task(self._news.wait())
            try:
                await asyncio.wait(
                    {task, news}, timeout=self._keepalive, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                news.cancel()
            if self._news.is_set():
                self._news.clear()
                yield self._comment or self._progress.comment()
            elif not task.done():
                yield self._progress.comment()


def failed(error: BaseException) -> bytes:
    """An error after the stream has begun; the official clients raise it."""
    return b"event: error\n" + data(of_error(error).to_json())


class EventStream(Response):
    """A response of server-sent events that ends its source when the client leaves.

    Args:
        parts: what is sent.
        headers: beside the usual.
    """

    media_type = "text/event-stream"

    def __init__(
        self, parts: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.left = False
        self._parts = parts
        usual = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self.init_headers({**usual, **(headers or {})})
        # There is no length; the server sends it in pieces.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends, or nobody reads any more."""
        sending = asyncio.create_task(self._send(send))
        disconnect = asyncio.create_task(left(receive))
        try:
            await asyncio.wait({sending, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            self.left = not sending.done()
        finally:
            disconnect.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            # The source stops its work and settles its account before this returns.
            await self._parts.aclose()
