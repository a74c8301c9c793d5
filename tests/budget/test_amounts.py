"""Budgets as values and as text."""

from __future__ import annotations

import math
import shutil
import subprocess
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Amount, Budget, Spending, StageSpending
from ecoalign.errors import InputError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        *((text, Budget(tokens=8000)) for text in ("8000", "8_000", "8,000", "8k", "8K", " 8 k ")),
        *((text, Budget(tokens=8000)) for text in ("8000 tokens", "8,000 tok", "8.0k tokens")),
        ("1.5k", Budget(tokens=1500)),
        ("2M tokens", Budget(tokens=2_000_000)),
        ("2mtok", Budget(tokens=2_000_000)),
        ("1,000,000", Budget(tokens=1_000_000)),
        *((text, Budget(usd=0.02)) for text in ("$0.02", "0.02usd", "0.02 USD", "USD 0.02")),
        *((text, Budget(usd=0.02)) for text in ("US$.02", "0.02$", "0.02 dollars", "2 cents")),
        ("$ .5", Budget(usd=0.5)),
        ("5¢", Budget(usd=0.05)),
        ("$1.5k", Budget(usd=1500)),
        ("$1,500.50", Budget(usd=1500.5)),
        *((text, Budget(seconds=5.0)) for text in ("5s", "5 s", "5S", "5sec", "5 seconds", "5.s")),
        ("500ms", Budget(seconds=0.5)),
        *((text, Budget(seconds=120.0)) for text in ("2m", "2min", "2 minutes", "2Min", "120s")),
        ("1h", Budget(seconds=3600.0)),
        *((text, Budget(seconds=90.0)) for text in ("1m30s", "1m 30s", "1.5m", "0h1m30s0ms")),
        (" 8000 , $0.02,5 s ", Budget(8000, 0.02, 5.0)),
        ("8,000,$0.02,5s", Budget(8000, 0.02, 5.0)),
        ("8k tokens, 2 cents, 5 seconds", Budget(8000, 0.02, 5.0)),
        ("8,000, 5s", Budget(tokens=8000, seconds=5.0)),
        ("8000,5s", Budget(tokens=8000, seconds=5.0)),
        ("800, 5s", Budget(tokens=800, seconds=5.0)),
        ("$1, 500", Budget(tokens=500, usd=1.0)),
        ("$2,8000", Budget(tokens=8000, usd=2.0)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "0", "-5", "8.5", "$0", "$", "$-1", "0s", "5d", "nan", "inf", "$nan", "1e9"),
        *("8000 8000", "8000,9000", "5s,500ms", "٣", "0100", "8,00", "8,0000", "5 c", "k", "$k"),
        *("30s1m", "1m2m", "1m30", "1:30", "2ks", "$2M", "€5", "5 EUR", "--8000", "\u22125"),
        *("9" * 40, "$" + "9" * 400, "$0." + "0" * 400 + "1", "1," * 5000, "1.0001k"),
        *("9" * 1400, "x" * 1400),
    ],
)
def test_what_is_not_a_budget_is_refused_and_says_what_is(text: str) -> None:
    with pytest.raises(InputError, match="500ms") as caught:
        Budget.parse(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("$1,500", ("$1500", "500,$1", "$1.5")),
        ("$1,50", ("50,$1", "$1.5")),
        ("$1234,50", ("50,$1234", "$1234.5")),
        ("1234,50usd", ("1234,$50", "$1234.5")),
        ("1,5s", ("1, 5s", "1.5s")),
        ("800,5s", ("800, 5s", "800.5s")),
        ("8,000,5s", ("8000,5s", "8000.5s")),
        ("1,500k", ("1500000", "1500")),
        ("2,5m", ("2, 300s", "150s")),
    ],
)
def test_of_two_meanings_none_is_taken_and_each_can_be_written(
    text: str, ways: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        Budget.parse(text)
    for way in ways:
        assert f"'{way}'" in str(caught.value)
        assert str(Budget.parse(way)) == way
    assert str(caught.value).count(" or ") == len(ways) - 1


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("$0,02", "write '$0.02'"),
        ("0,5s", "write '0.5s'"),
        ("1,5k", "write '1500'"),
        ("2M", "2M tokens"),
        ("8000,9000", "tokens is given twice"),
        ("5 EUR", "US dollars"),
    ],
)
def test_the_advice_fits_what_was_written(text: str, advice: str) -> None:
    with pytest.raises(InputError) as caught:
        Budget.parse(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("written", ["$0.02", "8000,$0.02", "$0.02,5s", "$5", "$15.00", "8000,$5"])
def test_a_dollar_that_the_shell_has_eaten_is_explained(written: str, shell: str) -> None:
    """Between double quotes "$0.02" arrives as "bash.02", "$5" as nothing, "$15.00" as "5.00"."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command = [shell, "-c", f'printf %s "{written}"']
    arrived = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with pytest.raises(InputError, match="in single quotes, "):
        Budget.parse(arrived)


@pytest.mark.parametrize("value", [True, 0, 8.0, None, [], {}, {"dollars": 1}, Budget(), b"8000"])
def test_a_value_of_another_kind_is_no_budget(value: Any) -> None:
    with pytest.raises(InputError):
        Budget.of(value)


def test_a_value_is_read_whatever_kind_it_has() -> None:
    same: list[Any] = [8000, "8k", {"tokens": 8000}, Budget(8000)]
    assert {Budget.of(value) for value in same} == {Budget(tokens=8000)}


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


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@given(st.none() | st.integers(1, 10**15), st.none() | positive, st.none() | positive)
def test_a_budget_survives_its_own_text(
    tokens: int | None, usd: float | None, seconds: float | None
) -> None:
    budget = Budget(tokens, usd, seconds)
    if not budget.is_empty:
        assert Budget.parse(str(budget)) == budget


token_words = st.builds(
    lambda number, spell: (number * (1000 if spell == "{0}k" else 1), spell.format(number)),
    st.integers(1, 10**6),
    st.sampled_from(["{0}", "{0:,}", "{0:_}", "{0}k", "{0:,} tokens", "{0} tok"]),
)
decimals = st.decimals("0.01", "99999.999", places=3).map(lambda d: d.normalize())
usd_words = st.builds(
    lambda number, spell, comma: (
        float(number),
        spell.format(f"{number:f}".replace(".", "," if comma else ".")),
    ),
    decimals,
    st.sampled_from(["${0}", "{0}usd", "USD {0}", "{0} dollars"]),
    st.booleans(),
)
second_words = st.builds(
    lambda number, unit, comma: (
        float(Decimal(number) / 10 * unit[1]),
        f"{Decimal(number) / 10:f}".replace(".", "," if comma else ".") + unit[0],
    ),
    st.integers(1, 9999),
    st.sampled_from([("s", 1), ("m", 60), ("h", 3600), (" min", 60), (" seconds", 1)]),
    st.booleans(),
)


@given(
    st.none() | token_words,
    st.none() | usd_words,
    st.none() | second_words,
    st.permutations([0, 1, 2]),
    st.sampled_from([",", ", "]),
)
def test_what_is_read_is_what_was_meant_or_nothing(
    tokens: tuple[int, str] | None,
    usd: tuple[float, str] | None,
    seconds: tuple[float, str] | None,
    order: list[int],
    comma: str,
) -> None:
    """Whoever writes decimals with a comma, or groups thousands, or neither: no other meaning."""
    parts = (tokens, usd, seconds)
    text = comma.join(found[1] for found in (parts[place] for place in order) if found)
    meant = Budget(*(part and part[0] for part in parts))  # type: ignore[arg-type]
    try:
        assert Budget.parse(text) == meant
    except InputError:
        return


@given(st.text("0123456789,.$kmsMhu d", max_size=14))
def test_no_text_is_an_unexpected_error(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except InputError:
        return
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


@pytest.mark.parametrize("unit", ["tokens", "usd", "seconds"])
@pytest.mark.parametrize("digits", [400, 6000])
def test_a_number_beyond_all_bounds_is_an_error_in_words(unit: str, digits: int) -> None:
    with pytest.raises(InputError, match=f"{unit} is too large"):
        Budget.of({unit: 10**digits})


def test_the_dearest_stage_is_first_whichever_call_came_back_first() -> None:
    cost = {"score": StageSpending(tokens=7), "scan": StageSpending(), "look": StageSpending()}
    turned = dict(reversed(cost.items()))
    assert [name for name, _ in Spending(by_stage=cost).dearest] == ["score", "look", "scan"]
    assert Spending(by_stage=turned).dearest == Spending(by_stage=cost).dearest
