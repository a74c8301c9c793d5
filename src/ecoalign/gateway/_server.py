"""The app on a socket, in a process of its own, until it is stopped by a signal."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ecoalign._web import is_loopback
from ecoalign.errors import InputError
from ecoalign.gateway._app import create_app, state_of
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._guard import LET_IN
from ecoalign.gateway._state import MOST_STRANGERS, check

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["MOST_HEAD_BYTES", "GuardedProtocol", "Strangers", "is_loopback", "listen", "serve"]

MOST_HEAD_BYTES = 64 * 1024

# Chunks of one byte each come with five more.
_WIRE_PER_BYTE = 6


class Strangers:
    """The connections on which no key was shown yet: so many, and then the oldest is closed.

    Who has a key shows it with the first request, and is out of here again before others could
    push it out.

    Args:
        most: of them, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[GuardedProtocol, None] = {}

    def enter(self, connection: GuardedProtocol) -> None:
        """A connection was made."""
        self._connections[connection] = None
        if len(self._connections) > self._most:
            oldest = next(iter(self._connections))
            self.leave(oldest)
            oldest.transport.abort()

    def leave(self, connection: GuardedProtocol) -> None:
        """It ended, or a key was shown on it."""
        self._connections.pop(connection, None)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    What is not body (request line, headers, the frames of chunks, trailers) may have 64 KiB and
    six times the body; beyond that the connection is closed.

    Attributes:
        head_seconds: from the connection, or from the first byte of a later request, to the end
            of its headers.
        stall_seconds: that a client may leave what is sent to it unread.
        strangers: where connections without a key are counted; None where there are no keys.
    """

    head_seconds: ClassVar[float] = 20.0
    stall_seconds: ClassVar[float] = 60.0
    strangers: ClassVar[Strangers | None] = None

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _fresh = False
    _whole = True
    _wire = 0
    _body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of a request, for a bounded time."""
        # Uvicorn's own signature says what every event loop passes here.
        super().connection_made(cast("asyncio.Transport", transport))
        if self.strangers is not None:
            self.strangers.enter(self)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._let_in()
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not body."""
        self._fresh = False
        super().data_received(data)
        if self._whole or self._fresh:
            # Of a message that began in these bytes, the next ones are counted.
            return
        self._wire += len(data)
        if self._wire > MOST_HEAD_BYTES + _WIRE_PER_BYTE * self._body:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self.strangers is not None:
            self.scope["extensions"] = {LET_IN: {"call": self._let_in}}
        self._fresh, self._whole = True, False
        self._wire = self._body = 0
        if self._head_timer is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it."""
        self._whole = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read what is sent."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._stop_stall_timer()
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _let_in(self) -> None:
        if self.strangers is not None:
            self.strangers.leave(self)

    def _abort(self) -> None:
        self.transport.abort()


_KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than clients and proxies keep theirs."""

_SETTLING = 5.0
"""Seconds beyond the draining that cancelled requests have for their accounts."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address or a name of this machine.
        port: 0 takes a free one.

    Raises:
        InputError: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(2048)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host} port {port}: {reason}") from None
    return sock


class _Server(uvicorn.Server):
    """Ends by itself on SIGINT and SIGTERM, with what is under way; a second one ends it at once.

    Uvicorn raises the signal again when all is done, so that a graceful end looks like a crash.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Reject waiting requests, let the others end, close."""
        self._draining = asyncio.create_task(state_of(self._app).drain())
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take both signals while the server runs."""
        if sys.platform == "win32":
            # Event loops take no signals there: uvicorn's own way has to do.
            with super().capture_signals():
                yield
            return
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._stop)
        try:
            yield
        finally:
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(one)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(config: GatewayConfig, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests on `sock` until SIGINT or SIGTERM.

    Args:
        config: of the gateway.
        sock: from `listen`; closed at the end.
        ready: called once requests are answered.

    Raises:
        EcoAlignError: it could not start.
    """
    check(config)
    app = create_app(config)
    strangers = None if config.keys is None else Strangers(MOST_STRANGERS)
    server = _Server(
        uvicorn.Config(
            app,
            loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
            http=type("Connection", (GuardedProtocol,), {"strangers": strangers}),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(config.drain + _SETTLING)),
        ),
        app,
        ready,
    )
    server.run([sock])
