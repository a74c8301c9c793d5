"""The app on a socket, in a process of its own, until it is stopped by a signal."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib.util
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from ecoalign._web import is_loopback
from ecoalign.errors import InputError
from ecoalign.gateway._app import create_app, state_of
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._connection import MOST_HEAD_BYTES, GuardedProtocol, Strangers
from ecoalign.gateway._state import AppState, check
from ecoalign.models import Usage

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["MOST_HEAD_BYTES", "GuardedProtocol", "is_loopback", "listen", "serve"]

_KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than clients and proxies keep theirs."""

_MOST_STRANGERS = 128
"""Connections on which no key was shown, where there are keys."""

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
        self._warming: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            await asyncio.to_thread(_load, state_of(self._app))
            # What is here now stays: nobody need look through it for garbage again.
            gc.collect()
            gc.freeze()
            self._warming = asyncio.create_task(state_of(self._app).images.workers.warm())
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


def _load(state: AppState) -> None:
    """Load what the first request would wait for, and others with it."""
    from PIL import Image

    Image.init()
    state.service.prices(state.service.model.name, Usage())


def _give_back() -> None:
    """Have the C library give large pieces of memory back to the system when they are freed.

    By itself glibc keeps ever larger ones for itself, in as many heaps as there are threads: a
    third of what the pictures of a busy hour took.
    """
    with suppress(OSError, AttributeError):
        c = ctypes.CDLL(None)
        c.mallopt(_MMAP_THRESHOLD, 256 * 1024)
        c.mallopt(_ARENA_MAX, 2)


_MMAP_THRESHOLD, _ARENA_MAX = -3, -8


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
    _give_back()
    app = create_app(config)
    strangers = None if config.keys is None else Strangers(_MOST_STRANGERS)
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
