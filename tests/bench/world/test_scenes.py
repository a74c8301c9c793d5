"""The drawings: the same pixels for the same scene, everything inside its own cell."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ecoalign.bench.world.questions import NEUTRAL_WORDS, Kind, make_case
from ecoalign.bench.world.rulebook import NOUNS, VERBS
from ecoalign.bench.world.scenes import COLOURS, SHAPES, SIDE, Scene, Shape, Sign, draw
from ecoalign.prompts.compact.grid import CELLS, cell_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL = SIDE // 3
# Every text that a sign can bear, one number standing for each width of the first digit.
TEXTS = (
    *("10", "11", "44", "48", "70", "88", "99"),
    *NEUTRAL_WORDS,
    *NOUNS,
    *(f"{verb} {noun}" for verb in VERBS for noun in NOUNS),
)


def pixels(scene: Scene) -> NDArray[np.uint8]:
    return np.asarray(draw(scene), dtype=np.uint8)


def box_of(scene: Scene) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of everything drawn, the last two exclusive."""
    image = draw(scene)
    # A thing never covers the corner of a cell, so the corners show the ground.
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    box = ImageChops.difference(image, ground).getbbox()
    assert box is not None
    return box


def outside(box: tuple[int, int, int, int], cell: int) -> int:
    """By how many pixels the box leaves the cell at most; negative where it keeps a margin."""
    row, column = divmod(cell, 3)
    left, top, right, bottom = box
    return max(
        column * CELL - left,
        row * CELL - top,
        right - (column + 1) * CELL,
        bottom - (row + 1) * CELL,
    )


@pytest.mark.parametrize("big", [True, False])
def test_every_sign_stays_inside_its_cell_whatever_it_says(big: bool) -> None:
    # The middle cell: nothing is cut off by the border of the image.
    for i, text in enumerate(TEXTS):
        for seed in (2 * i, 2 * i + 1):
            box = box_of(Scene((), (Sign(4, text, big),), seed))
            assert outside(box, 4) <= 0, (text, seed, box)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_stays_inside_its_cell(shape: str) -> None:
    for seed in range(40):
        box = box_of(Scene((Shape(4, "red", shape),), (), seed))
        # The points of the largest stars may touch the first pixel of the neighbour's margin.
        assert outside(box, 4) <= (1 if shape == "star" else 0), (shape, seed, box)
        assert min(box[2] - box[0], box[3] - box[1]) >= 40  # it can be seen at 96 x 96


def test_a_small_sign_is_smaller_than_a_big_one_of_the_same_text() -> None:
    for i, text in enumerate(TEXTS[:30]):
        small = [box_of(Scene((), (Sign(4, text, False),), seed)) for seed in range(i, i + 3)]
        big = [box_of(Scene((), (Sign(4, text, True),), seed)) for seed in range(i, i + 3)]
        for axis in (0, 1):
            largest = max(box[axis + 2] - box[axis] for box in small)
            assert largest * 1.5 < min(box[axis + 2] - box[axis] for box in big), text


def test_a_small_number_is_lost_in_the_view_and_a_big_one_is_not() -> None:
    from ecoalign.models.embedded._network import to_pixels

    def difference(big: bool) -> float:
        """How much the view changes where only the number does, for the best of 20 seeds."""
        views = [
            [
                to_pixels(draw(Scene((), (Sign(4, text, big),), seed))).astype(float)
                for text in ("38", "83")
            ]
            for seed in range(20)
        ]
        return min(float(np.abs(one - other).sum()) for one, other in views)

    assert difference(True) > 4 * difference(False) > 0


def test_things_of_one_scene_are_in_different_cells() -> None:
    for seed in range(300):
        rng = Random(seed)
        scene, _ = make_case(rng, rng.choice(tuple(Kind)), "train")
        cells = [thing.cell for thing in scene.things]
        assert len(set(cells)) == len(cells)
        assert all(0 <= cell < 9 for cell in cells)
        assert all(before < after for before, after in pairwise(cells))  # reading order
        assert len(scene.things) == len(scene.shapes) + len(scene.signs)


def test_the_same_scene_gives_the_same_pixels_and_another_seed_others() -> None:
    things = (Shape(0, "red", "star"), Shape(5, "blue", "cross")), (Sign(7, "42", True),)
    first = pixels(Scene(*things, seed=5))
    assert first.shape == (SIDE, SIDE, 3)
    assert np.array_equal(first, pixels(Scene(*things, seed=5)))
    assert not np.array_equal(first, pixels(Scene(*things, seed=6)))


def test_the_order_in_which_a_scene_is_written_down_does_not_matter() -> None:
    one, two = Shape(8, "red", "star"), Shape(1, "green", "square")
    assert np.array_equal(pixels(Scene((one, two), (), 3)), pixels(Scene((two, one), (), 3)))


def test_a_shape_has_its_colour() -> None:
    for i, (name, colour) in enumerate(COLOURS.items()):
        image = pixels(Scene((Shape(i, name, SHAPES[i % 5]),), (), seed=i))
        row, column = divmod(i, 3)
        cell = image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        assert (cell == colour).all(axis=2).sum() > 900, name


@given(st.integers(0, 8), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_region_of_a_cell_covers_it_and_stays_in_the_image(cell: int, margin: float) -> None:
    row, column = divmod(cell, 3)
    region = cell_region(cell, margin)
    slack = 1e-9
    assert 0 <= region.x0 <= column / 3 + slack
    assert 0 <= region.y0 <= row / 3 + slack
    assert (column + 1) / 3 - slack <= region.x1 <= 1
    assert (row + 1) / 3 - slack <= region.y1 <= 1


def test_the_regions_without_margin_tile_the_image() -> None:
    regions = [cell_region(cell) for cell in range(len(CELLS))]
    assert sum((r.x1 - r.x0) * (r.y1 - r.y0) for r in regions) == pytest.approx(1.0)
    centres = {(round((r.x0 + r.x1) * 3), round((r.y0 + r.y1) * 3)) for r in regions}
    assert centres == {(x, y) for x in (1, 3, 5) for y in (1, 3, 5)}
