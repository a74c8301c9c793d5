"""Servers of images that lie, dawdle and flood."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from dataclasses import replace

import pytest
from image_host import NAME, PNG, POLICY, TLS, Names, fetcher, hosting, http

from ecoalign.query import ImageUrlError

SMALL = replace(POLICY, max_bytes=4096)


async def reason(answer: bytes) -> str:
    async with hosting(answer) as host:
        with pytest.raises(ImageUrlError) as refused:
            await fetcher(host, policy=SMALL).fetch(host.url())
    assert "canary" not in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)
    return refused.value.reason


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return http(body + b"0\r\n\r\n", "Transfer-Encoding: chunked")


async def test_chunks_are_put_together() -> None:
    async with hosting(chunked(PNG[:1], PNG[1:20], PNG[20:])) as host:
        assert await fetcher(host).fetch(host.url()) == PNG


async def test_a_body_may_end_with_the_connection() -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n"
    async with hosting(head + PNG) as host:
        assert await fetcher(host).fetch(host.url()) == PNG


async def test_the_largest_image_is_just_fetched() -> None:
    body = PNG.ljust(4096, b"\0")
    async with hosting(http(body), http(body + b"\0"), chunked(body, b"\0")) as host:
        images = fetcher(host, policy=SMALL)
        assert await images.fetch(host.url()) == body
        for _ in range(2):
            with pytest.raises(ImageUrlError) as refused:
                await images.fetch(host.url())
            assert refused.value.reason == "size"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(status="404 canary"), "status"),
        (http(b"", status="204 canary"), "status"),
        (http(status="204 canary"), "connection"),
        (http(status="206 canary"), "status"),
        (http(status="500 canary"), "status"),
        (http(kind="text/html"), "type"),
        (http(kind="image/svg+xml"), "type"),
        (http(kind="application/octet-stream"), "type"),
        (http(PNG, "Content-Type: text/html"), "type"),
        (http(b"<html>canary canary canary"), "type"),
        (http(b"<svg xmlns=canary>" * 9), "type"),
        (http(b"\x89PNG"), "type"),
        (http(b""), "type"),
        (http(gzip.compress(PNG), "Content-Encoding: gzip"), "type"),
        (http(PNG, "Content-Encoding: identity, br"), "type"),
        (http(PNG, "Content-Encoding: identity", "Content-Encoding: zstd"), "type"),
        (http(PNG, "Content-Length: 5000"), "size"),
        (http(PNG, "Content-Length: 99999999999999999999999"), "connection"),
        (http(PNG, length=len(PNG) + 1), "connection"),
        (http(PNG, "Content-Length: 10", "Content-Length: 11"), "connection"),
        (http(PNG, "Content-Length: -1"), "connection"),
        (http(PNG, "Transfer-Encoding: gzip, chunked"), "connection"),
        (http(b"zz\r\n", "Transfer-Encoding: chunked"), "connection"),
        (http(b"ffffffffffffffffffffff\r\n", "Transfer-Encoding: chunked"), "connection"),
        (http(PNG, "X-Canary: " + "a" * 90_000), "connection"),
        (http(PNG, *(f"X-{n}: canary" for n in range(8000))), "connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 30_000, "size"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: canary\r\n\r\n", "connection"),
        (b"canary\r\n\r\n", "connection"),
        (b"SSH-2.0-canary\r\n", "connection"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "connection"),
        (b"\x00" * 40_000, "connection"),
        (b"", "connection"),
        (chunked(*(PNG[n : n + 1] for n in range(len(PNG))), *([b"\0"] * 6000)), "size"),
    ],
)
async def test_what_is_no_image_is_not_taken(answer: bytes, why: str) -> None:
    assert await reason(answer) == why


async def test_what_follows_the_announced_length_is_not_taken() -> None:
    async with hosting(http(PNG + b"canary", length=len(PNG))) as host:
        with pytest.raises(ImageUrlError) as refused:
            await fetcher(host, policy=SMALL).fetch(host.url())
    assert refused.value.reason == "connection"


async def test_an_endless_body_is_not_waited_for() -> None:
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG)
        while True:
            writer.write(b"\0" * 65536)
            sent += 65536
            await writer.drain()

    async with hosting(endless) as host:
        with pytest.raises(ImageUrlError) as refused:
            await fetcher(host, policy=SMALL).fetch(host.url())
    assert refused.value.reason == "size"
    # No more than what fits the buffers between the two.
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("at", ["name", "connection", "head", "body", "redirects"])
async def test_all_the_time_together_is_bounded(at: str) -> None:
    async def never(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = http(b"", "Location: /x", status="302 a") if at == "redirects" else http()
        start = {"head": 20, "body": len(answer) - 10, "redirects": 10}[at]
        writer.write(answer[:start])
        # A byte now and then keeps a time limit of each read from ever running out.
        for n in range(start, len(answer)):
            await asyncio.sleep(0.02)
            writer.write(answer[n : n + 1])
            await writer.drain()
            if n > start + 5 and at != "redirects":
                await asyncio.Event().wait()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with hosting(silent if at == "connection" else slow) as host:
        images = fetcher(host, policy=replace(POLICY, seconds=0.3, redirects=1000))
        if at == "name":
            images.resolver = never
        with pytest.raises(ImageUrlError) as refused:
            await images.fetch(host.url())
    assert refused.value.reason == "time"


async def test_waiting_for_a_turn_counts_as_well() -> None:
    asked = asyncio.Event()

    async def never(_: str) -> list[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    async with hosting(http()) as host:
        images = fetcher(host, policy=replace(POLICY, seconds=60.0, concurrency=1))
        images.resolver = never
        first = asyncio.create_task(images.fetch(host.url()))
        await asked.wait()
        images.resolver = Names()
        images.policy = replace(images.policy, seconds=0.1)
        with pytest.raises(ImageUrlError) as refused:
            await images.fetch(host.url())
        first.cancel()
        await asyncio.wait([first])
    assert refused.value.reason == "time"
    assert not host.requests


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "authority.pem"))


async def test_tls_names_the_host_and_connects_to_the_address() -> None:
    names = Names()
    async with hosting(http(), tls=True) as host:
        images = fetcher(host, names, tls=trusting())
        assert await images.fetch(host.url(scheme="https")) == PNG
    assert host.names == [NAME]
    assert names.asked == [NAME]
    assert f"Host: {NAME}:{host.port}\r\n".encode() in host.requests[0]


async def test_a_certificate_of_another_name_is_refused() -> None:
    async with hosting(http(), tls=True) as host:
        images = fetcher(host, tls=trusting())
        with pytest.raises(ImageUrlError) as refused:
            await images.fetch(host.url(name="other.example.org", scheme="https"))
    assert refused.value.reason == "connection"
    assert not host.requests


async def test_a_certificate_of_nobody_known_is_refused() -> None:
    async with hosting(http(), tls=True) as host:
        with pytest.raises(ImageUrlError) as refused:
            await fetcher(host).fetch(host.url(scheme="https"))
    assert refused.value.reason == "connection"
    assert not host.requests


async def test_https_does_not_lead_back_to_http() -> None:
    async def away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"", f"Location: {host.url()}", status="302 a"))

    async with hosting(away, tls=True) as host:
        with pytest.raises(ImageUrlError) as refused:
            await fetcher(host, tls=trusting()).fetch(host.url(scheme="https"))
    assert refused.value.reason == "redirect"
