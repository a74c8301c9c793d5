"""From untrusted bytes to upright RGB pixels: check, decode, flatten."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64_000_000
"""Of a decoded image."""

MAX_CHUNKS = 30_000
"""Of a PNG, or segments of a JPEG. A PNG of 64 MiB in the usual blocks of 8 KiB has 8,192."""

MAX_SCANS = 60
"""Of a JPEG. Progressive ones have about ten. A scan of 90 bytes costs a pass over all pixels."""

# Counting the frames of a GIF or TIFF reads all of them, and a kilobyte may hold a hundred.
COUNTED_BYTES = 256 * 1024

# Raster formats only: EPS would run Ghostscript. Phones' MPO files are opened as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")

_HINTS = (
    (b"%PDF", "it is a PDF: render the page to PNG first"),
    (b"<svg", "it is an SVG: render it to PNG first"),
    (b"<?xml", "it is an XML or SVG file: render it to PNG first"),
    (b"<!doc", "it is a web page"),
    (b"<html", "it is a web page"),
    (b"PK\x03\x04", "it is a ZIP archive or an office document"),
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Upright RGB pixels, the type of the source, and what was changed on the way."""

    image: Image.Image
    media_type: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What an encoded image says of itself before it is decoded: type, and pixels as stored."""

    media_type: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


_PNG = b"\x89PNG\r\n\x1a\n"

_JPEG = b"\xff\xd8\xff"

# After FF: 00 and FF are data or filling, and 01 and D0 to D7 have no length.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")

_START_OF_SCAN, _START, _END = 0xDA, 0xD8, 0xD9


def check_structure(data: bytes, where: str) -> None:
    """Refuse a PNG of too many chunks and a JPEG of too many segments or scans.

    Decoders read chunks one by one in slow code, and go over the whole image once per scan.

    Raises:
        InputError: there are too many.
    """
    if data.startswith(_PNG):
        _check_png(data, where)
    elif data.startswith(_JPEG):
        _check_jpeg(data, where)


def _check_png(data: bytes, where: str) -> None:
    at, count = len(_PNG), 0
    while at + 8 <= len(data):
        count += 1
        if count > MAX_CHUNKS:
            raise _too_many(where, MAX_CHUNKS, "chunks")
        # Length, name, data, checksum.
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _check_jpeg(data: bytes, where: str) -> None:
    at = segments = scans = 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == _END:  # What follows, such as a video, is another file.
            return
        if marker == _START:
            continue
        segments += 1
        scans += marker == _START_OF_SCAN
        if segments > MAX_CHUNKS:
            raise _too_many(where, MAX_CHUNKS, "segments")
        if scans > MAX_SCANS:
            raise _too_many(where, MAX_SCANS, "scans")
        at += int.from_bytes(data[at : at + 2], "big")


def _too_many(where: str, most: int, what: str) -> InputError:
    return InputError(
        f"{where} is an image of more than {most:,} {what} (a guard against decompression bombs); "
        "save it again with an ordinary program first"
    )


def _check_size(width: int, height: int, where: str) -> None:
    """Refuse a size of 0 or of more than 64 million pixels.

    Raises:
        InputError: the size is refused.
    """
    if width < 1 or height < 1:
        raise InputError(f"{where} is an image of {width}x{height} pixels: there is nothing in it")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{where} says it has {width}x{height} pixels, more than the {MAX_PIXELS:,} allowed "
            "(a guard against decompression bombs); scale it down first"
        )


def decode(data: bytes, where: str) -> Decoded:
    """Decode `data` to upright RGB.

    The header is checked against the pixel limit before any pixel is decoded.

    Raises:
        InputError: it is no image that can be read, cut short, damaged or too large.
    """
    with _opened(data, where) as opened:
        return from_pil(opened, where, count_frames=len(data) <= COUNTED_BYTES)


def read_header(data: bytes, where: str) -> Header:
    """What the header of `data` says; no pixel is decoded.

    Raises:
        InputError: it is no image that can be read, or too large.
    """
    from PIL import Image

    with _opened(data, where) as opened:
        _check_size(opened.width, opened.height, where)
        return Header(Image.MIME.get(opened.format or "", ""), opened.width, opened.height)


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """The image in `data`, not decoded yet; whatever Pillow raises in the block is an InputError.

    Raises:
        InputError: see `decode`.
    """
    from PIL import Image, UnidentifiedImageError

    check_structure(data, where)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # Pillow may be built without some
    try:
        with Image.open(io.BytesIO(data), formats=formats) as opened:
            yield opened
    except UnidentifiedImageError:
        raise InputError(f"{where} is not an image that can be read: {_hint(data)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"{where} says it has more than the {MAX_PIXELS:,} pixels allowed "
            "(a guard against decompression bombs); scale it down first"
        ) from None
    except InputError:
        raise
    except Exception as error:
        raise _damaged(error, where) from None


def from_pil(image: Image.Image, where: str, *, count_frames: bool = True) -> Decoded:
    """Upright RGB pixels of a PIL image, which need not have been decoded yet.

    With `count_frames` the note on an animation says how many frames it has.

    Raises:
        InputError: it is too large, cut short or damaged.
    """
    from PIL import Image

    _check_size(image.width, image.height, where)
    try:
        notes = _several_note(image, count=count_frames)
        image.load()
        flat, changes = _flatten(image)
    except InputError:
        raise
    except Exception as error:
        raise _damaged(error, where) from None
    media_type = Image.MIME.get(image.format or "", "")
    return Decoded(flat.copy() if flat is image else flat, media_type, notes + changes)


def _damaged(error: Exception, where: str) -> InputError:
    """A decoder may raise nearly anything on damaged bytes; for the user it is one error."""
    return InputError(f"{where} is a damaged or truncated image ({type(error).__name__}: {error})")


def _hint(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    for magic, hint in _HINTS:
        if start.startswith(magic.lower()):
            return hint
    if data[4:8] == b"ftyp" and data[8:12] in {b"heic", b"heix", b"mif1", b"hevc"}:
        return "it is a HEIC photo: convert it to JPEG or PNG first"
    return f"supported are {', '.join(FORMATS)}"


def _several_note(image: Image.Image, *, count: bool) -> tuple[str, ...]:
    if not getattr(image, "is_animated", False):
        return ()
    if image.format == "MPO":  # a phone's photo with a depth map or the image of a second lens
        return ()
    if not count and image.format in {"GIF", "TIFF"}:
        return ("only the first of its frames is used",)
    frames = getattr(image, "n_frames", 2)
    return (f"only the first of {frames} frames is used",)


def _flatten(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Turn upright and reduce to 8-bit RGB, with transparency on white; say what was changed."""
    image, notes = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, notes
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image), (*notes, f"reduced from mode {image.mode} to 8 bits")
    if image.has_transparency_data:
        # Pillow has no way from premultiplied grey to RGBA but this one.
        image = image.convert("LA") if image.mode == "La" else image
        return _on_white(image.convert("RGBA")), (*notes, "transparent parts are shown on white")
    changed = ("converted from CMYK",) if image.mode == "CMYK" else ()
    return image.convert("RGB"), notes + changed


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Apply the EXIF orientation (2 to 8; 1 is upright). Damaged EXIF data is ignored."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:
        return image, ("its EXIF data is damaged, so it was not turned",)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    if turn is None:
        return image, ()
    turned = image.transpose(turn)
    # transpose() keeps the palette but not what `info` says of transparency.
    turned.info = {k: v for k, v in image.info.items() if k == "transparency"}
    return turned, ("turned upright as its EXIF orientation asks",)


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep greyscale to 8-bit RGB: 0..65535 linearly, anything else by its own range."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 65535 and image.mode != "F":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8)).convert("RGB")
