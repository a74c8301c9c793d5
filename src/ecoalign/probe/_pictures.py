"""The pictures of a probe: grey ones of some size, and one with a target drawn on it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.models import BoxConvention, ImagePart
from ecoalign.prompts import CONVENTIONS

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


def overlap(numbers: Sequence[float], target: Target, convention: BoxConvention) -> float:
    """The intersection over union, in [0, 1], of a target and the box that four numbers mean.

    They mean nothing but what the convention says: `read_box`, which is tolerant, could not tell
    one convention from another.
    """
    rule = CONVENTIONS[convention]
    across = target.width / rule.span if rule.span else 1.0
    down = target.height / rule.span if rule.span else 1.0
    first, second, third, fourth = numbers
    if rule.order == "yxyx":
        first, second, third, fourth = second, first, fourth, third
    left, top, right, bottom = first * across, second * down, third * across, fourth * down
    if rule.order == "xywh":
        right, bottom = left + right, top + bottom
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
        kind: min(overlap(numbers, target, kind) for target, numbers in boxes)
        for kind in CONVENTIONS
    }
    best = max(least.values())
    if best < 0.5:
        return None
    return next(kind for kind, value in least.items() if value >= best - 0.02)
