"""The one budget of a batch: never passed, shared out, steered by one price."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.batch._desk import Desk, Grant, Outcome, least_of, raised
from ecoalign.batch._journal import Journal
from ecoalign.batch._work import COLUMNS
from ecoalign.budget import Budget
from ecoalign.budget.pacing import Sum
from ecoalign.errors import BudgetTooSmall


def row(status: str = "answered", error: str = "") -> Outcome:
    body = {**dict.fromkeys(COLUMNS), "status": status, "error": error}
    return Outcome(body | {"tokens": 1, "usd": 0.0, "calls": 1})


def failed(fault: str) -> Outcome:
    return Outcome(row("error", "ModelError: gone").row, fault=fault)


WANT = Budget(tokens=1000, usd=0.5)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.one_of(st.none(), st.integers(1, 5000)),
    usd=st.one_of(st.none(), st.floats(0.001, 3.0)),
    wants=st.lists(st.tuples(st.integers(1, 2000), st.floats(0.001, 1.0)), min_size=1, max_size=12),
    costs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=12, max_size=12),
    cut=st.integers(0, 10_000),
)
def test_the_budget_is_never_passed_whatever_is_killed(
    tmp_path_factory: pytest.TempPathFactory,
    tokens: int | None,
    usd: float | None,
    wants: list[tuple[int, float]],
    costs: list[tuple[float, bool]],
    cut: int,
) -> None:
    """Items are begun, cost as much as they hold or less, end or are lost at a kill; then another
    run goes on with what a journal that was cut off anywhere still says."""
    path = tmp_path_factory.mktemp("desk") / "j"
    limit = Budget(tokens=tokens, usd=usd)

    def within(desk: Desk) -> None:
        account = desk.account
        assert account.held.tokens >= 0 <= account.held.nano
        together = account.spent + account.held
        assert account.tokens is None or together.tokens <= account.tokens
        assert account.nano is None or together.nano <= account.nano

    async def run(journal: Journal, *, kill: bool) -> None:
        desk = Desk(journal, limit, len(wants))
        open_: list[tuple[Grant, float]] = []
        for number, (want, (share, ends)) in enumerate(zip(wants, costs, strict=False)):
            budget = Budget(tokens=want[0], usd=want[1])
            begun = asyncio.ensure_future(desk.begin(f"i{number}", budget, least_of(budget)))
            while not begun.done():
                if desk._waiters:
                    # It waits for the others, so one of them has to end.
                    grant, part = open_.pop()
                    await desk.end(grant, _part(grant.held, part), row())
                await asyncio.sleep(0)
            granted = begun.result()
            within(desk)
            if granted is None:
                continue
            assert granted.held.tokens >= 1
            journal.cost(granted.item, _part(granted.held, share))
            if ends:
                await desk.end(granted, _part(granted.held, share), row())
            else:
                open_.append((granted, share))
            within(desk)
        if not kill:
            for grant, part in open_:
                await desk.end(grant, _part(grant.held, part), None)
                within(desk)

    with Journal(path, {}) as journal:
        asyncio.run(run(journal, kill=True))
    data = path.read_bytes()
    path.write_bytes(data[: max(len(data.split(b"\n")[0]) + 1, len(data) - cut)])
    with Journal(path, {}) as journal:
        assert tokens is None or journal.spent.tokens <= tokens
        assert usd is None or journal.spent.usd <= usd
        asyncio.run(run(journal, kill=False))


def _part(held: Sum, share: float) -> Sum:
    return Sum(int(held.tokens * share), int(held.nano * share))


async def test_an_item_waits_while_others_hold_the_money(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, Budget(tokens=1000), 2)
        want = Budget(tokens=800)
        first = await desk.begin("a", want, want)
        assert first is not None
        second = asyncio.create_task(desk.begin("b", want, want))
        await asyncio.wait([second], timeout=0.05)
        assert not second.done()
        await desk.end(first, Sum(100), row())
        got = await second
        assert got is not None
        assert got.budget.tokens == 800


async def test_the_money_has_ended_where_nothing_is_under_way_that_could_leave_some(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, Budget(tokens=100), 1)
        assert await desk.begin("a", Budget(tokens=1000), Budget(tokens=250)) is None
        assert "at least 250 tokens, and 100 are left" in desk.short


async def test_the_price_rises_where_items_cost_more_than_their_share(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, Budget(tokens=10_000), 100)
        prices = []
        for number in range(20):
            grant = await desk.begin(f"{number}", Budget(tokens=400), Budget(tokens=100))
            assert grant is not None
            prices.append(grant.price)
            await desk.end(grant, Sum(300), row())
        assert prices[0] == 1.0
        assert prices[-1] > 2.0
    # It is kept from run to run.
    with Journal(tmp_path / "j", {}) as journal:
        assert Desk(journal, Budget(tokens=10_000), 80).price >= prices[-1]


async def test_without_a_budget_of_the_batch_every_item_gets_its_own(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, None, 3)
        grants = [await desk.begin(name, WANT, least_of(WANT)) for name in "abc"]
        assert [(one.budget, one.price, one.cut) for one in grants if one is not None] == [
            (WANT, 1.0, frozenset())
        ] * 3


async def test_time_of_the_batch_bounds_its_items(tmp_path: Path) -> None:
    now = [0.0]
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, Budget(seconds=10.0), 2, clock=lambda: now[0])
        grant = await desk.begin("a", WANT, least_of(WANT))
        assert grant is not None
        assert grant.budget == Budget(1000, 0.5, 10.0)
        now[0] = 10.0
        await desk.end(grant, Sum(), row())
        assert await desk.begin("b", WANT, least_of(WANT)) is None
        assert "time" in desk.short


async def test_a_model_that_fails_every_item_stops_the_batch(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, None, 10, patience=3)
        for name, outcome in (
            ("a", row()),
            ("b", failed("down")),
            ("c", failed("down")),
            ("d", failed("rejected")),
            ("e", failed("rejected")),
            ("f", row("error", "InputError: a picture")),
            ("g", failed("down")),
            ("h", failed("down")),
        ):
            grant = await desk.begin(name, WANT, least_of(WANT))
            assert grant is not None
            await desk.end(grant, Sum(), outcome)
            assert not desk.stopped
        last = await desk.begin("i", WANT, least_of(WANT))
        late = await desk.begin("j", WANT, least_of(WANT))
        assert last is not None
        assert late is not None
        await desk.end(last, Sum(7), failed("down"))
        assert desk.stopped == "model"
        await desk.end(late, Sum(7), failed("down"))
        # They are nobody's answers: the next run asks them again.
        assert set(journal.done) == set("abcdef")
        assert await desk.begin("k", WANT, least_of(WANT)) is None
    with Journal(tmp_path / "j", {}) as journal:
        assert set(journal.done) == set("abcdef")
        assert journal.spent == Sum(14)


async def test_a_server_that_reports_what_cannot_be_is_charged_so_and_ends_the_batch(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, Budget(tokens=5000), 10, patience=3)
        grant = await desk.begin("a", WANT, least_of(WANT))
        assert grant is not None
        await desk.end(grant, Sum(144_000), failed("false-usage"))
        assert desk.stopped == "model"
        assert desk.account.spent.tokens == 144_000
        assert await desk.begin("b", WANT, least_of(WANT)) is None
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.spent == Sum(144_000)
        # More than there is was spent: nothing is left for the next run.
        desk = Desk(journal, Budget(tokens=5000), 10)
        assert await desk.begin("b", WANT, least_of(WANT)) is None
        assert desk.short


async def test_so_many_failures_and_no_more(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        desk = Desk(journal, None, 10, max_failures=2)
        await desk.note("a", row("error", "InputError: no picture"))
        assert desk.stopped == ""
        await desk.note("b", row("error", "InputError: no picture either"))
        assert str(desk.stopped) == "failures"
        assert desk.error == "InputError: no picture either"


def test_a_grant_that_proved_too_small_is_raised() -> None:
    grant = Grant("a", Budget(tokens=100, usd=0.1), Sum(100, 10**8), 1.0, frozenset({"tokens"}), 0)
    short = BudgetTooSmall("", unit="tokens", smallest=150.2)
    assert raised(Budget(tokens=50), grant, short) == Budget(tokens=200)
    short = BudgetTooSmall("", unit="usd", smallest=0.5)
    assert raised(Budget(tokens=50), grant, short) == Budget(tokens=50, usd=0.5)
