"""From untrusted bytes to upright RGB pixels: check, decode, flatten."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
        if data[at + 4 : at + 8] == b"IEND":  # What follows is not read.
            return
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


def _check_size(width: int, height: int, where: str, most: int = MAX_PIXELS) -> None:
    """Refuse a size of 0 or of more than `most` pixels.

    Raises:
        InputError: the size is refused.
    """
    if width < 1 or height < 1:
        raise InputError(f"{where} is an image of {width}x{height} pixels: there is nothing in it")
    if width * height > most:
        raise InputError(
            f"{where} says it has {width}x{height} pixels, more than the {most:,} allowed "
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


@contextmanager
def reading(data: bytes, where: str, most: int) -> Iterator[Pixels]:
    """The pixels of `data`, to be taken in strips: for who has no memory for them twice.

    A baseline JPEG of up to four times `most` pixels is decoded at half its sides. Whatever is
    raised in the block is an InputError.

    Raises:
        InputError: see `decode`.
    """
    with _opened(data, where) as opened:
        width, height = opened.size
        before = _reduce(opened, most)
        _check_size(opened.width, opened.height, where, most)
        pixels = Pixels.of(opened, count_frames=len(data) <= COUNTED_BYTES)
        if before:
            note = f"reduced from {width}x{height} to {opened.width}x{opened.height} pixels"
            pixels.notes = (note, *pixels.notes)
        yield pixels


def read_header(data: bytes, where: str) -> Header:
    """What the header of `data` says; no pixel is decoded.

    Raises:
        InputError: it is no image that can be read, or too large.
    """
    return headers(data, where, MAX_PIXELS)[0]


def headers(data: bytes, where: str, most: int) -> tuple[Header, int]:
    """The header of `data`, and how many pixels `reading` it with `most` decodes: more than `most`
    where it will not.

    Raises:
        InputError: it is no image that can be read, or has more than 64 million pixels.
    """
    from PIL import Image

    with _opened(data, where) as opened:
        _check_size(opened.width, opened.height, where)
        header = Header(Image.MIME.get(opened.format or "", ""), opened.width, opened.height)
        _reduce(opened, most)
        return header, opened.width * opened.height


def _reduce(opened: Image.Image, most: int) -> bool:
    """Let a JPEG that is too large be decoded at half its sides, if that will do."""
    if opened.format not in {"JPEG", "MPO"} or not most < opened.width * opened.height <= 4 * most:
        return False
    # A progressive one is held whole by its decoder, whatever comes out.
    if opened.info.get("progressive"):
        return False
    opened.draft(opened.mode, (opened.width // 2, opened.height // 2))
    return True


def _stated_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG, GIF or WebP, whose decoders take memory for them as they open it;
    (1, 1) where it is none, or is left to its decoder."""
    if data.startswith(_PNG):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        width, height = data[24:27], data[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    return 1, 1


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """The image in `data`, not decoded yet; whatever Pillow raises in the block is an InputError.

    Raises:
        InputError: see `decode`.
        MemoryError: there is too little memory for it.
    """
    from PIL import Image, UnidentifiedImageError

    check_structure(data, where)
    _check_size(*_stated_size(data), where)
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
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(error, where) from None


def from_pil(image: Image.Image, where: str, *, count_frames: bool = True) -> Decoded:
    """Upright RGB pixels of a PIL image, which need not have been decoded yet.

    With `count_frames` the note on an animation says how many frames it has.

    Raises:
        InputError: it is too large, cut short or damaged.
        MemoryError: there is too little memory for it.
    """
    from PIL import Image

    _check_size(image.width, image.height, where)
    try:
        pixels = Pixels.of(image, count_frames=count_frames)
        if pixels.plain:
            whole = image.copy()
        else:
            whole = Image.new("RGB", pixels.size)
            for top, strip in pixels.strips():
                whole.paste(strip, (0, top))
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(error, where) from None
    return Decoded(whole, pixels.media_type, pixels.notes)


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


_STRIP = 1 << 18
"""Pixels that are turned and converted at once."""


@dataclass(slots=True)
class Pixels:
    """A decoded image on its way to upright 8-bit RGB, transparency on white.

    Attributes:
        image: as it was decoded.
        turn: how it is turned upright; None where it is.
        media_type: of the source.
        notes: what is changed on the way.
        scale: of deep greyscale: the value that is black, and what is 255 above it.
    """

    image: Image.Image = field(repr=False)
    turn: Image.Transpose | None
    media_type: str
    notes: tuple[str, ...]
    scale: tuple[float, float] | None = None

    @classmethod
    def of(cls, image: Image.Image, *, count_frames: bool) -> Pixels:
        """Those of an image, which is decoded now if it has not been.

        Raises:
            Exception: what the decoder raises.
        """
        from PIL import Image

        several = _several_note(image, count=count_frames)
        image.load()
        turn, turned = _orientation(image)
        media_type = Image.MIME.get(image.format or "", "")
        made = cls(image, turn, media_type, several + turned)
        if _is_deep(image):
            made.scale = _range(image)
            made.notes += (f"reduced from mode {image.mode} to 8 bits",)
        elif image.has_transparency_data:
            made.notes += ("transparent parts are shown on white",)
        elif image.mode == "CMYK":
            made.notes += ("converted from CMYK",)
        return made

    @property
    def size(self) -> tuple[int, int]:
        """Width and height when it is upright."""
        width, height = self.image.size
        return (height, width) if _lies(self.turn) else (width, height)

    @property
    def plain(self) -> bool:
        """Whether it is upright RGB as it is."""
        return (
            self.turn is None and self.image.mode == "RGB" and "transparency" not in self.image.info
        )

    def strips(self) -> Iterator[tuple[int, Image.Image]]:
        """The pixels from the top to the bottom: the first row of each strip, and the strip."""
        width, height = self.size
        rows = max(1, _STRIP // width)
        for top in range(0, height, rows):
            yield top, self._strip(top, min(height, top + rows))

    def _strip(self, top: int, end: int) -> Image.Image:
        from PIL import Image

        turn, (width, height) = self.turn, self.image.size
        if _lies(turn):
            if turn in {Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE}:
                top, end = width - end, width - top
            box = top, 0, end, height
        else:
            if turn in {Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM}:
                top, end = height - end, height - top
            box = 0, top, width, end
        cut = self.image.crop(box)
        if turn is not None:
            cut = cut.transpose(turn)
            # transpose() keeps the palette but not what `info` says of transparency.
            cut.info = {k: v for k, v in self.image.info.items() if k == "transparency"}
        return _flat(cut) if self.scale is None else _eight_bits(cut, *self.scale)


def _lies(turn: Image.Transpose | None) -> bool:
    from PIL import Image

    sideways = Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE
    return turn in {*sideways, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270}


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _flat(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image that is not deep, with transparency on white."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Pillow has no way from premultiplied grey to RGBA but this one.
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _orientation(image: Image.Image) -> tuple[Image.Transpose | None, tuple[str, ...]]:
    """The turn for the EXIF orientation (2 to 8; 1 is upright). Damaged EXIF data is ignored."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:
        return None, ("its EXIF data is damaged, so it was not turned",)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return turn, () if turn is None else ("turned upright as its EXIF orientation asks",)


def _values(image: Image.Image) -> Any:
    """Deep greyscale as an array of floats, without what is no number."""
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    return values


def _range(image: Image.Image) -> tuple[float, float]:
    """What is black in deep greyscale, and how far above it white is: 0..65535, anything else by
    its own range."""
    rows = max(1, _STRIP // image.width)
    low = high = None
    for top in range(0, image.height, rows):
        values = _values(image.crop((0, top, image.width, min(image.height, top + rows))))
        least, most = float(values.min()), float(values.max())
        low = least if low is None else min(low, least)
        high = most if high is None else max(high, most)
    low, high = low or 0.0, high or 0.0
    if low >= 0 and high <= 65535 and image.mode != "F":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    return low, max(high - low, 1e-12)


def _eight_bits(image: Image.Image, low: float, span: float) -> Image.Image:
    """Scale deep greyscale to 8-bit RGB."""
    import numpy as np
    from PIL import Image

    values = _values(image).astype(np.float64)  # of a strip only
    values -= low
    values *= 255.0 / span
    np.rint(values, out=values).clip(0, 255, out=values)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
