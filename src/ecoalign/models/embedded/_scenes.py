"""Whether a picture is a scene of the embedded model's world, by how scenes are drawn.

A scene is a flat grey ground under a grid of three by three cells. A cell is empty, or has one
shape of one of six colours, or one framed plate with dark text. So the ground is looked for along
the edges of the cells, and in each cell what is there is compared with what might be. A scene that
was saved as a JPEG (quality 80 and more) or scaled by a half to two is still one.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ecoalign.models.embedded._world import COLOURS, SHAPES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    Pixels = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Box = tuple[int, int, int, int]

_CELL = 128
"""Side of a cell in pixels, at the size at which a picture is looked at."""

_SMALLEST = 96
"""Shortest side of a picture in pixels: that of the model's own view."""

_STRETCHED = 1.03
"""Most that one side is longer than the other."""

_GROUND = (150, 232)
"""Least and greatest of the ground's red, green and blue; drawn are 154 to 228."""

_TINT = 34
"""Most by which they differ; drawn are 28."""

_THERE = 36.0
"""Distance from the ground, in grey levels (Euclidean, RGB), from which a pixel is of a thing."""

_SAME = 48.0
"""Most that a pixel differs from the colour that it is drawn in."""

_RADIUS = (27.0, 50.0)
"""Of a shape, in pixels; drawn are 30 to 46."""

_LIKE = 0.77
"""Least overlap of a shape with its ideal outline, as intersection over union. The colour of
a JPEG is blurred: at half the size a star has down to 0.8 of it."""

_BENT = 0.12
"""Most that the width and the height of a shape say different radii, as a share of them."""

_SLACK = 14
"""Most that the middle of a plate is from that of its cell, in pixels; drawn are 10."""

_PLATE = (24, 18)
"""Least width and height of a plate."""

_FRAME = 5
"""Within how many pixels of its edge a plate has its frame."""

_PAPER = 228.0
"""From which lightness a pixel of a plate is no text."""

_LEAST_PAPER, _LEAST_INK = 0.3, 0.03
"""Least of a plate inside its frame that is paper, and that is text."""

_STRAY = 0.02
"""Most of a thing, or of the ground around it, that is of another colour."""

_PALETTE = np.asarray(tuple(COLOURS.values()), dtype=np.float32)


def is_scene(image: Image.Image) -> bool:
    """Whether `image`, of any mode and size, is a scene."""
    from PIL import Image as PillowImage

    short, long = sorted(image.size)
    if short < _SMALLEST or long > _STRETCHED * short:
        return False
    side = 3 * _CELL
    scaled = (image if image.mode == "RGB" else image.convert("RGB")).resize(
        (side, side), PillowImage.Resampling.BICUBIC, reducing_gap=3.0
    )
    pixels = np.asarray(scaled, dtype=np.float32)
    ground = _ground(pixels)
    if ground is None:
        return False
    distance = _distance(pixels, ground)
    found = 0
    for row in range(0, side, _CELL):
        for column in range(0, side, _CELL):
            cell = slice(row, row + _CELL), slice(column, column + _CELL)
            there = distance[cell] > _THERE
            # Less than this is what a JPEG, or the tip of a star, leaves in the next cell.
            if there.mean() < 0.005:
                continue
            if not (_is_shape(pixels[cell], ground) or _is_sign(pixels[cell], ground)):
                return False
            found += 1
    return found > 0


def _distance(pixels: Pixels, colour: Pixels) -> Pixels:
    """Euclidean distance of pixels [..., 3] from a colour, in grey levels."""
    apart = pixels - colour
    distance: Pixels = np.sqrt(np.einsum("...i,...i", apart, apart))
    return distance


def _ground(pixels: Pixels) -> Pixels | None:
    """The colour of the ground; None if there is none along the edges of the cells."""
    side = 3 * _CELL
    edges = [
        at for edge in (0, _CELL, 2 * _CELL, side) for at in (edge - 1, edge) if 0 <= at < side
    ]
    seen = np.concatenate([pixels[edges].reshape(-1, 3), pixels[:, edges].reshape(-1, 3)])
    ground: Pixels = np.median(seen, axis=0)
    low, high = ground.min(), ground.max()
    if low < _GROUND[0] or high > _GROUND[1] or high - low > _TINT:
        return None
    # A star may reach over the edge by a pixel, and the colour of a JPEG by ten.
    other = _distance(seen, ground) > _THERE
    return None if other.mean() > 0.1 else ground


def _is_shape(cell: Pixels, ground: Pixels) -> bool:
    """Whether a cell [128, 128, 3] has one shape in it and nothing else."""
    away = _distance(cell, ground)
    far = cell[away > 2 * _THERE]
    if not far.size:
        return False
    seen = np.median(far, axis=0)
    colour = _PALETTE[_distance(_PALETTE, seen).argmin()]
    # How much of the way from the ground to the colour each pixel is.
    way = colour - ground
    inside = (cell - ground) @ way / (way @ way) > 0.5
    # The tip of a star in the next cell may reach into this one.
    box = _box(_filled((2, 2, _CELL - 2, _CELL - 2)) & inside)
    ideal = max((_ideal(shape, box) for shape in SHAPES), key=lambda one: _overlap(one, inside))
    if _overlap(ideal, inside) < _LIKE:
        return False
    core, beyond = _shrunk(ideal), ~_grown(ideal)
    wrong = _distance(cell, colour) > _SAME
    return _share(wrong, core) < _STRAY and _share(away > _THERE, beyond) < _STRAY


def _is_sign(cell: Pixels, ground: Pixels) -> bool:
    """Whether a cell [128, 128, 3] has one plate in it, and nothing else."""
    light = cell.mean(axis=2)
    dark = light < ground.mean() - _THERE
    if not dark.any():
        return False
    box = left, upper, right, lower = _box(dark)
    width, height = right - left, lower - upper
    centred = abs(left + right - _CELL) <= 2 * _SLACK and abs(upper + lower - _CELL) <= 2 * _SLACK
    if not (centred and width >= _PLATE[0] and height >= _PLATE[1]):
        return False
    plate = _filled(box)
    frame = (
        dark[upper : upper + _FRAME, left:right].any(axis=0),
        dark[lower - _FRAME : lower, left:right].any(axis=0),
        dark[upper:lower, left : left + _FRAME].any(axis=1),
        dark[upper:lower, right - _FRAME : right].any(axis=1),
    )
    if min(side.mean() for side in frame) < 0.9:
        return False
    core, beyond = _shrunk(plate), ~_grown(plate)
    away = _distance(cell, ground) > _THERE
    return (
        _share(away, beyond) < _STRAY
        and _share(np.ptp(cell, axis=2) > _SAME, core) < _STRAY
        and _share(light > _PAPER, core) > _LEAST_PAPER
        and _share(light < ground.mean(), core) > _LEAST_INK
    )


def _box(mask: Mask) -> Box:
    """Left, upper, right and lower edge of what is true, of which there must be something."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _filled(box: Box) -> Mask:
    mask = np.zeros((_CELL, _CELL), dtype=np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def _ideal(shape: str, box: Box) -> Mask:
    """The pixels of a shape of the world with this box; none if a shape has no such box."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    outline = _outline(shape)
    least, most = outline.min(axis=0), outline.max(axis=0)
    corner = np.asarray(box[:2], dtype=np.float32)
    size = np.asarray(box[2:], dtype=np.float32) - corner
    radii = size / (most - least)
    radius = float(radii.mean())
    image = PillowImage.new("1", (_CELL, _CELL))
    if _RADIUS[0] <= radius <= _RADIUS[1] and np.ptp(radii) < _BENT * radius:
        points = corner + size / 2 + (outline - (least + most) / 2) * radius - 0.5
        ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.asarray(image, dtype=np.bool_)


@lru_cache(maxsize=len(SHAPES))
def _outline(shape: str) -> Pixels:
    """The corners of a shape of radius 1 around (0, 0), [N, 2]."""
    if shape == "cross":
        arm = np.asarray([(-0.34, -1), (0.34, -1), (0.34, -0.34)], dtype=np.float32)
        quarter = np.asarray([(0, 1), (-1, 0)], dtype=np.float32)
        return np.concatenate([arm @ np.linalg.matrix_power(quarter, turns) for turns in range(4)])
    count, first, outer, inner = {
        "circle": (60, 0.0, 1.0, 1.0),
        "square": (4, 45.0, 0.88 * math.sqrt(2), 0.88 * math.sqrt(2)),
        "triangle": (3, -90.0, 1.1, 1.1),
        "star": (10, -90.0, 1.15, 0.48),
    }[shape]
    corner = np.arange(count)
    turn = np.radians(first + 360 / count * corner)
    radius = np.where(corner % 2, inner, outer)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32) * radius[:, None]


def _share(mask: Mask, where: Mask) -> float:
    """How much of `where` is true in `mask`; 0 where there is nothing to look at."""
    return float((mask & where).sum() / max(1, where.sum()))


def _overlap(one: Mask, two: Mask) -> float:
    """Intersection over union."""
    return float((one & two).sum() / max(1, (one | two).sum()))


def _grown(mask: Mask) -> Mask:
    """The mask and all within 4 pixels of it, along rows and columns."""
    for _ in range(4):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        mask = grown.copy()
        mask[:, 1:] |= grown[:, :-1]
        mask[:, :-1] |= grown[:, 1:]
    return mask


def _shrunk(mask: Mask) -> Mask:
    return ~_grown(~mask)
