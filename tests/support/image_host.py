"""Servers of images, honest and not, on real sockets of the loopback interface."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

from PIL import Image

from ecoalign.query import FetchPolicy, ImageFetcher

LOOPBACK = IPv4Address("127.0.0.1")
NAME = "images.example.org"
TLS = Path(__file__).parent / "tls"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


def http(
    body: bytes = PNG,
    *headers: str,
    status: str = "200 OK",
    kind: str = "image/png",
    length: int | None = None,
) -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *headers]
    if not any(line.lower().startswith(("transfer-encoding", "content-length")) for line in lines):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Host:
    """A server, and what it was asked.

    Attributes:
        port: where it listens.
        requests: the heads of the requests, in order.
        names: the host names that TLS clients asked for.
    """

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def url(self, path: str = "/cat.png", name: str = NAME, scheme: str = "http") -> str:
        return f"{scheme}://{name}:{self.port}{path}"


@asynccontextmanager
async def hosting(*answers: bytes | Answer, tls: bool = False) -> AsyncIterator[Host]:
    """A server that gives one of `answers` to each connection in turn, the last for ever."""
    host = Host()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            host.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answer = answers[min(len(host.requests), len(answers)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Cancelled at the end only, and by `hosting`; asyncio would complain of it.
            return
        finally:
            writer.close()
            tasks.discard(task)

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem")

        def note(_: object, name: str | None, __: object) -> None:
            host.names.append(name)

        context.sni_callback = note
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass
class Names:
    """A resolver that answers from a list, a new entry each time; and what it was asked."""

    answers: Sequence[Sequence[str]] = (("127.0.0.1",),)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


POLICY = FetchPolicy(enabled=True, seconds=5.0, redirects=2)


def fetcher(
    host: Host,
    names: Names | None = None,
    policy: FetchPolicy = POLICY,
    *,
    reach: bool = True,
    tls: ssl.SSLContext | None = None,
) -> ImageFetcher:
    """A fetcher that may reach this host, if `reach` says so, under any name."""
    return ImageFetcher(
        replace(policy, ports=frozenset({host.port})),
        resolver=Names() if names is None else names,
        also_reach=frozenset({LOOPBACK} if reach else set()),
        tls=tls,
    )
