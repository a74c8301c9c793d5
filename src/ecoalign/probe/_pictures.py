"""The pictures of a probe: grey ones of some size, and one with a target drawn on it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.models import BoxConvention, ImagePart

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Target:
    """A red square on a white picture: the sides of the picture and of the square, in pixels.

    The sides are multiples of 28 and of 32, so that no model resizes the picture by much, and
    the square is where each convention writes it with other numbers.
    """

    width: int = 672
    height: int = 448
    left: int = 70
    top: int = 280
    right: int = 190
    bottom: int = 400


TARGETS = (Target(), Target(left=420, top=40, right=560, bottom=180))


def plain(width: int, height: int) -> ImagePart:
    """A picture of soft stripes, so that no server takes it for empty."""
    from PIL import Image

    picture = Image.new("RGB", (width, height), (200, 200, 200))
    for x in range(0, width, 8):
        picture.paste((120, 140, 160), (x, 0, min(x + 4, width), height))
    return _encoded(picture)


def drawn(target: Target) -> ImagePart:
    """The picture of a target."""
    from PIL import Image

    picture = Image.new("RGB", (target.width, target.height), (255, 255, 255))
    picture.paste((220, 20, 20), (target.left, target.top, target.right, target.bottom))
    return _encoded(picture)


def _encoded(picture: Image) -> ImagePart:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return ImagePart(data.getvalue(), "image/png", picture.width, picture.height)


_Corners = tuple[float, float, float, float]

_READ: dict[BoxConvention, Callable[[_Corners, Target], _Corners]] = {
    "xyxy-1000": lambda n, t: _scaled(n, t, 1000),
    "yxyx-1000": lambda n, t: _scaled((n[1], n[0], n[3], n[2]), t, 1000),
    "xyxy-1": lambda n, t: _scaled(n, t, 1),
    "xyxy-1024": lambda n, t: _scaled(n, t, 1024),
    "xyxy-pixels": lambda n, _: n,
    "xywh-pixels": lambda n, _: (n[0], n[1], n[0] + n[2], n[1] + n[3]),
}
"""How the four numbers of each convention become the corners of a box in pixels."""


def _scaled(numbers: _Corners, target: Target, whole: float) -> _Corners:
    x, y = target.width / whole, target.height / whole
    return numbers[0] * x, numbers[1] * y, numbers[2] * x, numbers[3] * y


def overlap(numbers: Sequence[float], target: Target, convention: BoxConvention) -> float:
    """The intersection over union, in [0, 1], of a target and the box that four numbers mean."""
    first, second, third, fourth = numbers
    left, top, right, bottom = _READ[convention]((first, second, third, fourth), target)
    wide = min(right, target.right) - max(left, target.left)
    high = min(bottom, target.bottom) - max(top, target.top)
    if wide <= 0 or high <= 0:
        return 0.0
    own = (target.right - target.left) * (target.bottom - target.top)
    return wide * high / (own + (right - left) * (bottom - top) - wide * high)


def convention_of(boxes: Sequence[tuple[Target, Sequence[float]]]) -> BoxConvention | None:
    """The convention in which all boxes fit their targets best; None where none fits them.

    A box fits from half an overlap on. Of 1000 and 1024, which differ little, 1000 comes first.
    """
    least = {
        kind: min(overlap(numbers, target, kind) for target, numbers in boxes) for kind in _READ
    }
    best = max(least.values())
    if best < 0.5:
        return None
    return next(kind for kind, value in least.items() if value >= best - 0.02)
