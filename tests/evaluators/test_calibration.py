from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ecoalign.evaluators import calibrate, separation

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1), min_size=1)


def cases(good: list[float], bad: list[float]) -> list[tuple[bool, float]]:
    return [(True, p) for p in good] + [(False, p) for p in bad]


@given(SCORES, SCORES)
def test_separation_is_the_share_of_pairs_in_order(good: list[float], bad: list[float]) -> None:
    pairs = [(g > b) + 0.5 * (g == b) for g in good for b in bad]
    assert separation(good, bad) == pytest.approx(sum(pairs) / len(pairs))


@given(SCORES, SCORES, st.sampled_from([0.5, 0.85, 0.9, 1.0]))
def test_enough_is_refused_and_no_lower_score_would_do(
    good: list[float], bad: list[float], refuse: float
) -> None:
    found = calibrate(cases(good, bad), refuse)
    assume(1e-5 < found.threshold < 1 - 1e-5)
    assert found.refused >= refuse
    assert found.refused == sum(p < found.threshold for p in bad) / len(bad)
    assert found.answered == sum(p >= found.threshold for p in good) / len(good)
    # A threshold at any score below it would refuse too few.
    for lower in (p for p in (*good, *bad) if p < found.threshold):
        assert sum(p < lower for p in bad) < math.ceil(refuse * len(bad))


def test_the_threshold_lies_half_way_to_the_next_score() -> None:
    found = calibrate(cases([0.4, 0.8], [0.1, 0.2]), 0.9)
    assert (found.auc, found.answered, found.refused) == (1.0, 1.0, 1.0)
    assert found.threshold == pytest.approx(0.3)


def test_ties_are_refused_together() -> None:
    found = calibrate(cases([0.5, 0.5], [0.5, 0.5]), 0.5)
    assert (found.auc, found.answered, found.refused) == (0.5, 0.0, 1.0)
    assert found.threshold == pytest.approx(0.75)


def test_at_the_ends_it_stays_a_probability_and_says_what_it_does() -> None:
    zeros = calibrate(cases([0.0], [0.0]))
    assert 0 < zeros.threshold < 1
    assert zeros.refused == 1.0
    ones = calibrate(cases([1.0], [1.0]))
    assert 0 < ones.threshold < 1
    assert ones.refused == 0.0
    neighbours = calibrate(cases([math.nextafter(0.5, 1)], [0.5]))
    assert neighbours.refused == neighbours.answered == 1.0


@pytest.mark.parametrize(
    ("given_cases", "refuse"),
    [
        ([(True, 0.5)], 0.9),
        ([(False, 0.5)], 0.9),
        ([(True, 1.1), (False, 0)], 0.9),
        ([(True, math.nan), (False, 0)], 0.9),
        ([(True, 1.0), (False, 0)], 0.0),
        ([(True, 1.0), (False, 0)], 1.1),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    given_cases: list[tuple[bool, float]], refuse: float
) -> None:
    with pytest.raises(ValueError, match=r"calibration|probability|share"):
        calibrate(given_cases, refuse)
