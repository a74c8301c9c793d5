"""Reservations, funds, and the invariant: spent + reserved + in funds <= B at every moment."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from clock import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecoalign.budget import Amount, Budget, Ledger, Reservation, Spending, StageSpending
from ecoalign.errors import BudgetExceeded, InputError, UnpricedModelError
from ecoalign.models import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "fake:x"


def cents(model: str, usage: Usage) -> Decimal | None:
    """A cent per token, half for cached ones; models called "free" have no known price."""
    if model == "free:x":
        return None
    return (Decimal(2 * usage.total) - usage.cached) / 200


def test_a_ledger_without_any_bound_is_refused() -> None:
    with pytest.raises(InputError, match="bounds nothing"):
        Ledger(Budget())


# -- one call -----------------------------------------------------------------------------------


def test_a_call_reserves_its_worst_case_and_pays_its_real_one() -> None:
    ledger = Ledger(Budget(tokens=100), cents)
    reservation = ledger.reserve("scan", Usage(60, 20), MODEL)
    assert ledger.reserved.tokens == 80
    assert ledger.remaining().tokens == 20
    assert reservation.settle(Usage(30, 5, 10, 4)) == Usage(30, 5, 10, 4)
    assert ledger.reserved.tokens == 0
    assert ledger.remaining().tokens == 65
    assert reservation.usd == 0.33
    assert ledger.spent.tokens == Usage(30, 5, 10, 4)
    assert ledger.spent.usd == 0.33
    assert ledger.spent.calls == 1


def test_the_last_token_can_be_spent_and_not_one_more() -> None:
    ledger = Ledger(Budget(tokens=100))
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve("scan", Usage(100, 1), MODEL)
    assert refused.value.unit == "tokens"
    assert (refused.value.needed, refused.value.remaining) == (101, 100)
    assert ledger.open_calls == 0
    ledger.reserve("scan", Usage(99, 1), MODEL).settle(Usage(99, 1))
    assert ledger.remaining().tokens == 0
    with pytest.raises(BudgetExceeded):
        ledger.reserve("scan", Usage(0, 1), MODEL)
    assert not ledger.overdrawn


def test_each_unit_binds_alone() -> None:
    ledger = Ledger(Budget(tokens=1000, usd=0.5), cents)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve("scan", Usage(50, 1), MODEL)
    assert refused.value.unit == "usd"
    assert refused.value.needed == 0.51
    assert ledger.fits(Usage(50, 0), MODEL)
    assert not ledger.fits(Usage(50, 1), MODEL)


def test_dollars_are_held_as_if_nothing_were_cached() -> None:
    ledger = Ledger(Budget(usd=1.0), cents)
    reservation = ledger.reserve("scan", Usage(100, 0, 0, 100), MODEL)
    assert ledger.reserved.usd == 1.0
    reservation.settle(Usage(100, 0, 0, 100))
    assert ledger.spent.usd == 0.5


def test_a_forfeited_call_is_not_believed_to_have_been_cached() -> None:
    ledger = Ledger(Budget(usd=1.0), cents)
    ledger.reserve("scan", Usage(100, 0, 0, 100), MODEL).forfeit()
    assert ledger.spent.usd == 1.0


def test_dollars_bind_to_the_last_digit() -> None:
    usd = 0.1 + 0.2  # a little more than 0.3
    for cost, granted in (("0.3", True), ("0.300000000000001", False)):
        ledger = Ledger(Budget(usd=usd), lambda model, usage, cost=cost: Decimal(cost))
        assert ledger.fits(Usage(1, 0), MODEL) is granted


def test_a_thousand_tenths_of_a_cent_are_exactly_a_dollar() -> None:
    ledger = Ledger(Budget(usd=1.0), lambda model, usage: Decimal("0.001") * usage.total)
    for _ in range(1000):
        ledger.reserve("scan", Usage(1, 0), MODEL).settle(Usage(1, 0))
    assert ledger.spent.usd == 1.0
    assert ledger.remaining().usd == 0.0


def test_forfeiting_costs_the_worst_case_and_releasing_nothing() -> None:
    ledger = Ledger(Budget(tokens=100), clock=Clock(100.0))
    ledger.reserve("scan", Usage(20, 10), MODEL).release()
    assert ledger.spent == Spending()
    assert ledger.reserve("scan", Usage(20, 10), MODEL).forfeit() == Usage(20, 10)
    assert ledger.spent.tokens.total == 30
    assert ledger.spent.calls == 1


def test_a_reservation_can_be_closed_only_once() -> None:
    ledger = Ledger(Budget(tokens=100))
    reservation = ledger.reserve("scan", Usage(20, 10), MODEL)
    reservation.settle(Usage(1, 1))
    for close in (reservation.forfeit, reservation.release, lambda: reservation.settle(None)):
        with pytest.raises(RuntimeError, match="already settled"):
            close()
    assert ledger.spent.tokens.total == 2
    assert ledger.open_calls == 0


@pytest.mark.parametrize(("released", "spent"), [(False, 30), (True, 0)])
def test_a_reservation_left_open_by_an_exception_is_forfeited(released: bool, spent: int) -> None:
    ledger = Ledger(Budget(tokens=100))

    def fail() -> None:
        with ledger.reserve("scan", Usage(20, 10), MODEL) as reservation:
            if released:
                reservation.release()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert ledger.spent.tokens.total == spent
    assert ledger.open_calls == 0


def test_a_negative_bound_is_a_mistake_of_the_model() -> None:
    with pytest.raises(ValueError, match="negative"):
        Ledger(Budget(tokens=9)).reserve("scan", Usage(-5, 1), MODEL)


@pytest.mark.parametrize(
    ("budget", "unit"), [(Budget(tokens=75), "tokens"), (Budget(usd=0.75), "usd")]
)
def test_a_report_that_the_budget_does_not_hold_is_recorded_and_stops_everything(
    budget: Budget, unit: str
) -> None:
    ledger = Ledger(budget, cents)
    ledger.reserve_fund("answer", Usage(10, 10), MODEL)
    other = ledger.reserve("score", Usage(10, 10), MODEL)
    ledger.reserve("scan", Usage(10, 10), MODEL).settle(Usage(30, 10))
    assert ledger.overdrawn
    assert ledger.spent.tokens.total == 40
    for fund in (None, "answer"):
        with pytest.raises(BudgetExceeded, match=r"more .* than its bound") as refused:
            ledger.reserve("scan", Usage(1, 0), MODEL, fund=fund)
        assert refused.value.unit == unit
        assert not ledger.fits(Usage(1, 0), MODEL, fund=fund)
        assert getattr(ledger.remaining(fund), unit) == 0
    other.settle(Usage(5, 5))
    assert ledger.spent.tokens.total == 50
    assert ledger.open_calls == 0


def test_a_report_beyond_the_bound_that_the_budget_holds_stops_nothing() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve("scan", Usage(10, 10), MODEL).settle(Usage(30, 10))
    assert not ledger.overdrawn
    assert ledger.remaining().tokens == 60
    ledger.reserve("scan", Usage(30, 30), MODEL).settle(Usage(30, 30))
    assert ledger.spent.tokens.total == 100


def test_the_time_of_a_run_may_have_begun_before() -> None:
    now = 100.0
    ledger = Ledger(Budget(seconds=5), clock=lambda: now, started=97.0)
    assert ledger.spent.seconds == 3
    assert ledger.seconds_left() == 2
    assert ledger.deadline() == 102
    now = 102.0
    with pytest.raises(BudgetExceeded, match="seconds"):
        ledger.reserve("scan", Usage(1, 1), MODEL)


def test_more_of_one_kind_and_less_of_another_is_no_overdraft() -> None:
    ledger = Ledger(Budget(tokens=1000))
    ledger.reserve("scan", Usage(10, 10), MODEL).settle(Usage(12, 8))
    assert not ledger.overdrawn


# -- prices -------------------------------------------------------------------------------------


def test_a_budget_in_dollars_is_refused_for_a_model_without_a_price() -> None:
    ledger = Ledger(Budget(usd=1.0), cents)
    for attempt in (ledger.reserve, ledger.reserve_fund):
        with pytest.raises(UnpricedModelError, match=r'prices\."free:x"'):
            attempt("scan", Usage(1, 1), "free:x")
    with pytest.raises(UnpricedModelError):
        ledger.fits(Usage(1, 1), "free:x")
    with pytest.raises(UnpricedModelError):
        Ledger(Budget(usd=1.0)).reserve("scan", Usage(1, 1), MODEL)
    assert ledger.open_calls == 0
    assert ledger.spent.usd == 0.0


def test_an_unknown_price_makes_the_sum_unknown_and_never_zero() -> None:
    ledger = Ledger(Budget(tokens=1000), cents)
    ledger.reserve("scan", Usage(10, 0), MODEL).settle(Usage(10, 0))
    ledger.reserve("score", Usage(10, 0), "free:x").settle(Usage(10, 0))
    ledger.reserve("score", Usage(10, 0), MODEL).settle(Usage(10, 0))
    assert ledger.spent.usd is None
    assert ledger.spent.by_stage["scan"].usd == 0.1
    assert ledger.spent.by_stage["score"].usd is None


def test_a_price_that_is_lost_on_the_way_costs_what_was_held() -> None:
    known = [Decimal(1)]
    ledger = Ledger(Budget(usd=5.0), lambda model, usage: known[0] if known else None)
    reservation = ledger.reserve("scan", Usage(10, 0), MODEL)
    known.clear()
    reservation.settle(Usage(1, 0))
    assert ledger.committed.usd == 1.0
    assert ledger.spent.usd is None


@pytest.mark.parametrize("price", ["-0.01", "NaN", "Infinity"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    ledger = Ledger(Budget(usd=5.0), lambda model, usage: Decimal(price))
    with pytest.raises(ValueError, match="finite"):
        ledger.reserve("scan", Usage(10, 0), MODEL)
    assert ledger.open_calls == 0


# -- funds and the working limit -------------------------------------------------------------


def test_a_fund_is_trimmed_to_what_its_calls_need_and_never_raised() -> None:
    ledger = Ledger(Budget(tokens=100, seconds=9.0), clock=lambda: 0.0)
    ledger.reserve_fund("answer", Usage(40, 20), MODEL, seconds=2.0)
    ledger.trim_fund("answer", [(MODEL, Usage(10, 5)), (MODEL, Usage(10, 5))])
    assert ledger.funded == Amount(30, None, 2.0)
    assert ledger.remaining().tokens == 70
    ledger.trim_fund("answer", [(MODEL, Usage(90, 5))])
    ledger.trim_fund("other", [(MODEL, Usage(1, 1))])
    assert ledger.funded.tokens == 30
    with pytest.raises(ValueError, match="negative"):
        ledger.trim_fund("answer", [(MODEL, Usage(-1, 1))])


def test_a_fund_is_only_for_its_own_calls() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve_fund("answer", Usage(20, 20), MODEL)
    assert ledger.remaining().tokens == 60
    assert ledger.remaining("answer").tokens == 100
    search = ledger.reserve("think", Usage(50, 10), MODEL)
    with pytest.raises(BudgetExceeded):
        ledger.reserve("think", Usage(1, 0), MODEL)
    write = ledger.reserve("write", Usage(20, 20), MODEL, fund="answer")
    assert ledger.funded.tokens == 0
    assert ledger.committed.tokens == 100
    write.settle(Usage(15, 5))
    assert ledger.funded.tokens == 20
    search.settle(Usage(50, 10))
    assert ledger.remaining().tokens == 0
    assert ledger.remaining("answer").tokens == 20


def test_a_released_call_gives_its_fund_back_and_a_forfeited_one_does_not() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve_fund("answer", Usage(20, 20), MODEL)
    ledger.reserve("write", Usage(20, 20), MODEL, fund="answer").release()
    assert ledger.funded.tokens == 40
    ledger.reserve("write", Usage(10, 20), MODEL, fund="answer").forfeit()
    assert ledger.funded.tokens == 10
    assert ledger.committed.tokens == 40


def test_a_call_may_need_more_than_is_in_its_fund() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve_fund("answer", Usage(10, 10), MODEL)
    reservation = ledger.reserve("write", Usage(30, 20), MODEL, fund="answer")
    assert ledger.committed.tokens == 50
    reservation.settle(Usage(5, 10))
    assert ledger.funded.tokens == 5
    assert ledger.committed.tokens == 20


def test_reserving_a_fund_adds_up_and_is_all_or_nothing() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve_fund("answer", Usage(30, 10), MODEL)
    ledger.reserve_fund("answer", Usage(30, 10), MODEL)
    assert ledger.funded.tokens == 80
    with pytest.raises(BudgetExceeded):
        ledger.reserve_fund("answer", Usage(20, 1), MODEL)
    with pytest.raises(BudgetExceeded):
        ledger.reserve_fund("other", Usage(20, 1), MODEL)
    assert ledger.funded.tokens == 80
    with pytest.raises(ValueError, match="'other'"):
        ledger.reserve("write", Usage(1, 0), MODEL, fund="other")


def test_releasing_a_fund_gives_it_to_everyone() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.reserve_fund("answer", Usage(30, 10), MODEL)
    reservation = ledger.reserve("write", Usage(10, 0), MODEL, fund="answer")
    ledger.release_fund("answer")
    assert ledger.remaining().tokens == 90
    reservation.settle(Usage(4, 0))
    assert ledger.remaining().tokens == 96


def test_the_working_limit_binds_the_search_and_not_the_answer() -> None:
    ledger = Ledger(Budget(tokens=100, usd=2.0), cents)
    ledger.reserve_fund("answer", Usage(20, 0), MODEL)
    ledger.tighten(0.5)
    assert ledger.limit == Amount(50, 1.0, None)
    assert ledger.remaining() == Amount(30, 0.8, None)
    with pytest.raises(BudgetExceeded):
        ledger.reserve("think", Usage(31, 0), MODEL)
    ledger.reserve("write", Usage(90, 0), MODEL, fund="answer").settle(Usage(80, 0))
    assert ledger.remaining().tokens == 0
    assert ledger.remaining("answer").tokens == 20


def test_the_working_limit_never_rises() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.tighten(0.5)
    ledger.tighten(0.9)
    assert ledger.limit.tokens == 50
    for share in (0.0, -0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match="share"):
            ledger.tighten(share)


# -- time ---------------------------------------------------------------------------------------


def test_time_passes_by_itself_and_ends_the_run() -> None:
    clock = Clock(100.0)
    ledger = Ledger(Budget(seconds=10.0), clock=clock)
    assert ledger.deadline() == 110.0
    reservation = ledger.reserve("scan", Usage(10**9, 1), MODEL)
    clock.now += 4.0
    reservation.settle(Usage(1, 1))
    assert ledger.remaining().seconds == 6.0
    assert ledger.spent.seconds == 4.0
    assert ledger.spent.by_stage["scan"] == StageSpending(2, 1, 4.0, None)
    clock.now += 6.0
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve("scan", Usage(1, 1), MODEL)
    assert (refused.value.unit, refused.value.remaining) == ("seconds", 0.0)


def test_time_in_a_fund_is_at_the_end() -> None:
    clock = Clock(100.0)
    ledger = Ledger(Budget(seconds=10.0), clock=clock)
    ledger.reserve_fund("write", Usage(1, 1), MODEL, seconds=2.0)
    ledger.reserve_fund("score", Usage(1, 1), MODEL, seconds=1.0)
    assert ledger.deadline() == 107.0
    assert ledger.deadline("write") == 109.0
    with pytest.raises(BudgetExceeded):
        ledger.reserve_fund("more", Usage(1, 1), MODEL, seconds=7.0)
    clock.now += 8.0
    assert ledger.remaining().seconds == 0.0
    assert not ledger.fits(Usage(1, 1), MODEL)
    assert ledger.fits(Usage(1, 1), MODEL, fund="write")
    for seconds in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="seconds"):
            ledger.reserve_fund("write", Usage(1, 1), MODEL, seconds=seconds)


def test_a_tightened_deadline_leaves_the_rest_to_the_answer() -> None:
    ledger = Ledger(Budget(seconds=10.0), clock=Clock(100.0))
    ledger.reserve_fund("answer", Usage(1, 1), MODEL, seconds=2.0)
    ledger.tighten(0.5)
    assert ledger.deadline() == 103.0
    assert ledger.deadline("answer") == 110.0


def test_without_a_budget_in_seconds_there_is_no_deadline() -> None:
    ledger = Ledger(Budget(tokens=10), clock=Clock(100.0))
    assert ledger.deadline() is None
    assert ledger.remaining().seconds is None


# -- what is handed out -------------------------------------------------------------------------


def test_spending_is_a_snapshot_in_the_shape_of_the_command_line() -> None:
    clock = Clock(100.0)
    ledger = Ledger(Budget(tokens=1000), cents, clock)
    ledger.reserve("scan", Usage(50, 5), MODEL).settle(Usage(40, 2, 30, 10))
    before = ledger.spent
    ledger.reserve("score", Usage(50, 5), MODEL).settle(Usage(10, 1))
    assert before.to_json() == {
        "tokens": {"prompt": 40, "completion": 2, "image": 30, "cached": 10, "total": 42},
        "by_stage": {"scan": {"tokens": 42, "calls": 1, "seconds": 0.0, "usd": 0.37}},
        "usd": 0.37,
        "seconds": 0.0,
        "calls": 1,
    }
    assert pickle.loads(pickle.dumps(before)) == before  # noqa: S301 our own bytes
    assert list(ledger.spent.by_stage) == ["scan", "score"]


# -- the invariant ------------------------------------------------------------------------------

BUDGET = Budget(tokens=300, usd=2.0)
bounds = st.builds(Usage, st.integers(0, 60), st.integers(0, 30))
shares = st.floats(0, 1)


def real(bound: Usage, share: float, cached: float) -> Usage:
    """Some usage within the bound."""
    prompt = int(bound.prompt * share)
    return Usage(prompt, int(bound.completion * share), 0, int(prompt * cached))


class Spender(RuleBasedStateMachine):
    """Any order of reserving, closing, funding, releasing and tightening."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(BUDGET, cents)
        self.reservations: list[Reservation] = []
        self.names: set[str] = set()

    @rule(bound=bounds, data=st.data())
    def reserve(self, bound: Usage, data: st.DataObject) -> None:
        fund = data.draw(st.sampled_from([None, *sorted(self.names)]))
        granted = self.ledger.fits(bound, MODEL, fund=fund)
        before = self.ledger.committed
        try:
            self.reservations.append(self.ledger.reserve("any", bound, MODEL, fund=fund))
        except BudgetExceeded:
            assert not granted
            assert self.ledger.committed == before
        else:
            assert granted

    @precondition(lambda self: self.reservations)
    @rule(
        pick=st.integers(0, 1000),
        how=st.sampled_from(["settle", "none", "zero", "odd", "release", "forfeit"]),
        share=shares,
        cached=shares,
    )
    def close(self, pick: int, how: str, share: float, cached: float) -> None:
        reservation = self.reservations.pop(pick % len(self.reservations))
        true = real(reservation.bound, share, cached)
        if how == "release":
            reservation.release()
            assert reservation.charged.total == 0
            return
        if how == "forfeit":
            charged = reservation.forfeit()
        else:
            reports = {"settle": true, "none": None, "zero": Usage(), "odd": Usage(-3, 4, 99, 99)}
            charged = reservation.settle(reports[how], floor=Usage(0, true.completion))
        assert charged.total >= true.total
        assert charged.total <= reservation.bound.total

    @rule(name=st.sampled_from("ab"), bound=bounds)
    def reserve_fund(self, name: str, bound: Usage) -> None:
        try:
            self.ledger.reserve_fund(name, bound, MODEL)
        except BudgetExceeded:
            return
        self.names.add(name)

    @rule(name=st.sampled_from("ab"))
    def free(self, name: str) -> None:
        self.ledger.release_fund(name)
        self.names.discard(name)

    @rule(name=st.sampled_from("ab"), bound=bounds)
    def trim(self, name: str, bound: Usage) -> None:
        before, committed = self.ledger.funded.tokens, self.ledger.committed.tokens
        self.ledger.trim_fund(name, [(MODEL, bound)])
        assert before is not None
        assert committed is not None
        given = before - (self.ledger.funded.tokens or 0)
        assert given >= 0
        assert self.ledger.committed.tokens == committed - given

    @rule(share=st.sampled_from([0.3, 0.6, 1.0]))
    def tighten(self, share: float) -> None:
        self.ledger.tighten(share)

    @invariant()
    def nothing_passes_the_budget(self) -> None:
        committed = self.ledger.committed
        assert committed.tokens is not None
        assert committed.usd is not None
        assert committed.tokens <= 300
        assert committed.usd <= 2.0
        assert self.ledger.open_calls == len(self.reservations)
        assert not self.ledger.overdrawn
        if not self.reservations:
            assert self.ledger.reserved == Amount(0, 0.0, None)


Spender.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpender = Spender.TestCase


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_threads_never_pass_the_budget_together() -> None:
    def clock() -> float:
        """Lets another thread run in the middle of whatever the ledger is doing."""
        time.sleep(0)
        return 0.0

    ledger = Ledger(Budget(tokens=5000, usd=40.0), cents, clock)
    ledger.reserve_fund("answer", Usage(100, 100), MODEL)
    start = threading.Barrier(8)
    over: list[Amount] = []
    closed: list[int] = []

    def spend(worker: int) -> None:
        start.wait()
        for turn in range(200):
            try:
                with ledger.reserve("any", Usage(20, worker), MODEL) as reservation:
                    if (turn + worker) % 3:
                        reservation.settle(Usage(1 + turn % 20, worker))
                closed.append(reservation.charged.total)
            except BudgetExceeded:
                continue
            committed = ledger.committed
            if (committed.tokens or 0) > 5000 or (committed.usd or 0.0) > 40.0:
                over.append(committed)

    threads = [threading.Thread(target=spend, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not over
    assert ledger.open_calls == 0
    assert ledger.reserved.tokens == 0
    assert ledger.spent.tokens.total == sum(closed)
    assert ledger.spent.calls == len(closed)
    assert ledger.funded.tokens == 200


@pytest.mark.usefixtures("_restless")
def test_threads_that_close_their_calls_together_lose_no_money() -> None:
    ledger = Ledger(Budget(tokens=100_000), cents)
    start = threading.Barrier(8)

    def spend() -> None:
        reservations = [ledger.reserve("any", Usage(5, 5), MODEL) for _ in range(300)]
        start.wait()
        for reservation in reservations:
            reservation.settle(Usage(3, 4))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.reserved.tokens == 0
    assert ledger.open_calls == 0
    assert ledger.spent.tokens == Usage(3 * 2400, 4 * 2400)
    assert ledger.spent.by_stage["any"].calls == 2400
