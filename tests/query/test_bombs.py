"""Images that are small on the wire and large, or slow, to decode."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from ecoalign.errors import InputError
from ecoalign.query import Picture, kind_of, read_header
from ecoalign.query._decoding import MAX_CHUNKS, MAX_SCANS, check_structure

ZEROS = zlib.compress(bytes(80_000_000), 9)
START = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*between: bytes, size: tuple[int, int] = (8, 8), after: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    rows = zlib.compress((b"\0" + bytes(24)) * 8)
    return START + head + b"".join(between) + chunk(b"IDAT", rows) + after + chunk(b"IEND")


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, kind, **options)
    return buffer.getvalue()


def gif(frames: int, size: tuple[int, int] = (1, 1)) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b";"


def webp(width: int, height: int) -> bytes:
    """An animation of one small frame on a canvas of that size."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = bytes(12) + b"\x64\0\0\0" + encoded("WEBP", lossless=True)[12:]
    chunks = (b"VP8X", b"\x02\0\0\0" + sides), (b"ANIM", bytes(6)), (b"ANMF", frame)
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def scans(count: int) -> bytes:
    """A progressive JPEG of so many scans: its last, again and again."""
    whole = encoded("JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    had = whole.count(b"\xff\xda")
    return whole[:end] + whole[last:end] * (count - had) + whole[end:]


@pytest.mark.parametrize(
    "bomb",
    [
        png(chunk(b"zTXt", b"k\0\0" + ZEROS)),
        png(chunk(b"iTXt", b"k\0\x01\0\0\0" + ZEROS)),
        png(chunk(b"iCCP", b"k\0\0" + ZEROS)),
        png(after=chunk(b"zTXt", b"k\0\0" + ZEROS)),
        png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9)) * 80),
        png(size=(50_000, 50_000)),
        png(size=(2**31 - 1, 1)),
        gif(1, (65_535, 65_535)),
        webp(16_383, 16_383),
        webp(2**24, 200),
        encoded("TIFF").replace(struct.pack("<HHII", 256, 4, 1, 64), b"\0\1\4\0\1\0\0\0\0\0\0\x7f"),
        png(chunk(b"abCd") * (MAX_CHUNKS + 1)),
        png(after=chunk(b"IDAT") * (MAX_CHUNKS + 1)),
        scans(MAX_SCANS + 1),
        encoded("JPEG")[:2] + b"\xff\xe1\0\2" * (MAX_CHUNKS + 1) + encoded("JPEG")[2:],
    ],
)
def test_bombs_are_refused(bomb: bytes) -> None:
    assert len(bomb) < 1_000_000
    with pytest.raises(InputError):
        Picture.load(bomb)


@pytest.mark.parametrize("read", [Picture.load, lambda data: read_header(data, "it")])
def test_scans_are_counted_before_any_pixel(read: Callable[[bytes], object]) -> None:
    with pytest.raises(InputError, match="more than 60 scans"):
        read(scans(MAX_SCANS + 1))


def test_as_many_scans_as_are_allowed_are_read() -> None:
    assert Picture.load(scans(MAX_SCANS)).width == 64


def test_as_many_chunks_as_are_allowed_are_read() -> None:
    # Header, pixels and end are chunks as well.
    assert Picture.load(png(chunk(b"abCd") * (MAX_CHUNKS - 3))).width == 8
    with pytest.raises(InputError, match="chunks"):
        Picture.load(png(chunk(b"abCd") * (MAX_CHUNKS - 2)))


def test_more_pixels_than_the_header_claims_are_not_unpacked() -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    picture = Picture.load(START + head + chunk(b"IDAT", ZEROS) + chunk(b"IEND"))
    assert (picture.width, picture.height) == (8, 8)


def test_what_follows_a_jpeg_is_not_taken_for_scans() -> None:
    # Phones put films behind their photos.
    film = b"\xff\xda\0\x02" * 1000
    assert Picture.load(encoded("JPEG") + film).width == 64


def test_scans_within_a_thumbnail_are_not_those_of_the_picture() -> None:
    plain = encoded("JPEG")
    inner = b"\xff\xda\0\x02" * 1000
    segment = b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner
    assert Picture.load(plain[:2] + segment + plain[2:]).width == 64


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_ordinary_images_have_an_ordinary_structure(kind: str) -> None:
    check_structure(encoded(kind), "it")
    for cut in range(1, 60, 7):
        check_structure(encoded(kind)[:-cut], "it")


def test_the_frames_of_a_long_animation_are_not_counted() -> None:
    assert Picture.load(gif(3)).notes == ("only the first of 3 frames is used",)
    assert Picture.load(gif(30_000)).notes == ("only the first of its frames is used",)


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", None),
        ("TIFF", None),
        ("PPM", None),
    ],
)
def test_the_gateway_takes_the_kinds_of_the_api(kind: str, media_type: str | None) -> None:
    assert kind_of(encoded(kind)) == media_type


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF1234WAVE", b"\xff\xd8", b"<svg", b"\0" * 12])
def test_what_is_no_image_has_no_kind(data: bytes) -> None:
    assert kind_of(data) is None
