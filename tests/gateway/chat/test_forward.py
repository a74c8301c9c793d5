"""The raw way to the upstream, with servers that behave."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from raw_upstream import WAIT, Asked, Line, RawUpstream, answer, chunked, repeating

from ecoalign.errors import InputError
from ecoalign.gateway._forward import Forwarder, UpstreamError
from ecoalign.models import Endpoint
from ecoalign.models.http import IDLE_SECONDS

KEY = "sk-never-to-be-seen-0123456789"
BODY = b'{"model": "m", "messages": [], "x-vendor": [1, 2]}'


def forwarder(url: str, key: str | None = KEY, connections: int = 8) -> Forwarder:
    return Forwarder(Endpoint.of(url, key or ""), timeout=WAIT, connections=connections)


async def test_the_request_arrives_as_it_came_and_so_does_the_answer() -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(b' {"id":"\xc3\xa4"}\n', "X-Request-Id: req-7"))

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        got = await way.post(BODY)
        await way.aclose()
    assert (got.status, got.request_id, got.body) == (200, "req-7", b' {"id":"\xc3\xa4"}\n')
    assert seen[0].body == BODY
    assert seen[0].head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert seen[0].header("authorization") == [f"Bearer {KEY}"]
    assert seen[0].header("content-type") == ["application/json"]
    assert seen[0].header("host") == [upstream.url.split("/")[2]]
    assert seen[0].header("content-length") == [str(len(BODY))]


async def test_without_a_key_none_is_sent() -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(b"{}"))

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url + "/", key=None)
        await way.post(BODY)
        await way.aclose()
    assert seen[0].header("authorization") == []
    assert seen[0].head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")


async def test_one_connection_serves_request_after_request_whatever_the_framing() -> None:
    responses = (
        answer(b'{"n": 1}'),
        chunked(b'{"n"', b": 2", b"}"),
        # A notice comes before the answer, and fields that nobody reads after it.
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b'{"n": 3}'),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8;a=b\r\n"
        b'{"n": 4}\r\n0\r\nTrailer: x\r\n\r\n',
        answer(b'{"n": 5}'),
    )
    async with RawUpstream(repeating(*responses)) as upstream:
        way = forwarder(upstream.url)
        bodies = [(await way.post(BODY)).body for _ in responses]
        await way.aclose()
    assert bodies == [b'{"n": %d}' % n for n in range(1, 6)]
    assert len(upstream.lines) == 1


async def test_an_answer_that_comes_byte_by_byte_is_whole() -> None:
    async def script(line: Line) -> None:
        await line.asked()
        for i in range(len(response)):
            await line.say(response[i : i + 1])
            await asyncio.sleep(0)
        await line.until_gone()

    response = chunked(b'{"text"', b': "slow"}')
    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        assert (await way.post(BODY)).body == b'{"text": "slow"}'
        await way.aclose()


async def test_an_answer_that_ends_with_its_connection_is_taken() -> None:
    async def script(line: Line) -> None:
        await line.asked()
        await line.say(b"HTTP/1.0 200 OK\r\n\r\n" + b'{"old": true}')
        line.close()

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        bodies = [(await way.post(BODY)).body for _ in range(2)]
        await way.aclose()
    assert bodies == [b'{"old": true}'] * 2
    assert len(upstream.lines) == 2


@pytest.mark.parametrize("told", [True, False])
async def test_a_connection_that_the_server_closed_after_its_answer_is_not_used_again(
    told: bool,
) -> None:
    """Told by a header, or found out when the next request is about to be sent."""
    closed = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(answer(b"{}", *(["Connection: close"] if told else [])))
        line.close()
        closed.set()

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        for count in range(1, 4):
            closed.clear()
            assert (await way.post(BODY)).status == 200
            await asyncio.wait_for(closed.wait(), WAIT)
            assert len(upstream.lines) == count
        await way.aclose()


async def test_an_end_that_the_loop_has_not_seen_yet_is_seen_before_sending() -> None:
    """The server closes while our loop is at something else: only the socket knows."""
    listening = socket.create_server(("127.0.0.1", 0))
    answered, closed = threading.Event(), threading.Event()

    def serve() -> None:
        for last in (False, True):
            line, _ = listening.accept()
            line.recv(65536)
            line.sendall(answer(b"{}"))
            if not last:
                answered.wait(WAIT)
            line.close()
            closed.set()

    thread = threading.Thread(target=serve)
    thread.start()
    way = forwarder(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    await way.post(BODY)
    # No await from here until the next request: the loop cannot have noticed.
    answered.set()
    assert closed.wait(WAIT)
    assert (await way.post(BODY)).status == 200
    await way.aclose()
    thread.join()
    listening.close()


async def test_a_connection_that_rested_too_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with RawUpstream(repeating(*[answer(b"{}")] * 3)) as upstream:
        way = forwarder(upstream.url)
        await way.post(BODY)
        await way.post(BODY)
        assert len(upstream.lines) == 1
        late = time.monotonic() + IDLE_SECONDS
        with monkeypatch.context() as patch:
            patch.setattr("aiohttp.connector.monotonic", lambda: late)
            await way.post(BODY)
        assert len(upstream.lines) == 2
        await way.aclose()


async def test_no_more_connections_than_allowed_and_nobody_is_left_waiting() -> None:
    release = asyncio.Event()
    reached = asyncio.Semaphore(0)

    async def script(line: Line) -> None:
        while True:
            await line.asked()
            reached.release()
            await release.wait()
            await line.say(answer(b"{}"))

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url, connections=3)
        posts = [asyncio.ensure_future(way.post(BODY)) for _ in range(10)]
        for _ in range(3):
            await asyncio.wait_for(reached.acquire(), WAIT)
        posts[5].cancel()  # one of those that wait for a connection
        release.set()
        done = await asyncio.gather(*posts, return_exceptions=True)
        assert isinstance(done[5], asyncio.CancelledError)
        assert sum(not isinstance(one, BaseException) for one in done) == 9
        assert len(upstream.lines) == 3
        await way.aclose()


async def test_a_large_body_arrives_whole() -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(b"{}"))

    body = b'{"image": "' + bytes(range(32, 127)).replace(b'"', b"").replace(b"\\", b"") * 50_000
    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        await way.post(body)
        await way.aclose()
    assert seen[0].body == body


@pytest.mark.parametrize("streams", [False, True])
async def test_who_is_cancelled_closes_the_upstream(streams: bool) -> None:
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        asked.set()
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url, connections=1)

        async def read() -> None:
            async with aclosing(way.stream(BODY)) as pieces:
                async for _ in pieces:
                    pass

        task = asyncio.ensure_future(read() if streams else way.post(BODY))
        await asyncio.wait_for(asked.wait(), WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.lines[0].gone.wait(), WAIT)
        await way.aclose()


async def test_closing_fails_what_is_under_way_and_can_be_repeated() -> None:
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        asked.set()
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        way = forwarder(upstream.url)
        task = asyncio.ensure_future(way.post(BODY))
        await asyncio.wait_for(asked.wait(), WAIT)
        await way.aclose()
        await way.aclose()
        with pytest.raises(UpstreamError):
            await task


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://h/v1",
        "http:///v1",
        "http://h:0/v1",
        "http://h:x/v1",
        "http://h\\x/v1",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="base URL"):
        forwarder(url)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://user:pw-secret@h/v1", KEY),
        ("http://h/v1", "sk-a\r\nX-Evil: 1"),
        ("http://h/v1", "sk-ü"),
        ("http://h/v 1", KEY),
        ("http://h/v1?key=sk-query", KEY),
        ("http://h/v1#sk-fragment", KEY),
    ],
)
def test_what_cannot_be_sent_is_refused_without_being_shown(url: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        forwarder(url, key)
    assert "pw-secret" not in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_the_key_is_not_in_the_representation() -> None:
    way = forwarder("https://example.org/v1")
    assert repr(way) == "Forwarder('https://example.org')"


# TLS


CERTIFICATE = Path(__file__).parents[2] / "support" / "tls" / "loopback.pem"
"""For 127.0.0.1, by itself, with its key."""


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_https_with_a_certificate_that_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    responses = (answer(b'{"n": 1}'), chunked(b'{"n": 2}'))
    async with RawUpstream(repeating(*responses), server_context()) as upstream:
        way = forwarder(upstream.url)
        assert [(await way.post(BODY)).body for _ in responses] == [b'{"n": 1}', b'{"n": 2}']
        assert len(upstream.lines) == 1
        await way.aclose()


async def test_https_with_a_certificate_that_is_not_trusted() -> None:
    async def script(line: Line) -> None:
        raise AssertionError("a request got through")

    async with RawUpstream(script, server_context()) as upstream:
        way = forwarder(upstream.url)
        with pytest.raises(UpstreamError, match="is not trusted") as caught:
            await way.post(BODY)
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("down", False)
