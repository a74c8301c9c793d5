"""Bodies and pictures that take more memory or time than they look: no other request feels them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from command import SIGNS
from hostile import HostileServer, Reply, completion
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import ANY_METHOD, JSON, WAIT, Served, asking, picture, serving, text

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._images import ImageLoader, ImageRef, PictureLimits
from ecoalign.gateway._json import JsonError, Lengths, parse_json
from ecoalign.gateway._room import Room
from ecoalign.gateway._workers import Worker, WorkerPool
from ecoalign.models import ChatRequest, Message, TextPart
from ecoalign.models._tokens import segments
from ecoalign.prompts import neutral
from ecoalign.query import Picture, reading

LIMITS = PictureLimits(12_000_000, 36_000_000, 96_000_000, 16, 2**24, 2**24)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of memory")
LONGEST = 5.0
"""Seconds that an innocent request may take on a busy machine."""


def encoded(kind: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return data.getvalue()


def uri(data: bytes) -> str:
    return f"data:;base64,{base64.b64encode(data).decode()}"


def image(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def slow() -> bytes:
    """A JPEG of 12 megapixels in sixty scans: seconds of work for its decoder."""
    plain = encoded("JPEG", "L", (4000, 3000), progressive=True)
    last = plain.rfind(b"\xff\xda")
    return plain[:-2] + plain[last:-2] * 50 + b"\xff\xd9"


# -- a pool of workers, in this process ------------------------------------------------------------


async def nowhere(url: str) -> bytes:
    raise AssertionError(url)


@asynccontextmanager
async def loading(
    memory: int = 2**29, seconds: float = 30.0, limits: PictureLimits = LIMITS
) -> AsyncIterator[ImageLoader]:
    loader = ImageLoader(nowhere, limits, WorkerPool(1, memory, seconds), Room(10**8))
    try:
        yield loader
    finally:
        loader.close()


async def load(loader: ImageLoader, *data: bytes, owner: str = "") -> tuple[Picture, ...]:
    with loader.open(owner) as opened:
        return await opened.load([ImageRef(uri(one), "image") for one in data])


SMALL = encoded("PNG", "RGB", (8, 8))


def deep_bomb() -> bytes:
    """A PNG of 64 megapixels and 16 bits in 124 kB."""
    head = struct.pack(">IIBBBBB", 8000, 8000, 16, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(8000 * 16001), 9)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        check = struct.pack(">I", zlib.crc32(name + data))
        png += struct.pack(">I", len(data)) + name + data + check
    return png


def bombs() -> dict[str, bytes]:
    """More than four times a million pixels, in every kind that is decoded anywhere."""
    large = (2100, 2000)
    made = {"PNG 16": deep_bomb(), "PROGRESSIVE": encoded("JPEG", "L", (1100, 1000), progressive=1)}
    kinds = {"PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"}
    return made | {kind: encoded(kind, "L", large) for kind in kinds & set(Image.SAVE)}


async def test_a_bomb_of_any_kind_is_refused_and_takes_no_worker_with_it() -> None:
    async with loading(limits=replace(LIMITS, pixels=1_000_000)) as loader:
        await load(loader, SMALL)
        workers = loader.workers.pids
        for kind, bomb in bombs().items():
            with pytest.raises(ApiError) as refused:
                await load(loader, bomb)
            assert refused.value.status == 400, kind
        assert set(workers) <= set(loader.workers.pids)
        assert (await load(loader, SMALL))[0].width == 8
        assert loader.room.free == LIMITS.total


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM", "AVIF"])
async def test_kinds_that_no_client_needs_are_not_even_opened(kind: str) -> None:
    if kind not in Image.SAVE:
        pytest.skip(f"Pillow is built without {kind}")
    async with loading() as loader:
        with pytest.raises(ApiError, match="not a PNG, JPEG, GIF or WebP"):
            await load(loader, encoded(kind, "RGB", (8, 8)))


@LINUX
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "I;16", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}),
        ("WEBP", "RGBA", {}),
        ("GIF", "P", {}),
    ],
)
async def test_twelve_megapixels_take_less_than_sixteen_bytes_each(
    kind: str, mode: str, options: dict[str, object]
) -> None:
    async with loading() as loader:
        await load(loader, SMALL, encoded("PNG", "L", (1200, 1000)))
        before = {pid: _most(pid) for pid in loader.workers.pids}
        (made,) = await load(loader, encoded(kind, mode, (4000, 3000), **options))
        assert (made.width, made.height) == (4000, 3000)
        grown = max(_most(pid) - before[pid] for pid in before)
    assert grown < 16.5 * 12_000_000


def _most(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@LINUX
async def test_a_worker_beyond_its_memory_says_so_and_the_next_picture_is_read() -> None:
    async with loading(memory=100 * 2**20) as loader:
        with pytest.raises(ApiError) as refused:
            await load(loader, encoded("WEBP", "RGBA", (4000, 3000)))
        assert refused.value.status in {400, 413, 503}
        assert (await load(loader, SMALL))[0].width == 8


async def test_a_picture_that_takes_too_long_is_given_up() -> None:
    async with loading(seconds=0.3) as loader:
        with pytest.raises(ApiError) as refused:
            await load(loader, slow())
        assert (refused.value.status, refused.value.code) == (400, "too_slow_to_read")
        assert (await load(loader, SMALL))[0].width == 8


@LINUX
async def test_a_worker_that_is_killed_fails_its_own_request_only() -> None:
    async with loading() as loader:
        await load(loader, SMALL)
        (small,) = loader.workers.pids
        doomed = asyncio.create_task(load(loader, slow()))
        while len(loader.workers.pids) < 2:  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(0)
        (large,) = set(loader.workers.pids) - {small}
        innocent = asyncio.create_task(load(loader, SMALL))
        os.kill(large, signal.SIGKILL)
        with pytest.raises(ApiError) as failed:
            await doomed
        assert (failed.value.status, failed.value.code) == (503, "worker_failed")
        assert (await innocent)[0].width == 8
        assert (await load(loader, encoded("PNG", "L", (1200, 1000))))[0].width == 1200
        assert large not in loader.workers.pids


def test_who_comes_to_a_worker_that_is_not_free_waits() -> None:
    """The pool starts its workers while requests come in already."""
    worker = Worker(2**29, 30.0)
    data = encoded("PNG", "L", (64, 64)) + bytes(2**20)

    def described(_: int) -> int:
        head = {"job": "describe", "size": len(data), "pixels": 10**6}
        width: int = worker.do(head, [data], lambda said, _: said)["width"]
        return width

    try:
        with ThreadPoolExecutor(4) as threads:
            threads.submit(worker.start)
            assert list(threads.map(described, range(12))) == [64] * 12
    finally:
        worker.kill(close=True)


async def test_nobody_waits_for_a_picture_whose_client_has_left() -> None:
    async with loading() as loader:
        await load(loader, SMALL)
        left = asyncio.create_task(load(loader, slow()))
        while len(loader.workers.pids) < 2:  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert loader.room.free == LIMITS.total
        assert (await load(loader, encoded("PNG", "L", (1200, 1000))))[0].width == 1200


async def test_keys_take_turns() -> None:
    """One has twenty large pictures waiting; the other one's comes after the next of them."""
    large = encoded("PNG", "L", (1200, 1000))
    ended: list[str] = []

    async def ask(loader: ImageLoader, owner: str) -> None:
        await load(loader, large, owner=owner)
        ended.append(owner)

    async with loading() as loader:
        await load(loader, large)
        greedy = [asyncio.create_task(ask(loader, "greedy")) for _ in range(20)]
        await asyncio.sleep(0)
        await ask(loader, "modest")
        assert len(ended) < 10
        await asyncio.gather(*greedy)


async def test_pixels_of_all_requests_are_waited_for_and_one_key_gets_half() -> None:
    limits = replace(LIMITS, request=6400, total=19_200, patience=0.05)
    square = encoded("PNG", "L", (80, 80))
    async with loading(limits=limits) as loader:
        with loader.open("one") as first:
            await first.load([ImageRef(uri(square), "image")])
            with pytest.raises(ApiError) as full:
                await load(loader, square, owner="one")
            assert (full.value.status, full.value.code) == (503, "overloaded")
            assert (await load(loader, square, owner="two"))[0].width == 80
        assert (await load(loader, square, owner="one"))[0].width == 80


def test_a_jpeg_that_is_too_large_is_read_at_half_its_sides() -> None:
    with reading(encoded("JPEG", "RGB", (400, 300)), "it", 40_000) as pixels:
        assert pixels.size == (200, 150)
        assert pixels.notes == ("reduced from 400x300 to 200x150 pixels",)


# -- what is read of a body ------------------------------------------------------------------------


async def read(body: object, lengths: Lengths = Lengths(), **limits: int) -> object:  # noqa: B008
    async with loading(limits=replace(LIMITS, **limits)) as loader:
        slim, found = await loader.read([json.dumps(body).encode()], lengths, "")
        for name, (data, about) in found.items():
            assert bytes(name, "ascii") in slim
            assert data
            assert about["pixels"] == 64
        return json.loads(slim)


async def test_images_are_taken_out_of_a_body_and_nothing_else_is_changed() -> None:
    body = asking(text("What is it?"), image(uri(SMALL)), image("https://example.org/a.png"))
    slim = await read({**body, "input": [{"image_url": uri(SMALL)}], "x": "data:,y"})
    shown = json.dumps(slim)
    assert base64.b64encode(SMALL).decode() not in shown
    assert "https://example.org/a.png" in shown
    assert isinstance(slim, dict)
    assert slim["x"] == "data:,y"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (asking("<|" * 6_000_000), 413, "request_too_long"),
        (asking("hi", tools=[{"k" * 500_000: 1}]), 413, "request_too_long"),
        (asking("hi", stop=["x"] * 400_000), 400, "invalid_json"),
        (asking("hi", metadata=[[[]] * 60] * 400), 400, "invalid_json"),
        ({"messages": [{"role": "user", "content": "x"}] * 2100}, 400, "invalid_json"),
        (asking(*[text("x")] * 2100), 400, "invalid_json"),
        (asking(image("data:image/png," + "%00" * 6_000_000)), 413, "images_too_large"),
        ([[]] * 70_000, 400, "invalid_json"),
    ],
)
async def test_what_is_too_long_is_refused_before_it_is_looked_at(
    body: object, status: int, code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await read(body, size=2**22)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_commas_within_a_text_are_no_values() -> None:
    body = json.dumps({"content": '1,2,[3],"\\' * 10_000}).encode()
    assert parse_json(body, Lengths(values=10)) == json.loads(body)
    with pytest.raises(JsonError):
        parse_json(b'["\\"",' + b"1," * 10 + b"1]", Lengths(values=10))


@given(st.lists(st.sampled_from(["<", "|", ">", "/", "[", "]", "INST", "s", "think", "x", "\n"])))
def test_no_control_token_is_left_and_none_but_spaces_are_added(pieces: list[str]) -> None:
    given_text = "".join(pieces)
    clean = neutral(given_text)
    assert neutral(clean) == clean
    assert clean.replace(" ", "") == given_text
    assert not any(token in clean for token in ("<|", "|>", "<s>", "</s>", "<think>", "[INST]"))


@pytest.mark.parametrize("token", ["<|", "|>", "<", "</", "<s>", "[INST]", "<think", "<tt>", "｜>"])
def test_a_text_of_tokens_alone_is_quoted_in_linear_time(token: str) -> None:
    def took(size: int) -> float:
        long = token * (size // len(token)) + str(size)
        began = time.process_time()
        neutral(long)
        return time.process_time() - began

    took(100_000)
    # Quadratic would be a hundred times as long, and then minutes.
    assert took(1_000_000) < 60 * max(0.005, min(took(100_001), took(100_002)))


def test_a_text_of_lines_alone_is_counted_in_few_pieces() -> None:
    request = ChatRequest((Message("user", (TextPart("a\n" * 400_000),)),), 1, "answer")
    pieces = segments(request, "unknown")
    assert len(pieces) < 1000
    assert sum(piece.tokens for piece in pieces) >= 800_000


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_a_percent_encoded_picture_is_read_as_before(data: bytes, upper: bool) -> None:
    from urllib.parse import unquote_to_bytes

    from ecoalign.query._sources import _unquoted

    coded = "".join(f"%{one:02X}" if upper else f"%{one:02x}" for one in data)
    for tail in ("", "%", "%4", "%%41", "a%zz"):
        given_bytes = (coded + tail).encode()
        assert _unquoted(given_bytes) == unquote_to_bytes(given_bytes)


def test_marks_at_the_seams_of_a_long_address_are_whole() -> None:
    from ecoalign.query._sources import _PIECE, _unquoted

    for shift in range(4):
        coded = b"x" * shift + b"%41" * (_PIECE // 3 + 10)
        assert _unquoted(coded) == b"x" * shift + b"A" * (_PIECE // 3 + 10)


# -- the server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("memory")
    with (
        HostileServer(lambda request: Reply(completion("fine"))) as upstream,
        serving(home, "--model", "m", "--base-url", upstream.url, *ANY_METHOD) as served,
    ):
        yield served


HOSTILE: dict[str, Callable[[], dict[str, object]]] = {
    "a bomb": lambda: asking(text("?"), image(uri(deep_bomb()))),
    "marks": lambda: asking("<|" * 9_000_000),
    "percent": lambda: asking(text("?"), image("data:image/png," + "%41" * 6_000_000)),
    "spaces": lambda: asking(text("?"), image("data:;base64," + " A" * 9_000_000)),
    "values": lambda: asking("?", stop=["x"] * 400_000),
    "nested": lambda: {"model": "ecoalign", "messages": json.loads("[" * 900 + "]" * 900)},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("method", ["ecoalign", "base"])
def test_a_hostile_request_is_an_error_of_the_client_and_others_go_on(
    gateway: Served, name: str, method: str
) -> None:
    body = json.dumps({**HOSTILE[name](), "ecoalign": {"method": method}}).encode()
    replies: list[httpx2.Response] = []

    def attack() -> None:
        url = f"{gateway.v1}/chat/completions"
        replies.append(httpx2.post(url, content=body, headers=JSON, timeout=WAIT))

    attacks = [threading.Thread(target=attack) for _ in range(3)]
    for one in attacks:
        one.start()
    slowest = 0.0
    with httpx2.Client(timeout=WAIT) as client:
        while any(one.is_alive() for one in attacks):
            began = time.monotonic()
            assert client.get(f"{gateway.url}/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
    innocent = gateway.post(asking(text("?"), picture(), ecoalign={"method": "base"}))
    assert innocent.status_code == 200
    assert {reply.status_code for reply in replies} <= {400, 413}
    print(f"slowest /healthz: {1000 * slowest:.0f} ms")
    assert slowest < LONGEST


def test_a_large_picture_is_passed_on_as_it_came(tmp_path: Path) -> None:
    data = Path(SIGNS).read_bytes() + bytes(3_000_000)
    percent = "".join(f"%{one:02x}" for one in Path(SIGNS).read_bytes() + bytes(100_000))
    body = asking(
        text("?"), image(uri(data)), image(f"data:,{percent}"), ecoalign={"method": "base"}
    )
    with HostileServer(lambda request: Reply(completion("fine"))) as upstream:
        arguments = ("--model", "m", "--base-url", upstream.url, *ANY_METHOD)
        with serving(tmp_path, *arguments, "--budget", "100000") as served:
            reply = served.post(body)
            assert reply.status_code == 200, reply.text
        sent = json.loads(upstream.received[-1].body)
    urls = [part["image_url"]["url"] for part in sent["messages"][0]["content"][1:]]
    assert [url.partition(",")[0] for url in urls] == ["data:image/png;base64"] * 2
    assert base64.b64decode(urls[0].partition(",")[2]) == data
    assert base64.b64decode(urls[1].partition(",")[2])[:-100_000] == Path(SIGNS).read_bytes()


@LINUX
def test_workers_have_no_key_and_end_with_their_server(tmp_path: Path) -> None:
    arguments = ("--model", "openai:m", "--base-url", "http://127.0.0.1:9/v1")
    with serving(tmp_path, *arguments, OPENAI_API_KEY="sk-canary-in-memory") as served:
        served.post(asking(text("?"), picture()))
        workers = _children(served.process.pid)
        assert workers
        for pid in workers:
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert b"canary" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        served.process.kill()
        served.process.wait()
        until = time.monotonic() + WAIT
        while any(_runs(pid) for pid in workers) and time.monotonic() < until:
            os.sched_yield()
        assert not any(_runs(pid) for pid in workers)


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
