"""The load generator of the gateway's load test: light, in a process of its own, loopback only.

    python perf/gateway_driver.py http://127.0.0.1:8000/v1 --seconds 3 --concurrency 32

Every connection sends its next request when it has the whole of its last answer. One JSON object
goes to standard output: see `Measured`. Requests and seconds are both bounded. The variable
GATEWAY_KEY is sent as the bearer token, if it is set.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
from gateway_mock import fast_loop

LONGEST = 600.0
MOST = 1_000_000
QUESTION = "Which numbers do the two signs in the picture say, and which of them is the greater?"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run found.

    Attributes:
        requests: answers that came back whole, warm-up excluded.
        failures: those of them with a status other than 200, or a connection that broke.
        seconds: wall-clock.
        p50, p99, mean: milliseconds from the sending of a request to the end of its answer.
    """

    requests: int
    failures: int
    seconds: float
    p50: float
    p99: float
    mean: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def quantile(ordered: list[float], share: float) -> float:
    """The value below which `share` (in [0, 1]) of the ascending list lies; nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Run:
    """Everything that the connections of one run have in common."""

    def __init__(self, request: bytes, most: int, seconds: float) -> None:
        self.request = request
        self.times: list[float] = []
        self.failures = 0
        self.done = asyncio.Event()
        self._left = most
        self._until = time.perf_counter() + seconds
        self._open = 0

    def begin(self) -> None:
        """A connection was opened."""
        self._open += 1

    def goes_on(self) -> bool:
        """Whether one more request may be sent."""
        self._left -= 1
        return self._left >= 0 and time.perf_counter() < self._until

    def end(self) -> None:
        """A connection was closed."""
        self._open -= 1
        if not self._open:
            self.done.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self._pending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._run.begin()
        self._next()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._run.times.append(time.perf_counter() - self._sent)
        self._run.failures += self._parser.get_status_code() != 200
        self._pending = False
        # Not from within the parser, which a new answer would enter again.
        asyncio.get_running_loop().call_soon(self._next)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        self._run.failures += self._pending
        self._run.end()

    def _next(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._run.goes_on():
            self._pending = True
            self._sent = time.perf_counter()
            self._transport.write(self._run.request)
        else:
            self._transport.close()


async def drive(url: str, concurrency: int, most: int, seconds: float, request: bytes) -> Measured:
    """Send `request` again and again over `concurrency` connections."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"{host} is not a loopback address: nothing else is ever loaded")
    loop = asyncio.get_running_loop()
    run = Run(request, most, seconds)
    begun = time.perf_counter()
    for _ in range(concurrency):
        await loop.create_connection(lambda: Connection(run), host, port)
    async with asyncio.timeout(seconds + 60):
        await run.done.wait()
    took = time.perf_counter() - begun
    ordered = sorted(1e3 * t for t in run.times)
    mean = sum(ordered) / len(ordered) if ordered else 0.0
    p50, p99 = quantile(ordered, 0.5), quantile(ordered, 0.99)
    return Measured(len(ordered), run.failures, took, p50, p99, mean)


def request_of(url: str, key: str, body: bytes) -> bytes:
    """The bytes of one POST of `body` to the chat completions of `url`."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path}/chat/completions HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    if key:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="base URL, with a loopback address")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--requests", type=int, default=MOST, help="at most this many")
    parser.add_argument("--seconds", type=float, default=3.0, help="at most so long")
    parser.add_argument("--fields", default="{}", help="JSON object: further fields of the body")
    given = parser.parse_args()
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": "mock", "messages": messages, "max_tokens": 64} | json.loads(given.fields)
    request = request_of(given.url, os.environ.get("GATEWAY_KEY", ""), json.dumps(body).encode())
    seconds, most = min(given.seconds, LONGEST), min(given.requests, MOST)
    with asyncio.Runner(loop_factory=fast_loop) as runner:
        measured = runner.run(drive(given.url, given.concurrency, most, seconds, request))
    print(json.dumps(asdict(measured) | {"per_second": measured.per_second}))


if __name__ == "__main__":
    main()
