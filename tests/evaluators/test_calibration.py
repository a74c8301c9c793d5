from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.evaluators.calibration import (
    auc,
    calibrate,
    ece,
    fit_isotonic,
    fit_platt,
)

pairs = st.lists(
    st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), st.booleans()),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize(
    ("scores", "truths", "expected"),
    [
        ([0.1, 0.9], [False, True], 1.0),
        ([0.9, 0.1], [False, True], 0.0),
        ([0.5, 0.5], [False, True], 0.5),
        ([0.1, 0.5, 0.5, 0.9], [False, True, False, True], 3.5 / 4),
    ],
)
def test_auc_by_hand(scores: list[float], truths: list[bool], expected: float) -> None:
    assert auc(scores, truths) == expected


@settings(max_examples=80)
@given(pairs.filter(lambda items: len({truth for _, truth in items}) == 2))
def test_auc_equals_its_definition(items: list[tuple[float, bool]]) -> None:
    safe = [score for score, truth in items if truth]
    unsafe = [score for score, truth in items if not truth]
    wins = sum((s > u) + (s == u) / 2 for s in safe for u in unsafe)
    scores, truths = [score for score, _ in items], [truth for _, truth in items]
    assert auc(scores, truths) == pytest.approx(wins / (len(safe) * len(unsafe)))


def test_ece_by_hand() -> None:
    # Bin [0.9, 1.0]: confidence 0.95, frequency 0.5. Bin [0, 0.1): exact.
    assert ece([0.95, 0.95, 0.0, 0.0], [True, False, False, False]) == pytest.approx(0.225)
    assert ece([1.0, 0.0], [True, False]) == 0.0
    assert ece([1.0, 0.0], [False, True]) == 1.0
    # Opposite errors cancel within a bin and not across bins.
    assert ece([0.2, 0.8], [True, False], bins=1) == 0.0
    assert ece([0.2, 0.8], [True, False], bins=2) == pytest.approx(0.8)


def test_isotonic_pools_what_runs_against_the_truth() -> None:
    fitted = fit_isotonic([1, 2, 3, 4], [False, True, False, True])
    assert (fitted.starts, fitted.values) == ((1, 2, 4), (0.0, 0.5, 1.0))
    assert [fitted(score) for score in (-9, 1, 1.9, 2, 3.9, 4, 9)] == [0, 0, 0, 0.5, 0.5, 1, 1]


@settings(max_examples=80)
@given(pairs)
def test_isotonic_rises_and_beats_every_constant_step(items: list[tuple[float, bool]]) -> None:
    scores, truths = [score for score, _ in items], [truth for _, truth in items]
    fitted = fit_isotonic(scores, truths)
    assert list(fitted.values) == sorted(set(fitted.values))
    assert list(fitted.starts) == sorted(set(fitted.starts))
    # The mean is kept, and no threshold rule has a lower squared error.
    assert sum(map(fitted, scores)) == pytest.approx(sum(truths))
    error = sum((fitted(score) - truth) ** 2 for score, truth in items)
    for cut in {*scores, 2.0}:
        assert error <= sum(((score >= cut) - truth) ** 2 for score, truth in items) + 1e-9


def test_platt_finds_the_map_that_made_the_data() -> None:
    draw = random.Random(3)
    scores = [draw.uniform(-1, 1) for _ in range(4000)]
    truths = [draw.random() < 1 / (1 + 2.718281828 ** -(3 * score - 1)) for score in scores]
    fitted = fit_platt(scores, truths)
    assert fitted.slope == pytest.approx(3, abs=0.3)
    assert fitted.offset == pytest.approx(-1, abs=0.2)


@settings(max_examples=60)
@given(pairs)
def test_platt_never_turns_scores_round(items: list[tuple[float, bool]]) -> None:
    fitted = fit_platt([score for score, _ in items], [truth for _, truth in items])
    values = [fitted(score) for score in (-1e6, -1.0, 0.0, 1.0, 1e6)]
    assert values == sorted(values)
    assert values[0] >= 0
    assert values[-1] <= 1


def test_platt_on_separable_and_reversed_scores() -> None:
    separable = fit_platt([-1.0, -0.5, 0.5, 1.0], [False, False, True, True])
    assert separable(-1) < 0.35
    assert separable(1) > 0.65
    backwards = fit_platt([-1.0, -0.5, 0.5, 1.0], [True, True, False, False])
    assert backwards.slope == 0
    assert backwards(1) == pytest.approx(0.5)


@pytest.mark.parametrize("fit", [fit_isotonic, fit_platt])
def test_a_boastful_evaluator_is_found_out_and_mended(fit: object) -> None:
    # It says 1 or -1 and is right four times in five.
    draw = random.Random(5)
    truths = [draw.random() < 0.5 for _ in range(2000)]
    scores = [(1.0 if truth else -1.0) * (1 if draw.random() < 0.8 else -1) for truth in truths]
    report = calibrate(scores, truths, fit_isotonic if fit is fit_isotonic else fit_platt)
    assert report.pairs == 1000
    assert report.auc == pytest.approx(0.8, abs=0.05)
    assert report.ece_before == pytest.approx(0.2, abs=0.05)
    assert report.ece_after < 0.05


def test_bad_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        auc([1.0], [])
    with pytest.raises(ValueError, match="as many"):
        fit_isotonic([], [])
    with pytest.raises(ValueError, match="finite"):
        fit_platt([float("nan")], [True])
    with pytest.raises(ValueError, match="both safe and unsafe"):
        auc([1.0, 0.0], [True, True])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ece([1.5], [True])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ece([0.5], [True], bins=0)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        calibrate([2.0, 0.0], [True, False])
