"""An upstream on a raw socket: a script says, byte by byte, what each connection does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

WAIT = 20.0
"""Seconds after which a test that hangs fails; far more than anything here takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its head as it came (without the empty line), and its body."""

    head: str
    body: bytes

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        lines = self.head.split("\r\n")[1:]
        pairs = [line.partition(": ") for line in lines]
        return [value for key, _, value in pairs if key.lower() == name]


class Line:
    """One connection, as the script sees it.

    Attributes:
        index: 0 for the first connection, and so on.
        gone: set when the client has closed it.
    """

    def __init__(
        self, index: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.index = index
        self.gone = asyncio.Event()
        self._reader = reader
        self._writer = writer

    async def asked(self) -> Asked:
        """The next request; asyncio.IncompleteReadError if the client goes away instead."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].decode()
            length = re.search(r"(?im)^content-length: (\d+)", head)
            body = await self._reader.readexactly(int(length[1]) if length else 0)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
            raise
        return Asked(head, body)

    async def say(self, data: bytes) -> None:
        """Send bytes, and wait until the client has taken most of them."""
        self._writer.write(data)
        await self._writer.drain()

    async def until_gone(self) -> None:
        """Wait until the client closes."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                pass
        self.gone.set()

    def close(self) -> None:
        """Close as one should."""
        self._writer.close()

    def reset(self) -> None:
        """Close rudely: with a RST where there is anything left to say."""
        self._writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


class RawUpstream:
    """Runs `script` for every connection to a free port of the loopback interface.

    Attributes:
        lines: the connections so far.
        url: "http://127.0.0.1:PORT/v1", or https.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.lines: list[Line] = []
        self.url = ""
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> RawUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self.lines:
            line.reset()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(len(self.lines), reader, writer)
        self.lines.append(line)
        task = asyncio.get_running_loop().create_task(self._run(line))
        self._tasks.add(task)

    async def _run(self, line: Line) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._script(line)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def chunked(*pieces: bytes, kind: str = "application/json") -> bytes:
    """A whole response in chunks."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + body + b"0\r\n\r\n"


def repeating(*responses: bytes) -> Script:
    """Answers requests with `responses` in turn, over all connections, keeping them open."""
    left = list(responses)

    async def script(line: Line) -> None:
        while left:
            await line.asked()
            await line.say(left.pop(0))
        await line.until_gone()

    return script


def saying(data: bytes, *, then: str = "close") -> Script:
    """Reads a request, says `data`, and then closes, resets or holds the line."""

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(data)
        if then == "close":
            line.close()
        elif then == "reset":
            line.reset()
        else:
            await line.until_gone()

    return script
