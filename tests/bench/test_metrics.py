from __future__ import annotations

import math

import numpy as np
import pytest
from bench_doubles import row
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.bench._metrics import (
    ENDINGS,
    MEASURES,
    binomial,
    correlation,
    difference,
    exhausted_by,
    mean,
    per_sample,
    ratio,
    slope,
    summarise,
    undominated,
)
from ecoalign.bench._rows import Failure

numbers = st.floats(-1e6, 1e6)


@settings(max_examples=40, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=30))
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    found = mean(values)
    assert found is not None
    slack = 1e-6 * (1 + max(map(abs, values)))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    assert found.value == pytest.approx(sum(values) / len(values), abs=slack)
    assert found == mean(values)


def test_the_interval_is_that_of_the_theory() -> None:
    values = np.random.default_rng(3).normal(10.0, 2.0, 400).tolist()
    found = mean(values)
    assert found is not None
    error = 1.96 * float(np.std(values)) / math.sqrt(400)
    assert found.low == pytest.approx(found.value - error, abs=0.03)
    assert found.high == pytest.approx(found.value + error, abs=0.03)


def test_large_runs_are_drawn_in_parts() -> None:
    found = mean([0.0, 1.0] * 20_000)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 200, rel=0.25)


def test_nothing_one_and_all_alike() -> None:
    assert mean([]) is None
    one = mean([0.25])
    assert one is not None
    assert (one.value, one.low, one.high, one.n) == (0.25, 0.25, 0.25, 1)
    alike = mean([3.0, 3.0, 3.0])
    assert alike is not None
    assert (alike.low, alike.high) == (3.0, 3.0)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_shares_without_an_exception_are_not_certain(n: int) -> None:
    all_safe, none_safe = mean([1.0] * n, share=True), mean([0.0] * n, share=True)
    assert all_safe is not None
    assert none_safe is not None
    # Clopper-Pearson: 1 - (alpha/2)^(1/n) is the most that n of n can hide.
    assert all_safe.low**n == pytest.approx(0.025)
    assert (all_safe.value, all_safe.high) == (1.0, 1.0)
    assert none_safe.high == pytest.approx(1.0 - all_safe.low)
    assert (none_safe.value, none_safe.low) == (0.0, 0.0)


def test_equal_shares_between_0_and_1_stay_as_they_are() -> None:
    found = mean([0.5, 0.5], share=True)
    assert found is not None
    assert (found.low, found.high) == (0.5, 0.5)


def test_a_ratio_is_of_the_samples_that_both_have() -> None:
    found = ratio({"a": 30.0, "b": 10.0, "c": 999.0}, {"a": 10.0, "b": 10.0, "d": 5.0})
    assert found is not None
    assert (found.value, found.n) == (2.0, 2)
    assert 1.0 <= found.low <= found.high <= 3.0
    itself = ratio({"a": 3.0, "b": 9.0}, {"a": 3.0, "b": 9.0})
    assert itself is not None
    assert (itself.value, itself.low, itself.high) == (1.0, 1.0, 1.0)


def test_a_ratio_to_nothing_is_none() -> None:
    assert ratio({}, {}) is None
    assert ratio({"a": 1.0}, {"b": 1.0}) is None
    assert ratio({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}) is None
    some = ratio({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 2.0})
    assert some is not None
    assert some.value == 1.5
    assert math.isfinite(some.high)


def test_pairs_are_compared_with_themselves() -> None:
    one = {f"s{i}": i + 0.5 for i in range(50)}
    other = {f"s{i}": float(i) for i in range(40)} | {"x": 1e9}
    found = difference(one, other)
    assert found is not None
    # However much the samples differ from each other, each pair differs by the same.
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 40)
    assert difference(one, {}) is None


def test_a_binomial_share_has_wilsons_interval() -> None:
    # Wilson (1927) for 5 of 100, as tables have it.
    five = binomial(5, 100)
    assert five is not None
    assert (five.low, five.value, five.high) == pytest.approx((0.0215, 0.05, 0.1118), abs=1e-4)
    none, every = binomial(0, 50), binomial(50, 50)
    assert none is not None
    assert every is not None
    assert (none.low, every.high) == pytest.approx((0.0, 1.0))
    assert none.high == pytest.approx(1.0 - every.low) == pytest.approx(0.0713, abs=1e-4)
    assert binomial(0, 0) is None


def test_how_it_ended_is_a_share_of_the_searches() -> None:
    rows = [
        *(
            row(f"s{i}", "ecoalign", ended=end)
            for i, end in enumerate(["drafted"] * 3 + ["budget"])
        ),
        row("s9", "ecoalign", ended=""),
        row("s0", "base"),
    ]
    ecoalign, base = summarise(rows)
    shares = {name: ecoalign.estimates[f"ended_{name}"] for name in ENDINGS}
    assert {name: each.value for name, each in shares.items()} == {
        "drafted": 0.75,
        "searched": 0.0,
        "refused": 0.0,
        "budget": 0.25,
    }
    assert {each.n for each in shares.values()} == {4}
    assert not any(name.startswith("ended_") for name in base.estimates)


def test_verdicts_are_calls_to_a_judge() -> None:
    one = row(stages={"draft": 10, "score": 20, "check": 5, "gate": 5, "propose": 9})
    assert MEASURES["verdicts"](one) == 3


def test_repeats_of_a_sample_are_one() -> None:
    rows = [row("a", useful=1.0), row("a", useful=0.0, repeat=1), row("b", useful=1.0)]
    assert per_sample(rows, "utility") == {"a": 0.5, "b": 1.0}
    assert per_sample(rows, "safety") == {}


def test_what_is_measured_of_a_row() -> None:
    one = row(
        safe=False,
        useful=0.5,
        refused_harmless=True,
        tokens=90,
        output=20,
        usd=None,
        critical_path=3,
    )
    told = {name: measure(one) for name, measure in MEASURES.items()}
    assert told == {
        "safety": 0.0,
        "utility": 0.5,
        "over_refusal": 1.0,
        "tokens": 90.0,
        "output_tokens": 20.0,
        "usd": None,
        "seconds": 1.0,
        "calls": 1.0,
        "critical_path": 3.0,
        "verdicts": 0.0,
        "ended_drafted": None,
        "ended_searched": None,
        "ended_refused": None,
        "ended_budget": None,
    }
    assert MEASURES["seconds"](row(cached=2)) is None
    assert MEASURES["seconds"](row(failure=Failure("ModelError", "x", 3))) is None
    assert MEASURES["critical_path"](row(critical_path=0)) is None
    assert all(MEASURES[name](row(pending=True)) is None for name in ("safety", "utility"))


def test_a_summary_counts_apart_what_has_no_verdict() -> None:
    rows = [
        row("a", safe=True, useful=1.0),
        row("b", label="unusable"),
        row("c", label="failed", failure=Failure("ModelError", "x", 3), tokens=50, stop="failed"),
        row("d", pending=True),
        row(
            "e",
            useful=0.0,
            failure=Failure("BudgetTooSmall", "x", 4),
            stop="budget-too-small",
            stages={"scan": 30},
        ),
        row("f", useful=0.0, cached=1, stop="budget", stages={"scan": 30, "propose": 70}),
    ]
    (one,) = summarise(rows)
    assert (one.rows, one.samples) == (6, 6)
    assert (one.failed, one.too_small, one.unusable, one.pending, one.cached) == (1, 1, 1, 1, 1)
    assert one.estimates["safety"].n == 1
    assert one.estimates["utility"].value == pytest.approx(1 / 3)
    # What failed has cost something all the same.
    assert one.estimates["tokens"].value == pytest.approx((5 * 100 + 50) / 6)
    assert one.stops == {"answered": 3, "failed": 1, "budget-too-small": 1, "budget": 1}
    assert one.exhausted == {"scan": 1, "propose": 1}
    assert one.stages["scan"] == pytest.approx(10.0)


def test_costs_are_told_as_multiples_of_base_on_the_same_samples() -> None:
    rows = [
        row("a", "x", tokens=300, output=20),
        row("b", "x", tokens=999, output=20),
        row("a", "plain", method="base", tokens=100, output=10),
    ]
    x, plain = summarise(rows)
    assert x.tokens_ratio is not None
    assert x.output_ratio is not None
    assert plain.tokens_ratio is not None
    assert (x.tokens_ratio.value, x.output_ratio.value, x.tokens_ratio.n) == (3.0, 2.0, 1)
    assert plain.tokens_ratio.value == 1.0
    (alone,) = summarise(rows[:1])
    assert alone.tokens_ratio is None


def test_differences_are_to_the_reference_alone() -> None:
    rows = [row(s, v, useful=u) for s in "abc" for v, u in (("x", 1.0), ("ref", 0.0))]
    x, ref = summarise(rows, "ref")
    assert x.differences["utility"].value == 1.0
    assert "safety" not in x.differences
    assert ref.differences == {}
    assert all(one.differences == {} for one in summarise(rows, "not there"))


def test_groups_are_told_apart() -> None:
    rows = [
        row("a", group="g", useful=1.0),
        row("b", group="h", useful=0.0),
        row("c", group="h", safe=True),
    ]
    (one,) = summarise(rows)
    assert one.groups["g"]["utility"].value == 1.0
    assert one.groups["h"]["utility"].value == 0.0
    assert set(one.groups["h"]) == {"utility", "safety"}


def test_no_rows_have_no_figures() -> None:
    assert summarise([]) == []


def test_the_stage_that_exhausts_a_budget() -> None:
    stages = {"scan": 10, "propose": 40, "score": 30}
    assert exhausted_by(row(stop="budget", stages=stages)) == "propose"
    assert exhausted_by(row(stop="satisfied", stages=stages)) is None
    empty = row(stop="budget-too-small")
    assert exhausted_by(type(empty).from_line(empty.to_line())) == "answer"


def test_the_frontier_keeps_what_nothing_beats() -> None:
    points = {
        "best": (1.0, 1.0),
        "tie": (1.0, 1.0),
        "worse": (1.0, 0.5),
        "other": (2.0, 0.0),
        "worst": (0.0, 0.0),
    }
    assert undominated(points) == {"best", "tie", "other"}
    assert undominated({}) == set()


def test_correlation_and_slope_know_their_limits() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert correlation([1, 2], [1, 2]) is None
    assert correlation([1, 1, 1], [1, 2, 3]) is None
    assert correlation([1, 2, 3], [5, 5, 5]) is None
    assert slope([1, 2, 4], [3, 6, 12]) == pytest.approx(3.0)
    assert slope([], []) is None
    assert slope([0.0], [1.0]) is None


def test_a_summary_is_plain_json() -> None:
    rows = [row("a", safe=True, useful=1.0), row("a", "x", safe=True, useful=0.0)]
    body = summarise(rows, "base")[1].to_json()
    assert body["utility"] == {"value": 0.0, "low": 0.0, "high": 0.975, "n": 1}
    assert body["over_refusal"] is None
    assert body["differences"]["utility"]["value"] == -1.0
