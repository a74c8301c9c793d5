"""A stream that is passed on, while its model thinks."""

from __future__ import annotations

import asyncio
import json

from asgi_running import running
from raw_upstream import Line, RawUpstream

from ecoalign.gateway import GatewayConfig, create_app
from ecoalign.gateway.keys import KeyPolicy
from ecoalign.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(delta: dict[str, str]) -> bytes:
    event = b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


async def test_who_waits_for_thoughts_is_told_that_they_go_on() -> None:
    told = asyncio.Event()

    async def thinking(line: Line) -> None:
        await line.asked()
        await line.say(HEAD)
        while not told.is_set():
            await line.say(chunk({"reasoning_content": "secret"}))
            await asyncio.sleep(0)
        await line.say(chunk({"content": "Harbour."}) + b"0\r\n\r\n")

    async with RawUpstream(thinking) as upstream:
        settings = Settings.load(env={}, model="m", base_url=upstream.url)
        anyone = KeyPolicy(may_choose=frozenset({"method", "base"}))
        app = create_app(GatewayConfig(settings=settings, keepalive=0.01, anonymous=anyone))
        async with app.router.lifespan_context(app), running(app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps(
                {
                    "model": "ecoalign",
                    "messages": [{"role": "user", "content": "x"}],
                    "stream": True,
                    "ecoalign": {"method": "base"},
                }
            ).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            head += "Content-Type: application/json\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await reader.readuntil(b": ecoalign\n\n")
            told.set()
            rest = await reader.read()
            writer.close()
    assert b"Harbour." in rest
    assert b"secret" not in rest
