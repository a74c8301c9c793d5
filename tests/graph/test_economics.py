"""Each equation by itself: known values, ties, zeros, negatives, and the ranges refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.graph import economics as eco
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator

SAFETY = st.floats(-1, 1)
SAFE = st.floats(0, 1)
AMOUNT = st.floats(0, 1e4)
RETURN = st.floats(-100, 100)
DELTA = st.floats(0.01, 1)


def test_path_sums_leave_nothing_out_and_are_zero_for_an_empty_path() -> None:
    assert eco.path_utility([1.0, 0.0, 2.5]) == 3.5
    assert eco.path_cost([10, 0, 30]) == 40
    assert eco.path_utility([]) == eco.path_cost([]) == 0.0


def test_path_sums_run_left_to_right() -> None:
    # A compensated sum would give 1.0 for the first: the tracker's labels add step by step.
    assert eco.path_utility([1e16, 1.0, 1.0]) == 1e16
    assert eco.path_utility([1.0, 1.0, 1e16]) == 1e16 + 2


@pytest.mark.parametrize(
    ("aggregator", "expected"),
    [(SafetyAggregator.MIN, -0.5), (SafetyAggregator.LAST, 0.25), (SafetyAggregator.MEAN, 0.25)],
)
def test_path_safety_by_aggregator(aggregator: SafetyAggregator, expected: float) -> None:
    assert eco.path_safety([1.0, -0.5, 0.25], aggregator) == expected
    assert eco.path_safety([], aggregator) == 1.0
    assert eco.path_safety([0.5, 0.5], aggregator) == 0.5


def test_the_weakest_link_is_the_default_and_no_average_buys_it_back() -> None:
    assert eco.path_safety([0.1] + [1.0] * 99) == 0.1


@given(st.lists(SAFETY, min_size=1), SAFETY)
def test_a_further_thought_never_raises_the_weakest_link(path: list[float], new: float) -> None:
    assert eco.path_safety([*path, new]) <= eco.path_safety(path)


def test_gamma() -> None:
    assert eco.gamma(0.5, 4.0, 8.0) == 0.25
    assert eco.gamma(-0.5, 4.0, 8.0) == -0.25
    assert eco.gamma(0.0, 4.0, 8.0) == 0.0
    assert eco.gamma(0.5, 0.0, 8.0) == 0.0
    assert eco.gamma_without_cost(0.5, 4.0) == 2.0
    assert eco.gamma_without_cost(-0.5, 4.0) == -2.0


def test_gamma_without_cost_paid_is_the_limit() -> None:
    assert eco.gamma(0.5, 1.0, 0.0) == math.inf
    assert eco.gamma(-0.5, 1.0, 0.0) == -math.inf
    assert eco.gamma(0.0, 1.0, 0.0) == eco.gamma(0.5, 0.0, 0.0) == 0.0


@given(st.tuples(SAFE, AMOUNT, AMOUNT), st.tuples(SAFE, AMOUNT, AMOUNT))
def test_for_safe_paths_gamma_rises_with_safety_and_utility_and_falls_with_cost(
    one: tuple[float, float, float], two: tuple[float, float, float]
) -> None:
    better = (max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]))
    assert eco.gamma(*better) >= eco.gamma(*one)
    assert eco.surplus(*better, price=0.5) >= eco.surplus(*one, price=0.5)


def test_for_an_unsafe_path_more_utility_is_worse() -> None:
    assert eco.gamma(-0.5, 10.0, 1.0) < eco.gamma(-0.5, 1.0, 1.0)


def test_gamma_of_one_step() -> None:
    assert eco.gamma(0.8, 0.5, 4.0) == pytest.approx(0.1)
    assert eco.gamma(-1.0, 2.0, 4.0) == -0.5


def test_surplus() -> None:
    assert eco.surplus(0.5, 2.0, 10.0, 0.05) == 0.5
    assert eco.surplus(0.5, 2.0, 40.0, 0.05) == -1.0
    assert eco.surplus(0.5, 2.0, 1e6, 0.0) == 1.0
    assert eco.surplus(0.0, 2.0, 0.0, 3.0) == 0.0


def test_worth_follows_the_economy() -> None:
    assert eco.worth(Economy.RATIO, 0.5, 4.0, 8.0, price=9.0) == 0.25
    assert eco.worth(Economy.NO_COST, 0.5, 4.0, 8.0, price=9.0) == 2.0
    assert eco.worth(Economy.SURPLUS, 0.5, 4.0, 8.0, price=0.5) == -2.0
    assert [Economy(name) for name in ("ratio", "surplus", "no-cost")] == list(Economy)


def test_npv() -> None:
    assert eco.npv([1.0, 2.0, 4.0], 0.5) == 3.0
    assert eco.npv([1.0, -2.0], 1.0) == -1.0
    assert eco.npv([], 0.5) == 0.0
    assert eco.npv([math.inf] * 3000, 0.5) == math.inf


@given(st.lists(RETURN, max_size=20), DELTA)
def test_npv_is_the_discounted_sum(returns: list[float], delta: float) -> None:
    expected = math.fsum(delta**i * r for i, r in enumerate(returns))
    assert eco.npv(returns, delta) == pytest.approx(expected, abs=1e-9)


def test_rollout_value_stops_at_the_horizon_and_at_the_first_unsafe_step() -> None:
    returns, safe = [1.0, 2.0, 4.0], [0.5, 0.0, 1.0]
    assert [eco.rollout_value(returns, safe, 0.5, h) for h in range(5)] == [0, 1, 2, 3, 3]
    assert eco.rollout_value(returns, [0.5, -0.01, 1.0], 0.5, 3) == 1.0
    assert eco.rollout_value(returns, [-0.01, 1.0, 1.0], 0.5, 3) == 0.0
    assert eco.rollout_value([], [], 0.5, 3) == 0.0


def test_rollout_value_takes_a_loss_only_for_a_greater_gain() -> None:
    assert eco.rollout_value([-1.0, 4.0], [1, 1], 0.5, 2) == 1.0
    assert eco.rollout_value([-1.0, 4.0], [1, 1], 0.5, 1) == 0.0
    assert eco.rollout_value([1.0, -5.0, 2.0], [1, 1, 1], 1.0, 3) == 1.0


@given(st.lists(st.tuples(RETURN, SAFETY), max_size=8), DELTA, st.integers(0, 9))
def test_rollout_value_is_the_best_safe_prefix(
    steps: list[tuple[float, float]], delta: float, horizon: int
) -> None:
    returns, safeties = [r for r, _ in steps], [s for _, s in steps]
    prefixes = [
        eco.npv(returns[:n], delta)
        for n in range(min(horizon, len(steps)) + 1)
        if all(s >= 0 for s in safeties[:n])
    ]
    expected = max(prefixes)
    assert eco.rollout_value(returns, safeties, delta, horizon) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(RETURN, SAFETY), max_size=8), DELTA, st.integers(0, 9))
def test_a_longer_horizon_never_lowers_the_value(
    steps: list[tuple[float, float]], delta: float, horizon: int
) -> None:
    returns, safeties = [r for r, _ in steps], [s for _, s in steps]
    near = eco.rollout_value(returns, safeties, delta, horizon)
    assert 0.0 <= near <= eco.rollout_value(returns, safeties, delta, horizon + 1)


def test_candidate_value() -> None:
    assert eco.candidate_value(1.0, 2.0, 0.5) == 2.0
    assert eco.candidate_value(-1.0, 0.0, 0.95) == -1.0


def test_horizon_in_tokens() -> None:
    assert eco.horizon_tokens(0.05, 1000, 0, cap=100) == 50
    assert eco.horizon_tokens(0.05, 1000, 981, cap=100) == 0
    assert eco.horizon_tokens(0.05, 1000, 980, cap=100) == 1
    assert eco.horizon_tokens(0.05, 1000, 0, cap=8) == 8
    assert eco.horizon_tokens(0.05, 1000, 1200, cap=8) == 0
    assert eco.horizon_tokens(0.05, math.inf, 1200, cap=8) == 8
    assert eco.horizon_tokens(0.0, math.inf, 0, cap=8) == 0


def test_horizon_in_actions() -> None:
    assert eco.horizon_actions(1000, 300, cap=10) == 3
    assert eco.horizon_actions(1000, 300, cap=2) == 2
    assert eco.horizon_actions(299, 300, cap=10) == 0
    assert eco.horizon_actions(1000, 100, cap=10, k=0.5) == 5
    assert eco.horizon_actions(1000, 0, cap=10) == 10
    assert eco.horizon_actions(0, 0, cap=10) == 0
    assert eco.horizon_actions(math.inf, 5, cap=10) == 10


@given(AMOUNT, AMOUNT, st.floats(0.1, 100))
def test_the_horizon_shrinks_with_the_budget(first: float, second: float, mean: float) -> None:
    less, more = sorted((first, second))
    assert eco.horizon_actions(less, mean, 50) <= eco.horizon_actions(more, mean, 50)
    assert eco.horizon_tokens(0.05, 1e4, more, 50) <= eco.horizon_tokens(0.05, 1e4, less, 50)


def test_shadow_price_rises_from_the_base_to_a_finite_end() -> None:
    assert eco.shadow_price(0.1, 100, 100) == pytest.approx(0.1)
    assert eco.shadow_price(0.1, 50, 100) == pytest.approx(0.1 / (0.25 + 0.75 * 0.5))
    assert eco.shadow_price(0.1, 0, 100) == pytest.approx(0.4)
    assert eco.shadow_price(0.1, -5, 100) == pytest.approx(0.4)
    assert eco.shadow_price(0.1, 500, 100) == pytest.approx(0.1)
    assert eco.shadow_price(0.1, 0, 100, floor=1.0) == pytest.approx(0.1)
    assert eco.shadow_price(0.0, 0, 100) == 0.0
    assert eco.shadow_price(0.1, math.inf, math.inf) == pytest.approx(0.1)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_rest_never_makes_a_token_cheaper(first: float, second: float) -> None:
    less, more = sorted((first, second))
    assert eco.shadow_price(2.0, less, 1.0) >= eco.shadow_price(2.0, more, 1.0)


def test_risk_budget() -> None:
    assert eco.risk_budget(1000, 1.0) == 1000
    assert eco.risk_budget(1000, -1.0) == 250
    assert eco.risk_budget(1000, 0.0, floor=0.5) == 750
    assert eco.risk_budget(1000, -1.0, floor=0.0) == 0
    assert eco.risk_budget(math.inf, -1.0, floor=0.0) == 0
    assert eco.risk_budget(math.inf, 0.0) == math.inf
    assert eco.risk_budget(0.0, 0.5) == 0


@given(SAFETY, SAFETY, st.floats(0, 1))
def test_the_higher_the_risk_the_tighter_the_budget(a: float, b: float, floor: float) -> None:
    riskier, safer = sorted((a, b))
    tight, loose = eco.risk_budget(1e3, riskier, floor), eco.risk_budget(1e3, safer, floor)
    assert 0.0 <= tight <= loose <= 1e3


NAN = math.nan


@pytest.mark.parametrize(
    "call",
    [
        lambda: eco.path_utility([1.0, -0.1]),
        lambda: eco.path_utility([NAN]),
        lambda: eco.path_cost([-1.0]),
        lambda: eco.path_cost([math.inf]),
        lambda: eco.path_safety([1.1]),
        lambda: eco.path_safety([0.5, NAN], SafetyAggregator.LAST),
        lambda: eco.path_safety([NAN, 0.5], SafetyAggregator.LAST),
        lambda: eco.gamma(1.5, 1, 1),
        lambda: eco.gamma(0.5, -1, 1),
        lambda: eco.gamma(0.5, 1, -1),
        lambda: eco.gamma(NAN, 1, 1),
        lambda: eco.gamma(0.5, 1, NAN),
        lambda: eco.surplus(0.5, 1, 1, -0.1),
        lambda: eco.worth(Economy.NO_COST, 0.5, 1, -1),
        lambda: eco.npv([1.0], 0.0),
        lambda: eco.npv([1.0], 1.1),
        lambda: eco.npv([NAN], 0.5),
        lambda: eco.npv([math.inf, -math.inf], 0.5),
        lambda: eco.rollout_value([1.0], [], 0.5, 1),
        lambda: eco.rollout_value([1.0], [1.0], 0.5, -1),
        lambda: eco.rollout_value([1.0], [2.0], 0.5, 1),
        lambda: eco.rollout_value([NAN], [1.0], 0.5, 1),
        lambda: eco.rollout_value([1.0], [1.0], 0.0, 1),
        lambda: eco.prospect_value([1.0], [1.0], [-1.0], 0.5, 1, Economy.RATIO),
        lambda: eco.prospect_value([1.0], [1.0], [1.0], 0.0, 1, Economy.RATIO),
        lambda: eco.prospect_value([1.0], [1.0], [1.0], 0.5, -1, Economy.RATIO),
        lambda: eco.prospect_value([2.0], [1.0], [1.0], 0.5, 1, Economy.RATIO),
        lambda: eco.candidate_value(1.0, 1.0, 2.0),
        lambda: eco.horizon_tokens(-0.1, 10, 0, 5),
        lambda: eco.horizon_tokens(0.1, -1, 0, 5),
        lambda: eco.horizon_tokens(0.1, 10, -1, 5),
        lambda: eco.horizon_tokens(0.1, 10, 0, -1),
        lambda: eco.horizon_actions(-1, 1, 5),
        lambda: eco.horizon_actions(1, -1, 5),
        lambda: eco.shadow_price(-1, 1, 1),
        lambda: eco.shadow_price(1, 1, 0),
        lambda: eco.shadow_price(1, 1, 1, floor=0),
        lambda: eco.shadow_price(1, NAN, 1),
        lambda: eco.risk_budget(-1, 0),
        lambda: eco.risk_budget(1, 2),
        lambda: eco.risk_budget(1, 0, floor=1.5),
    ],
)
def test_what_is_out_of_range_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"must be|return"):
        call()


def test_of_a_path_that_only_its_answer_earns_for_the_last_utility_counts() -> None:
    last = UtilityAggregator.LAST
    assert eco.path_utility([0.9, 0.0, 0.2], last) == 0.2
    assert eco.path_utility([], last) == 0.0
    assert eco.path_utility([0.9, 0.0, 0.2], UtilityAggregator.SUM) == pytest.approx(1.1)
    with pytest.raises(ValueError, match="utility"):
        eco.path_utility([-1.0, 0.2], last)


def test_prospect_value_is_that_of_the_best_place_to_stop() -> None:
    def best(
        safeties: list[float], utilities: list[float], costs: list[float], horizon: int = 9
    ) -> float:
        return eco.prospect_value(
            safeties, utilities, costs, 0.5, horizon, Economy.SURPLUS, price=0.01
        )

    assert best([1.0], [0.8], [10.0]) == pytest.approx(0.7)
    assert best([1.0, 1.0], [0.0, 1.0], [10.0, 20.0]) == pytest.approx(0.5 * 0.7)
    assert best([1.0, 1.0], [0.0, 1.0], [10.0, 20.0], horizon=0) == pytest.approx(-0.1)
    # The weakest link so far counts, and nothing beyond the first unsafe step.
    assert best([0.2, 1.0], [0.0, 1.0], [0.0, 0.0]) == pytest.approx(0.5 * 0.2)
    assert best([1.0, -0.1, 1.0], [0.3, 1.0, 1.0], [0.0, 0.0, 0.0]) == pytest.approx(0.3)
    assert best([-0.1, 1.0], [1.0, 1.0], [0.0, 0.0]) == -math.inf
    assert best([0.0], [1.0], [0.0]) == 0.0
    for wrong in (([], [], []), ([1.0], [1.0, 1.0], [1.0])):
        with pytest.raises(ValueError, match="each step"):
            best(*wrong)


@given(
    steps=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 100)), min_size=1),
    delta=st.floats(0.01, 1),
    horizon=st.integers(0, 6),
    economy=st.sampled_from(Economy),
)
def test_prospect_value_equals_its_definition(
    steps: list[tuple[float, float, float]], delta: float, horizon: int, economy: Economy
) -> None:
    safeties, utilities, costs = (list(column) for column in zip(*steps, strict=True))
    expected = max(
        delta ** (n - 1)
        * eco.worth(economy, min(safeties[:n]), utilities[n - 1], sum(costs[:n]), 0.003)
        for n in range(1, min(len(steps), 1 + horizon) + 1)
    )
    got = eco.prospect_value(safeties, utilities, costs, delta, horizon, economy, 0.003)
    assert got == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: eco.path_utility([-1.0]), "utility"),
        (lambda: eco.path_cost([-1.0]), "cost"),
        (lambda: eco.path_safety([2.0]), "safety"),
        (lambda: eco.gamma(0.5, -1.0, 1.0), "utility"),
        (lambda: eco.gamma(0.5, 1.0, -1.0), "cost"),
        (lambda: eco.surplus(0.5, 1.0, 1.0, -1.0), "price"),
        (lambda: eco.surplus(0.5, 1.0, -1.0, 1.0), "cost"),
        (lambda: eco.worth(Economy.NO_COST, 0.5, 1.0, -1.0), "cost"),
        (lambda: eco.npv([1.0], 2.0), "delta"),
        (
            lambda: eco.prospect_value([1.0], [1.0], [-1.0], 0.5, 1, Economy.NO_COST),
            "cost",
        ),
        (lambda: eco.horizon_tokens(-0.1, 10, 0, 5), "k"),
        (lambda: eco.horizon_tokens(0.1, -1, 0, 5), "budget"),
        (lambda: eco.horizon_tokens(0.1, 10, -1, 5), "spent"),
        (lambda: eco.horizon_tokens(0.1, 10, 0, -1), "cap"),
        (lambda: eco.horizon_actions(-1, 1, 5), "remaining"),
        (lambda: eco.horizon_actions(1, -1, 5), "mean_cost"),
        (lambda: eco.shadow_price(-1, 1, 1), "base"),
        (lambda: eco.risk_budget(-1, 0), "budget"),
    ],
)
def test_what_is_out_of_range_is_named(call: Callable[[], float], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        call()


def test_the_ends_of_the_ranges_are_in_them() -> None:
    assert eco.horizon_tokens(0.5, 10, 0, 0) == eco.horizon_actions(5, 1, 0) == 0
    assert eco.horizon_tokens(0.0, 10, 0, 5) == eco.horizon_tokens(0.5, 0, 0, 5) == 0
    assert eco.horizon_actions(0.5, 0, 7) == 7  # free so far, and something is left
    assert eco.horizon_actions(0, 0, 7) == 0
    assert eco.shadow_price(2.0, 0.0, 10.0, floor=1.0) == 2.0
    assert eco.shadow_price(0.0, 5.0, 10.0) == 0.0
    assert eco.risk_budget(8.0, -1.0, floor=0.0) == 0.0
    assert eco.risk_budget(8.0, -1.0, floor=1.0) == eco.risk_budget(8.0, 1.0) == 8.0
    assert eco.npv([1.0, 1.0], 1.0) == 2.0


def test_the_defaults_are_those_that_are_written_down() -> None:
    assert eco.shadow_price(1.0, 0.0, 10.0) == 4.0
    assert eco.risk_budget(8.0, -1.0) == 2.0
    assert eco.horizon_actions(10.0, 2.0, 9) == 5
    assert eco.worth(Economy.SURPLUS, 0.5, 1.0, 10.0) == 0.5
    assert eco.prospect_value([1.0], [0.5], [10.0], 0.5, 0, Economy.SURPLUS) == 0.5
