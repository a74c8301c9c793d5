"""Limits on the size of a request and its JSON, enforced before anything else sees it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign.errors import InputError
from ecoalign.gateway._errors import SERVER, ApiError

MAX_BYTES = 32 * 1024 * 1024

MAX_HEADER_BYTES = 32 * 1024

MAX_DEPTH = 64

MAX_COMMAS = 400_000
"""Each value of a list or an object takes tens of bytes of memory for one or two of the body."""

_SMALL = 256 * 1024


class JsonError(InputError):
    """The body of a request is not JSON, or exceeds the limits on it."""


def parse_json(body: bytes, *, depth: int = MAX_DEPTH) -> object:
    """The JSON in `body`.

    Lists and objects may be nested `depth` deep (1 to 200) and hold 400,000 values or so in all.
    NaN, infinities, numbers beyond the range of floats and halves of characters are refused.
    Nothing of the body is in the messages.

    Raises:
        JsonError: the body is none.
    """
    from pydantic_core import from_json

    if len(body) > _SMALL and _commas(body) > MAX_COMMAS:
        raise JsonError("the body of the request holds too many values")
    try:
        value: object = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        # The parser names the place, and only what it had expected there.
        raise JsonError(f"the body of the request is not JSON: {error}") from None
    _check(value, depth)
    return value


def _commas(body: bytes) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(body, dtype=np.uint8) == ord(",")))


def _check(value: object, depth: int) -> None:
    level = [value]
    for _ in range(depth + 1):
        below: list[object] = []
        for item in level:
            inner = _inner(item)
            if inner:
                below.extend(inner)
            elif type(item) is float and not math.isfinite(item):
                raise JsonError("the body of the request holds a number that is out of range")
        if not below:
            return
        level = below
    raise JsonError(f"the body of the request is nested more than {depth} levels deep")


def _inner(item: object) -> Collection[object]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


class BodyLimit:
    """ASGI middleware that reads the whole body, within bounds, and then lets the app run.

    The body may have a Content-Length, which is not believed, or come in chunks. What is over a
    bound is answered here, in the shape of the API's errors, and the connection is closed.

    Args:
        app: what runs behind it.
        max_bytes: largest body, in bytes; 413 beyond.
        seconds: longest time for a body to come in; 408 beyond.
        max_header_bytes: names and values of all headers together; 431 beyond.
        total_bytes: all bodies in memory at once, by default 16 of the largest; 503 beyond.
        on_refusal: called with the reason: "too-large", "too-slow" or "overloaded".

    Attributes:
        free: bytes that the bodies in memory may still grow by, all together.
        too_large: the error for a body that is larger.

    Raises:
        ValueError: a number is not above 0.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = 60.0,
        max_header_bytes: int = MAX_HEADER_BYTES,
        total_bytes: int | None = None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        total = 16 * max_bytes if total_bytes is None else total_bytes
        if min(max_bytes, seconds, max_header_bytes, total) <= 0:
            raise ValueError("the limits on the body of a request must be above 0")
        self._app = app
        self._most = max_bytes
        self._seconds = seconds
        self._most_headers = max_header_bytes
        self.free = total
        self.too_large = ApiError(
            413,
            f"the body of the request is larger than the {max_bytes:,} bytes taken here; send "
            "smaller images",
            code="request_too_large",
        )
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size, has_body = 0, False
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"content-length":
                if not value.isdigit() or int(value[:20]) > self._most:
                    await self._refuse(send, self.too_large)
                    return
                has_body = True
            elif name == b"transfer-encoding":
                has_body = True
        if size > self._most_headers:
            await self._refuse(send, _HEADERS)
            return
        if not has_body:
            await self._app(scope, receive, send)
            return
        await self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(self)
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    first = await body.read(receive, self._most)
            except TimeoutError:
                first = _TOO_SLOW
            if first is None:  # The client has disconnected: there is nobody to answer.
                return
            if isinstance(first, ApiError):
                await self._refuse(send, first)
                return
            waiting: list[Message] = [first]

            async def replay() -> Message:
                return waiting.pop() if waiting else await receive()

            await self._app(scope, replay, send)
        finally:
            body.release()

    async def _refuse(self, send: Send, error: ApiError) -> None:
        if self._on_refusal is not None:
            self._on_refusal(_REASONS[error.code or ""])
        await send_error(send, error, close=True)


async def send_error(send: Send, error: ApiError, *, close: bool = False) -> None:
    """Answer with an error; `close` ends the connection, so that the rest of the body is not
    waited for."""
    body = error.body()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers(),
        **({"connection": "close"} if close else {}),
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


_REASONS = {
    "request_too_large": "too-large",
    "headers_too_large": "too-large",
    "request_timeout": "too-slow",
    "overloaded": "overloaded",
}
"""For the metrics, by the code of the error."""

_HEADERS = ApiError(431, "the headers of the request are too large", code="headers_too_large")

_TOO_SLOW = ApiError(
    408, "the body of the request took too long to come in", code="request_timeout"
)

_FULL = ApiError(
    503,
    "the server holds as many request bodies as it can; try again shortly",
    SERVER,
    code="overloaded",
    retry_after=1,
)


class _Body:
    """One body as it comes in, counted against the limit of one and of all."""

    def __init__(self, limit: BodyLimit) -> None:
        self._limit = limit
        self._size = 0

    async def read(self, receive: Receive, most: int) -> Message | ApiError | None:
        """The whole body as one message; why not; or None where the client has disconnected."""
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunk: bytes = message.get("body", b"")
            more: bool = message.get("more_body", False)
            self._size += len(chunk)
            self._limit.free -= len(chunk)
            if self._size > most:
                return self._limit.too_large
            if self._limit.free < 0:
                return _FULL
            if not more and not chunks:
                return message
            chunks.append(chunk)
            if not more:
                return {"type": "http.request", "body": b"".join(chunks), "more_body": False}

    def release(self) -> None:
        """The request is over."""
        self._limit.free += self._size
        self._size = 0
