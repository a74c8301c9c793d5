from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from ecoalign.budget import Budget
from ecoalign.budget.pacing import (
    MAX_PRICE,
    MIN_PRICE,
    STEP_SIZE,
    PacingState,
    Sum,
    expected_requests,
    largest_grant,
    update,
)
from ecoalign.gateway.keys import KeyPolicy
from ecoalign.gateway.keys._windows import Decision, Window, decide, repriced

DAY = 86_400


def test_the_rule() -> None:
    pace = PacingState(price=2.0, tokens=100.0, nano=10.0, seconds=4.0)
    after = update(pace, (150.0, 0.0), (100.0, None), 2.0)
    assert after.price == pytest.approx(2.0 * math.exp(STEP_SIZE * 0.5))
    assert update(pace, (100.0, 0.0), (100.0, None), 2.0).price == pytest.approx(2.0)
    assert update(pace, (0.0, 0.0), (100.0, None), 2.0).price == pytest.approx(
        2 * math.exp(-STEP_SIZE)
    )
    # The scarcer unit counts, and one request for no more than twice its surprise.
    both = update(pace, (50.0, 30.0), (100.0, 20.0), 2.0)
    assert both.price == pytest.approx(2.0 * math.exp(STEP_SIZE * 0.5))
    wild = update(pace, (10.0**9, 0.0), (100.0, None), 2.0)
    nothing_left = update(pace, (1.0, 0.0), (0.0, None), 2.0)
    assert wild.price == nothing_left.price == pytest.approx(2.0 * math.exp(2 * STEP_SIZE))
    assert update(pace, (150.0, 0.0), (None, None), 2.0).price == 2.0
    # Running means; the first request is the mean.
    assert after.tokens == pytest.approx(102.5)
    assert after.seconds == pytest.approx(3.9)
    assert update(PacingState(), (70.0, 0.0), (None, None), 3.0).tokens == 70.0


def test_the_price_stays_within_its_bounds() -> None:
    low, high = PacingState(price=MIN_PRICE), PacingState(price=MAX_PRICE)
    assert update(low, (0.0, 0.0), (100.0, None), 1.0).price == MIN_PRICE
    assert update(high, (900.0, 0.0), (100.0, None), 1.0).price == MAX_PRICE


def test_a_state_survives_its_text() -> None:
    pace = PacingState(1.25, 3.5, 7.0, 0.5, 86_400.0, 12.0)
    assert PacingState.from_json(pace.to_json()) == pace
    assert PacingState.from_json('{"price": 2, "of_the_future": 1}') == PacingState(price=2.0)


def test_how_many_are_still_to_come() -> None:
    assert expected_requests(50, 100.0, 100.0, None) == pytest.approx(50.0)
    assert expected_requests(0, 0.0, 100.0, 40.0) == pytest.approx(40.0)
    # Before anything is known the guess counts; later what was seen does.
    assert expected_requests(10, 10.0, 90.0, 10.0) == pytest.approx(90 * (10 + 1) / (10 + 10))
    assert 80 < expected_requests(90, 90.0, 10.0, 10.0) * 9 < 90
    assert expected_requests(0, 50.0, 50.0, None) == 1.0
    assert expected_requests(7, 100.0, 0.0, 40.0) == 1.0
    assert expected_requests(1, 0.0, 0.0, None) == 1.0


def test_what_one_request_may_hold() -> None:
    assert largest_grant(1000, 100.0, 1) == 250
    assert largest_grant(1000, 2.0, 1) == 500
    assert largest_grant(1000, 1.0, 1) == 1000
    assert largest_grant(1000, 100.0, 400) == 400
    assert largest_grant(3, 100.0, 1) == 1


def simulated(
    scale: float, *, fleet: bool, requests: int = 600, seed: int = 1
) -> tuple[float, int, list[float]]:
    """A window of questions that stop at a price; returns utility, tokens spent and the prices.

    A question has a random difficulty h: at price p (in units of lambda0) it is worth spending
    100 + 400 * h tokens more or less, and more tokens give less and less. The window is `scale`
    of what all would spend at price 1.
    """
    rng = Random(seed)
    hard = [rng.random() ** 3 for _ in range(requests)]

    def best(h: float, price: float) -> int:
        return 50 + round(600 * h / price)

    def utility(h: float, tokens: int) -> float:
        return 1.0 - h * math.exp(-(tokens - 50) / 200)

    whole = sum(best(h, 1.0) for h in hard)
    policy = KeyPolicy(window_tokens=round(scale * whole), window_seconds=DAY, fleet=fleet)
    window, pace, gained, prices = Window(0.0, 0.0), PacingState(), 0.0, []
    for number, h in enumerate(hard):
        now = DAY * number / requests
        got = decide(policy, window, pace, Budget(2000), Budget(50), now)
        if not isinstance(got, Decision):
            continue
        assert got.budget.tokens is not None
        spent = min(best(h, got.price), got.budget.tokens)
        prices.append(got.price)
        gained += utility(h, spent)
        window = replace(
            window, requests=window.requests + 1, spent=Sum(window.spent.tokens + spent, 0)
        )
        pace = repriced(policy, window, pace, [(Sum(spent, 0), 1.0)], now)
    assert window.spent.tokens <= round(scale * whole)
    return gained, window.spent.tokens, prices


def test_a_scarce_window_lasts_to_its_end_and_gains_more() -> None:
    for scale in (0.5, 0.7, 0.85):
        shared, spent, prices = simulated(scale, fleet=True)
        first, all_of_it, _ = simulated(scale, fleet=False)
        assert len(prices) > 590
        assert spent > 0.9 * all_of_it
        assert shared > 1.1 * first
        # The price has found its level: the second half is as dear as the last quarter.
        late = sum(prices[300:]) / len(prices[300:])
        assert late == pytest.approx(sum(prices[450:]) / len(prices[450:]), rel=0.25)
        assert late > 1.1


def test_an_ample_window_leaves_everybody_their_own_price() -> None:
    shared, _, prices = simulated(2.0, fleet=True)
    first, _, _ = simulated(2.0, fleet=False)
    # It takes some requests to see that there is plenty.
    assert sum(prices) / len(prices) < 1.1
    assert max(prices[300:]) < 1.05
    assert shared > 0.99 * first
