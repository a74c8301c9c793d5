from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.budget import Budget, Spending
from ecoalign.budget.pacing import PacingState, Short, Sum
from ecoalign.gateway.keys import KeyPolicy
from ecoalign.gateway.keys._calendar import window_start
from ecoalign.gateway.keys._windows import (
    MOST_COST,
    Decision,
    Window,
    charge,
    decide,
    repriced,
)
from ecoalign.models import Usage

HOUR = 3600


def test_windows_are_aligned_to_the_epoch() -> None:
    assert window_start(0.0, 60) == 0.0
    assert window_start(59.999, 60) == 0.0
    assert window_start(60.0, 60) == 60.0
    assert window_start(86_400 * 3.5, 86_400) == 86_400 * 3.0
    assert window_start(-1.0, 60) == -60.0


def test_one_request_cannot_hold_most_of_what_many_will_need() -> None:
    policy = KeyPolicy(window_tokens=1000, window_seconds=HOUR, expected_requests=100)
    window = Window(0.0, 0.0)
    got = decide(policy, window, PacingState(), Budget(900), Budget(10), 0.0)
    assert isinstance(got, Decision)
    assert got.budget.tokens == 250
    whole = decide(policy, window, PacingState(), Budget(900), None, 0.0)
    assert isinstance(whole, Decision)
    assert whole.budget.tokens == 900  # all or nothing was asked for
    last = decide(
        replace(policy, expected_requests=1), window, PacingState(), Budget(900), Budget(1), 0.0
    )
    assert isinstance(last, Decision)
    assert last.budget.tokens == 900  # nobody else is expected
    greedy = decide(
        replace(policy, fleet=False), window, PacingState(), Budget(900), Budget(1), 0.0
    )
    assert isinstance(greedy, Decision)
    assert greedy.budget.tokens == 900


def test_the_price_is_for_windows_only() -> None:
    pace = PacingState(price=3.0)
    for policy, price in (
        (KeyPolicy(window_tokens=1000), 3.0),
        (KeyPolicy(window_usd=1.0), 3.0),
        (KeyPolicy(window_tokens=1000, fleet=False), 1.0),
        (KeyPolicy(), 1.0),
    ):
        got = decide(policy, Window(0.0, 0.0), pace, Budget(10, 0.1), None, 0.0)
        assert isinstance(got, Decision)
        assert got.price == price


def test_what_a_grant_costs() -> None:
    held = Sum(100, 5 * 10**8)
    assert charge(held, Spending(Usage(40, 2), usd=0.25)) == Sum(42, 25 * 10**7)
    assert charge(held, Spending(Usage(40, 2), usd=None)) == Sum(42, 5 * 10**8)
    # What a server reports is charged as it is, also above what was held.
    assert charge(held, Spending(Usage(10**6, 0), usd=9.0)) == Sum(10**6, 9 * 10**9)
    for usd in (1e300, float("inf"), float("nan")):
        assert charge(held, Spending(Usage(10**30, 0), usd=usd)) == MOST_COST
    assert charge(held, Spending()) == Sum(0, 0)
    # Where nothing bounds the request, what it has spent is all there is to know.
    assert charge(Sum(0, 0), Spending(Usage(7, 0), usd=0.5)) == Sum(7, 5 * 10**8)


amounts = st.integers(1, 400)


@settings(max_examples=150, deadline=None)
@given(
    limit=amounts,
    usd=st.none() | st.floats(0.01, 1.0),
    fleet=st.booleans(),
    moves=st.lists(
        st.tuples(
            st.booleans(), st.none() | amounts, st.none() | st.floats(1e-6, 2.0), amounts, amounts
        ),
        max_size=30,
    ),
)
def test_settled_and_held_never_pass_the_limit(
    limit: int,
    usd: float | None,
    fleet: bool,
    moves: list[tuple[bool, int | None, float | None, int, int]],
) -> None:
    policy = KeyPolicy(window_tokens=limit, window_usd=usd, window_seconds=HOUR, fleet=fleet)
    window, pace = Window(0.0, 0.0), PacingState()
    open_grants: list[Decision] = []
    for number, (asks, tokens, dollars, least, spent) in enumerate(moves):
        now = number * 30.0
        if asks:
            want, floor = Budget(tokens, dollars), Budget(least)
            got = decide(policy, window, pace, want, floor, now)
            if isinstance(got, Short):
                assert got.free < got.needed
                continue
            # Never more than was wanted, never less than is of use, always bounded.
            assert got.budget.tokens is not None
            assert got.budget.tokens >= min(least, tokens or least)
            assert tokens is None or got.budget.tokens <= tokens
            assert usd is None or got.budget.usd is not None
            assert dollars is None or (got.budget.usd or 0.0) <= dollars
            open_grants.append(got)
            window = replace(
                window,
                requests=window.requests + 1,
                open=window.open + 1,
                held=Sum(window.held.tokens + got.held.tokens, window.held.nano + got.held.nano),
            )
        elif open_grants:
            held = open_grants.pop(0).held
            # No server reports more than the bound of its call.
            cents = spent / 300 if usd is None else min(spent / 300, held.usd)
            cost = charge(held, Spending(Usage(min(spent, held.tokens), 0), usd=cents))
            window = replace(
                window,
                open=window.open - 1,
                spent=Sum(window.spent.tokens + cost.tokens, window.spent.nano + cost.nano),
                held=Sum(window.held.tokens - held.tokens, window.held.nano - held.nano),
            )
            pace = repriced(policy, window, pace, [(cost, 1.0)], now)
            assert 1.0 <= pace.price <= 8.0
        assert window.spent.tokens + window.held.tokens <= limit
        if usd is not None:
            assert (window.spent.nano + window.held.nano) / 10**9 <= usd + 1e-9


def test_the_price_looks_at_what_is_left_and_who_is_to_come() -> None:
    policy = KeyPolicy(window_tokens=10_000, window_seconds=HOUR, expected_requests=100)
    half = HOUR / 2
    # Half the time, half the requests, half the money; 100 tokens are the share of each.
    window = Window(0.0, 0.0, requests=50, spent=Sum(5000, 0))
    pace = PacingState(price=2.0, tokens=100.0)
    even = repriced(policy, window, pace, [(Sum(100, 0), 1.0)], half)
    assert even.price == pytest.approx(2.0, rel=0.02)
    dear = repriced(policy, window, pace, [(Sum(200, 0), 1.0)], half)
    cheap = repriced(policy, window, pace, [(Sum(20, 0), 1.0)], half)
    assert cheap.price < 1.9
    assert dear.price > 2.1
    # Ahead of the clock the same request is too dear, behind it a bargain.
    ahead = replace(window, spent=Sum(8000, 0))
    assert repriced(policy, ahead, pace, [(Sum(100, 0), 1.0)], half).price > 2.1
    behind = replace(window, spent=Sum(1000, 0))
    assert repriced(policy, behind, pace, [(Sum(100, 0), 1.0)], half).price < 1.95
    # Requests under way count at the mean, not at all that they hold.
    busy = replace(window, open=5, held=Sum(4900, 0))
    steady = repriced(policy, busy, pace, [(Sum(100, 0), 1.0)], half)
    assert 2.0 < steady.price < 2.1


def test_the_scarcer_unit_sets_the_price() -> None:
    policy = KeyPolicy(
        window_tokens=10_000, window_usd=1.0, window_seconds=HOUR, expected_requests=100
    )
    window = Window(0.0, 0.0, requests=50, spent=Sum(5000, 9 * 10**8))
    pace = PacingState(price=2.0, tokens=100.0, nano=1e7)
    scarce = repriced(policy, window, pace, [(Sum(50, 10**7), 1.0)], HOUR / 2)
    assert scarce.price > 2.2
    tokens_only = replace(policy, window_usd=None)
    assert repriced(tokens_only, window, pace, [(Sum(50, 10**7), 1.0)], HOUR / 2).price < 2.0
