"""Images as Python has them: files, buffers, arrays, and addresses where that is allowed."""

from __future__ import annotations

import asyncio
import io
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_host import NAME, PNG, Host, Names, fetcher, hosting, http
from PIL import Image

from ecoalign import Aligner, align
from ecoalign.errors import InputError
from ecoalign.models.fake import FakeModel
from ecoalign.query import MAX_BYTES, FetchPolicy, ImageFetcher, ImageUrlError, Picture, Query

RED = (255, 0, 0)
PIXELS = Image.open(io.BytesIO(PNG)).convert("RGB")


# -- bytes and files


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1]])
def test_bytes_of_each_kind(kind: Any) -> None:
    assert Picture.load(kind(PNG)).sha256 == Picture.load(PNG).sha256


def test_a_file_object_of_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(PNG)
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        for file in (buffered, raw, io.BytesIO(PNG)):
            assert Picture.load(file).sha256 == Picture.load(PNG).sha256
    with tempfile.SpooledTemporaryFile() as spooled, tempfile.NamedTemporaryFile() as named:
        for temporary in (spooled, named):
            temporary.write(PNG)
            temporary.seek(0)
            assert Picture.load(temporary).width == 8


def test_a_socket_that_gives_a_few_bytes_at_a_time() -> None:
    here, there = socket.socketpair()

    def send() -> None:
        for byte in PNG:
            there.sendall(bytes([byte]))
        there.close()

    thread = threading.Thread(target=send)
    thread.start()
    with here, here.makefile("rb", buffering=0) as file:
        assert Picture.load(file).sha256 == Picture.load(PNG).sha256
    thread.join()


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"preamble" + PNG)
    file.seek(8)
    assert Picture.load(file).width == 8
    with pytest.raises(InputError, match=r"file object \(BytesIO\) is empty"):
        Picture.load(file)


class Endless(io.RawIOBase):
    """Has more than anybody will read."""

    given = 0

    def read(self, size: int = -1, /) -> bytes:
        self.given += size
        return bytes(size)


def test_no_more_of_a_file_is_read_than_is_allowed() -> None:
    file = Endless()
    with pytest.raises(InputError, match="more than the 67,108,864 bytes"):
        Picture.load(file)
    assert file.given == MAX_BYTES + 1


class Odd:
    def __init__(self, said: object) -> None:
        self.said = said

    def read(self, size: int = -1, /) -> Any:
        return self.said


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    text, image = tmp_path / "text", tmp_path / "image"
    text.write_text("words")
    image.write_bytes(PNG)
    with text.open() as words, image.open() as undecodable, image.open("ab") as writing:
        for file in (words, undecodable, io.StringIO("words")):
            with pytest.raises(InputError, match='open\\(path, "rb"\\)'):
                Picture.load(file)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="not open for reading"):
            Picture.load(writing)
    with pytest.raises(InputError, match=r"cannot be read: .*closed"):
        Picture.load(words)  # type: ignore[arg-type]
    for said in (None, 3, ["bytes"]):
        with pytest.raises(InputError, match=f"gave {type(said).__name__}, not bytes"):
            Picture.load(Odd(said))


@pytest.mark.parametrize("other", [3, 2.5, object(), {"image": "x.png"}, (p for p in "a")])
def test_what_is_no_image_at_all(other: Any) -> None:
    with pytest.raises(InputError, match="give a path, bytes, a file"):
        Query.of(other, "what?")


# -- arrays


def test_an_array_gives_the_picture_that_its_pixels_give() -> None:
    same = Picture.load(PIXELS)
    array = np.asarray(PIXELS)
    for source in (array, np.asfortranarray(array), array[::-1][::-1], array / 255):
        assert Picture.load(source).sha256 == same.sha256
    assert Picture.load(array).notes == ()
    (note,) = Picture.load((array / 255).astype(np.float16)).notes
    assert note == "its floats are read as 0 (black) to 1 (white)"


def test_grey_and_transparent_arrays() -> None:
    grey = np.full((4, 6), 128, np.uint8)
    for source in (grey, grey[:, :, None], np.full((4, 6), 128 / 255)):
        picture = Picture.load(source)
        assert (picture.width, picture.height) == (6, 4)
        assert picture.image.getpixel((0, 0)) == (128, 128, 128)
    clear = np.zeros((4, 6, 4), np.uint8)
    picture = Picture.load(clear)
    assert picture.image.getpixel((0, 0)) == (255, 255, 255)
    assert picture.notes == ("transparent parts are shown on white",)


def test_an_array_that_changes_afterwards_changes_no_picture() -> None:
    array = np.asarray(PIXELS).copy()
    picture = Picture.load(array)
    array[:] = 0
    assert picture.image.getpixel((0, 0)) == RED


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 1, 3, 4]), st.booleans())
def test_every_shape_that_is_an_image(
    width: int, height: int, channels: int | None, floats: bool
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    picture = Picture.load(values / 255 if floats else values)
    assert (picture.width, picture.height) == (width, height)
    assert picture.sha256 == Picture.load(values).sha256


def test_a_float_that_is_off_by_rounding_is_no_error() -> None:
    picture = Picture.load(np.array([[-1e-6, 1.00001]], np.float32))
    assert [picture.image.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


BAD: list[tuple[Any, str]] = [
    (np.zeros(5, np.uint8), "shape"),
    (np.zeros((2, 3, 4, 3), np.uint8), r"list\(array\)"),
    (np.zeros((3, 20, 30), np.uint8), "channels come first: np.moveaxis"),
    (np.zeros((20, 30, 2), np.uint8), "3 \\(RGB\\) or 4 \\(RGBA\\)"),
    (np.zeros((0, 5), np.uint8), "empty"),
    (np.array(7, np.uint8), "shape"),
    (np.zeros((2, 3), np.int64), "int64"),
    (np.zeros((2, 3), np.uint16), "uint16"),
    (np.zeros((2, 3), bool), "bool"),
    (np.array([["a", "b"]]), "uint8 from 0 to 255"),
    (np.array([[None, {}]]), "object"),
    (np.full((2, 3), 255.0), "from 255 to 255"),
    (np.array([[-1.0, 1.0]]), "from -1 to 1"),
    (np.array([[0.5, np.nan]]), "nan"),
    (np.array([[0.5, np.inf]]), "inf"),
    (np.zeros((9000, 9000), np.uint8), "decompression bombs"),
]


@pytest.mark.parametrize(("array", "says"), BAD, ids=[says for _, says in BAD])
def test_arrays_that_are_no_images(array: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Picture.load(array)


class OnAGpu:
    """As a tensor that is not in the memory of the processor."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_what_cannot_become_an_array_is_told_in_its_library_s_words() -> None:
    with pytest.raises(InputError, match="OnAGpu does not become a numpy array: can't convert"):
        Picture.load(OnAGpu())


# -- addresses


@contextmanager
def served() -> Iterator[Host]:
    """A host of images in a thread of its own: loading one blocks."""
    ready: list[Host] = []
    go, stop = threading.Event(), []

    async def run() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        async with hosting(http()) as host:
            ready.append(host)
            go.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    go.wait(10)
    try:
        yield ready[0]
    finally:
        loop, done = stop[0]
        loop.call_soon_threadsafe(done.set)
        thread.join()


@pytest.mark.parametrize("url", ["http://images.example.org/a.png", "HTTPS://x.example/a.png"])
def test_an_address_is_not_fetched_unless_it_is_allowed(url: str) -> None:
    with pytest.raises(InputError, match="allow_urls=True") as refused:
        Picture.load(url)
    assert not isinstance(refused.value, ImageUrlError)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("url", ["ftp://x.example/a.png", "s3://bucket/a.png", "file:///etc/a.png"])
def test_other_addresses_are_never_fetched(url: str, allow: bool) -> None:
    with pytest.raises(InputError, match="address"):
        Picture.load(url, allow_urls=allow)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.7/a.png",
        "http://2130706433/a.png",
        "http://user:secret@images.example.org/a.png",
        "http://images.example.org:22/a.png",
    ],
)
def test_what_is_inside_is_never_fetched(url: str) -> None:
    with pytest.raises(ImageUrlError):
        Picture.load(url, allow_urls=True)


def test_an_image_is_fetched_within_the_bounds_of_who_asks() -> None:
    with served() as host:
        picture = Picture.load(host.url(), allow_urls=fetcher(host))
        assert picture.sha256 == Picture.load(PNG).sha256
        two = Query.of([host.url(), PNG], "what?", allow_urls=fetcher(host)).pictures
        assert two[0].sha256 == two[1].sha256
        small = FetchPolicy(enabled=True, max_bytes=20)
        with pytest.raises(ImageUrlError, match="larger"):
            Picture.load(host.url(), allow_urls=fetcher(host, policy=small))
        listed = FetchPolicy(enabled=True, hosts=frozenset({"other.example"}))
        with pytest.raises(ImageUrlError, match="host"):
            Picture.load(host.url(), allow_urls=fetcher(host, policy=listed))
        off = ImageFetcher(FetchPolicy(ports=frozenset({host.port})), Names())
        with pytest.raises(ImageUrlError, match="not fetched from URLs"):
            Picture.load(host.url(), allow_urls=off)
        assert len(host.requests) == 3
        assert NAME.encode() in host.requests[0]


def test_one_fetcher_for_many_threads() -> None:
    with served() as host:
        one = fetcher(host)
        threads = [
            threading.Thread(target=Picture.load, args=(host.url(),), kwargs={"allow_urls": one})
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(host.requests) == 12


def test_align_fetches_where_it_is_told_to() -> None:
    replies = {"scan": "a red square > 9", "execute": "it is red.", "score": "9 8"}
    model = FakeModel(lambda request: replies[request.stage], dialect="compact")
    with served() as host:
        url, allowed = host.url(), fetcher(host)
        assert align(url, "What colour is it?", model=model, allow_urls=allowed).answer

        async def later() -> None:
            async with Aligner(model) as aligner:
                await aligner.align(url, "What colour is it?", allow_urls=allowed)
                async for _ in aligner.stream(url, "What colour is it?", allow_urls=allowed):
                    pass

        asyncio.run(later())
        assert len(host.requests) == 3
        with pytest.raises(InputError, match="allow_urls"):
            align(url, "What colour is it?", model=model)
        assert len(host.requests) == 3
