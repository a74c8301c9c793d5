"""Budgets as values and as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Amount, Budget
from ecoalign.errors import InputError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("8000", Budget(tokens=8000)),
        ("8_000", Budget(tokens=8000)),
        ("$0.02", Budget(usd=0.02)),
        ("$ .5", Budget(usd=0.5)),
        ("5s", Budget(seconds=5.0)),
        ("500ms", Budget(seconds=0.5)),
        ("2m", Budget(seconds=120.0)),
        (" 8000 , $0.02,5 s ", Budget(tokens=8000, usd=0.02, seconds=5.0)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "0", "-5", "8.5", "$0", "$", "$-1", "0s", "5h", "nan", "inf", "$nan", "1e9"),
        *("8000 8000", "8000,9000", "5s,500ms", "٣"),
        *("9" * 40, "$" + "9" * 400, "$0." + "0" * 400 + "1"),
    ],
)
def test_what_is_not_a_budget_is_refused_and_says_what_is(text: str) -> None:
    with pytest.raises(InputError, match="500ms"):
        Budget.parse(text)


@pytest.mark.parametrize("tokens", [0, -1, 10**15 + 1, True, 8000.0, "8000"])
def test_tokens_must_be_whole_and_positive(tokens: int) -> None:
    with pytest.raises(InputError, match="tokens"):
        Budget(tokens=tokens)


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf, True])
def test_dollars_and_seconds_must_be_finite_and_positive(value: float) -> None:
    with pytest.raises(InputError, match="usd"):
        Budget(usd=value)
    with pytest.raises(InputError, match="seconds"):
        Budget(seconds=value)


positive = st.floats(min_value=1e-12, max_value=1e12)


@given(st.none() | st.integers(1, 10**15), st.none() | positive, st.none() | positive)
def test_a_budget_survives_its_own_text(
    tokens: int | None, usd: float | None, seconds: float | None
) -> None:
    budget = Budget(tokens, usd, seconds)
    if not budget.is_empty:
        assert Budget.parse(str(budget)) == budget


def test_a_budget_reads_as_a_person_writes_it() -> None:
    assert str(Budget(8000, 0.02, 5.0)) == "8000,$0.02,5s"
    assert str(Budget(usd=100.0)) == str(Budget(usd=100)) == "$100"


def test_dollars_are_covered_to_the_last_unit_and_not_a_float_further() -> None:
    dime = Amount(usd=0.1)
    assert Amount(usd=0.3).covers(dime, dime, dime)  # 0.1 + 0.1 + 0.1 > 0.3 in floats
    assert not Amount(usd=0.3).covers(dime, dime, dime, Amount(usd=1e-15))
    assert Amount(usd=0.0).covers(Amount(), Amount(tokens=5))


def test_tokens_are_covered_together_and_time_while_any_is_left() -> None:
    assert Amount(tokens=10).covers(Amount(tokens=4), Amount(tokens=6), Amount(usd=9.0))
    assert not Amount(tokens=10).covers(Amount(tokens=4), Amount(tokens=7))
    assert Amount(seconds=0.1).covers(Amount(tokens=10**9, usd=9.0))
    assert not Amount(seconds=0.0).covers()
