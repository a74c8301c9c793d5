"""A proxy on a real socket: it notes what it is told, and tunnels or answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@dataclass
class Proxy:
    """What a proxy was told.

    Attributes:
        url: where it listens, without a user.
        heads: of the requests that it was sent itself, CONNECT included.
    """

    url: str = ""
    heads: list[str] = field(default_factory=list)

    def with_user(self, user: str) -> str:
        return self.url.replace("://", f"://{user}@")


@asynccontextmanager
async def proxying(
    answer: bytes = b"",
    *,
    tunnel: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
    to: str = "",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy that gives `answer` to requests, and `tunnel` to CONNECT.

    Args:
        to: the address that every tunnel leads to, whatever is asked for.
        tls: to be spoken with the proxy itself.
    """
    proxy = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                proxy.heads.append(head)
                if head.startswith("CONNECT "):
                    break
                length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(answer)
                await writer.drain()
            writer.write(tunnel)
            await writer.drain()
            host, _, port = to.removesuffix("/v1").partition("://")[2].rpartition(":")
            if host:
                inner, outer = await asyncio.open_connection(host.strip("[]"), int(port))
                await asyncio.gather(pipe(reader, outer), pipe(inner, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    proxy.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
