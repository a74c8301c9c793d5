"""What a reported usage is charged as."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget._accounts import chargeable
from ecoalign.models import Usage

BOUND = Usage(100, 50, 30)


@pytest.mark.parametrize(
    ("reported", "floor", "charged"),
    [
        (None, Usage(), BOUND),
        (Usage(), Usage(), BOUND),
        (Usage(-1, 10), Usage(), BOUND),
        (Usage(10, -1), Usage(), BOUND),
        (Usage(0, 10), Usage(), Usage(100, 10)),
        (Usage(10, 0), Usage(), Usage(10, 0)),
        (Usage(10, 0), Usage(0, 1), Usage(10, 50)),
        (Usage(10, 3), Usage(0, 4), Usage(10, 50)),
        (Usage(10, 4), Usage(0, 4), Usage(10, 4)),
        (Usage(5, 4), Usage(6, 0), Usage(100, 4)),
        (Usage(5, 4, 5, 3), Usage(6, 0), Usage(100, 4, 5, 0)),
        (None, Usage(0, 60), Usage(100, 60, 30)),
        (Usage(10, 3), Usage(0, 60), Usage(10, 60)),
        (Usage(10, 3, 11, 11), Usage(), Usage(10, 3, 10, 0)),
        (Usage(10, 3, -1, -1), Usage(), Usage(10, 3, 10, 0)),
        (Usage(10, 3, 10, 10), Usage(), Usage(10, 3, 10, 10)),
        (Usage(0, 3, 0, 0), Usage(), Usage(100, 3)),
        (Usage(200, 80), Usage(), Usage(200, 80)),
    ],
)
def test_an_impossible_report_is_charged_at_the_bound(
    reported: Usage | None, floor: Usage, charged: Usage
) -> None:
    assert chargeable(reported, BOUND, floor) == charged


def test_counts_that_are_not_whole_numbers_are_not_counts() -> None:
    for odd in (math.nan, 1.5, True, "12"):
        usage = Usage()
        object.__setattr__(usage, "prompt", odd)
        object.__setattr__(usage, "completion", 1)
        assert chargeable(usage, BOUND) == BOUND


counts = st.integers(-5, 200)


@given(
    st.none() | st.builds(Usage, counts, counts, counts, counts),
    st.builds(Usage, st.integers(1, 100), st.integers(0, 50)),
)
def test_a_report_within_the_bound_is_never_charged_beyond_it(
    reported: Usage | None, floor: Usage
) -> None:
    charged = chargeable(reported, BOUND, floor)
    assert charged.prompt >= max(1, floor.prompt)
    assert charged.completion >= floor.completion
    assert 0 <= charged.cached <= charged.prompt
    assert 0 <= charged.image <= charged.prompt
    if reported is None or reported.prompt <= BOUND.prompt:
        assert charged.prompt <= BOUND.prompt
    if reported is None or reported.completion <= BOUND.completion:
        assert charged.completion <= BOUND.completion
