"""What an action is worth under the terms of a step, in each economy and with each utility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Amount, Budget, Ledger
from ecoalign.graph import ROOT, ActionKind, Candidate, Forecast, PendingAction
from ecoalign.graph.economics import Economy, UtilityAggregator
from ecoalign.search.valuator import Ceiling, Prices, Terms, ranked, share_left, terms, value
from ecoalign.settings import Settings

SUM, LAST = UtilityAggregator.SUM, UtilityAggregator.LAST
TERMS = Terms(3, 0.001, 1.0, Economy.SURPLUS, LAST, 0.5)


def steps(*triples: tuple[float, float, float]) -> list[Forecast]:
    return [Forecast(*triple) for triple in triples]


def test_where_only_the_answer_earns_a_detour_to_the_same_answer_is_worth_less() -> None:
    terms = replace(TERMS, delta=0.95)
    answer = steps((1.0, 1.0, 100))
    detour = steps((1.0, 0.6, 100), (1.0, 1.0, 100))
    assert value(detour, 1.0, terms) < value(answer, 1.0, terms)
    # Where every thought earns, the detour collects on the way.
    summed = replace(terms, utility=SUM)
    assert value(detour, 1.0, summed) > value(answer, 1.0, summed)


def test_where_only_the_answer_earns_a_step_towards_a_good_one_beats_a_poor_one_at_once() -> None:
    look = steps((1.0, 0.0, 100), (1.0, 1.0, 100))
    assert value(look, 1.0, TERMS) == pytest.approx(0.5 * (1.0 - 0.2))
    assert value(steps((1.0, 0.3, 100)), 1.0, TERMS) == pytest.approx(0.2)
    # With no horizon only the step itself is seen.
    assert value(look, 1.0, replace(TERMS, horizon=0)) == pytest.approx(-0.1)


def test_each_economy_with_each_utility() -> None:
    path = steps((0.5, 0.4, 10), (0.5, 0.8, 10))
    expected = {
        (Economy.RATIO, SUM): 0.5 * 0.4 / 10 + 0.5 * (0.5 * 0.8 / 10),
        (Economy.RATIO, LAST): max(0.5 * 0.4 / 10, 0.5 * (0.5 * 0.8 / 20)),
        (Economy.NO_COST, SUM): 0.5 * 0.4 + 0.5 * (0.5 * 0.8),
        (Economy.NO_COST, LAST): max(0.5 * 0.4, 0.5 * (0.5 * 0.8)),
        (Economy.SURPLUS, SUM): 0.5 * 0.4 - 0.01 + 0.5 * (0.5 * 0.8 - 0.01),
        (Economy.SURPLUS, LAST): max(0.5 * 0.4 - 0.01, 0.5 * (0.5 * 0.8 - 0.02)),
    }
    for (economy, utility), worth in expected.items():
        terms = replace(TERMS, economy=economy, utility=utility)
        assert value(path, 1.0, terms) == pytest.approx(worth), (economy, utility)


@pytest.mark.parametrize("utility", [SUM, LAST])
def test_no_step_is_safer_than_the_path_that_it_stands_on(utility: UtilityAggregator) -> None:
    terms = replace(TERMS, utility=utility, price=0.0)
    path = steps((1.0, 1.0, 1), (1.0, 1.0, 1))
    assert value(path, 0.25, terms) == pytest.approx(0.25 * value(path, 1.0, terms))


@pytest.mark.parametrize("utility", [SUM, LAST])
def test_headroom_scales_gains_and_not_costs(utility: UtilityAggregator) -> None:
    terms = replace(TERMS, utility=utility)
    one = steps((1.0, 0.8, 100))
    assert value(one, 1.0, replace(terms, headroom=0.5)) == pytest.approx(0.4 - 0.1)
    assert value(one, 1.0, replace(terms, headroom=0.0)) == pytest.approx(-0.1)


@pytest.mark.parametrize("utility", [SUM, LAST])
def test_a_step_that_would_be_pruned_ends_what_is_counted(utility: UtilityAggregator) -> None:
    terms = replace(TERMS, utility=utility)
    alone = value(steps((0.6, 0.5, 100)), 1.0, terms)
    for unsafe in (-1.0, -1e-9):
        assert value(steps((0.6, 0.5, 100), (unsafe, 9.0, 1)), 1.0, terms) == alone
        assert value(steps((unsafe, 9.0, 1), (1.0, 1.0, 1)), 1.0, terms) == -math.inf
    strict = replace(terms, threshold=0.5)
    assert value(steps((0.6, 0.5, 100), (0.4, 1.0, 1)), 1.0, strict) == alone
    assert value(steps((0.4, 1.0, 1)), 1.0, strict) == -math.inf
    assert value(steps((0.5, 0.5, 100)), 1.0, strict) > 0.0


def test_what_is_worth_nothing_is_not_priced() -> None:
    """Only what is worth more than nothing may be carried out, so only that is looked up."""
    asked: list[int] = []

    def affordable(actions: Sequence[PendingAction]) -> bool:
        asked.extend(one.id for one in actions)
        return True

    values = {1: 0.5, 0: 0.0, 2: -math.inf}
    actions = [PendingAction(i, ROOT, Candidate(ActionKind.THINK, "", ())) for i in values]
    found = ranked(zip(actions, values.values(), strict=True), affordable)
    assert [(one.action, one.value, one.affordable) for one in found] == [
        (1, 0.5, True),
        (0, 0.0, False),
        (2, -math.inf, False),
    ]
    assert asked == [1]


@pytest.mark.parametrize(
    ("remaining", "means", "horizon"),
    [
        (Amount(usd=3.0), (10.0, 1.0, 1.0), 3),
        (Amount(tokens=25, usd=3.0), (10.0, 1.0, 1.0), 2),
        (Amount(tokens=25, usd=3.0), (10.0, None, 1.0), 2),
        (Amount(usd=3.0), (10.0, None, 1.0), 8),
    ],
)
def test_the_horizon_is_how_many_actions_the_scarcest_unit_with_a_known_price_allows(
    remaining: Amount, means: tuple[float, float | None, float], horizon: int
) -> None:
    """Up to `horizon_cap`, which holds where no price is known at all."""
    settings = Settings.load(env={}, horizon_cap=8, look_ahead=1.0)
    ledger = Ledger(Budget(tokens=100, usd=10.0), lambda model, usage: Decimal(0))
    assert terms(settings, ledger, remaining, means, 1.0).horizon == horizon


@pytest.mark.parametrize(
    ("remaining", "limit", "share"),
    [
        (Amount(tokens=50), Amount(tokens=100), 0.5),
        (Amount(50, 0.25, 9.0), Amount(100, 1.0, 10.0), 0.25),
        (Amount(150), Amount(100), 1.0),
        (Amount(50, -0.25), Amount(100, 1.0), 0.0),
        (Amount(), Amount(), 1.0),
    ],
)
def test_the_scarcest_unit_says_how_much_of_the_budget_is_left(
    remaining: Amount, limit: Amount, share: float
) -> None:
    assert share_left(remaining, limit) == share


shares = st.floats(0, 1)
costs = st.floats(0, 1000)
listed = st.dictionaries(st.sampled_from(ActionKind), costs, max_size=2)


@given(
    steps=st.lists(st.tuples(st.floats(-1, 1), shares), min_size=1, max_size=4),
    kind=st.sampled_from(ActionKind),
    economy=st.sampled_from(Economy),
    utility=st.sampled_from(UtilityAggregator),
    then=st.tuples(st.integers(0, 4), st.floats(0, 0.01), shares, listed, costs),
    moved=st.tuples(st.integers(-1, 1), *[st.floats(0.8, 2.0)] * 4),
    floor=shares,
)
def test_while_a_ceiling_holds_no_action_is_worth_more_than_under_it(
    steps: list[tuple[float, float]],
    kind: ActionKind,
    economy: Economy,
    utility: UtilityAggregator,
    then: tuple[int, float, float, dict[ActionKind, float], float],
    moved: tuple[int, float, float, float, float],
    floor: float,
) -> None:
    horizon, price, headroom, by_kind, later = then
    terms = Terms(horizon, price, headroom, economy, utility, 0.9)
    ceiling = Ceiling.over(terms, Prices(by_kind, later))
    now = replace(
        terms,
        horizon=max(0, horizon + moved[0]),
        price=price * moved[1],
        headroom=min(1.0, headroom * moved[2]),
    )
    prices = Prices({one: cost * moved[3] for one, cost in by_kind.items()}, later * moved[4])
    assert ceiling.holds(terms, Prices(by_kind, later))
    if not ceiling.holds(now, prices):
        return

    def worth(terms: Terms, prices: Prices, unknown: float) -> float:
        own = prices.by_kind.get(kind, unknown)
        return value(
            [Forecast(s, u, prices.later if i else own) for i, (s, u) in enumerate(steps)],
            floor,
            terms,
        )

    bound = worth(ceiling.terms, ceiling.prices, 0.0)
    assert worth(now, prices, 17.0) <= bound or bound == pytest.approx(worth(now, prices, 17.0))
