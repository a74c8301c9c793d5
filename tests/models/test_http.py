"""The HTTP client on real sockets: what it sends once, what it bounds, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import pytest
from raw_upstream import WAIT, Line, RawUpstream, answer, chunked, repeating, saying

from ecoalign.models.http import URL, HttpClient, HttpError

if TYPE_CHECKING:
    from raw_upstream import Script

MOST = 10_000
HEADERS = {"Authorization": "Bearer sk-never-to-be-seen"}
Method = Literal["GET", "POST"]
methods = pytest.mark.parametrize("method", ["GET", "POST"])


def client(connections: int = 4, most: int = MOST) -> HttpClient:
    return HttpClient(HEADERS, connections=connections, most=most)


async def ask(
    subject: HttpClient, url: str, method: Method = "POST", seconds: float = WAIT
) -> tuple[int, bytes]:
    deadline = asyncio.get_running_loop().time() + seconds
    body = b"{}" if method == "POST" else None
    async with subject.exchange(method, URL(url), body, deadline=deadline) as reply:
        return reply.status, await reply.whole()


async def failure(script: Script, method: Method = "POST", seconds: float = WAIT) -> HttpError:
    """How one request fails, which leaves nothing behind and shows nothing."""
    async with RawUpstream(script) as upstream:
        subject = client()
        with pytest.raises(HttpError) as caught:
            await ask(subject, upstream.url, method, seconds)
        assert caught.value.__context__ is None
        assert "sk-" not in f"{caught.value!r} {subject!r}"
        assert len(upstream.lines) <= 1
        await subject.aclose()
    return caught.value


def reset(line: Line) -> None:
    """Close with a RST, whatever was said."""
    sock = line._writer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.reset()


# Once -------------------------------------------------------------------------------------------


@methods
@pytest.mark.parametrize("how", ["close", "reset", "half a head"])
@pytest.mark.parametrize("kept", [False, True])
async def test_a_request_that_was_taken_is_not_sent_again(
    method: Method, how: str, kept: bool
) -> None:
    """On a connection that has served before, too, where aiohttp would send a GET twice."""
    requests = 0

    async def script(line: Line) -> None:
        nonlocal requests
        for serve in [True] * kept + [False]:
            await line.asked()
            requests += 1
            if serve:
                await line.say(answer(b"{}"))
            elif how == "reset":
                reset(line)
            else:
                await line.say(b"HTTP/1.1 200" if how != "close" else b"")
                line.close()

    async with RawUpstream(script) as upstream:
        subject = client()
        if kept:
            await ask(subject, upstream.url, method)
        with pytest.raises(HttpError) as caught:
            await ask(subject, upstream.url, method)
        assert (caught.value.cause, caught.value.sent) == ("closed", True)
        await subject.aclose()
        assert requests == 1 + kept
        assert len(upstream.lines) == 1


@methods
async def test_a_connection_that_was_closed_at_rest_is_not_used(method: Method) -> None:
    requests = 0
    closed = asyncio.Event()

    async def script(line: Line) -> None:
        nonlocal requests
        await line.asked()
        requests += 1
        await line.say(answer(b"{}"))
        line.close()
        closed.set()

    async with RawUpstream(script) as upstream:
        subject = client()
        for _ in range(3):
            closed.clear()
            assert (await ask(subject, upstream.url, method))[0] == 200
            await asyncio.wait_for(closed.wait(), WAIT)
        await subject.aclose()
        assert requests == len(upstream.lines) == 3


@methods
@pytest.mark.parametrize("status", ["301 a", "302 a", "303 a", "307 a", "308 a"])
async def test_a_redirect_is_an_answer_and_goes_nowhere(method: Method, status: str) -> None:
    async with RawUpstream(repeating(answer(b"{}"))) as elsewhere:
        response = answer(b"", f"Location: {elsewhere.url}", status=status)
        async with RawUpstream(repeating(response)) as upstream:
            subject = client()
            assert await ask(subject, upstream.url, method) == (int(status[:3]), b"")
            await subject.aclose()
        assert not elsewhere.lines


async def test_cookies_are_not_kept() -> None:
    heads: list[str] = []

    async def script(line: Line) -> None:
        for _ in range(2):
            heads.append((await line.asked()).head.lower())
            await line.say(answer(b"{}", "Set-Cookie: a=b; Path=/"))
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        subject = client()
        for _ in range(2):
            # aiohttp's usual jar keeps none of an address.
            await ask(subject, upstream.url.replace("127.0.0.1", "localhost"))
        await subject.aclose()
    assert len(heads) == 2
    assert not any("cookie" in head for head in heads)


# Bounds -----------------------------------------------------------------------------------------


BROKEN: dict[str, tuple[Script, str]] = {
    "chunks that are none, after the head": (
        saying(chunked(b"hello").removesuffix(b"0\r\n\r\n"), then="hold"), "timeout"),
    "a body over the limit": (saying(answer(b"x" * (MOST + 1)), then="hold"), "too-large"),
    "chunks over the limit": (saying(chunked(*[b"x" * 1000] * 11), then="hold"), "too-large"),
    "notices without end": (
        saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000, then="hold"), "too-large"),
    "a chunk with a long comment": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 900_000,
               then="hold"), "too-large"),
    "a long field": (saying(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 90_000, then="hold"), "malformed"),
    "a long reason": (saying(b"HTTP/1.1 200 " + b"a" * 90_000, then="hold"), "malformed"),
    "many fields": (saying(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1100, then="hold"), "malformed"),
    "another protocol": (
        saying(b"HTTP/1.1 101 a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", then="hold"),
        "malformed"),
    "garbage": (saying(b"\x00" * 100, then="hold"), "malformed"),
    "silence": (saying(b"", then="hold"), "timeout"),
    "half a head": (saying(b"HTTP/1.1 200 OK\r\nX: ", then="hold"), "timeout"),
    "half a body": (saying(answer(b"x" * 99)[:-9], then="hold"), "timeout"),
}  # fmt: skip


@methods
@pytest.mark.parametrize("case", BROKEN)
async def test_what_never_ends_is_ended(method: Method, case: str) -> None:
    script, cause = BROKEN[case]
    error = await failure(script, method, 0.3 if cause == "timeout" else WAIT)
    assert (error.cause, error.sent) == (cause, True)


async def test_chunks_that_turn_out_to_be_none_end_it_at_once() -> None:
    """aiohttp alone would let the reader wait."""
    read = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(chunked(b"hello").removesuffix(b"0\r\n\r\n"))
        await read.wait()
        await line.say(b"zz\r\n{}\r\n")
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        subject = client()
        async with subject.exchange("POST", URL(upstream.url), b"{}") as reply:
            assert await asyncio.wait_for(reply.piece(), WAIT) == b"hello"
            read.set()
            with pytest.raises(HttpError) as caught:
                await asyncio.wait_for(reply.piece(), WAIT)
        assert caught.value.cause == "malformed"
        await subject.aclose()


@pytest.mark.parametrize("rudely", [False, True])
async def test_a_body_that_ends_with_its_connection_is_whole_if_it_was_closed(rudely: bool) -> None:
    read = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await read.wait()
        reset(line) if rudely else line.close()

    async with RawUpstream(script) as upstream:
        subject = client()
        async with subject.exchange("POST", URL(upstream.url), b"{}") as reply:
            assert await reply.piece() == b"hello"
            read.set()
            if rudely:
                with pytest.raises(HttpError, match="closed: "):
                    await reply.piece()
            else:
                assert await reply.piece() == b""
        await subject.aclose()


async def test_an_answer_before_its_request_is_not_believed_for_the_next() -> None:
    """What comes at rest belongs to nobody."""
    told, sent = asyncio.Event(), asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(answer(b"%d" % line.index))
        if line.index == 0:
            await told.wait()
            await line.say(answer(b"forged"))
            sent.set()
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        subject = client()
        assert (await ask(subject, upstream.url))[1] == b"0"
        told.set()
        await asyncio.wait_for(sent.wait(), WAIT)
        assert (await ask(subject, upstream.url))[1] == b"1"
        await subject.aclose()


# Ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 50 << 20])
async def test_who_is_cancelled_closes_the_connection_at_once(size: int) -> None:
    """And what of the request has not been sent yet never is."""
    asked = asyncio.Event()
    got = 0

    async def script(line: Line) -> None:
        nonlocal got
        await line._reader.readuntil(b"\r\n\r\n")
        asked.set()
        await cancelled.wait()
        with suppress(ConnectionError):
            while data := await line._reader.read(65536):
                got += len(data)

    cancelled = asyncio.Event()
    async with RawUpstream(script) as upstream:
        subject = client()

        async def send() -> None:
            async with subject.exchange("POST", URL(upstream.url), b"x" * size):
                raise AssertionError("there is no answer")

        task = asyncio.ensure_future(send())
        await asyncio.wait_for(asked.wait(), WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        await asyncio.wait_for(asyncio.gather(*upstream._tasks), WAIT)
        await subject.aclose()
    assert got < max(size, 11)


async def test_who_finds_no_connection_free_sent_nothing() -> None:
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        asked.set()
        await line.until_gone()

    async with RawUpstream(script) as upstream:
        subject = client(connections=1)
        first = asyncio.ensure_future(ask(subject, upstream.url))
        await asyncio.wait_for(asked.wait(), WAIT)
        with pytest.raises(HttpError) as caught:
            await ask(subject, upstream.url, seconds=0.1)
        assert (caught.value.cause, caught.value.sent) == ("busy", False)
        assert len(upstream.lines) == 1
        await subject.aclose()
        with pytest.raises(HttpError, match="closed: "):
            await first


async def test_a_server_that_takes_no_connection_in_time_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        subject = client()
        with pytest.raises(HttpError) as caught:
            await ask(subject, f"http://127.0.0.1:{port}/", seconds=0.2)
        await subject.aclose()
        for each in waiting:
            each.close()
    assert (caught.value.cause, caught.value.sent) == ("silent", False)


async def test_closing_does_not_wait_for_a_server_that_does_not_read() -> None:
    asked = asyncio.Event()

    async def script(line: Line) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with RawUpstream(script) as upstream:
        subject = client()

        async def send() -> None:
            async with subject.exchange("POST", URL(upstream.url), b"x" * (50 << 20)):
                raise AssertionError("there is no answer")

        task = asyncio.ensure_future(send())
        await asyncio.wait_for(asked.wait(), WAIT)
        await asyncio.sleep(0.05)  # so that something is on its way
        await asyncio.wait_for(subject.aclose(), WAIT)
        with pytest.raises(HttpError):
            await task


async def test_notices_have_no_more_room_than_a_head_however_large_an_answer_may_be() -> None:
    """aiohttp reads them in bulk: what is granted to the body is not theirs."""
    script = saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000, then="hold")
    async with RawUpstream(script) as upstream:
        subject = client(most=10**8)
        with pytest.raises(HttpError, match="before its answer") as caught:
            await ask(subject, upstream.url)
        assert caught.value.cause == "too-large"
        await subject.aclose()


async def test_many_fields_and_long_ones_are_read() -> None:
    fields = [f"X-{i}: {i}" for i in range(300)] + ["Long: " + "a" * 20_000]
    async with RawUpstream(repeating(answer(b"{}", *fields))) as upstream:
        subject = client()
        assert await ask(subject, upstream.url) == (200, b"{}")
        await subject.aclose()


async def test_an_answer_that_comes_before_a_large_request_was_read_is_not_lost() -> None:
    """The server reads the head, refuses and closes, with most of the request still to come."""
    refusal = answer(b"{}", "Connection: close", status="413 Too Large")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    taken, _ = listener.accept()
                    with taken:
                        taken.recv(65_536)
                        taken.sendall(refusal)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        subject, url = client(), URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        for _ in range(15):
            async with subject.exchange("POST", url, b"x" * 30_000_000) as reply:
                assert (reply.status, await reply.whole()) == (413, b"{}")
        await subject.aclose()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


# Loops and threads ------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    """A server in a thread of its own: its address, and how to end it."""
    ready, loops = threading.Event(), []
    urls: list[str] = []

    async def run() -> None:
        done = asyncio.Event()
        loops.append((asyncio.get_running_loop(), done))
        async with RawUpstream(repeating(*[answer(b"{}")] * 10_000)) as upstream:
            urls.append(upstream.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait(WAIT)
    yield urls[0]
    loop, done = loops[0]
    loop.call_soon_threadsafe(done.set)
    thread.join()


def test_one_client_in_many_threads_each_of_which_closes_it(server: str) -> None:
    subject = client()

    async def use() -> list[int]:
        found = [(await ask(subject, server))[0] for _ in range(3)]
        await subject.aclose()
        return found

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asyncio.run(use()), range(40)))
    assert found == [[200] * 3] * 40
    assert not subject._pools


def test_who_forgets_to_close_is_not_told_of_it(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject = HttpClient(HEADERS, connections=1, most=MOST, keep=False)
    assert asyncio.run(ask(subject, server))[0] == 200
    del subject
    gc.collect()
    assert not caplog.records


def test_requests_at_once_in_a_later_loop_share_its_connections(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject = client()
    assert asyncio.run(ask(subject, server))[0] == 200

    async def several() -> None:
        await asyncio.gather(*(ask(subject, server) for _ in range(3)))
        await subject.aclose()

    asyncio.run(several())
    gc.collect()
    assert not caplog.records


async def test_who_drops_a_client_while_its_loop_runs_is_not_told_of_it(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject = client()
    assert (await ask(subject, server))[0] == 200
    session = subject._pools[asyncio.get_running_loop()].session
    del subject
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0)
    assert session.closed
    del session
    gc.collect()
    assert not caplog.records
