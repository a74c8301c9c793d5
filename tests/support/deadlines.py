"""A gateway in the test's own event loop, before upstreams that get stuck, and a clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from asgi_running import running
from hostile import Received, completion
from raw_upstream import Line, RawUpstream, Script, answer
from served import well_behaved
from serving import WAIT

from ecoalign.gateway import GatewayConfig, create_app
from ecoalign.gateway._app import state_of
from ecoalign.gateway._state import AppState
from ecoalign.gateway.keys import CHOICES, KeyPolicy
from ecoalign.settings import Settings

ALLOWED = 0.25
"""Seconds that a request may take beyond its limit."""


@dataclass(frozen=True)
class Ended:
    """A response, and how long it took to come in whole."""

    status: int
    text: str
    headers: httpx2.Headers
    seconds: float

    @property
    def code(self) -> str:
        """Of the error, also where it came in a stream; "" if there is none."""
        for line in self.text.splitlines():
            body = line.removeprefix("data: ")
            if body.startswith('{"error"'):
                return str(json.loads(body)["error"]["code"])
        return ""

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        body: dict[str, Any] = json.loads(self.text)
        return body


@dataclass(frozen=True)
class Gate:
    """A gateway that runs."""

    client: httpx2.AsyncClient
    state: AppState
    port: int

    async def ask(self, body: object, key: str = "", path: str = "/v1/chat/completions") -> Ended:
        """One request; what the client raises is raised."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        began = time.monotonic()
        reply = await self.client.post(path, json=body, headers=headers)
        took = time.monotonic() - began
        return Ended(reply.status_code, reply.text, reply.headers, took)

    async def get(self, path: str, key: str = "") -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return await self.client.get(path, headers=headers)


@asynccontextmanager
async def gate(
    url: str, settings: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[Gate]:
    """A gateway in front of `url`, where a request may choose anything."""
    chosen = {"env": {}, "model": "m", "base_url": url, "retries": 0, **(settings or {})}
    anyone = KeyPolicy(may_choose=frozenset(CHOICES))
    app = create_app(
        GatewayConfig(settings=Settings.load(**chosen), anonymous=anyone, drain=0, **config)
    )
    async with app.router.lifespan_context(app), running(app) as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=url, timeout=WAIT, trust_env=False) as client:
            yield Gate(client, state_of(app), port)


async def says_nothing(line: Line) -> None:
    await line.asked()
    await line.until_gone()


def drips(start: bytes, piece: bytes) -> Script:
    """Says `piece` again and again."""

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(start)
        gone = asyncio.create_task(line.until_gone())
        with suppress(ConnectionError):
            while not gone.done():
                await line.say(piece)
                await asyncio.wait([gone], timeout=0.02)
        await gone

    return script


JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def event(delta: dict[str, str]) -> bytes:
    """A chunk of a stream, in a chunk of HTTP."""
    data = b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def well(asked_body: bytes) -> bytes:
    """What a good server says to it."""
    reply = well_behaved(Received("POST", "/v1/chat/completions", {}, asked_body))
    return answer(reply.encoded(), "Connection: close")


def after(good: int, then: Script) -> Script:
    """A server that answers so many connections well, and then does something else."""

    async def script(line: Line) -> None:
        if line.index >= good:
            await then(line)
            return
        await line.say(well((await line.asked()).body))
        line.close()

    return script


def plainly(text: str = "fine") -> bytes:
    """A whole answer."""
    return answer(json.dumps(completion(text)).encode(), "Connection: close")


__all__ = [
    "ALLOWED",
    "EVENTS_HEAD",
    "JSON_HEAD",
    "Ended",
    "Gate",
    "RawUpstream",
    "after",
    "drips",
    "event",
    "gate",
    "plainly",
    "says_nothing",
    "well",
]
