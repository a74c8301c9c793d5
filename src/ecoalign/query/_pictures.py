"""Input images: loaded safely, turned upright, kept whole for crops."""

from __future__ import annotations

import hashlib
import io
import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ecoalign.errors import InputError
from ecoalign.graph import Region
from ecoalign.models import ImagePart
from ecoalign.query._decoding import decode, from_pil
from ecoalign.query._sources import (
    AllowUrls,
    ArrayLike,
    BinaryFile,
    Encoded,
    image_of_array,
    read_source,
)

if TYPE_CHECKING:
    from PIL import Image


# Small crops are enlarged up to this factor: encoders see whole patches of 14 to 32 px, so a sign
# of 20 px would otherwise be one or two of them, and some servers refuse images under 11 px.
MAX_ENLARGEMENT = 4

# Context around a region that is looked at, as a share of its sides, on each side of it: what a
# model points at is rarely the whole of what it means.
CONTEXT = 0.1

FULL_PIXELS = 2048
"""Longest side of the images that the plain model gets: as a user would send them, within what
servers take."""

# The side up to which OpenAI's "low" detail loses nothing.
LOW_DETAIL_SIDE = 512

# JPEG blurs text and flat colour, so it has to save at least this much to be chosen over PNG.
JPEG_MUST_SAVE = 0.5

JPEG_QUALITY = 90

CACHED_PARTS = 32

ImageSource: TypeAlias = "Encoded | Image.Image | ArrayLike | Picture"
"""What `Picture.load` reads. (A text: naming the classes must not import Pillow.)"""

Box = tuple[int, int, int, int]

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """One input image: upright, RGB, at full resolution.

    Attributes:
        image: the decoded pixels, mode RGB. Treat as read-only.
        media_type: type of the source, from its bytes ("image/png", ...; "" for a PIL image).
        sha256: hexadecimal digest of the source bytes (of size and pixels for a PIL image).
        notes: what was changed on the way in, for the user ("turned upright", ...).
        detail: how closely the client wants it seen: "high" makes views of twice the side, and
            either goes with them as the hint to the server; None leaves both to the settings.
    """

    image: Image.Image = field(repr=False, compare=False)
    media_type: str
    sha256: str
    notes: tuple[str, ...] = ()
    detail: Literal["low", "high"] | None = None
    _parts: dict[tuple[Box, Size, bool], ImagePart] = field(
        default_factory=dict, repr=False, compare=False
    )

    def seen_in(self, detail: Literal["low", "high"] | None) -> Picture:
        """The same picture, seen in this detail."""
        return self if detail is None else replace(self, detail=detail, _parts={})

    @property
    def width(self) -> int:
        """Pixels across, after turning upright."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels down, after turning upright."""
        return self.image.height

    @classmethod
    def load(cls, source: ImageSource, *, allow_urls: AllowUrls = False) -> Picture:
        """Load an image.

        The type is read from the bytes, never from the name. Of an animation or a multi-page
        file the first frame is used, transparency is laid on white, 16-bit is reduced to 8, and
        `notes` says so.

        Args:
            source: a path; encoded bytes (bytes, bytearray, memoryview); a file object that is open
                in binary mode, read from where it stands; a `data:` URI; a PIL image; an array of
                height x width (grey), or height x width x 1, 3 (RGB) or 4 (RGBA), of uint8 or of
                floats from 0 to 1; or a `Picture`, which is returned as it is.
            allow_urls: whether an http or https address is fetched, too. Only public hosts are
                asked, on their usual ports, and PNG, JPEG, GIF and WebP are taken, of at most
                20 MiB, within ten seconds. It blocks until the image is there.

        Raises:
            InputError: the source is missing, a directory, empty, truncated, too large (more
                than 64 MiB or 64 million pixels, checked before decoding), no image that can be
                read, or an address on the network that is not to be fetched.
        """
        if isinstance(source, Picture):
            return source
        if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | BinaryFile):
            data, where = read_source(source, allow_urls)
            decoded = decode(data, where)
            digest = hashlib.sha256(data).hexdigest()
            return cls(decoded.image, decoded.media_type, digest, decoded.notes)
        return cls._from_pixels(source)

    @classmethod
    def _from_pixels(cls, source: Image.Image | ArrayLike) -> Picture:
        from PIL import Image

        notes: tuple[str, ...] = ()
        if isinstance(source, Image.Image):
            where = "the PIL image"
        elif isinstance(source, ArrayLike):
            where = "the array"
            source, notes = image_of_array(source)
        else:
            raise InputError(
                f"cannot load an image from {type(source).__name__}; give a path, bytes, a file "
                "that is open in binary mode, a numpy array, a PIL image or a data: URI"
            )
        decoded = from_pil(source, where)
        image = decoded.image
        digest = hashlib.sha256(f"{image.width}x{image.height} RGB ".encode() + image.tobytes())
        return cls(image, decoded.media_type, digest.hexdigest(), notes + decoded.notes)

    def view(self, side: int, smallest: int = 1) -> ImagePart:
        """The whole image, its longest side at most `side` px (>= 1), twice that where `detail` is
        "high".

        It is enlarged only where a side is shorter than `smallest`: in proportion as far as `side`
        goes, then that side alone. The same picture and numbers always give the same bytes.

        Raises:
            InputError: `side` is less than 1.
        """
        size = self._view_size(side, smallest)
        part = self._part((0, 0, self.width, self.height), size, crop=False)
        return part if self.detail is None else replace(part, detail=self.detail)

    def sized_view(self, side: int, smallest: int = 1) -> ImagePart:
        """What `view` gives, without the pixels: to know what it will cost."""
        width, height = self._view_size(side, smallest)
        detail = self.detail or _detail((width, height), crop=False)
        return ImagePart(b"", "image/png", width, height, detail)

    def crop(self, region: Region, side: int) -> ImagePart:
        """The pixels of `region`, cut from the full-resolution original, at most `side` px long.

        The region is widened to whole pixels. A crop that is smaller than `side` is enlarged
        towards it, up to four times, since models read large characters better than small ones.
        `region.image` is not looked at: it says which picture to ask.

        Raises:
            InputError: `side` is less than 1.
        """
        _check(side)
        box = self._box(region)
        return self._part(box, _fit(box, side, MAX_ENLARGEMENT), crop=True)

    def close_up(self, region: Region, size: Size) -> ImagePart:
        """The pixels of `region` with `CONTEXT` around it, in an image of just `size`.

        The region is widened to the shape of `size`, and until it is enlarged at most four times;
        at the edges of the picture it is moved inside.
        """
        return self._part(self._close_box(region, size), size, crop=True)

    def close_up_size(self, side: int, smallest: int = 1) -> Size:
        """The size of close-ups with the shape of the picture, their longest side at most `side` px
        and no side below `smallest`."""
        _check(side)
        width, height = _fit((0, 0, self.width, self.height), side, MAX_ENLARGEMENT)
        return max(smallest, width), max(smallest, height)

    def hidden_detail(self, side: int, cells: int = 3) -> tuple[int, ...]:
        """How much of each cell of a grid a view of `side` px does not show: the mean difference
        between the picture and its view, in grey levels, 0 to 255; row by row from the top left.

        Pages of text up to 32 px high have 22 to 42, at a view a quarter to a seventh as large;
        photographs of a crowded circuit board 9 to 14 at a third. Four times the view is looked at,
        at most.
        """
        from PIL import Image, ImageChops

        grey = self.image.convert("L")
        whole = (0, 0, self.width, self.height)
        grey = grey.resize(_fit(whole, 4 * side, 1.0), Image.Resampling.BOX)
        shown = grey.resize(_fit(whole, side, 1.0), Image.Resampling.BOX)
        lost = ImageChops.difference(grey, shown.resize(grey.size, Image.Resampling.BILINEAR))
        return tuple(lost.resize((cells, cells), Image.Resampling.BOX).tobytes())

    def magnification(self, region: Region, size: Size) -> float:
        """Pixels of `close_up` for each pixel of the picture, along its width."""
        left, _, right, _ = self._close_box(region, size)
        return size[0] / (right - left)

    def shows(self, region: Region, other: Region, size: Size) -> bool:
        """Whether the close-up of `region` has all of the region `other` in it."""
        left, upper, right, lower = self._close_box(region, size)
        box = self._box(other)
        return left <= box[0] and upper <= box[1] and box[2] <= right and box[3] <= lower

    def _box(self, region: Region) -> Box:
        left, right = _span(region.x0, region.x1, self.width)
        upper, lower = _span(region.y0, region.y1, self.height)
        return left, upper, right, lower

    def _close_box(self, region: Region, size: Size) -> Box:
        left, upper, right, lower = self._box(region)
        width, height = (right - left) * (1 + 2 * CONTEXT), (lower - upper) * (1 + 2 * CONTEXT)
        width = max(width, height * size[0] / size[1], size[0] / MAX_ENLARGEMENT)
        height = width * size[1] / size[0]
        across = _around(left + right, width, self.width)
        down = _around(upper + lower, height, self.height)
        return across[0], down[0], across[1], down[1]

    def _view_size(self, side: int, smallest: int) -> Size:
        _check(side)
        side = 2 * side if self.detail == "high" else side
        enlarged = max(1.0, smallest / min(self.width, self.height))
        width, height = _fit((0, 0, self.width, self.height), side, enlarged)
        return max(smallest, width), max(smallest, height)

    def _part(self, box: Box, size: Size, *, crop: bool) -> ImagePart:
        key = (box, size, crop)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _encode(self._resized(box, size), crop=crop)
            # The oldest goes: what was made last is asked for next. (Threads make parts, too.)
            for old in tuple(self._parts)[:-CACHED_PARTS]:
                self._parts.pop(old, None)
        return part

    def _resized(self, box: Box, size: Size) -> Image.Image:
        from PIL import Image

        cut = self.image if box == (0, 0, self.width, self.height) else self.image.crop(box)
        if size == cut.size:
            return cut
        return cut.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _span(start: float, end: float, length: int) -> tuple[int, int]:
    """The whole pixels [a, b) of an axis that cover start..end, at least one of them."""
    first = min(math.floor(start * length), length - 1)
    return first, min(length, max(first + 1, math.ceil(end * length)))


def _around(doubled: int, length: float, whole: int) -> tuple[int, int]:
    """About `length` whole pixels around a centre (given doubled), within 0..whole."""
    pixels = min(whole, max(1, round(length)))
    first = min(max(0, round((doubled - pixels) / 2)), whole - pixels)
    return first, first + pixels


def _fit(box: Box, side: int, most: float) -> Size:
    """The size of a box in proportion, its longest side `side` px, enlarged at most so often."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(side / max(width, height), most)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check(side: int) -> None:
    if side < 1:
        raise InputError(f"an image side of {side} px was asked for; it must be 1 or more")


def _detail(size: Size, *, crop: bool) -> Literal["low", "high"]:
    return "low" if not crop and max(size) <= LOW_DETAIL_SIDE else "high"


def _encode(image: Image.Image, *, crop: bool) -> ImagePart:
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=4)  # 6 takes half as long again for 1 % less
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    lossy = len(jpeg.getvalue()) < JPEG_MUST_SAVE * len(png.getvalue())
    return ImagePart(
        data=(jpeg if lossy else png).getvalue(),
        media_type="image/jpeg" if lossy else "image/png",
        width=image.width,
        height=image.height,
        detail=_detail(image.size, crop=crop),
    )
