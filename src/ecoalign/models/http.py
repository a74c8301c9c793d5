"""The one HTTP client, on aiohttp: for models, for requests passed through, and for images.

A request is sent once and no redirect is followed. What an answer may hold is bounded, on the
wire and in the body, and so is the time that the whole of it takes. Nothing is unpacked, no cookie
is kept, and no error holds a header of the request.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.payload import BytesPayload
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ecoalign.models._causes import Cause
from ecoalign.models._endpoint import USER_AGENT, Proxy
from ecoalign.models._unsent import unsent

if TYPE_CHECKING:
    import ssl

    from aiohttp.abc import AbstractResolver
    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.tracing import Trace


__all__ = ["URL", "Cause", "Exchange", "HttpClient", "HttpError"]

IDLE_SECONDS: Final = 4.0
"""A connection that has rested for longer is not used again: the usual server closes after 5 s,
and a request that crosses with the closing may or may not have been taken."""
CONNECT_SECONDS: Final = 10.0
_HEAD_BYTES: Final = 512 * 1024
"""More than any server sends before a body, and a first read of the body with it."""
_ALERT: Final = b"\x15\x03"
"""How a server that speaks TLS answers one who does not."""
_FRAMED: Final = 6
"""Bytes on the wire for one of the body, which may come in chunks of one byte."""


class HttpError(Exception):
    """The exchange failed. The message holds no header.

    Attributes:
        cause: in the table of `ecoalign.models._causes`; where something was sent, one of
            "timeout", "closed", "malformed", "tls-port" and "too-large".
        sent: whether any of the request may have been sent.
        why: a detail in words of ours or of the system's; "" where there is none.
        seconds: after which it was given up, where they are the client's own; else 0.
    """

    def __init__(self, cause: Cause, *, sent: bool, why: str = "", seconds: float = 0.0) -> None:
        super().__init__(f"{cause}: {why}" if why else cause)
        self.cause: Cause = cause
        self.sent = sent
        self.why = why
        self.seconds = seconds


class _Body(BytesPayload):
    """A body that is written in one go, however large it is.

    aiohttp would have a large one as a file and write it in pieces; then an answer that comes
    before the last of them, such as 413, is lost where the server closes at once.
    """

    def __init__(self, value: bytes) -> None:
        super().__init__(b"")
        self._value, self._size = value, len(value)


class _Line(asyncio.Protocol):
    """One connection: passes received data to aiohttp and counts it against a limit.

    Attributes:
        user: the exchange that it was last taken for.
        room: bytes that may still come.
        first: what came first, ever.
        flooded: whether more came.
        stopped: whether aiohttp has closed it: after an answer, or because of what came.
        lost: why the connection broke, where it did not just end.
    """

    def __init__(self, transport: asyncio.Transport, lines: set[_Line]) -> None:
        self.transport = transport
        self.user: Exchange | None = None
        self.room = 0
        self.first = b""
        self.flooded = False
        self.stopped = False
        self.lost: BaseException | None = None
        self._lines = lines
        self._inner = cast("asyncio.Protocol", transport.get_protocol())
        self._poll: select.poll | None = None
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)
        transport.set_protocol(self)
        lines.add(self)

    @property
    def rests(self) -> bool:
        """Whether the connection is idle and can take another request, as far as the client can
        tell.

        What has arrived, read or not, belongs to no request: the connection is not used again.
        """
        return not (
            getattr(self._inner, "should_close", True)
            or self.transport.is_closing()
            or self.transport.get_write_buffer_size()
            or (self._poll is not None and self._poll.poll(0))
        )

    def data_received(self, data: bytes) -> None:
        """Hand it on, if there is room."""
        self.room -= len(data)
        self.first = self.first or data[:8]
        if self.room < 0:
            self.flooded = True
            self.transport.abort()
            return
        self._inner.data_received(data)
        if self.transport.is_closing():
            self.stopped = True
            if self.user is not None:
                self.user.stop()

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.lost = exc
        self._lines.discard(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.resume_writing()


class _Connector(aiohttp.TCPConnector):
    """Connections that are checked before each request.

    aiohttp takes a connection in the task that makes the request, which finds it in `taken`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: set[_Line] = set()
        self.taken: dict[asyncio.Task[object] | None, _Line] = {}

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the name is aiohttp's
    ) -> aiohttp.connector.Connection:
        """See `aiohttp.BaseConnector`."""
        while True:
            connection = await super().connect(req, traces, timeout)
            transport = connection.transport
            if transport is None:  # a new one that was closed at once
                connection.close()
                raise aiohttp.ClientConnectionError
            line = transport.get_protocol()
            if not isinstance(line, _Line):
                line = _Line(transport, self.lines)
            elif not line.rests:
                transport.abort()
                connection.close()
                continue
            line.room = _HEAD_BYTES
            self.taken[asyncio.current_task()] = line
            return connection


async def _once(
    request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once: after these errors aiohttp would send a GET again."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError from error


@dataclass(frozen=True, slots=True)
class _Pool:
    """The connections of one event loop."""

    session: aiohttp.ClientSession
    connector: _Connector
    turns: asyncio.Semaphore
    closing: AsyncGenerator[None, None]


async def _closed_at_the_end_of_the_loop(
    session: aiohttp.ClientSession,
) -> AsyncGenerator[None, None]:
    """Closes a session when it is closed itself, or dropped; a loop that ends, as `asyncio.run`
    ends it, closes its generators, and with this one its connections."""
    try:
        yield
    finally:
        await session.close()


class HttpClient:
    """Requests with the same headers, usually to one server.

    May be used in several event loops and threads: each loop has connections of its own. They are
    kept open between requests, and closed when it ends. Cancelling a request closes its connection
    at once.

    Args:
        headers: of every request.
        connections: at most so many requests at once in a loop, >= 1; more wait.
        most: bytes of the body of one answer.
        tls: checks certificates; None for those that the system trusts.
        proxy: between here and there.
        resolver: looks names up; by default the system's.
        keep: whether connections are used again.
        connect: seconds that a connection may take.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        connections: int,
        most: int,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        resolver: AbstractResolver | None = None,
        keep: bool = True,
        connect: float = CONNECT_SECONDS,
    ) -> None:
        # Not the session's own headers: aiohttp would show those to a proxy, the key among them.
        self.headers = CIMultiDict(headers)
        self.most = most
        self.proxy = proxy
        self._connections = connections
        self._resolver = resolver
        self.connect = connect
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        self._connector = partial(
            _Connector,
            limit=0,
            ssl=tls or True,
            use_dns_cache=False,
            force_close=not keep,
            keepalive_timeout=IDLE_SECONDS if keep else None,
        )
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    def exchange(
        self,
        method: Literal["GET", "POST"],
        url: URL,
        body: bytes | None = None,
        *,
        deadline: float | None = None,
    ) -> Exchange:
        """Send a request with `async with`, and have its answer.

        Args:
            method, url, body: the request.
            deadline: the time of the running loop at which the whole of it must have ended.
        """
        return Exchange(self, method, url, body, deadline)

    async def aclose(self) -> None:
        """Close the connections of the running loop; requests under way fail.

        Safe to call twice; a later request opens new ones.
        """
        await self._forget_ended_loops()
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            for line in list(pool.connector.lines):
                line.transport.abort()
            await pool.closing.aclose()

    async def _forget_ended_loops(self) -> None:
        for loop in [loop for loop in list(self._pools) if loop.is_closed()]:
            pool = self._pools.pop(loop, None)
            if pool is not None:
                await pool.session.close()

    async def pool(self) -> _Pool:
        """The connections of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            connector = self._connector(resolver=self._resolver or aiohttp.ThreadedResolver())
            session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": USER_AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                middlewares=(_once,),
                proxy=None if self.proxy is None else URL(self.proxy.url),
                max_field_size=64 * 1024,
                max_headers=1000,
            )
            # Kept before anything is awaited: another task may ask meanwhile.
            closing = _closed_at_the_end_of_the_loop(session)
            turns = asyncio.Semaphore(self._connections)
            pool = self._pools[loop] = _Pool(session, connector, turns, closing)
            await anext(closing)
            await self._forget_ended_loops()
        return pool

    def __del__(self) -> None:
        # Those of loops that are open go by `closing`, which is dropped as well.
        for loop, pool in getattr(self, "_pools", {}).items():
            if loop.is_closed():
                with suppress(StopIteration, RuntimeError):
                    pool.session.close().send(None)


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One request and its answer, which can be read as long as the `async with` lasts.

    Attributes:
        status: of the answer, 200 or more.
        headers: of the answer.

    Raises:
        HttpError: on entering and on reading.
    """

    _client: HttpClient
    _method: str
    _url: URL
    _body: bytes | None
    _deadline: float | None
    status: int = 0
    headers: CIMultiDictProxy[str] = field(init=False)
    _read: int = 0
    _pool: _Pool | None = None
    _line: _Line | None = None
    _response: aiohttp.ClientResponse | None = None

    @property
    def encoding(self) -> str:
        """How the body is compressed, in lower case; "identity" where it is not."""
        return self.header("Content-Encoding").strip().lower() or "identity"

    def header(self, name: str) -> str:
        """The value of a header of the answer, "" where it is missing."""
        return self.headers.get(name, "")

    async def __aenter__(self) -> Exchange:
        try:
            async with asyncio.timeout_at(self._deadline):
                response = await self._send()
        except _ERRORS as error:
            failure = self._failure(error)
        except BaseException:
            self._end()
            raise
        else:
            if response.status >= 200:
                self.status, self.headers = response.status, response.headers
                return self
            failure = HttpError("malformed", sent=True)
        self._end()
        # Raised here, so that aiohttp's error, which holds the request, does not travel with it.
        raise failure

    async def _send(self) -> aiohttp.ClientResponse:
        pool = await self._client.pool()
        await pool.turns.acquire()
        self._pool = pool
        if pool.session.closed:
            raise aiohttp.ClientConnectionError
        try:
            self._response = await pool.session.request(
                self._method,
                self._url,
                data=None if self._body is None else _Body(self._body),
                headers=self._client.headers,
                allow_redirects=False,
            )
        finally:
            self._line = pool.connector.taken.pop(asyncio.current_task(), None)
            if self._line is not None:
                self._line.user = self
        if self._line is not None:
            # Only now: notices before the answer (1xx) have the room of its head, all together.
            self._line.room += _FRAMED * self._client.most
            if self._line.stopped:
                self.stop()
        return self._response

    def stop(self) -> None:
        """Fail a pending read of an incomplete body: aiohttp would let it wait for ever."""
        content = None if self._response is None else self._response.content
        if content is not None and not content.is_eof():
            content.set_exception(HttpProcessingError())

    async def whole(self) -> bytes:
        """The rest of the answer's body, at once."""
        response = self._answer()
        if (response.content_length or 0) > self._client.most:
            raise self._too_large()
        if "Content-Length" in self.headers and response.content.is_eof():
            return response.content.read_nowait()
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        """What came of the body since the last call; b"" at its end.

        A reader that is slow holds the server back.
        """
        response, line = self._answer(), self._line
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await response.content.readany()
        except _ERRORS as error:
            failure = self._failure(error)
        else:
            self._read += len(data)
            framed = not {"Content-Length", "Transfer-Encoding"}.isdisjoint(self.headers)
            if self._read > self._client.most:
                failure = self._too_large()
            elif data or framed or line is None or not (line.flooded or line.lost):
                return data
            else:  # a body that ends with its connection did not end so
                failure = self._failure(line.lost)
        raise failure

    def _answer(self) -> aiohttp.ClientResponse:
        if self._response is None:
            raise RuntimeError("there is no answer yet")
        return self._response

    def _too_large(self) -> HttpError:
        return HttpError("too-large", sent=True, why=f"more than {self._client.most:,} bytes")

    def _failure(self, error: BaseException | None) -> HttpError:
        line, client = self._line, self._client
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            if line is not None:
                return HttpError("timeout", sent=True)
            if self._pool is None:
                return HttpError("busy", sent=False)
            return HttpError("silent" if client.proxy is None else "proxy-silent", sent=False)
        if line is None:
            cause, why = unsent(error, client.proxy)
            wait = client.connect if isinstance(error, aiohttp.ConnectionTimeoutError) else 0.0
            return HttpError(cause, sent=False, why=why, seconds=wait)
        if line.flooded and self._response is None:
            return HttpError("too-large", sent=True, why="too much before its answer")
        if line.flooded:
            return self._too_large()
        if line.first.startswith(_ALERT):
            return HttpError("tls-port", sent=True)
        if not isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
            where = "without an answer" if self._response is None else "in the middle of its answer"
            return HttpError("closed", sent=True, why=where)
        return HttpError("malformed", sent=True)

    def _end(self) -> None:
        """Let go of the connection, which is closed unless the answer was read to its end."""
        response, line, pool = self._response, self._line, self._pool
        whole = response is not None and response.status >= 200 and response.content.is_eof()
        if line is not None and line.user is self:
            line.user = None
            transport = line.transport
            if not whole or (not transport.is_closing() and transport.get_write_buffer_size()):
                transport.abort()
        if response is not None:
            response.close()
        self._pool = None
        if pool is not None:
            pool.turns.release()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)
"""What aiohttp raises: a RuntimeError where the connection is gone. TimeoutError is an OSError."""
