"""Scenes: a 3 x 3 grid of coloured shapes and signs, drawn with Pillow at 384 x 384 pixels.

A sign is `big` (readable in the 96 x 96 view of the whole scene) or small (readable only in a
crop of its cell).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from ecoalign.models.embedded import COLOURS, SHAPES

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont


__all__ = ["COLOURS", "SHAPES", "SIDE", "Scene", "Shape", "Sign", "draw"]

SIDE = 384

_CELL = SIDE // 3

_SIGN_SLACK = 10.0  # signs hang near the middle of their cell, shapes anywhere in it

_WIDEST = 113  # of a sign's text, in pixels


@dataclass(frozen=True, slots=True)
class Shape:
    """A coloured shape in cell `cell` (an index into CELLS)."""

    cell: int
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Sign:
    """A plate with a two-digit number or one or two short words."""

    cell: int
    text: str
    big: bool

    @property
    def is_number(self) -> bool:
        return self.text.isdigit()


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene; `seed` fixes the placement inside the cells, sizes and background."""

    shapes: tuple[Shape, ...]
    signs: tuple[Sign, ...]
    seed: int

    @property
    def things(self) -> tuple[Shape | Sign, ...]:
        """Everything in it, in reading order."""
        return tuple(sorted((*self.shapes, *self.signs), key=lambda thing: thing.cell))


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _polygon(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if shape == "triangle":
        angles = [(-90 + 120 * i, r * 1.1) for i in range(3)]
    else:
        angles = [(-90 + 36 * i, r * (1.15 if i % 2 == 0 else 0.48)) for i in range(10)]
    return [
        (x + d * math.cos(math.radians(a)), y + d * math.sin(math.radians(a))) for a, d in angles
    ]


def _draw_shape(pen: ImageDraw.ImageDraw, thing: Shape, rng: Random) -> None:
    row, column = divmod(thing.cell, 3)
    r = rng.uniform(30, 46)
    slack = _CELL / 2 - r - 6
    x = column * _CELL + _CELL / 2 + rng.uniform(-slack, slack)
    y = row * _CELL + _CELL / 2 + rng.uniform(-slack, slack)
    fill = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif thing.shape == "square":
        q = r * 0.88
        pen.rectangle((x - q, y - q, x + q, y + q), fill=fill)
    elif thing.shape == "cross":
        w = r * 0.34
        pen.rectangle((x - r, y - w, x + r, y + w), fill=fill)
        pen.rectangle((x - w, y - r, x + w, y + r), fill=fill)
    else:
        pen.polygon(_polygon(thing.shape, x, y, r), fill=fill)


def _draw_sign(pen: ImageDraw.ImageDraw, sign: Sign, rng: Random) -> None:
    row, column = divmod(sign.cell, 3)
    lines = sign.text.upper().split(" ")
    if sign.big:
        size = rng.randint(58, 64) if sign.is_number else rng.randint(34, 38)
    else:
        size = rng.randint(19, 22) if sign.is_number else rng.randint(15, 17)
    boxes = [pen.textbbox((0, 0), line, font=_font(size)) for line in lines]
    # The widest words, at the largest size, would leave their cell.
    while (width := max(box[2] - box[0] for box in boxes)) > _WIDEST:
        size -= 1
        boxes = [pen.textbbox((0, 0), line, font=_font(size)) for line in lines]
    leading = size * 1.05
    height = leading * (len(lines) - 1) + max(box[3] - box[1] for box in boxes)
    pad = 7 if sign.big else 6
    half_w, half_h = width / 2 + pad, height / 2 + pad
    slack_x, slack_y = (
        min(_SIGN_SLACK, max(0.0, _CELL / 2 - half - 3)) for half in (half_w, half_h)
    )
    x = column * _CELL + _CELL / 2 + rng.uniform(-slack_x, slack_x)
    y = row * _CELL + _CELL / 2 + rng.uniform(-slack_y, slack_y)
    pen.rectangle(
        (x - half_w, y - half_h, x + half_w, y + half_h),
        fill=(252, 251, 246),
        outline=(40, 40, 44),
        width=3 if sign.big else 2,
    )
    top = y - height / 2
    for line, box in zip(lines, boxes, strict=True):
        left = x - (box[2] - box[0]) / 2 - box[0]
        pen.text((left, top - boxes[0][1]), line, font=_font(size), fill=(16, 16, 18))
        top += leading


def draw(scene: Scene) -> Image.Image:
    """Draw `scene` as an RGB image of SIDE x SIDE pixels. The same scene gives the same pixels."""
    from random import Random

    from PIL import Image, ImageDraw

    rng = Random(scene.seed)
    base = rng.randint(168, 214)
    ground = tuple(base + rng.randint(-14, 14) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), (ground[0], ground[1], ground[2]))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        if isinstance(thing, Shape):
            _draw_shape(pen, thing, rng)
        else:
            _draw_sign(pen, thing, rng)
    return image
