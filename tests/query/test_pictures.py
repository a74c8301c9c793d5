"""Images as users send them: rotated, deep, transparent, animated, cut short and hostile."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ecoalign.errors import InputError
from ecoalign.graph import Region
from ecoalign.query import MAX_BYTES, Picture
from ecoalign.query._pictures import CACHED_PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from ecoalign.models import ImagePart

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
WHOLE = Region(0, 0, 1, 1)
SHARED = Picture.load(Image.new("RGB", (23, 11), RED))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def pixels(part: ImagePart) -> Image.Image:
    image = Image.open(io.BytesIO(part.data))
    assert image.size == (part.width, part.height)
    assert Image.MIME[image.format or ""] == part.media_type
    return image.convert("RGB")


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


# -- where an image may come from


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    data = encoded(halves())
    path = tmp_path / "not-named-like-an-image.txt"
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (path, str(path), data, uri):
        picture = Picture.load(source)
        assert (picture.width, picture.height) == (40, 20)
        assert picture.media_type == "image/png"
        assert picture.sha256 == hashlib.sha256(data).hexdigest()
        assert picture.notes == ()
        assert picture.image.mode == "RGB"
    again = Picture.load(data)
    assert Picture.load(again) is again


def test_a_pil_image() -> None:
    image = halves()
    picture = Picture.load(image)
    assert picture.image.getpixel((0, 0)) == RED
    assert picture.sha256 == Picture.load(halves()).sha256
    assert picture.sha256 != Picture.load(halves(20, 40)).sha256
    image.paste(WHITE, (0, 0, 40, 20))  # the picture is not the caller's to change afterwards
    assert picture.image.getpixel((0, 0)) == RED


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_formats(kind: str) -> None:
    picture = Picture.load(encoded(halves(), kind))
    assert (picture.width, picture.height) == (40, 20)
    left = picture.image.getpixel((3, 10))
    assert isinstance(left, tuple)
    assert left[0] > 200
    assert left[2] < 60


def test_a_percent_encoded_data_uri() -> None:
    raw = "".join(f"%{byte:02x}" for byte in encoded(halves()))
    assert Picture.load("data:image/png," + raw).width == 40


def test_line_breaks_in_a_data_uri() -> None:
    data = base64.encodebytes(encoded(noise(40, 20))).decode()
    assert Picture.load("DATA:image/png;base64,\n" + data).width == 40


@pytest.mark.parametrize("url", ["https://x.example/a.png", "http://x/a.png"])
def test_addresses_are_not_fetched(url: str) -> None:
    with pytest.raises(InputError, match="does not fetch"):
        Picture.load(url)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,a", "base64"),
        ("data:image/png;base64,****", "base64"),
        ("data:text/plain,hello", "not an image"),
    ],
)
def test_bad_data_uris(uri: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Picture.load(uri)


def test_bad_paths(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for source, says in (
        (tmp_path / "missing.png", "no image file"),
        (tmp_path, "directory"),
        (empty, "empty"),
        (pipe, "not a regular file"),
        (tmp_path / "empty.png" / "inside.png", "cannot read"),
        ("nul\0byte.png", "not a usable file name"),
        ("x" * 5000, "cannot read"),
        ("", "directory"),
        (b"", "empty"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            Picture.load(source)
        assert len(str(caught.value)) < 400


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(InputError, match="bytes"):
        Picture.load(path)


# -- bad bytes


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"just some text", "not an image"),
        (b"\0" * 500, "not an image"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"\0\0\0\x18ftypheic....", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
    ],
)
def test_not_an_image(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Picture.load(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated(kind: str, share: float) -> None:
    data = encoded(noise(64, 64), kind)
    with pytest.raises(InputError, match="image"):
        Picture.load(data[: int(len(data) * share)])


def test_a_lazily_opened_pil_image_that_is_truncated() -> None:
    data = encoded(noise(64, 64))
    with (
        Image.open(io.BytesIO(data[:6000])) as opened,
        pytest.raises(InputError, match="damaged or truncated"),
    ):
        Picture.load(opened)


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 10_000), (8_001, 8_000)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="decompression bomb"):
        Picture.load(png_header(*size))


def test_a_zero_size() -> None:
    with pytest.raises(InputError, match="0x5"):
        Picture.load(Image.new("RGB", (0, 5)))
    with pytest.raises(InputError, match="image"):
        Picture.load(png_header(0, 0))


def test_a_pil_bomb() -> None:
    big = Image.new("1", (10_000, 8_000))
    with pytest.raises(InputError, match="10000x8000"):
        Picture.load(big)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["PNG", "GIF", "BMP", "JPEG", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_load_or_are_an_input_error(kind: str, hits: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(noise(12, 9), kind))
    for place, value in hits:
        data[place % len(data)] = value
    try:
        loaded = Picture.load(bytes(data))
    except InputError:
        return
    assert loaded.image.mode == "RGB"
    assert loaded.width * loaded.height <= 64_000_000


# -- upright, RGB, 8 bits


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = Image.new("RGB", (32, 16), WHITE)
    upright.paste(RED, (0, 0, 16, 8))
    upright.paste(BLUE, (16, 8, 32, 16))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Picture.load(encoded(stored, kind, exif=exif))
    assert (picture.width, picture.height) == (32, 16)
    for place, colour in (((4, 3), RED), ((28, 12), BLUE), ((28, 3), WHITE)):
        seen = picture.image.getpixel(place)
        assert isinstance(seen, tuple)
        assert max(abs(a - b) for a, b in zip(seen, colour, strict=True)) < 60
    assert bool(picture.notes) == (orientation != 1)


def test_a_nonsense_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert Picture.load(encoded(halves(), "JPEG", exif=exif)).notes == ()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_lose_the_image() -> None:
    data = encoded(halves(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert Picture.load(data).width == 40


def test_cmyk() -> None:
    picture = Picture.load(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red = picture.image.getpixel((4, 4))
    assert isinstance(red, tuple)
    assert red[0] > 200
    assert red[1] < 60
    assert "CMYK" in picture.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "La", "RGBa"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (5, 0, 10, 10))
    if mode == "P":
        picture = Picture.load(encoded(image.quantize(4)))
    elif mode == "PA":
        picture = Picture.load(image.convert("P").convert("PA"))
    elif mode == "La":
        picture = Picture.load(image.convert("LA").convert("La"))
    elif mode == "RGBa":
        picture = Picture.load(image.convert("RGBa"))
    else:
        picture = Picture.load(encoded(image.convert(mode)))
    assert picture.image.getpixel((1, 1)) == WHITE
    assert picture.image.getpixel((8, 8)) == (0, 0, 0)
    assert "white" in picture.notes[0]


def test_a_transparent_colour_of_an_rgb_png() -> None:
    picture = Picture.load(encoded(halves(), transparency=RED))
    assert picture.image.getpixel((2, 2)) == WHITE
    assert picture.image.getpixel((38, 2)) == BLUE


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours(mode: str) -> None:
    image = Image.new("L", (10, 10), 0)
    image.paste(255, (5, 0, 10, 10))
    picture = Picture.load(encoded(image.convert(mode)))
    assert picture.image.mode == "RGB"
    assert picture.image.getpixel((1, 1)) == (0, 0, 0)
    assert picture.image.getpixel((8, 8)) == WHITE


def test_sixteen_bits() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    picture = Picture.load(encoded(Image.fromarray(ramp)))
    seen = np.asarray(picture.image)
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert seen[15, 15].tolist() == [255, 255, 255]
    assert abs(int(seen[8, 0, 0]) - 128) <= 1  # scaled, not clipped
    assert "8 bits" in picture.notes[0]


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.0, 1.0], 0, 1), ([0.0, 255.0], 0, 255), ([-5.0, 300.0], 0, 255), ([7.0, 7.0], 7, 7)],
)
def test_floating_point_pixels(values: list[float], low: int, high: int) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    seen = np.asarray(Picture.load(image).image)[0, :, 0].tolist()
    assert seen == [low, high]


def test_not_a_number_pixels() -> None:
    image = Image.fromarray(np.array([[np.nan, np.inf, 200.0]], dtype=np.float32))
    assert np.asarray(Picture.load(image).image)[0, :, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_used_and_said(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, WHITE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    picture = Picture.load(data)
    seen = picture.image.getpixel((8, 8))
    assert isinstance(seen, tuple)
    assert seen[0] > 240
    assert seen[2] < 20
    assert picture.notes == ("only the first of 3 frames is used",)


# -- views and crops


def test_one_pixel() -> None:
    picture = Picture.load(encoded(Image.new("RGB", (1, 1), BLUE)))
    view = picture.view(96)
    assert pixels(view).getpixel((0, 0)) == BLUE
    assert (view.width, view.height) == (1, 1)
    assert pixels(picture.crop(Region(0.2, 0.2, 0.21, 0.21), 96)).getpixel((0, 0)) == BLUE


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120))
def test_a_view_fits_and_keeps_its_shape(width: int, height: int, side: int) -> None:
    view = Picture.load(Image.new("RGB", (width, height), RED)).view(side)
    assert max(view.width, view.height) == min(side, max(width, height))
    scale = min(1.0, side / max(width, height))
    assert abs(view.width - width * scale) <= 1
    assert abs(view.height - height * scale) <= 1
    assert min(view.width, view.height) >= 1


def test_the_same_view_has_the_same_bytes() -> None:
    data = encoded(noise(200, 100))
    one, two = Picture.load(data), Picture.load(data)
    assert one.view(64).data == two.view(64).data
    assert one.view(64) is one.view(64)  # and is not encoded twice
    assert one.view(64) != one.view(65)


def test_flat_drawings_stay_exact_and_photos_shrink() -> None:
    assert Picture.load(halves(300, 200)).view(300).media_type == "image/png"
    assert pixels(Picture.load(halves(300, 200)).view(300)).getpixel((299, 0)) == BLUE
    soft = noise(30, 20).resize((300, 200), Image.Resampling.BICUBIC)
    photo = Picture.load(soft).view(300)
    assert photo.media_type == "image/jpeg"
    assert len(photo.data) < 300 * 200 * 3 / 2


def test_the_detail_that_is_asked_for() -> None:
    picture = Picture.load(Image.new("RGB", (900, 900), RED))
    assert picture.view(512).detail == "low"
    assert picture.view(513).detail == "high"
    assert picture.crop(WHOLE, 512).detail == "high"


def test_a_crop_is_cut_from_the_original_not_from_the_view() -> None:
    image = Image.new("RGB", (2000, 2000), WHITE)
    for column in range(1000, 1016, 2):  # stripes of one pixel, gone in any small view
        image.paste(0, (column, 1000, column + 1, 1016))
    picture = Picture.load(image)
    picture.view(100)
    crop = picture.crop(Region(0.5, 0.5, 0.508, 0.508), 64)
    seen = np.asarray(pixels(crop))
    assert (crop.width, crop.height) == (64, 64)  # 16 px, four times enlarged
    assert seen.min() < 40
    assert seen.max() > 215


def test_a_crop_takes_the_right_place() -> None:
    picture = Picture.load(halves(400, 200))
    assert pixels(picture.crop(Region(0, 0, 0.5, 1), 50)).getcolors() == [(50 * 50, RED)]
    assert pixels(picture.crop(Region(0.5, 0, 1, 1), 50)).getcolors() == [(50 * 50, BLUE)]


def test_enlargement_ends_at_four_times_and_at_the_side() -> None:
    picture = Picture.load(halves(100, 100))
    small = picture.crop(Region(0, 0, 0.1, 0.05), 500)
    assert (small.width, small.height) == (40, 20)
    limited = picture.crop(Region(0, 0, 0.1, 0.05), 30)
    assert (limited.width, limited.height) == (30, 15)
    assert (picture.crop(WHOLE, 50).width, picture.crop(WHOLE, 250).width) == (50, 250)


@settings(max_examples=80, deadline=None)
@given(
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-12, 1),
    st.floats(1e-12, 1),
    st.integers(1, 40),
)
def test_any_region_gives_at_least_a_pixel(
    x0: float, y0: float, width: float, height: float, side: int
) -> None:
    region = Region(x0, y0, max(min(1.0, x0 + width), 1e-9), max(min(1.0, y0 + height), 1e-9))
    crop = SHARED.crop(region, side)
    assert 1 <= crop.width <= side
    assert 1 <= crop.height <= side


def test_a_region_thinner_than_a_pixel_shows_the_pixel_it_is_in() -> None:
    edge = Picture.load(halves(400, 200)).crop(Region(1 - 1e-9, 1 - 1e-9, 1, 1), 50)
    assert pixels(edge).getcolors() == [(16, BLUE)]


@pytest.mark.parametrize("side", [0, -1])
def test_a_side_of_nothing(side: int) -> None:
    with pytest.raises(InputError, match="1 or more"):
        Picture.load(halves()).view(side)


def test_many_crops_do_not_pile_up() -> None:
    picture = Picture.load(halves(400, 200))
    crops = {picture.crop(Region(0, 0, n / 100, 1), 20).width for n in range(1, 101)}
    assert crops
    assert len(picture._parts) <= 32


def test_data_uris_in_the_forms_that_browsers_take() -> None:
    png = _noise_png()
    padded = base64.b64encode(png).decode()
    assert padded.endswith("=")
    assert set("+/") & set(padded)
    forms = (
        f"data:image/png;base64,{padded}",
        f"data:image/png;base64,{padded.rstrip('=')}",
        f"data:image/png;BASE64 ,{padded}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(png).decode()}",
    )
    assert {Picture.load(form).sha256 for form in forms} == {Picture.load(png).sha256}
    with pytest.raises(InputError, match="not valid base64"):
        Picture.load(f"data:image/png;base64,{padded.rstrip('=')[:-1]}")


def _noise_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((61, 61), 90).convert("RGB").save(file, "PNG")
    # The number of bytes is no multiple of three, so that there is padding.
    return file.getvalue() + b"\0" * (1 + (-len(file.getvalue()) % 3))


def test_the_address_of_a_file_is_no_network() -> None:
    with pytest.raises(InputError, match=r"its path without file://"):
        Picture.load("file://photo.png")


def test_detail_makes_a_view_larger_and_goes_with_it() -> None:
    plain = Picture.load(Image.new("RGB", (1600, 1200)))
    high, low = plain.seen_in("high"), plain.seen_in("low")
    assert plain.seen_in(None) is plain
    views = [(view.width, view.height, view.detail) for view in (plain.view(512), high.view(512))]
    assert views == [(512, 384, "low"), (1024, 768, "high")]
    assert low.view(700).detail == "low"
    small = Picture.load(Image.new("RGB", (40, 30))).seen_in("high").view(512)
    assert (small.width, small.height, small.detail) == (40, 30, "high")


def test_the_parts_that_were_made_last_are_kept() -> None:
    picture = Picture.load(Image.new("RGB", (400, 300), "red"))
    cells = [Region(x / 50, 0.0, (x + 1) / 50, 0.5) for x in range(CACHED_PARTS + 8)]
    made = [picture.crop(cell, 32) for cell in cells]
    again = [picture.crop(cell, 32) for cell in reversed(cells)]
    kept = [one is other for one, other in zip(made, reversed(again), strict=True)]
    assert kept == [False] * 8 + [True] * CACHED_PARTS
