"""Exact sums of money: one unit, rounded up where it is owed and down where it is allowed."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Budget, Ledger, Money
from ecoalign.models import Usage

UNIT = Fraction(1, 10**15)

amounts = st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=20)


def exact(money: Money) -> Fraction:
    return money.units * UNIT


@given(amounts)
def test_what_is_owed_is_rounded_up_and_what_is_allowed_down(usd: Decimal) -> None:
    assert 0 <= exact(Money.up(usd)) - Fraction(usd) < UNIT
    assert 0 <= Fraction(usd) - exact(Money.down(usd)) < UNIT


def test_the_direction_shows_below_one_unit() -> None:
    assert Money.up(Decimal("1e-16")) == Money(1)
    assert Money.down(1e-16) == Money(0)
    assert Money.up(1e-15) == Money.down(1e-15) == Money(1)
    assert Money.down(0.1 + 0.2) == Money(3 * 10**14)


@given(st.lists(amounts, max_size=20))
def test_sums_are_exact_in_any_order(parts: list[Decimal]) -> None:
    costs = [Money.up(part) for part in parts]
    total = sum(costs, Money())
    assert exact(total) == sum(map(exact, costs))
    assert total == sum(sorted(costs), Money())
    assert total - total == Money()


def test_dollars_of_more_digits_than_a_float_has_are_exact() -> None:
    usd = Decimal("123456789.123456789012345")
    assert Money.up(usd) == Money.down(usd) == Money(123_456_789_123_456_789_012_345)


def test_ten_dimes_are_a_dollar() -> None:
    assert sum((Money.up(0.1) for _ in range(10)), Money()) == Money.down(1.0)
    assert reduce(add, [0.1] * 10) != 1.0  # floats are no money


@pytest.mark.parametrize("usd", [1e-300, 123456.789, 1e17, 1e300])
def test_huge_and_tiny_amounts(usd: float) -> None:
    assert exact(Money.down(usd)) <= Fraction(Decimal(repr(usd))) <= exact(Money.up(usd))
    assert Money.up(usd) + Money(1) > Money.up(usd)
    assert Money.up(usd).usd >= usd


def test_the_callers_decimal_context_changes_nothing() -> None:
    with localcontext(Context(prec=2)):
        assert Money.up(Decimal("1.23456789")).units == 1_234_567_890_000_000


@pytest.mark.parametrize("usd", [-1.0, -1e-300, math.nan, math.inf, Decimal(-1), Decimal("NaN")])
def test_what_is_no_amount(usd: float | Decimal) -> None:
    for make in (Money.up, Money.down):
        with pytest.raises(ValueError, match=r"finite number, 0 or more, not"):
            make(usd)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_floats_keep_their_order_and_a_limit_is_never_passed(limit: float, cost: float) -> None:
    assert Money.down(limit).usd <= limit
    assert Money.up(cost).usd >= cost
    if Money.up(cost) <= Money.down(limit):
        assert cost <= limit


@given(st.integers(0, 10**24), st.floats(0, 1))
def test_a_share_is_exact_and_never_more_than_the_whole(units: int, share: float) -> None:
    part = Money(units).share(share)
    assert 0 <= units * Fraction(share) - part.units < 1
    assert Money(units).share(1.0) == Money(units)


def test_a_budget_of_many_digits_is_not_raised_by_its_share() -> None:
    # 9007199254740993 units are no float: the nearest one is more than the budget.
    ledger = Ledger(Budget(usd=9.007199254740993), lambda model, usage: Decimal(0))
    ledger.tighten(1.0)
    assert Money(9007199254740993).share(1.0) == Money(9007199254740993)
    assert ledger.limit.usd == ledger.budget.usd


# -- the store's unit ---------------------------------------------------------------------------


@given(st.integers(0, 10**24))
def test_a_database_holds_billionths_rounded_against_who_owes(units: int) -> None:
    low, high = Money(units).billionths(up=False), Money(units).billionths(up=True)
    assert low * 10**6 <= units <= high * 10**6
    assert high - low <= 1
    assert Money.from_billionths(low).billionths(up=True) == low


def test_exact_billionths_stay_exact() -> None:
    for usd in (0.1, 0.3, 0.02, 19.99, 1e-9, 4_000_000.5):
        assert Money.up(usd).billionths(up=True) == Money.down(usd).billionths(up=False)
        assert Money.from_billionths(Money.up(usd).billionths(up=True)).usd == usd


def test_billionths_fit_64_bits() -> None:
    assert Money.up(1e12).billionths(up=True) == Money.up(1e300).billionths(up=False) == 2**62


# -- in the ledger ------------------------------------------------------------------------------


def test_a_million_small_calls_cost_what_their_price_says() -> None:
    """A cached token of a cheap model costs 2.8 billionths: no call is rounded up visibly."""
    ledger = Ledger(Budget(tokens=10**9), lambda model, usage: usage.prompt * Decimal("2.8e-9"))
    for _ in range(1000):
        ledger.reserve("write", Usage(1), "fake:x").settle(Usage(1))
    assert ledger.spent.usd == 2.8e-6
    assert ledger.spent.by_stage["write"].usd == 2.8e-6


def test_the_last_cent_can_be_spent_and_no_float_is_lost_on_the_way() -> None:
    ledger = Ledger(Budget(usd=1.0), lambda model, usage: usage.prompt * Decimal("0.1"))
    for _ in range(10):
        ledger.reserve("write", Usage(1), "fake:x").settle(Usage(1))
    assert ledger.remaining().usd == 0.0
    assert ledger.spent.usd == 1.0
    assert not ledger.fits(Usage(1), "fake:x")
