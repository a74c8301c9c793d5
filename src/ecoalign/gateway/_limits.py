"""Limits on the size of a request and its JSON, enforced before anything else sees it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign.errors import InputError
from ecoalign.gateway._errors import SERVER, ApiError

MAX_BYTES = 20 * 1024 * 1024

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


def body_length(scope: Scope) -> int | None:
    """Bytes of the body of a request by its head; 0 where it has none, None where that is not said.

    A length that is no number is beyond every limit.
    """
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value[:20]) if value.isdigit() else 10**20
    return length


class BodyLimit:
    """ASGI middleware that reads the whole body, within bounds, and then lets the app run.

    The body may have a Content-Length, which is not believed, or come in chunks. What is over a
    bound is answered here, in the shape of the API's errors, and the connection is closed.

    The bodies of all requests under way share one memory, each until its request ends. An owner
    may hold as much of it as is left free: half where it is alone, a third where two want all they
    can get. So however many hold their most, the next one finds room. A body whose length is said
    waits for its room before any of it is read; one that comes in chunks is counted as it comes.

    Args:
        app: what runs behind it.
        max_bytes: largest body, in bytes; 413 beyond.
        seconds: for the body to come in; 408 beyond.
        total_bytes: memory for all bodies; by default that of 8 of the largest. 503 where a body
            finds no room.
        patience: seconds that a body waits for room.
        owner: whose share a request uses; None for all of the memory.
        on_refusal: told the reason of a refusal, for the metrics.

    Raises:
        ValueError: a number is not above 0, or the memory does not hold two of the largest bodies.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = 60.0,
        total_bytes: int | None = None,
        patience: float = 10.0,
        owner: Callable[[Scope], str | None] = lambda scope: None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        total = 8 * max_bytes if total_bytes is None else total_bytes
        if min(max_bytes, seconds, patience) <= 0 or total < 2 * max_bytes:
            raise ValueError(
                "the limits on the body of a request must be above 0, and all bodies have the "
                "memory of two of the largest or more"
            )
        self._app = app
        self._most = max_bytes
        self._seconds = seconds
        self._patience = patience
        self._owner = owner
        self._memory = _Memory(total)
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        length = body_length(scope) if scope["type"] == "http" else 0
        if length == 0:
            await self._app(scope, receive, send)
            return
        share = _Share(self._memory, self._owner(scope))
        try:
            try:
                read = await self._read(receive, length, share)
            except ApiError as refusal:
                if self._on_refusal is not None:
                    self._on_refusal(_REASONS[refusal.code or ""])
                await send_error(send, refusal, close=True)
                return
            if read is None:  # The client has disconnected: there is nobody to answer.
                return
            waiting = [read]

            async def replay() -> Message:
                return waiting.pop() if waiting else await receive()

            await self._app(scope, replay, send)
        finally:
            share.release()

    async def _read(self, receive: Receive, length: int | None, share: _Share) -> Message | None:
        """The whole body as one message; None where the client has disconnected.

        Raises:
            ApiError: it is too large, too slow, or there is no room for it.
        """
        if length is not None:
            if length > self._most:
                raise _too_large(self._most)
            if not await share.wait(length, self._patience):
                raise _full()
        size, chunks = 0, list[bytes]()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    chunk: bytes = message.get("body", b"")
                    size += len(chunk)
                    if size > self._most:
                        raise _too_large(self._most)
                    if size > share.held and not share.take(size - share.held):
                        raise _full()
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise _too_slow() from None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return {"type": "http.request", "body": body, "more_body": False}


@dataclass(slots=True)
class _Memory:
    """What the bodies of all requests may take, in bytes.

    Attributes:
        free: what nobody holds.
        held: by owner.
        waiting: who wants how much, the first come first.
    """

    free: int
    held: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[asyncio.Future[None], _Share, int]] = field(default_factory=list)

    def has_room(self, owner: str | None, size: int) -> bool:
        """Whether `size` bytes more may be held."""
        left = self.free - size
        return left >= 0 if owner is None else self.held.get(owner, 0) + size <= left

    def change(self, owner: str | None, size: int) -> None:
        """Hold `size` bytes more, or less; then those who wait get what is free."""
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
class _Share:
    """What one request holds of the memory."""

    memory: _Memory
    owner: str | None
    held: int = 0

    def take(self, size: int) -> bool:
        """Hold so many bytes more, if there is room."""
        if not self.memory.has_room(self.owner, size):
            return False
        self.held += size
        self.memory.change(self.owner, size)
        return True

    async def wait(self, size: int, seconds: float) -> bool:
        """The same, with some time for others to end; whether there was room."""
        if self.take(size):
            return True
        if len(self.memory.waiting) >= _MOST_WAITING:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = turn, self, size
        self.memory.waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            # It may have had its turn in the same moment.
            return self.held > 0
        finally:
            self.memory.waiting.remove(place)
        return True

    def release(self) -> None:
        """The request is over."""
        size, self.held = self.held, 0
        self.memory.change(self.owner, -size)


_MOST_WAITING = 256
"""Requests that wait for room; more are refused at once."""


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
    "request_timeout": "too-slow",
    "overloaded": "overloaded",
}
"""For the metrics, by the code of the error."""


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"the body of the request is larger than the {most:,} bytes taken here; send smaller "
        "images",
        code="request_too_large",
    )


def _too_slow() -> ApiError:
    return ApiError(408, "the body of the request took too long to come in", code="request_timeout")


def _full() -> ApiError:
    return ApiError(
        503,
        "the server holds as many bodies of requests as it can, or as many of this key; try again "
        "shortly",
        SERVER,
        code="overloaded",
        retry_after=1,
    )
