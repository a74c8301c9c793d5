"""Limits on bodies, headers, JSON and connections, against a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from asgi_running import post, running, told
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ecoalign.gateway._json import JsonError, Lengths, parse_json
from ecoalign.gateway._limits import BodyLimit
from ecoalign.gateway._room import Room
from ecoalign.gateway._server import MOST_HEAD_BYTES, GuardedProtocol


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how long the body is."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"got {len(body)}")(scope, receive, send)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked"


def error_of(answer: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error


@pytest.mark.parametrize(
    "request_",
    [
        post(b"x" * 1000),
        post(chunked(b"x" * 500, b"x" * 499, b"x"), CHUNKED),
        post(chunked(*[b"x"] * 1000), CHUNKED),
    ],
)
async def test_the_largest_body_is_let_through(request_: bytes) -> None:
    async with running(BodyLimit(echo, max_bytes=1000)) as port:
        assert (await told(port, request_)).endswith(b"got 1000")


@pytest.mark.parametrize(
    "request_",
    [
        post(b"x" * 1001),
        post(b"", length=1001),
        post(b"", length=10**18),
        post(chunked(b"x" * 1001), CHUNKED),
        post(chunked(*[b"x"] * 1001), CHUNKED),
        post(chunked(b"x" * 900, b"x" * 101)[:-5], CHUNKED),
    ],
)
async def test_a_body_that_is_too_large_is_answered_in_the_apis_shape(request_: bytes) -> None:
    told_of: list[str] = []
    app = BodyLimit(echo, max_bytes=1000, on_refusal=told_of.append)
    async with running(app) as port:
        status, error = error_of(await told(port, request_))
    assert status == 413
    assert error["code"] == "request_too_large"
    assert "1,000" in str(error["message"])
    assert told_of == ["too-large"]


async def test_a_request_without_a_body_is_let_through() -> None:
    async with running(BodyLimit(echo, max_bytes=1)) as port:
        answer = await told(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"got 0")


async def test_a_body_that_drips_is_not_waited_for() -> None:
    app = BodyLimit(echo, max_bytes=1000, seconds=0.2)
    async with running(app) as port:
        status, error = error_of(await told(port, post(b"xx", length=1000)))
    assert (status, error["code"]) == (408, "request_timeout")


class Held:
    """Behind the limit: counts who is in, and keeps them until it is told to let go."""

    def __init__(self) -> None:
        self.inside: asyncio.Queue[str] = asyncio.Queue()
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside.put_nowait(scope["path"])
        await self.go.wait()
        await echo(scope, receive, send)


@pytest.mark.parametrize("as_chunks", [False, True])
async def test_all_bodies_together_are_bounded_and_let_go(as_chunks: bool) -> None:
    held = Held()
    more = post(chunked(b"x" * 600), CHUNKED) if as_chunks else post(b"x" * 600)
    app = BodyLimit(held, max_bytes=1000, room=Room(2000), patience=0.1)
    async with running(app) as port:
        first = [asyncio.create_task(told(port, post(b"x" * 800))) for _ in range(2)]
        for _ in first:
            await held.inside.get()
        status, error = error_of(await told(port, more))
        assert (status, error["code"], error["type"]) == (503, "overloaded", "server_error")
        held.go.set()
        assert all(one.endswith(b"got 800") for one in await asyncio.gather(*first))
        assert (await told(port, post(b"x" * 1000))).endswith(b"got 1000")


async def test_a_body_waits_for_its_room_and_is_read_then() -> None:
    held = Held()
    async with running(BodyLimit(held, max_bytes=1000, room=Room(2000), patience=20)) as port:
        first = [asyncio.create_task(told(port, post(b"x" * 1000))) for _ in range(2)]
        for _ in first:
            await held.inside.get()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Nobody asks for this body before there is room for it.
        writer.write(post(b"", "Expect: 100-continue", length=1000))
        waiting = asyncio.create_task(reader.readline())
        passing = asyncio.create_task(told(port, b"GET /passing HTTP/1.0\r\n\r\n"))
        assert await held.inside.get() == "/passing"
        assert not waiting.done()
        held.go.set()
        await asyncio.gather(*first, passing)
        assert b"100 Continue" in await asyncio.wait_for(waiting, 20)
        writer.write(b"x" * 1000)
        assert (await asyncio.wait_for(reader.read(), 20)).endswith(b"got 1000")
        writer.close()


async def test_no_owner_holds_all_of_the_memory_nor_do_any_number() -> None:
    held = Held()
    limits = BodyLimit(
        held, max_bytes=1000, room=Room(8000), patience=0.05, owner=lambda scope: scope["path"]
    )
    async with running(limits) as port:
        inside: list[asyncio.Task[bytes]] = []

        async def has_room(owner: str) -> bool:
            asked = asyncio.create_task(told(port, post(b"x" * 250, path=owner)))
            let_in = asyncio.create_task(held.inside.get())
            await asyncio.wait({asked, let_in}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                let_in.cancel()
                assert error_of(asked.result())[0] == 503
                return False
            inside.append(asked)
            return True

        held_by = []
        for owner in ("/a", "/b", "/c", "/d"):
            before = len(inside)
            while await has_room(owner):
                pass
            held_by.append(len(inside) - before)
        # Half, then half of what is left, and so on, in bodies of 250 bytes.
        assert held_by == [16, 8, 4, 2]
        held.go.set()
        await asyncio.gather(*inside)
        assert (await told(port, post(b"x" * 1000, path="/e"))).endswith(b"got 1000")


async def test_a_client_that_leaves_within_its_body_reaches_nobody() -> None:
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await echo(scope, receive, send)

    async with running(BodyLimit(app)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"half", length=100, path="/left"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await told(port, post(b"", path="/after"))
    assert asked == ["/after"]


async def test_the_app_still_hears_that_a_client_left() -> None:
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with running(BodyLimit(app)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"whole"))
        await writer.drain()
        writer.close()
        await asyncio.wait_for(left.wait(), 20)


def test_limits_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        BodyLimit(echo, max_bytes=0)
    with pytest.raises(ValueError, match="above 0"):
        BodyLimit(echo, seconds=0)
    with pytest.raises(ValueError, match="two of the largest"):
        BodyLimit(echo, max_bytes=1000, room=Room(1999))


# Connections


def guarded(app: ASGIApp, **limits: float) -> tuple[ASGIApp, type[GuardedProtocol]]:
    return app, type("Guarded", (GuardedProtocol,), limits)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"a" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"X-Many: canary\r\n" * 3000,
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 40_000,
        post(b"1\r\nx\r\n0\r\n" + b"X-Trailer: canary\r\n" * 3000, CHUNKED),
        post(b"1;" + b"a" * 40_000, CHUNKED),
    ],
)
async def test_heads_without_end_are_cut_off(start: bytes) -> None:
    async with running(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = len(start)
        writer.write(start)
        more = b"X-More: canary\r\n" * 256 if start.endswith(b"\n") else b"a" * 4096
        try:
            while not reader.at_eof() and sent < 64 * 1024 * 1024:
                writer.write(more)
                sent += len(more)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()
    # The limit, the bytes of one read, and what the buffers of both sides hold.
    assert sent < MOST_HEAD_BYTES + 16 * 1024 * 1024


async def test_large_bodies_in_many_chunks_are_not_taken_for_heads() -> None:
    pieces = chunked(*[b"x"] * 100_000)
    async with running(echo) as port:
        assert (await told(port, post(pieces, CHUNKED))).endswith(b"got 100000")
        assert (await told(port, post(b"x" * 3_000_000))).endswith(b"got 3000000")


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_that_sends_no_head_is_closed(start: bytes) -> None:
    app, protocol = guarded(echo, head_seconds=0.2)
    async with running(app, protocol) as port:
        assert await told(port, start) == b""


async def test_a_second_head_has_its_time_as_well() -> None:
    app, protocol = guarded(echo, head_seconds=0.2)
    async with running(app, protocol) as port:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await told(port, request + request + b"GET / HTTP")
    assert answer.count(b"got 0") == 2


async def test_a_slow_app_is_not_taken_for_a_slow_head() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await echo(scope, receive, send)

    app, protocol = guarded(slow, head_seconds=0.1, stall_seconds=0.1)
    async with running(app, protocol) as port:
        assert (await told(port, post(b"xx"))).endswith(b"got 2")


async def test_a_client_that_does_not_read_is_given_up() -> None:
    ended = asyncio.Event()

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                ended.set()

        try:
            await StreamingResponse(endless())(scope, receive, send)
        except ClientDisconnect:
            ended.set()

    app, protocol = guarded(flood, stall_seconds=0.2)
    async with running(app, protocol) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(ended.wait(), 20)
            assert ended.is_set()


# JSON

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Halves of characters are no text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_json_is_read_as_python_reads_it(value: object) -> None:
    body = json.dumps(value).encode()
    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize("deep", [lambda n: b"[" * n + b"1" + b"]" * n])
@pytest.mark.parametrize("depth", [1, 3, 64])
def test_nesting_is_bounded(deep: Callable[[int], bytes], depth: int) -> None:
    assert parse_json(deep(depth), Lengths(depth=depth)) is not None
    with pytest.raises(JsonError, match="nested"):
        parse_json(deep(depth + 1), Lengths(depth=depth))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 199 + b"1" + b"}" * 199,
        b"[" + b"1," * 500_000 + b"1]",
        b'{"canary": NaN}',
        b'{"canary": Infinity}',
        b'{"canary": -1e999}',
        b'["canary \\ud800"]',
        b'["canary", 1',
        b"canary",
        b"",
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"1" * 5000,
        b'{"a": 1} canary',
    ],
)
def test_json_that_nobody_honest_sends_is_refused(body: bytes) -> None:
    with pytest.raises(JsonError) as refused:
        parse_json(body)
    assert "canary" not in str(refused.value)
    assert len(str(refused.value)) < 200
