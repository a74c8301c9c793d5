"""What a client is sent: a completion, or server-sent events until it disconnects."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ecoalign.budget import Spending
from ecoalign.gateway._errors import of_error
from ecoalign.gateway.chat._protocol import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Delta,
    EcoAlignResult,
    PromptTokens,
    Usage,
)
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    ActionsChosen,
    Called,
    Event,
    PathChosen,
    RootScanned,
    StepStarted,
    ThoughtAdded,
)

DONE = b"data: [DONE]\n\n"

ALIVE = b": ecoalign\n\n"
"""A comment: nothing is to be told, and the stream goes on."""

_PIECE = 64
"""Characters of a chunk, about; a piece ends at a blank where there is one."""


def dumped(value: object) -> bytes:
    """JSON on one line, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def begins_json(text: str) -> bool:
    """Whether any JSON is in `text`. One without is how a model refuses where it was asked for
    some, and a client that reads it as JSON would fail."""
    return "{" in text or "[" in text


def error_event(error: BaseException) -> bytes:
    """An error after the stream has begun; the official clients raise it."""
    return b"event: error\ndata: " + of_error(error).body() + b"\n\n"


def _usage(spent: Spending) -> Usage:
    tokens = spent.tokens
    details = PromptTokens(cached_tokens=tokens.cached, image_tokens=tokens.image)
    return Usage(
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        total_tokens=tokens.total,
        prompt_tokens_details=details,
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """Turns the result of a run into a completion, or into the chunks of one.

    Attributes:
        model: as the client asked for it.
        as_json: whether the client reads the content as JSON; then a refusal has its own field.
        id, created: of the completion.
    """

    model: str
    as_json: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, result: Alignment, trace: str | None) -> ChatCompletion:
        """The whole answer."""
        content, refusal = self._told(result)
        message = AnswerMessage(role="assistant", content=content, refusal=refusal)
        if result.tool_calls:
            message.tool_calls = [call.to_json() for call in result.tool_calls]
        choice = Choice(
            index=0,
            message=message,
            logprobs=_plain(result.logprobs if refusal is None else None),
            finish_reason=result.finish_reason,
        )
        return ChatCompletion(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            choices=[choice],
            usage=_usage(result.spent),
            ecoalign=_evidence(result, trace),
        )

    def _told(self, result: Alignment) -> tuple[str | None, str | None]:
        """The content and the refusal; one of them, both scored."""
        text = result.content
        prose = text is not None and result.finish_reason == "stop" and not begins_json(text)
        if self.as_json and not result.tool_calls and (result.refused or prose):
            return None, text
        return text, None

    def chunks(
        self, result: Alignment, trace: str | None, *, include_usage: bool
    ) -> Iterator[ChatCompletionChunk]:
        """The answer in chunks; the last but the usage has the finish reason and the evidence."""

        def chunk(*choices: ChunkChoice) -> ChatCompletionChunk:
            made = ChatCompletionChunk(
                id=self.id,
                object="chat.completion.chunk",
                created=self.created,
                model=self.model,
                choices=list(choices),
            )
            if include_usage:
                made.usage = None
            return made

        def delta(delta: Delta, logprobs: Mapping[str, object] | None = None) -> ChunkChoice:
            return ChunkChoice(index=0, delta=delta, logprobs=_plain(logprobs), finish_reason=None)

        yield chunk(delta(Delta(role="assistant", content="", refusal=None)))
        content, refusal = self._told(result)
        for piece in _pieces(refusal or ""):
            yield chunk(delta(Delta(refusal=piece)))
        text = content or ""
        # Log-probabilities go with the text that they spell, so it is not cut up.
        for piece in [text] if result.logprobs and text else _pieces(text):
            yield chunk(delta(Delta(content=piece), result.logprobs))
        for index, call in enumerate(result.tool_calls):
            yield chunk(delta(Delta(tool_calls=[{"index": index, **call.to_json()}])))
        end = delta(Delta())
        end.finish_reason = result.finish_reason
        last = chunk(end)
        last.ecoalign = _evidence(result, trace)
        yield last
        if include_usage:
            usage = chunk()
            usage.usage = _usage(result.spent)
            yield usage


def _plain(logprobs: Mapping[str, object] | None) -> dict[str, object] | None:
    return None if logprobs is None else dict(logprobs)


def _evidence(result: Alignment, trace: str | None) -> EcoAlignResult:
    budget, method = result.budget, result.method.partition(":")[0]
    return EcoAlignResult(
        method=method,
        # Other methods look at no preset.
        preset=result.preset if method == "ecoalign" else None,
        refused=result.refused,
        safety=result.safety,
        utility=result.utility,
        stop_reason=result.stop_reason,
        ended=result.ended,
        hint=result.hint,
        spent=result.spent.to_json(),
        budget={"tokens": budget.tokens, "usd": budget.usd, "seconds": budget.seconds},
        trace=trace,
    )


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + _PIECE)
        end = len(text) if end < 0 else min(end + 1, start + 4 * _PIECE)
        yield text[start:end]
        start = end


class Progress:
    """The comments of a stream while its answer is sought: numbers and stages, no content.

    Args:
        interval: least seconds between two comments of progress.
        keepalive: seconds of silence after which there is a comment all the same.
        clock: seconds.
    """

    def __init__(
        self, interval: float, keepalive: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._keepalive = keepalive
        self._clock = clock
        self._last = -float("inf")
        self._seen: dict[str, Any] = {
            "stage": "start",
            "step": 0,
            "thoughts": 0,
            "calls": 0,
            "tokens": 0,
        }
        self._due = asyncio.Event()
        self._moving = asyncio.Event()

    def on_event(self, event: Event) -> None:
        """Take an event of the run."""
        seen = self._seen
        match event:
            case Called():
                seen["tokens"] += event.charged.total
                seen["calls"] += 1
                seen["stage"] = event.stage
                if event.error is None:
                    self._moving.set()
            case RootScanned():
                seen["stage"] = "scanned"
            case StepStarted():
                seen["stage"], seen["step"] = "step", event.step
            case ActionsChosen():
                seen["stage"] = "execute"
            case ThoughtAdded():
                seen["thoughts"] += 1
            case PathChosen():
                seen["stage"] = "chosen"
            case _:
                return
        now = self._clock()
        if now - self._last >= self._interval:
            # A reader who is slow gets the newest state only, so nothing piles up.
            self._last = now
            self._due.set()

    def comment(self) -> bytes:
        """How far the run is."""
        return b": ecoalign " + dumped(self._seen) + b"\n\n"

    async def started(self, *ends: asyncio.Task[object]) -> None:
        """Returns when a call has come back, when one of `ends` is done, or after a while.

        Until then an error can still have its own status.
        """
        await self._first(self._moving, *ends)

    async def comments(self, task: asyncio.Task[object]) -> AsyncGenerator[bytes, None]:
        """Comments until `task` is done."""
        while not task.done():
            await self._first(self._due, task)
            if self._due.is_set() or not task.done():
                self._due.clear()
                yield self.comment()

    async def _first(self, event: asyncio.Event, *tasks: asyncio.Task[object]) -> None:
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(
                {waiting, *tasks}, timeout=self._keepalive, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()


class ClientDisconnected(Exception):
    """The client has disconnected; no response can be sent."""


async def disconnected(receive: Receive) -> None:
    """Returns when the client has disconnected. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncGenerator[None, None]:
    """A block that is cancelled when the client disconnects.

    The block runs in the task that enters it, as with `asyncio.timeout`.

    Raises:
        ClientDisconnected: the client disconnected before the block had ended.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task to cancel")
    gone = False

    def cancel(watch: asyncio.Task[None]) -> None:
        nonlocal gone
        if not watch.cancelled():
            watch.exception()  # A connection that cannot be listened to is gone as well.
            gone = task.cancel()

    watch = asyncio.create_task(disconnected(receive))
    watch.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        # A cancellation from elsewhere at the same time takes precedence.
        if gone and not task.uncancel():
            raise ClientDisconnected from None
        raise
    except BaseException:
        if gone:
            task.uncancel()
        raise
    else:
        if gone:
            task.uncancel()
    finally:
        watch.remove_done_callback(cancel)
        watch.cancel()


class EventStream(Response):
    """A response of server-sent events that ends its source when the client disconnects.

    Args:
        parts: what is sent.
        headers: beside the usual.
        limit: seconds after which it is cut off, if its source has not ended by itself.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] | None = None,
        *,
        limit: float | None = None,
    ) -> None:
        self._limit = limit
        self.status_code = 200
        self.background = None
        self.body = b""
        self._parts = parts
        usual = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self.init_headers({**usual, **(headers or {})})
        # There is no length; the server sends it in pieces.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends or the client disconnects."""
        sending = asyncio.create_task(self._send(send))
        watch = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait(
                {sending, watch}, timeout=self._limit, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            watch.cancel()
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
