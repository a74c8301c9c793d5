"""An ASGI app behind uvicorn, on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from ecoalign.gateway._server import GuardedProtocol


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the test's signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.running.set()

    running: asyncio.Event


@asynccontextmanager
async def running(
    app: ASGIApp, protocol: type[asyncio.Protocol] = GuardedProtocol
) -> AsyncIterator[int]:
    """The port where `app` is served."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )
    server.running = asyncio.Event()
    task = asyncio.create_task(server.serve([sock]))
    await server.running.wait()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        sock.close()


async def told(port: int, request: bytes, *, end: bool = False) -> bytes:
    """All that comes back on a connection of its own until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(body: bytes, *headers: str, length: int | None = None, path: str = "/") -> bytes:
    """A request whose connection closes after the answer."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if not any(line.lower().startswith("transfer-encoding") for line in lines):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
