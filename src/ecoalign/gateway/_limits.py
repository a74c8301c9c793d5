"""Limits on the size of a request, enforced before anything else sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign.gateway._errors import SERVER, ApiError
from ecoalign.gateway._room import Room, Share

MAX_BYTES = 20 * 1024 * 1024

MAX_HEADER_BYTES = 32 * 1024

_ROOM = "ecoalign.room"


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


def body_room(scope: Scope) -> Share | None:
    """What a request holds of the memory for all bodies; None where nobody counts it."""
    share = scope.get("state", {}).get(_ROOM)
    return share if isinstance(share, Share) else None


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
        room: memory for all bodies, in bytes; by default that of 8 of the largest. 503 where a
            body finds none.
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
        room: Room | None = None,
        patience: float = 10.0,
        owner: Callable[[Scope], str | None] = lambda scope: None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        self._room = room or Room(8 * max_bytes)
        if min(max_bytes, seconds, patience) <= 0 or self._room.free < 2 * max_bytes:
            raise ValueError(
                "the limits on the body of a request must be above 0, and all bodies have the "
                "memory of two of the largest or more"
            )
        self._app = app
        self._most = max_bytes
        self._seconds = seconds
        self._patience = patience
        self._owner = owner
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        length = body_length(scope) if scope["type"] == "http" else 0
        if length == 0:
            await self._app(scope, receive, send)
            return
        share = Share(self._room, self._owner(scope))
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
            del read  # What is behind may let go of it before the request ends.
            scope.setdefault("state", {})[_ROOM] = share

            async def replay() -> Message:
                return waiting.pop() if waiting else await receive()

            await self._app(scope, replay, send)
        finally:
            share.release()

    async def _read(self, receive: Receive, length: int | None, share: Share) -> Message | None:
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
