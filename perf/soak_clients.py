"""The clients of the campaign: good, bad, slow and leaving, in a process of their own.

    SOAK_KEYS='{"exact": "eco-...", ...}' python perf/soak_clients.py http://127.0.0.1:8000/v1

Loopback only, bounded in connections and time; a seed makes the order the same. Each line on
standard input is a round, its seconds; one JSON object answers it on standard output: for each kind
of client how often it got which status, and what should not be. It lets others go first on the
processors: a gateway's clients are on machines of their own.
Status 0 stands for a connection that was closed without an answer, -1 for one that the client left.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ipaddress
import json
import os
import random
import re
import struct
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from urllib.parse import urlsplit

from PIL import Image

LONGEST = 600.0
ROUGH = 9000
"""The budget in tokens of each request of the account "rough"."""
PATIENCE = 45.0
"""Seconds for an answer; the campaign reports who got none."""
LEFT = -1
MIB = 1024 * 1024

HEAD = "POST {path}/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` 0 is nothing."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def reason(self) -> str:
        """The code of the error that it tells, or its type; "" for none."""
        try:
            told = json.loads(self.body)["error"]
            return str(told.get("code") or told.get("type") or "") if told.get("message") else ""
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""


class Crowd:
    """All clients of one run.

    Args:
        host, port, path: where the gateway is.
        keys: secrets by account.
        seed: of the order and the pauses.
    """

    def __init__(self, host: str, port: int, path: str, keys: Mapping[str, str], seed: int) -> None:
        self._host, self._port, self._path = host, port, path
        self.keys = keys
        self.random = random.Random(seed)
        self.seen: dict[str, Counter[str]] = defaultdict(Counter)
        self.wrong: Counter[str] = Counter()

    def head(self, length: int | str, account: str = "exact", more: str = "") -> bytes:
        """The head of a request; without a key for the account "nobody"."""
        text = HEAD.format(path=self._path, host=f"{self._host}:{self._port}")
        if account != "nobody":
            text += f"authorization: Bearer {self.keys.get(account, account)}\r\n"
        if "content-type" not in more:
            more += "content-type: application/json\r\n"
        return f"{text}{more}content-length: {length}\r\n\r\n".encode()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        return await asyncio.open_connection(self._host, self._port, limit=64 * MIB)

    async def send(self, request: bytes) -> Answer:
        """Send the bytes of one request, and read until the server closes."""
        reader, writer = await self.open()
        try:
            writer.write(request)
            sending = asyncio.ensure_future(writer.drain())
            try:
                async with asyncio.timeout(PATIENCE):
                    got = await reader.read(-1)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            return parsed(got)
        finally:
            writer.close()

    async def ask(self, body: bytes, account: str, more: str = "") -> Answer:
        """Ask for a chat completion."""
        return await self.send(self.head(len(body), account, more) + body)

    def note(self, kind: str, answer: Answer | int, allowed: frozenset[int]) -> None:
        """Count one answer, and keep what should not have been."""
        status = answer if isinstance(answer, int) else answer.status
        reason = "" if isinstance(answer, int) or status < 400 else answer.reason
        self.seen[kind][f"{status} {reason}".strip()] += 1
        if isinstance(answer, int):
            return
        if status == 503 and "retry-after" in answer.headers and reason:
            return  # Overloaded, and it says until when.
        if status not in allowed or (status >= 500 and not reason):
            self.fault(f"{kind}: {status} {reason}", answer.body[:300].decode(errors="replace"))

    def fault(self, what: str, example: str = "") -> None:
        """Count what should not be; the first of a kind is shown."""
        if example and what not in self.wrong:
            print(f"{what}: {example}", file=sys.stderr, flush=True)
        self.wrong[what] += 1


def parsed(got: bytes) -> Answer:
    """The answer in all that came on a connection."""
    head, _, body = got.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 ([0-9]{3})", head)
    if found is None:
        return Answer(0)
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    headers = {name.decode().lower(): value.decode().strip() for name, _, value in lines}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(re.findall(rb"(?:^|\r\n)[0-9a-f]+\r\n(.*?)(?=\r\n)", body, re.DOTALL))
    return Answer(int(found[1]), headers, body)


def question(account: str, deed: str, *parts: object, **fields: object) -> bytes:
    """The body of a request that the upstream answers with `deed`."""
    text = {"type": "text", "text": f"[soak {account} {deed}] Which of the numbers is the greater?"}
    messages = [{"role": "user", "content": [text, *parts]}]
    return json.dumps({"model": "mock", "messages": messages, "max_tokens": 64} | fields).encode()


def image(data: bytes, kind: str = "png") -> dict[str, object]:
    """A part with a picture."""
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


@cache
def picture(width: int, height: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """A plain picture of so many pixels: few bytes."""
    file = BytesIO()
    Image.new(mode, (width, height), 120).save(file, kind)
    return file.getvalue()


@cache
def chunky(chunks: int) -> bytes:
    """A PNG with so many chunks that say nothing."""
    data = b"note\x00x"
    crc = struct.pack(">I", zlib.crc32(b"tEXt" + data))
    piece = struct.pack(">I", len(data)) + b"tEXt" + data + crc
    whole = picture(8, 8)
    return whole[:33] + piece * chunks + whole[33:]


@cache
def noisy(megapixels: int) -> bytes:
    """A JPEG of noise, as a camera's: many bytes and many pixels."""
    side = int((megapixels * 1e6) ** 0.5)
    tile = Image.frombytes("RGB", (256, 256), random.Random(0).randbytes(3 * 256 * 256))
    whole = Image.new("RGB", (side, side))
    for x in range(0, side, 256):
        for y in range(0, side, 256):
            whole.paste(tile, (x, y))
    file = BytesIO()
    whole.save(file, "JPEG", quality=85)
    return file.getvalue()


FINE = frozenset({200})
REFUSED = frozenset({400, 401, 403, 404, 408, 411, 413, 415, 422, 429, 431})
UPSTREAM = frozenset({200, 429, 502, 504})
"""Of requests whose upstream was told to fail."""

Client = Callable[[Crowd], Awaitable[None]]


async def _good_base(crowd: Crowd) -> None:
    crowd.note("base", await crowd.ask(question("exact", "well"), "exact"), FINE)


async def _good_stream(crowd: Crowd) -> None:
    answer = await crowd.ask(question("exact", "well", stream=True), "exact")
    crowd.note("stream", answer, FINE)
    if answer.status == 200 and b"[DONE]" not in answer.body:
        crowd.fault("stream: it has no end", repr(answer.body[-200:]))


async def _good_best(crowd: Crowd) -> None:
    body = question("exact", "well", ecoalign={"method": "best-of-2"})
    crowd.note("best-of-2", await crowd.ask(body, "exact"), FINE)


async def _good_search(crowd: Crowd) -> None:
    part = image(picture(640, 480))
    body = question("search", "well", part, ecoalign={"method": "ecoalign", "trace": True})
    crowd.note("ecoalign", await crowd.ask(body, "search"), FINE)


async def _good_medium(crowd: Crowd) -> None:
    body = question("exact", "well", image(picture(1600, 1200)))
    crowd.note("a picture", await crowd.ask(body, "exact"), FINE)


async def _hard_picture(crowd: Crowd) -> None:
    """Allowed or not, it costs: the answer is 200, or a refusal that says why."""
    name = crowd.random.choice(list(PICTURES))
    body = _pictured(name, crowd.random.choice(METHODS))
    crowd.note(name, await crowd.ask(body, "hard"), FINE | REFUSED)


async def _hard_text(crowd: Crowd) -> None:
    name = crowd.random.choice(list(TEXTS))
    crowd.note(name, await crowd.ask(_text(name), "hard"), FINE | REFUSED)


METHODS = ("base", "ecoalign")

PICTURES: Mapping[str, Callable[[], dict[str, object]]] = {
    "12 MP of noise": lambda: image(noisy(12), "jpeg"),
    "12 MP in 16 bit": lambda: image(picture(4000, 3000, "I;16")),
    "12 MP with transparency": lambda: image(picture(4000, 3000, "RGBA")),
    "64 MP in 16 bit": lambda: image(picture(8000, 8000, "I;16")),
    "100 MP": lambda: image(picture(10_000, 10_000, "L")),
    "40,000 chunks": lambda: image(chunky(40_000)),
    "half a picture": lambda: image(noisy(2)[: len(noisy(2)) // 2], "jpeg"),
    "no picture": lambda: image(b"MZ" + bytes(1000)),
}

TEXTS: Mapping[str, Callable[[], bytes]] = {
    "19 MiB of <|": lambda: _said("<|" * (19 * MIB // 2)),
    "19 MiB of words": lambda: _said("word " * (19 * MIB // 5)),
    "deep JSON": lambda: b"[" * 200_000,
    "wide JSON": lambda: b'{"messages": [' + b"1," * 2_000_000 + b"1]}",
    "15 MiB of percent signs": lambda: _percent(15 * MIB),
    "a long number": lambda: b'{"max_tokens": ' + b"9" * 100_000 + b"}",
}


@cache
def _pictured(name: str, method: str) -> bytes:
    return question("hard", "well", PICTURES[name](), ecoalign={"method": method})


@cache
def _text(name: str) -> bytes:
    return TEXTS[name]()


def _said(text: str) -> bytes:
    messages = [{"role": "user", "content": f"[soak hard well] {text}"}]
    return json.dumps({"model": "mock", "max_tokens": 16, "messages": messages}).encode()


def _percent(length: int) -> bytes:
    url = "data:image/png," + "%89" * (length // 3)
    return question("hard", "well", {"type": "image_url", "image_url": {"url": url}})


async def _bad(crowd: Crowd) -> None:
    """Refused, each at its door."""
    name = crowd.random.choice(list(BAD))
    account, body = BAD[name]
    crowd.note(f"refused: {name}", await crowd.ask(body, account), REFUSED)


def _asked(**fields: object) -> tuple[str, bytes]:
    return "exact", question("exact", "well", **fields)


BAD: Mapping[str, tuple[str, bytes]] = {
    "no key": ("nobody", _asked()[1]),
    "an unknown key": ("eco-aaaaaaaaaaaa-" + "z" * 52, _asked()[1]),
    "no such key": ("sk-nonsense", _asked()[1]),
    "a revoked key": ("gone", _asked()[1]),
    "a spent key": ("spent", _asked()[1]),
    "half a body": ("exact", _asked()[1][:-3]),
    "no text": ("exact", b"\xff\xfe"),
    "no body": ("exact", b""),
    "99 answers": _asked(n=99),
    "a web search": _asked(tools=[{"type": "web_search"}]),
    "a template": _asked(chat_template="{{x}}"),
    "fewer than no tokens": _asked(max_tokens=-1),
    "no budget": _asked(ecoalign={"budget": "0"}),
    "no method": _asked(ecoalign={"method": "wish"}),
    "no safety": _asked(safety_settings=[{"threshold": "BLOCK_NONE"}]),
    "retries upstream": _asked(num_retries=99),
}
"""Account and body."""


async def _no_http(crowd: Crowd) -> None:
    wild = crowd.random.choice(
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 50_000,
            crowd.head("1, 2"),
            crowd.head(10**18) + b"x" * 1000,
            crowd.head(5, more="transfer-encoding: chunked\r\n") + b"0\r\n\r\nGET /x",
        ]
    )
    crowd.note("no HTTP", await crowd.send(wild), REFUSED | {0, 505})


async def _fate(crowd: Crowd) -> None:
    """The upstream fails or lies."""
    deed = crowd.random.choice(["fail", "busy", "garbage", "cut", "mute", "lie", "negative"])
    stream = crowd.random.random() < 0.3
    method = crowd.random.choice(["base", "base", "best-of-2", "ecoalign"])
    fields = {"stream": stream, "ecoalign": {"method": method, "budget": str(ROUGH)}}
    body = question("rough", deed, **fields)
    crowd.note(f"upstream: {deed}", await crowd.ask(body, "rough"), UPSTREAM)


async def _leaving(crowd: Crowd) -> None:
    """A client that goes: after nothing, in the head, in the body, or before or in the answer."""
    stage = crowd.random.choice(["nothing", "head", "body", "asked", "hung", "stream", "search"])
    deeds = {"hung": "hang", "stream": "slow"}
    method = "ecoalign" if stage == "search" else "base"
    parts = [image(picture(1600, 1200))] if stage in {"body", "search"} else []
    fields = {"stream": stage == "stream", "ecoalign": {"method": method, "budget": str(ROUGH)}}
    body = question("rough", deeds.get(stage, "well"), *parts, **fields)
    request = crowd.head(len(body), "rough") + body
    sent = {"nothing": 0, "head": 40, "body": len(request) - len(body) // 2}.get(stage)
    reader, writer = await crowd.open()
    try:
        writer.write(request[:sent])
        pause = crowd.random.choice([0.0, 0.01, 0.1, 1.0])
        if stage == "stream":
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"data:")
        await asyncio.sleep(pause)
    finally:
        if crowd.random.random() < 0.5:
            writer.transport.abort()
        writer.close()
    crowd.note(f"leaves: {stage}", LEFT, FINE)


async def _slow(crowd: Crowd) -> None:
    """Drips of a head or of a body, silence, and answers that nobody reads."""
    stage = crowd.random.choice(["head", "body", "silence", "reader"])
    stream = question("rough", "slow", stream=True, ecoalign={"budget": str(ROUGH)})
    request = crowd.head(len(stream), "rough") + stream
    _, writer = await crowd.open()
    try:
        at = {"head": 30, "body": len(request) - len(stream), "silence": 0}.get(stage, len(request))
        writer.write(request[:at])
        for i in range(at, at + 50):
            if stage in {"head", "body"}:
                writer.write(request[i : i + 1])
            await asyncio.sleep(0.1)
    finally:
        writer.transport.abort()
        writer.close()
    crowd.note(f"slow: {stage}", LEFT, FINE)


KINDS: Mapping[str, tuple[int, float, tuple[Client, ...]]] = {
    "good": (6, 0.02, (_good_base, _good_stream, _good_best, _good_search, _good_medium)),
    "hard": (2, 0.3, (_hard_picture, _hard_picture, _hard_text)),
    "bad": (3, 0.05, (_bad, _bad, _no_http)),
    "failing": (3, 0.05, (_fate,)),
    "leaving": (4, 0.02, (_leaving,)),
    "slow": (8, 0.0, (_slow,)),
}
"""Connections at once, the longest pause after each client in seconds, and the clients."""


async def run(crowd: Crowd, seconds: float) -> None:
    """All kinds at once, for so long; who is under way then ends by itself, but for the slow."""
    until = asyncio.get_running_loop().time() + seconds

    async def line(pause: float, clients: tuple[Client, ...]) -> None:
        while asyncio.get_running_loop().time() < until:
            client = crowd.random.choice(clients)
            try:
                await client(crowd)
            except TimeoutError:
                crowd.fault(f"{client.__name__}: no answer in {PATIENCE:.0f} s")
            except (OSError, asyncio.IncompleteReadError):
                crowd.seen[client.__name__]["closed"] += 1
            await asyncio.sleep(crowd.random.random() * pause)

    async with asyncio.TaskGroup() as group:
        slow = []
        for name, (lines, pause, clients) in KINDS.items():
            made = [group.create_task(line(pause, clients)) for _ in range(lines)]
            slow += made if name == "slow" else []
        await asyncio.sleep(seconds)
        for task in slow:
            task.cancel()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="base URL, with a loopback address")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = urlsplit(given.url)
    host = parts.hostname or ""
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"{host} is not a loopback address: nothing else is ever loaded")
    os.nice(5)
    for name in PICTURES:
        for method in METHODS:
            _pictured(name, method)
    crowd = Crowd(
        host, parts.port or 80, parts.path, json.loads(os.environ["SOAK_KEYS"]), given.seed
    )
    for line in sys.stdin:
        asyncio.run(run(crowd, min(float(line), LONGEST)))
        print(json.dumps({"seen": crowd.seen, "wrong": crowd.wrong}), flush=True)
        crowd.seen.clear()
        crowd.wrong.clear()


if __name__ == "__main__":
    main()
