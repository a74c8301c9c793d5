"""A crowd of clients that mean no good, in a process of their own: loopback only, and bounded.

Each of them, until the crowd is sent home, connects again whenever its connection has been closed:

- one pushes a body of 20 MiB as fast as it is taken, and shows no key;
- one drips such a body in chunks, with a key of the right form that nobody has made, new each time;
- one drips a head that never ends;
- one connects and says nothing.

With a key, all of them drip a body of 20 MiB, and the key is good.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = 20 * 1024 * 1024
PAUSE = 0.02
"""Seconds between two drips."""
_MOST = 200_000
"""Connections of one crowd; far more than a test lets it make."""

_numbers = count()


def unknown_key() -> str:
    """A key as the gateway makes them, which it has never made."""
    digits = f"{next(_numbers):012d}".translate(str.maketrans("0189", "abcd"))
    return f"eco-{digits}-{'z' * 52}"


@contextmanager
def strangers(port: int, crowd: int, key: str = "") -> Iterator[None]:
    """So many of them at once; each has connected once when the block begins."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(port), str(crowd), key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


async def _one(port: int, kind: int, key: str, there: asyncio.Event) -> None:
    for _ in range(_MOST):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            there.set()
            try:
                await _annoy(reader, writer, kind, key)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


async def _annoy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: int, key: str
) -> None:
    """Until the server has closed the connection."""
    if key:
        head = f"{HEAD}Authorization: Bearer {key}\r\nContent-Length: {BODY}\r\n\r\n"
        piece, pause = b"x" * 1024, PAUSE
    elif kind == 0:
        head, piece, pause = f"{HEAD}Content-Length: {BODY}\r\n\r\n", b"x" * 65536, 0.0
    elif kind == 1:
        head = f"{HEAD}Authorization: Bearer {unknown_key()}\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece, pause = b"1\r\nx\r\n", PAUSE
    elif kind == 2:
        head, piece, pause = HEAD, b"X-More: x\r\n", PAUSE
    else:
        await reader.read()
        return
    writer.write(head.encode())
    closed = asyncio.create_task(reader.read())
    try:
        while not closed.done():
            await writer.drain()
            await asyncio.wait({closed}, timeout=pause)
            writer.write(piece)
    finally:
        closed.cancel()
        await asyncio.wait({closed})
        with suppress(OSError, asyncio.CancelledError):
            closed.result()


async def _crowd(port: int, crowd: int, key: str) -> None:
    arrived = [asyncio.Event() for _ in range(crowd)]
    everyone = asyncio.gather(*(_one(port, i % 4, key, arrived[i]) for i in range(crowd)))
    for one in arrived:
        await one.wait()
    print("there", flush=True)
    await everyone


if __name__ == "__main__":
    asyncio.run(_crowd(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
