"""The upstream of the campaign: counts what it has served, fails and lies where it is asked to.

    python perf/soak_upstream.py

It prints its port and serves on the loopback interface until its standard input is closed. A
question holds a mark, "[soak ACCOUNT DEED]": who pays, and one of `DEEDS`. A POST of `TALLY` is
answered with what was done for each account; see `Tally`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import cast

from gateway_mock import ANSWER, HOST, Upstream, fast_loop

TALLY = b'{"tally": true}'
DEEDS = ("well", "slow", "fail", "busy", "garbage", "cut", "hang", "mute", "lie", "negative")
LIE = 140_000
"""Tokens that a lie reports, whatever the cap."""

_MARK = re.compile(rb"\[soak ([a-z]+) ([a-z]+)\]")
_KEY = re.compile(rb'\\"key\\": (\\"[^"\\]*\\"), \\"safety\\"')
_STREAM = re.compile(rb'"stream": ?true')
_COUNTS = re.compile(rb'"include_usage": ?true')
_DATA = re.compile(rb"data:[^\"]*")
_MOST_WORDS = 40


@dataclass
class Tally:
    """What was done for one account.

    Attributes:
        calls: requests that came.
        whole: of those, answers that were sent whole with their true usage.
        tokens: the usage of these.
        reported: tokens that lies have reported.
    """

    calls: int = 0
    whole: int = 0
    tokens: int = 0
    reported: int = 0


class Erratic(Upstream):
    """One connection of the campaign's upstream.

    Args:
        tallies: by account, of all connections.
    """

    def __init__(self, tallies: dict[str, Tally]) -> None:
        super().__init__(0.0, 0.0)
        self._tallies = tallies
        self._tasks: set[asyncio.Task[None]] = set()

    def _answer(self, body: bytes) -> None:
        if body == TALLY:
            self._send(_response(json.dumps({k: asdict(t) for k, t in self._tallies.items()})))
            return
        found = _MARK.search(body)
        account, deed = (found[1].decode(), found[2].decode()) if found else ("unmarked", "well")
        tally = self._tallies[account]
        tally.calls += 1
        # A prompt of a token for every four characters, and pictures for nothing.
        usage = _usage(24 + len(_DATA.sub(b"", body)) // 4, 24 + tally.calls % 7)
        if deed == "slow":
            task = asyncio.get_running_loop().create_task(self._drip(tally, usage))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif deed == "well":
            text = ANSWER
            if key := _KEY.search(body):
                name = json.loads(key[1].replace(rb"\"", b'"'))
                text = json.dumps({"key": name, "safety": 9, "utility": 8})
            streamed = _STREAM.search(body) is not None
            sent = _stream(text, usage if _COUNTS.search(body) else None)
            self._whole(tally, usage, sent if streamed else _response(_completion(text, usage)))
        else:
            self._misbehave(deed, tally)

    def _whole(self, tally: Tally, usage: dict[str, int], response: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        tally.whole += 1
        tally.tokens += usage["total_tokens"]
        self._send(response)

    def _misbehave(self, deed: str, tally: Tally) -> None:
        told = {"error": {"message": "the upstream was told to fail", "type": "server_error"}}
        if deed == "fail":
            self._send(_response(json.dumps(told), 500))
        elif deed == "busy":
            self._send(_response(json.dumps(told), 429, b"retry-after: 1\r\n"))
        elif deed == "garbage":
            self._send(_response('{"choices": [nothing'))
        elif deed == "cut":
            self._send(_response(_completion(ANSWER, _usage(24, 12)))[:-40])
            if self._transport is not None:
                self._transport.close()
        elif deed == "mute":
            self._send(_response(_completion(ANSWER, None)))
        elif deed == "lie":
            usage = _usage(24, LIE)
            tally.reported += usage["total_tokens"]
            self._send(_response(_completion(ANSWER, usage)))
        elif deed == "negative":
            self._send(_response(_completion(ANSWER, {"prompt_tokens": -5, "total_tokens": -5})))

    async def _drip(self, tally: Tally, usage: dict[str, int]) -> None:
        """A stream of a word every twentieth of a second, for as long as somebody listens."""
        self._send(_head(200, b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n")
        for i in range(_MOST_WORDS):
            await asyncio.sleep(0.05)
            if self._transport is None or self._transport.is_closing():
                return
            self._send(_chunk(_event({"content": f"word{i} "}, None)))
        last = _event({}, "stop") + _counted(usage) + b"data: [DONE]\n\n"
        self._whole(tally, usage, _chunk(last) + b"0\r\n\r\n")


def _usage(prompt: int, completion: int) -> dict[str, int]:
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def _completion(text: str, usage: dict[str, int] | None) -> str:
    message = {"role": "assistant", "content": text}
    found: dict[str, object] = {
        "id": "chatcmpl-soak",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }
    return json.dumps(found if usage is None else found | {"usage": usage})


def _stream(text: str, usage: dict[str, int] | None) -> bytes:
    words = re.findall(r"\S+\s*", text)
    body = b"".join(_event({"content": word}, None) for word in words) + _event({}, "stop")
    body += (b"" if usage is None else _counted(usage)) + b"data: [DONE]\n\n"
    head = _head(200, b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
    return head + _chunk(body) + b"0\r\n\r\n"


def _event(delta: dict[str, object], finish: str | None) -> bytes:
    return _data([{"index": 0, "delta": delta, "finish_reason": finish}], None)


def _counted(usage: dict[str, int]) -> bytes:
    return _data([], usage)


def _data(choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
    chunk: dict[str, object] = {
        "id": "chatcmpl-soak",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": choices,
    }
    return (
        b"data: "
        + json.dumps(chunk if usage is None else chunk | {"usage": usage}).encode()
        + b"\n\n"
    )


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _head(status: int, kind: bytes) -> bytes:
    return b"HTTP/1.1 %d Told\r\ncontent-type: %s\r\n" % (status, kind)


def _response(text: str, status: int = 200, more: bytes = b"") -> bytes:
    body = text.encode()
    head = _head(status, b"application/json") + more
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


async def serve() -> None:
    """Serve until standard input is closed."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Erratic(tallies), HOST, 0, backlog=512)
    port = cast("tuple[str, int]", server.sockets[0].getsockname())[1]
    print(port, flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """The command line."""
    os.nice(5)
    with asyncio.Runner(loop_factory=fast_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
