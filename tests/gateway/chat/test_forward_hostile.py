"""The raw way to the upstream, with servers that misbehave: every failure is told as it is."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import aclosing

import pytest
from raw_upstream import WAIT, Line, RawUpstream, answer, chunked, repeating, saying

from ecoalign.gateway._forward import Forwarder, UpstreamError
from ecoalign.models import Endpoint

KEY = "sk-never-to-be-seen-0123456789"
BODY = b'{"model": "m", "messages": []}'
SHORT = 0.3
"""Seconds of a timeout that a test waits for."""


async def failure_of(data: bytes, *, then: str = "close", most: int = 1 << 20) -> UpstreamError:
    """What `post` raises where the server says `data` and then closes, resets or holds."""
    async with RawUpstream(saying(data, then=then)) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=2, most=most)
        with pytest.raises(UpstreamError) as caught:
            await way.post(BODY)
        await way.aclose()
    assert KEY not in str(caught.value)
    assert KEY not in caught.value.text
    assert caught.value.role == "model"
    return caught.value


BROKEN = {
    "nothing": (b"", "server"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "server"),
    "half a body": (b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"id":', "server"),
    "a chunk cut short": (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"id"',
        "server",
    ),
    "chunks without an end": (chunked(b'{"id": 1}').removesuffix(b"0\r\n\r\n"), "server"),
    "not HTTP": (b"220 smtp.example.org ESMTP\r\n", "bad-response"),
    "a length that is none": (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "bad-response"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad-response"),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
        "bad-response",
    ),
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "bad-response",
    ),
    "a chunk of no size": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        "bad-response",
    ),
    "a NUL in a header": (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n{}", "bad-response"),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "bad-response",
    ),
    "HTML": (answer(b"<html>welcome to the proxy</html>"), "bad-response"),
    "nothing in it": (answer(b""), "bad-response"),
    "a list": (answer(b"[1]"), "bad-response"),
    "packed": (answer(b"\x1f\x8b\x08", "Content-Encoding: gzip"), "bad-response"),
    "a head that never ends": (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000, "bad-response"),
    "notices that never end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 30_000, "bad-response"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_an_answer_that_is_none_may_have_been_billed(case: str) -> None:
    data, fault = BROKEN[case]
    error = await failure_of(data, most=1 << 14)
    assert (error.fault, error.billed) == (fault, True)


async def test_a_reset_in_the_middle_of_the_body() -> None:
    error = await failure_of(BROKEN["half a body"][0], then="reset")
    assert (error.fault, error.billed) == ("server", True)


@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
async def test_an_answer_over_the_limit_is_not_read_on(framing: str) -> None:
    """The server would send for ever; the end comes from this side."""
    heads = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "none": b"HTTP/1.1 200 OK\r\n\r\n",
    }
    piece = b"{" * 4096
    ended = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        try:
            await line.say(heads[framing])
            while True:
                await line.say(b"1000\r\n%s\r\n" % piece if framing == "chunks" else piece)
        except ConnectionError:
            ended.set()

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1, most=100_000)
        with pytest.raises(UpstreamError, match="more than 100,000 bytes") as caught:
            await way.post(BODY)
        await asyncio.wait_for(ended.wait(), WAIT)
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("bad-response", True)


async def test_an_answer_just_within_the_limit_is_read() -> None:
    response = answer(b"{" + b" " * 5000 + b"}")
    async with RawUpstream(repeating(response)) as upstream:
        way = Forwarder(
            Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1, most=len(response)
        )
        assert (await way.post(BODY)).status == 200
        await way.aclose()


async def test_a_slow_loris_is_cut_off_by_the_total_timeout() -> None:
    """Every byte comes in good time; the whole does not."""

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await line.say(b"1\r\n{\r\n")
            await asyncio.sleep(SHORT / 20)

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=SHORT, connections=1)
        with pytest.raises(UpstreamError, match="did not answer within") as caught:
            await way.post(BODY)
        with pytest.raises(UpstreamError):  # the one connection is free again
            await way.post(BODY)
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("timeout", True)
    assert len(upstream.lines) == 2


async def test_who_gets_no_connection_in_time_was_not_billed() -> None:
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        asked.set()
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=SHORT, connections=1)
        first = asyncio.ensure_future(way.post(BODY))
        await asyncio.wait_for(asked.wait(), WAIT)
        second = asyncio.ensure_future(way.post(BODY))
        errors = await asyncio.gather(first, second, return_exceptions=True)
        await way.aclose()
    assert [isinstance(error, UpstreamError) for error in errors] == [True, True]
    assert len(upstream.lines) <= 2


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    way = Forwarder(Endpoint.of(f"http://127.0.0.1:{port}/v1", KEY), timeout=WAIT, connections=1)
    with pytest.raises(UpstreamError, match="cannot be reached") as caught:
        await way.post(BODY)
    await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("down", False)


async def test_a_request_that_crossed_with_the_closing_is_not_sent_twice() -> None:
    """It was sent on a line that had served before; whether it was taken, nobody knows."""
    requests = 0

    async def script(line: Line) -> None:
        nonlocal requests
        for response in (answer(b"{}"), None):
            await line.asked()
            requests += 1
            if response is None:
                line.reset()
            else:
                await line.say(response)

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        await way.post(BODY)
        with pytest.raises(UpstreamError) as caught:
            await way.post(BODY)
        assert requests == 2
        assert (caught.value.fault, caught.value.billed) == ("server", True)
        assert (await way.post(BODY)).status == 200
        await way.aclose()


async def test_bytes_after_an_answer_never_become_the_next_one() -> None:
    """A second answer in the same breath, or later, belongs to nobody."""
    forged = answer(b'{"forged": true}')
    sent = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        if line.index == 0:
            await line.say(answer(b'{"n": 0}') + forged)
        elif line.index == 1:
            await line.say(answer(b'{"n": 1}'))
            await line.say(forged)
            sent.set()
        else:
            await line.say(answer(b'{"n": 2}'))
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        bodies = [(await way.post(BODY)).body]
        bodies.append((await way.post(BODY)).body)
        await asyncio.wait_for(sent.wait(), WAIT)
        bodies.append((await way.post(BODY)).body)
        await way.aclose()
    assert bodies == [b'{"n": %d}' % n for n in range(3)]
    assert len(upstream.lines) == 3


async def test_an_answer_before_the_request_was_read_ends_the_connection() -> None:
    """A 413 while the body is still being sent: what is left of it must not be a request."""

    async def script(line: Line) -> None:
        if line.index == 0:
            await line.say(answer(b"{}", status="413 Content Too Large"))
            await asyncio.Event().wait()  # reads nothing
        await line.asked()
        await line.say(answer(b"{}"))

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        with pytest.raises(UpstreamError) as caught:
            await way.post(b"{" + b" " * (32 << 20) + b"}")
        assert (caught.value.status, caught.value.fault) == (413, "rejected")
        assert (await way.post(BODY)).status == 200
        await way.aclose()
    assert len(upstream.lines) == 2


# Answers that are errors

STATUSES = {
    "400 Bad Request": ("rejected", False),
    "401 Unauthorized": ("rejected", False),
    "403 Forbidden": ("rejected", False),
    "404 Not Found": ("rejected", False),
    "408 Request Timeout": ("timeout", True),
    "413 Content Too Large": ("rejected", False),
    "422 Unprocessable Content": ("rejected", False),
    "429 Too Many Requests": ("rate-limited", False),
    "500 Internal Server Error": ("server", True),
    "503 Service Unavailable": ("server", False),
    "999 Whatever": ("server", True),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("streams", [False, True])
async def test_an_error_is_told_with_its_words_and_without_the_key(
    status: str, streams: bool
) -> None:
    said = {"error": {"message": f"no: {KEY} is wrong", "param": "top_p", "code": "bad"}}
    response = answer(json.dumps(said).encode(), "Retry-After: 7", status=status)
    async with RawUpstream(repeating(*[response] * 2)) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        for _ in range(2):
            with pytest.raises(UpstreamError) as caught:
                await (anext(way.stream(BODY)) if streams else way.post(BODY))
            error = caught.value
            assert (error.fault, error.billed) == STATUSES[status]
            assert error.status == int(status[:3])
            assert error.text == "no: [key] is wrong; bad; top_p"
            assert KEY not in str(error)
            assert error.retry_after == 7
            assert error.param == ("top_p" if status[:3] in {"400", "422"} else None)
        assert len(upstream.lines) == 1
        await way.aclose()


@pytest.mark.parametrize("param", [7, None, "x" * 101, "a b", "<script>"])
async def test_a_parameter_that_is_none_is_not_passed_on(param: object) -> None:
    body = json.dumps({"error": {"message": "no", "param": param}}).encode()
    assert (await failure_of(answer(body, status="400 Bad Request"))).param is None


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b'{"error": ', b'["x"]', b'{"error": "no"}'])
async def test_an_error_may_say_anything(body: bytes) -> None:
    error = await failure_of(answer(body, status="400 Bad Request"))
    assert (error.fault, error.status, error.param) == ("rejected", 400, None)
    assert len(str(error)) < 500


async def test_a_quota_that_is_used_up_is_not_a_rate_limit() -> None:
    body = json.dumps({"error": {"message": "no", "code": "insufficient_quota"}}).encode()
    error = await failure_of(answer(body, status="429 Too Many Requests"))
    assert (error.fault, error.billed) == ("rejected", False)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_redirect_is_not_followed(streams: bool) -> None:
    async with RawUpstream(repeating(answer(b"{}"))) as elsewhere:
        location = f"Location: {elsewhere.url}/chat/completions"
        response = answer(b"", location, status="307 Temporary Redirect")
        async with RawUpstream(repeating(response)) as upstream:
            way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
            with pytest.raises(UpstreamError) as caught:
                await (anext(way.stream(BODY)) if streams else way.post(BODY))
            await way.aclose()
        assert (caught.value.status, caught.value.fault) == (307, "rejected")
        assert not elsewhere.lines


# Streams

EVENTS = "text/event-stream; charset=utf-8"


async def read_all(way: Forwarder) -> list[bytes]:
    async with aclosing(way.stream(BODY)) as stream:
        return [piece async for piece in stream]


async def test_pieces_come_as_they_are_sent_and_the_connection_goes_on() -> None:
    """Each piece is sent only after the one before has been read."""
    read = asyncio.Semaphore(0)
    pieces = [b"data: one\n\n", b": a comment\n", b"\ndata: [DONE]\n\n"]

    async def script(line: Line) -> None:
        for _ in range(2):
            await line.asked()
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await line.say(head.encode())
            for piece in pieces:
                await line.say(b"%x\r\n%s\r\n" % (len(piece), piece))
                await read.acquire()
            await line.say(b"0\r\n\r\n")

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        for _ in range(2):
            got = []
            async with aclosing(way.stream(BODY)) as stream:
                async for piece in stream:
                    got.append(piece)
                    read.release()
            assert got == pieces
        assert len(upstream.lines) == 1
        await way.aclose()


async def test_a_slow_reader_holds_the_server_back_and_loses_nothing() -> None:
    """The server can send only as much as the sockets and our buffer hold, until we read."""
    piece = b"data: " + b"x" * 65_000 + b"\n\n"
    count = 400  # 26 MB, far more than the sockets of the loopback hold
    sent = 0

    async def script(line: Line) -> None:
        nonlocal sent
        await line.asked()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nConnection: close\r\n\r\n"
        await line.say(head.encode())
        for _ in range(count):
            await line.say(piece)
            sent += 1
        line.close()

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1, most=1 << 30)
        async with aclosing(way.stream(BODY)) as stream:
            size = len(await anext(stream))
            before = -1
            while before != sent:  # until the server makes no more headway
                before = sent
                for _ in range(200):
                    await asyncio.sleep(0)
            assert sent < count / 2
            async for got in stream:
                size += len(got)
        await way.aclose()
    assert (sent, size) == (count, count * len(piece))


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_stream_that_breaks_off_is_an_error(then: str) -> None:
    whole = chunked(b"data: one\n\n", kind=EVENTS).removesuffix(b"0\r\n\r\n")
    async with RawUpstream(saying(whole, then=then)) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        with pytest.raises(UpstreamError) as caught:
            await read_all(way)
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("server", True)


async def test_a_stream_that_drips_for_ever_is_cut_off() -> None:
    async def script(line: Line) -> None:
        await line.asked()
        await line.say(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\n\r\n".encode())
        while True:
            await line.say(b": still here\n\n")
            await asyncio.sleep(SHORT / 20)

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=SHORT, connections=1)
        with pytest.raises(UpstreamError, match="did not answer within") as caught:
            await read_all(way)
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("timeout", True)


async def test_a_stream_over_the_limit_is_cut_off() -> None:
    response = chunked(b"data: " + b"x" * 5000, kind=EVENTS)
    async with RawUpstream(saying(response, then="hold")) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1, most=4000)
        with pytest.raises(UpstreamError, match="more than 4,000 bytes"):
            await read_all(way)
        await way.aclose()


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/event-stream-ish"])
async def test_an_answer_that_is_no_stream_is_an_error(kind: str) -> None:
    async with RawUpstream(repeating(chunked(b"{}", kind=kind))) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        with pytest.raises(UpstreamError, match="no stream") as caught:
            await anext(way.stream(BODY))
        await way.aclose()
    assert (caught.value.fault, caught.value.billed) == ("bad-response", True)


async def test_a_long_error_in_place_of_a_stream_is_read_to_its_end() -> None:
    """Nobody takes it in pieces, and so nothing may wait for that."""
    response = answer(b" " * 1_000_000 + b'{"error": "late"}', status="500 Oh")
    async with RawUpstream(repeating(response)) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        with pytest.raises(UpstreamError) as caught:
            await anext(way.stream(BODY))
        await way.aclose()
    assert (caught.value.status, caught.value.text) == (500, "late")


async def test_a_reader_that_leaves_closes_the_upstream_and_frees_its_place() -> None:
    async def script(line: Line) -> None:
        await line.asked()
        await line.say(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\n\r\ndata: 1\n\n".encode())
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        way = Forwarder(Endpoint.of(upstream.url, KEY), timeout=WAIT, connections=1)
        for index in range(2):
            async with aclosing(way.stream(BODY)) as stream:
                assert await anext(stream) == b"data: 1\n\n"
            await asyncio.wait_for(upstream.lines[index].gone.wait(), WAIT)
        await way.aclose()
