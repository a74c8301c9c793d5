"""The upstream of the gateway's load test: a chat model that costs as little as can be.

    python perf/gateway_mock.py [--latency-ms 50] [--verdict-ms 0]

It prints the port that it listens on, on the loopback interface only, and serves until its
standard input is closed. Every question is answered with the same few words and a true-looking
usage; a request for a verdict (see `ecoalign.prompts.full._judging`) with a good one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from typing import cast

ANSWER = "The sign says 42; the other one says 17."
CREATED = 1_700_000_000
HOST = "127.0.0.1"
LARGEST = 1 << 25

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_KEY = re.compile(rb'\\"key\\": (\\"[^"\\]*\\"), \\"safety\\"')
_STREAM = re.compile(rb'"stream": ?true')


def completion(text: str) -> bytes:
    """A whole HTTP response with a chat completion that says `text`."""
    message = {"role": "assistant", "content": text}
    body = json.dumps(
        {
            "id": "chatcmpl-mock",
            "object": "chat.completion",
            "created": CREATED,
            "model": "mock",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 24, "completion_tokens": 12, "total_tokens": 36},
        }
    ).encode()
    return _head(b"application/json") + b"content-length: %d\r\n\r\n" % len(body) + body


def streamed(text: str) -> bytes:
    """The same as server-sent events, a word each, in one chunked response."""
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in re.findall(r"\S+\s*", text)]
    body = b"".join(_event(delta, None) for delta in deltas) + _event({}, "stop")
    body += b"data: [DONE]\n\n"
    chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return _head(b"text/event-stream") + chunked


def _event(delta: dict[str, object], finish: str | None) -> bytes:
    chunk = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "mock",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _head(kind: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n" % kind


WHOLE = completion(ANSWER)
STREAMED = streamed(ANSWER)


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in order, one at a time.

    Args:
        latency: seconds before an answer.
        verdict_latency: seconds before a verdict.
    """

    def __init__(self, latency: float, verdict_latency: float) -> None:
        self._latency = latency
        self._verdict_latency = verdict_latency
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        received = self._received + data if self._received else data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(received, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if whole > LARGEST:
                self._send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
                return
            if len(received) < whole:
                break
            self._answer(received[end + 4 : whole])
            received = received[whole:]
        self._received = received

    def _answer(self, body: bytes) -> None:
        response, latency = WHOLE, self._latency
        if key := _KEY.search(body):
            name = json.loads(key[1].replace(rb"\"", b'"'))
            response = completion(json.dumps({"key": name, "safety": 9, "utility": 8}))
            latency = self._verdict_latency
        elif _STREAM.search(body):
            response = STREAMED
        if latency:
            asyncio.get_running_loop().call_later(latency, self._send, response)
        else:
            self._send(response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


async def serve(latency: float, verdict_latency: float) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(latency, verdict_latency), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


def fast_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--verdict-ms", type=float, default=0.0)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=fast_loop) as runner:
        runner.run(serve(given.latency_ms / 1e3, given.verdict_ms / 1e3))


if __name__ == "__main__":
    main()
