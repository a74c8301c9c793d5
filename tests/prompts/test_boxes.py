"""Regions as models of several families write them."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecoalign.models import BoxConvention
from ecoalign.prompts._boxes import CONVENTIONS, Box, read_box

SIZE = (1600, 800)
HALF = (0.25, 0.125, 0.75, 0.5)
"""The region that most of these write: x 400 to 1200 and y 100 to 400 pixels."""

EVERY: tuple[BoxConvention, ...] = get_args(BoxConvention)


def near(box: Box | None, expected: Box = HALF) -> bool:
    return box == pytest.approx(expected, abs=0.002)


def test_every_convention_has_its_rule() -> None:
    assert set(CONVENTIONS) == set(EVERY)
    assert len({rule.asked([SIZE]) for rule in CONVENTIONS.values()}) == len(EVERY)


WRITTEN: dict[BoxConvention, list[object]] = {
    "xyxy-1000": [250, 125, 750, 500],
    "yxyx-1000": [125, 250, 500, 750],
    "xyxy-1": [0.25, 0.125, 0.75, 0.5],
    "xyxy-1024": [256, 128, 768, 512],
    "xyxy-pixels": [400, 100, 1200, 400],
    "xywh-pixels": [400, 100, 800, 300],
}


@pytest.mark.parametrize("convention", EVERY)
def test_each_convention_is_read_in_its_own_way(convention: BoxConvention) -> None:
    numbers = WRITTEN[convention]
    a, b, c, d = numbers
    for value in (
        numbers,
        [numbers],
        [numbers, [1, 2, 3, 4]],
        [[a, b], [c, d]],
        {"bbox_2d": numbers, "label": "sign"},
        {"box_2d": numbers},
        [{"bbox": numbers}],
        [str(number) for number in numbers],
        str(numbers),
        f"[[{a}, {b}, {c}, {d}]]",
        f"<box>({a},{b}),({c},{d})</box>",
        f"<|box_start|>({a},{b}),({c},{d})<|box_end|>",
        f"<bbox>{a} {b} {c} {d}</bbox>",
        f"the sign is at [{a}, {b}, {c}, {d}].",
    ):
        assert near(read_box(value, convention, SIZE)), value


@pytest.mark.parametrize("convention", ["xyxy-1000", "yxyx-1000"])
@pytest.mark.parametrize(
    "value",
    [
        {"x1": 250, "y1": 125, "x2": 750, "y2": 500},
        {"x0": 250, "y0": 125, "x1": 750, "y1": 500},
        {"xmin": 250, "ymin": 125, "xmax": 750, "ymax": 500},
        {"left": 250, "top": 125, "right": 750, "bottom": 500},
        {"X": 250, "Y": 125, "Width": 500, "Height": 375},
        {"x": 250, "y": 125, "w": 500, "h": 375},
    ],
)
def test_edges_by_name_are_what_they_are_named(value: object, convention: BoxConvention) -> None:
    assert near(read_box(value, convention, SIZE))


def test_location_tokens() -> None:
    assert near(read_box("<loc0256><loc0128><loc0768><loc0512>", "xyxy-1024", SIZE))


@pytest.mark.parametrize("convention", EVERY)
def test_fractions_are_known_by_their_size(convention: BoxConvention) -> None:
    order = CONVENTIONS[convention].order
    x0, y0, x1, y1 = HALF
    written = {
        "xyxy": [x0, y0, x1, y1],
        "yxyx": [y0, x0, y1, x1],
        "xywh": [x0, y0, x1 - x0, y1 - y0],
    }
    assert near(read_box(written[order], convention, SIZE))


def test_pixels_where_thousandths_were_asked_for() -> None:
    assert near(read_box([400, 100, 1200, 400], "xyxy-1000", SIZE))
    # In the scale of the convention they are not taken for anything else.
    assert near(read_box([400, 100, 900, 400], "xyxy-1000", SIZE), (0.4, 0.1, 0.9, 0.4))
    assert read_box([400, 100, 1700, 400], "xyxy-1000", SIZE) is None


def test_thousandths_where_pixels_or_fractions_were_asked_for() -> None:
    small = (320, 240)
    assert near(read_box([250, 125, 750, 500], "xyxy-pixels", small))
    assert near(read_box([250, 125, 750, 500], "xyxy-1", SIZE))
    assert read_box([250, 125, 1750, 500], "xyxy-pixels", small) is None


def test_corners_in_any_order() -> None:
    assert near(read_box([750, 500, 250, 125], "xyxy-1000", SIZE))
    assert near(read_box([750, 125, 250, 500], "xyxy-1000", SIZE))


def test_what_is_a_little_outside_is_clipped() -> None:
    assert near(read_box([-15, 0, 1015, 1020], "xyxy-1000", (500, 500)), (0, 0, 1, 1))
    assert read_box([-25, 0, 1000, 1000], "xyxy-1000", (500, 500)) is None
    assert read_box([0, 0, 1025, 1000], "xyxy-1000", (500, 500)) is None


@pytest.mark.parametrize("convention", EVERY)
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        "",
        "top left",
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        "1 2 3 4 5",
        [None, 1, 2, 3],
        [True, 0, 1, 1],
        [100, 100, 100, 300],
        [0.5, 0.5, 0.5, 0.5],
        [float("nan"), 1, 2, 3],
        [float("inf"), 1, 2, 3],
        [10**400, 1, 2, 3],
        [-500, -500, -100, -100],
        [5000, 5000, 9000, 9000],
        {"x": 1, "y": 2},
        {"bbox_2d": None},
        {"box": {"box": {"box": {"box": {"box": {"box": [1, 2, 3, 4]}}}}}},
        {},
    ],
)
def test_nonsense_is_no_region(value: object, convention: BoxConvention) -> None:
    # Four equal fractions have a width where they are a corner and a size.
    if convention == "xywh-pixels" and value in ([0.5] * 4, [100, 100, 100, 300]):
        return
    assert read_box(value, convention, SIZE) is None


def test_a_size_below_zero_is_none() -> None:
    assert read_box([400, 100, -200, 300], "xywh-pixels", SIZE) is None


numbers = st.integers(-2000, 3000) | st.floats(width=32)


@given(
    st.lists(numbers | st.lists(numbers, max_size=4) | st.text(max_size=8), max_size=5)
    | st.text(max_size=30)
    | st.dictionaries(st.sampled_from(["x0", "y0", "x1", "y1", "box", "bbox_2d", "w"]), numbers),
    st.sampled_from(EVERY),
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
@example([5e-324, 0, 1, 1], "xyxy-1000", (1, 1))
def test_whatever_is_written_a_region_is_within_its_image(
    value: object, convention: BoxConvention, size: tuple[int, int]
) -> None:
    box = read_box(value, convention, size)
    if box is not None:
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


@given(
    st.sampled_from([c for c in EVERY if c != "xyxy-1"]),
    st.tuples(st.integers(60, 2000), st.integers(60, 2000)),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_region_comes_back_as_it_was_written(
    convention: BoxConvention, size: tuple[int, int], edges: tuple[float, ...]
) -> None:
    rule = CONVENTIONS[convention]
    across, down = size if rule.span is None else (rule.span, rule.span)
    x0, x1 = sorted(round(edge * across) for edge in edges[:2])
    y0, y1 = sorted(round(edge * down) for edge in edges[2:])
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    written = {
        "xyxy": [x0, y0, x1, y1],
        "yxyx": [y0, x0, y1, x1],
        "xywh": [x0, y0, x1 - x0, y1 - y0],
    }
    box = read_box(written[rule.order], convention, size)
    assert box == pytest.approx((x0 / across, y0 / down, x1 / across, y1 / down))
