"""Regions of an image as models write them: one table of conventions, and one tolerant reader.

A model that was trained to point writes boxes in its family's way, whatever it is asked: corners
or a corner and a size, x or y first, in thousandths, fractions or pixels of the image as it was
sent. So it is asked in its own way (`Profile.boxes`), and read by these rules:

1. A box is four numbers: a list, nested or not, a text with four numbers in it (also between
   `<box>` tags), or an object that holds such (`bbox_2d`, `box_2d`, ...) or names its edges
   (x1, y1, x2, y2; left, top, right, bottom; x, y, width, height). Of several boxes the first
   counts.
2. Its scale is the convention's. Numbers that cannot be meant in it are read as what they can be:
   none above 1 are fractions; beyond the scale they are pixels of the image as sent if they fit
   it, else (where fractions or pixels were asked for) thousandths.
3. Corners may be in either order. What is up to 2 % outside the image is clipped to it.
4. Everything else is refused: other counts of numbers, none at all, regions further outside, and
   those without an area.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ecoalign.models import BoxConvention

__all__ = ["CONVENTIONS", "Box", "BoxRule", "read_box"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the image's width and height, from the top left corner."""

_SLACK = 0.02
"""Of a side: models round, and servers resize to whole patches."""


@dataclass(frozen=True, slots=True)
class BoxRule:
    """How one family writes a box.

    Attributes:
        order: of the four numbers.
        span: what a whole side counts; None for the pixels of the image as it was sent.
        words: what a prompt says of the numbers.
    """

    order: Literal["xyxy", "yxyx", "xywh"]
    span: float | None
    words: str

    @property
    def form(self) -> str:
        """The four numbers by name, as a prompt writes them."""
        names = {"xyxy": "x0, y0, x1, y1", "yxyx": "y0, x0, y1, x1", "xywh": "x, y, width, height"}
        return f"[{names[self.order]}]"

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return self.span != 1

    def asked(self, sizes: Sequence[tuple[int, int]]) -> str:
        """What a prompt says of a region.

        Args:
            sizes: width and height of the images as sent, in pixels.
        """
        text = f"{self.form} {self.words}, from the top left"
        if self.span is None:
            listed = (f"Image {n} is {w} x {h}" for n, (w, h) in enumerate(sizes, 1))
            text += f" ({', '.join(listed)})"
        return text


CONVENTIONS: Mapping[BoxConvention, BoxRule] = {
    "xyxy-1000": BoxRule("xyxy", 1000, "in thousandths of the image's width and height (0-1000)"),
    "yxyx-1000": BoxRule("yxyx", 1000, "in thousandths of the image's height and width (0-1000)"),
    "xyxy-1024": BoxRule("xyxy", 1024, "in steps of 1/1024 of the image's width and height"),
    "xyxy-1": BoxRule("xyxy", 1, "as fractions of the image's width and height (0-1)"),
    "xyxy-pixels": BoxRule("xyxy", None, "in pixels of the image"),
    "xywh-pixels": BoxRule("xywh", None, "in pixels of the image"),
}

_HOLDERS = ("bbox_2d", "box_2d", "bbox", "box", "region", "bounding_box", "coordinates")

_EDGES = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)

_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))

_TAG = re.compile(r"</?[A-Za-z|_][A-Za-z|_]*>")

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w|\.\d)|(?<=<loc)\d+(?=>)")

_DEPTH = 6


def read_box(value: object, convention: BoxConvention, size: tuple[int, int]) -> Box | None:
    """The box that a model wrote, by the rules above; None if it is none.

    Args:
        value: JSON, or text.
        convention: of the model.
        size: width and height of the image as it was sent, in pixels.
    """
    rule = CONVENTIONS[convention]
    found = _four(value, rule.order, _DEPTH)
    if found is None:
        return None
    order, numbers = found
    for span in _spans(rule.span, numbers, size):
        box = _placed(numbers, order, span)
        if box is not None:
            return box
    return None


def _spans(
    span: float | None, numbers: Sequence[float], size: tuple[int, int]
) -> Iterator[tuple[float, float]]:
    """What a whole width and height may count, the likeliest first."""
    fractions, thousandths = (1.0, 1.0), (1000.0, 1000.0)
    pixels = (float(max(1, size[0])), float(max(1, size[1])))
    if max(numbers) <= 1:
        yield fractions
        return
    if span is None:
        yield pixels
    else:
        yield (float(span), float(span))
        # At 1 there is no way to tell: no image of use is so small.
        if span != 1 and max(numbers) > span:
            yield pixels
    if span in (None, 1):
        yield thousandths


def _placed(numbers: Sequence[float], order: str, span: tuple[float, float]) -> Box | None:
    across, down = span
    if order == "yxyx":
        y0, x0, y1, x1 = numbers
    else:
        x0, y0, x1, y1 = numbers
    x0, x1, y0, y1 = x0 / across, x1 / across, y0 / down, y1 / down
    if order == "xywh":
        if x1 < 0 or y1 < 0:
            return None
        x1, y1 = x0 + x1, y0 + y1
    edges = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if not all(-_SLACK <= edge <= 1 + _SLACK for edge in edges):
        return None
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in edges)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _four(value: object, order: str, depth: int) -> tuple[str, tuple[float, ...]] | None:
    """The four numbers and their order; None if there are not four."""
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        return _named(value, order, depth)
    if isinstance(value, str):
        bare = _TAG.sub(" ", value)
        numbers = [float(found) for found in _NUMBER.findall(bare)]
        return _counted(numbers, order)
    if not isinstance(value, list) or not value:
        return None
    numbers = [number for number in map(_number, value) if number is not None]
    if len(numbers) == len(value):
        return _counted(numbers, order)
    if len(value) == 2 and all(isinstance(point, list) and len(point) == 2 for point in value):
        return _four([number for point in value for number in point], order, depth - 1)
    return _four(value[0], order, depth - 1)


def _named(
    value: Mapping[object, object], order: str, depth: int
) -> tuple[str, tuple[float, ...]] | None:
    names = {str(name).strip().lower(): inner for name, inner in value.items()}
    for holder in _HOLDERS:
        if holder in names:
            return _four(names[holder], order, depth - 1)
    for keys, meant in (*((keys, "xyxy") for keys in _EDGES), *((k, "xywh") for k in _SIZES)):
        numbers = [_number(names.get(key)) for key in keys]
        given = [number for number in numbers if number is not None]
        if len(given) == len(keys):
            return _counted(given, meant)
    return None


def _counted(numbers: list[float], order: str) -> tuple[str, tuple[float, ...]] | None:
    good = len(numbers) == 4 and all(map(math.isfinite, numbers))
    return (order, tuple(numbers)) if good else None


def _number(value: object) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}(\.\d{1,9})?\s*", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
