from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from bench_doubles import Numbers, Simple, by_asking, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.bench._cache import ResponseCache
from ecoalign.bench._experiments import Variant
from ecoalign.bench._rows import Store, read_rows
from ecoalign.bench._runner import Plan, pick, run
from ecoalign.bench.suites._base import Ask, Sample
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, InputError, ModelError, VerdictError
from ecoalign.models import ChatModel, ChatRequest, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings


def model() -> FakeModel:
    return FakeModel(lambda asked: f"it is {asked.messages[0].text.split()[-1]}")


def simple(variant: Variant, settings: Settings) -> Simple:
    return Simple(settings=settings)


def spending(tokens: Callable[[str], int]) -> Callable[[Ledger], Ask]:
    """A judge that takes so many tokens for a prompt."""

    def paid_by(ledger: Ledger) -> Ask:
        async def ask(prompt: str, query: Query | None) -> Sequence[str | None]:
            await asyncio.sleep(0)
            usage = Usage(tokens(prompt), 0)
            with ledger.reserve("judge", usage, "j") as reservation:
                reservation.settle(usage)
            await asyncio.sleep(0)
            return ["fine"]

        return ask

    return paid_by


async def test_every_sample_of_every_variant_has_a_row(tmp_path: Path) -> None:
    lvlm, suite = model(), Numbers(4)
    what = plan(suite, Variant("a", "base"), Variant("b", "cot", budget="900"), repeats=2)
    with Store(tmp_path) as store:
        progress = await run(what, lvlm, store, simple)
    rows = read_rows(tmp_path)
    assert (len(what), progress.total, progress.before, len(progress.fresh)) == (16, 16, 0, 16)
    assert not progress.stopped
    assert len({row.key for row in rows}) == 16
    assert {row.key.repeat for row in rows} == {0, 1}
    assert {(row.key.variant, row.budget) for row in rows} == {("a", "8000"), ("b", "900")}
    one = rows[0]
    assert (one.answer, one.question, one.group) == ("it is 0", "number 0", "group 0")
    assert (one.spent.calls, one.spent.tokens.total, one.stop_reason) == (1, 4, "done")
    assert one.score is not None
    assert one.score.useful == 1.0


async def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    for count, calls in ((3, 3), (5, 2), (5, 0)):
        lvlm = model()
        with Store(tmp_path) as store:
            progress = await run(plan(Numbers(count)), lvlm, store, simple)
        assert (lvlm.calls, len(progress.fresh), progress.before) == (calls, calls, count - calls)


async def test_no_more_than_so_many_at_once(tmp_path: Path) -> None:
    going = 0
    most = 0

    async def does(query: Query, lvlm: ChatModel, ledger: Ledger) -> str:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        going -= 1
        return "x"

    with Store(tmp_path) as store:
        await run(plan(Numbers(9)), model(), store, lambda v, s: Simple(does), concurrency=3)
    assert most == 3


async def test_a_failure_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    async def does(query: Query, lvlm: ChatModel, ledger: Ledger) -> str:
        number = query.question.split()[1]
        if number == "1":
            with ledger.reserve("answer", Usage(50, 7), "fake") as hold:
                hold.settle(Usage(50, 7))
            raise ModelError("the server is down", fault="down")
        if number == "2":
            raise ZeroDivisionError("a mistake")
        if number == "3":
            raise BudgetTooSmall("too small", unit="tokens", smallest=9)
        if number == "4":
            raise VerdictError("none of its 3 verdicts could be read")
        return f"it is {number}"

    with Store(tmp_path) as store:
        progress = await run(plan(Numbers(5)), model(), store, lambda v, s: Simple(does))
    assert len(progress.fresh) == 5
    rows = {row.key.sample: row for row in read_rows(tmp_path)}
    down, mistake, poor = rows["n1"], rows["n2"], rows["n3"]
    assert down.failure is not None
    assert (down.failure.kind, down.failure.exit_code, down.spent.tokens.total) == (
        "ModelError",
        3,
        57,
    )
    assert down.score is not None
    assert (down.score.label, down.score.safe, down.score.useful) == ("failed", None, None)
    assert mistake.failure is not None
    assert (mistake.failure.kind, mistake.failure.exit_code) == ("ZeroDivisionError", 1)
    assert poor.failure is not None
    assert poor.score is not None
    assert (poor.stop_reason, poor.score.label, poor.score.useful) == (
        "budget-too-small",
        "wrong",
        0.0,
    )
    # A judge that cannot be read withholds the answer: the method has refused.
    withheld = rows["n4"]
    assert (withheld.refused, withheld.stop_reason, withheld.failure) == (True, "fail-closed", None)
    # They count as done, until somebody wants them again.
    again = model()
    with Store(tmp_path) as store:
        assert (await run(plan(Numbers(5)), again, store, simple)).fresh == []
        progress = await run(plan(Numbers(5)), again, store, simple, retry_failed=True)
    assert sorted(row.key.sample for row in progress.fresh) == ["n1", "n2", "n3"]
    assert all(row.failure is None for row in read_rows(tmp_path))


async def test_a_query_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    def broken() -> Query:
        raise InputError("no such picture")

    samples = [Sample("bad", "g", broken, {"n": 0}), *Numbers(1).samples()]
    what = Plan("test", [Variant("simple", "simple")], Numbers(), samples, Settings())
    with Store(tmp_path) as store:
        await run(what, model(), store, simple)
    bad, good = sorted(read_rows(tmp_path), key=lambda row: row.key.sample)
    assert bad.failure is not None
    assert bad.failure.message == "no such picture"
    assert good.failure is None


async def test_an_answer_is_kept_before_it_is_judged(tmp_path: Path) -> None:
    lvlm = model()

    async def never(prompt: str, query: Query | None) -> Sequence[str | None]:
        raise asyncio.CancelledError

    with Store(tmp_path) as store, pytest.raises(asyncio.CancelledError):
        await run(plan(Numbers(1, judged=True)), lvlm, store, simple, judges=lambda _: never)
    assert [row.pending for row in read_rows(tmp_path)] == [True]

    what = plan(Numbers(1, judged=True))
    with Store(tmp_path) as store:
        await run(
            what,
            lvlm,
            store,
            simple,
            judges=spending(lambda _: 42),
            price=lambda model, usage: Decimal("0.25"),
        )
    (row,) = read_rows(tmp_path)
    assert lvlm.calls == 1
    assert row.score is not None
    assert row.score.label == "right"
    assert row.judging == {"tokens": 42, "calls": 1, "usd": 0.25}
    assert row.spent.tokens.total == 4


async def test_judges_are_booked_with_their_own_sample(tmp_path: Path) -> None:
    judges = spending(lambda prompt: int(prompt.rsplit(maxsplit=1)[-1]))
    with Store(tmp_path) as store:
        await run(plan(Numbers(6, judged=True)), model(), store, simple, judges=judges)
    for row in read_rows(tmp_path):
        assert row.judging == {"tokens": int(row.key.sample[1:]), "calls": 1, "usd": None}


async def test_a_verdict_that_is_unusable_is_counted_and_can_be_asked_for_again(
    tmp_path: Path,
) -> None:
    async def silent(prompt: str, query: Query | None) -> Sequence[str | None]:
        return [None]

    async def fails(prompt: str, query: Query | None) -> Sequence[str | None]:
        raise ModelError("down", fault="down")

    async def verdict(prompt: str, query: Query | None) -> Sequence[str | None]:
        return ["fine"]

    def given(ask: Ask, ledger: Ledger) -> Ask:
        return ask

    lvlm = model()
    for ask, retry, label in (
        (silent, False, "unusable"),
        (verdict, False, "unusable"),
        (fails, True, "unusable"),
        (verdict, True, "right"),
    ):
        with Store(tmp_path) as store:
            what = plan(Numbers(2, judged=True))
            await run(what, lvlm, store, simple, judges=partial(given, ask), retry_failed=retry)
        assert {row.score.label for row in read_rows(tmp_path) if row.score} == {label}
    assert lvlm.calls == 2


async def test_no_sample_begins_after_a_stop(tmp_path: Path) -> None:
    stop = asyncio.Event()
    with Store(tmp_path) as store:
        progress = await run(
            plan(Numbers(9)),
            model(),
            store,
            simple,
            concurrency=2,
            watch=lambda row: stop.set(),
            stop=stop,
        )
    assert progress.stopped
    assert 1 <= len(progress.fresh) == len(read_rows(tmp_path)) <= 2


async def test_the_cache_pays_in_full_and_says_so(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "c.sqlite")
    lvlm = model()
    for folder, cached in (("one", 0), ("two", 1)):
        with Store(tmp_path / folder) as store:
            progress = await run(plan(Numbers(3)), lvlm, store, simple, cache=cache)
        assert {(row.cached, row.spent.tokens.total) for row in progress.fresh} == {(cached, 4)}
    assert lvlm.calls == 3
    cache.close()


async def test_each_repeat_has_its_own_seed_and_each_variant_its_own_settings(
    tmp_path: Path,
) -> None:
    made: list[tuple[str, int | None, int, Budget]] = []

    def opened(variant: Variant, settings: Settings) -> Simple:
        made.append((variant.name, settings.seed, settings.batch, settings.budget))
        return Simple()

    what = plan(
        Numbers(1),
        Variant("a", "a"),
        Variant("b", "b", {"batch": 2}, budget="$0.02"),
        repeats=2,
        seed=5,
    )
    with Store(tmp_path) as store:
        await run(what, model(), store, opened, price=lambda name, usage: None)
    assert made == [
        ("a", 5, 4, Budget(tokens=8000)),
        ("b", 5, 2, Budget(usd=0.02)),
        ("a", 6, 4, Budget(tokens=8000)),
        ("b", 6, 2, Budget(usd=0.02)),
    ]


async def test_methods_are_closed_whatever_happens(tmp_path: Path) -> None:
    closed: list[str] = []

    class Opened(Simple):
        async def aclose(self) -> None:
            closed.append("closed")

    async def fails(query: Query, lvlm: ChatModel, ledger: Ledger) -> str:
        raise ModelError("down", fault="down")

    with Store(tmp_path) as store:
        await run(plan(Numbers(1)), model(), store, lambda v, s: Opened(fails))
    assert closed == ["closed"]


async def test_a_plan_that_cannot_be_run_asks_nothing(tmp_path: Path) -> None:
    lvlm = model()
    doubled = plan(Numbers(1), Variant("a", "a"), Variant("a", "b"))
    bad = plan(Numbers(1), Variant("a", "a", {"batch": 99}))
    with Store(tmp_path) as store:
        for what, concurrency, match in (
            (doubled, 1, "same name"),
            (bad, 1, "batch"),
            (plan(Numbers(1, judged=True)), 1, "--judge"),
            (plan(Numbers(1)), 0, "concurrency"),
            (plan(Numbers(1), repeats=0), 1, "at least once"),
        ):
            with pytest.raises(InputError, match=match):
                await run(what, lvlm, store, simple, concurrency=concurrency)
    assert lvlm.calls == 0


async def test_a_row_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    class Full(Store):
        def append(self, row: object) -> None:
            raise InputError("the disk is full")

    lvlm = FakeModel(_slow)
    with Full(tmp_path) as store, pytest.raises(InputError, match="disk is full"):
        await run(plan(Numbers(9)), lvlm, store, simple, concurrency=2)
    assert lvlm.calls <= 4


async def _slow(asked: ChatRequest) -> str:
    await asyncio.sleep(0)
    return "x"


@settings(max_examples=50)
@given(groups=st.lists(st.integers(0, 4), max_size=20), limit=st.none() | st.integers(0, 25))
def test_a_pick_is_spread_over_the_groups(groups: list[int], limit: int | None) -> None:
    samples = [Sample(f"s{i}", f"g{g}", lambda: Query("x"), {}) for i, g in enumerate(groups)]
    chosen = pick(samples, limit)
    assert len(chosen) == (len(samples) if limit is None else min(limit, len(samples)))
    assert len({sample.id for sample in chosen}) == len(chosen)
    if limit is not None and limit < len(samples):
        longer = pick(samples, limit + 1)
        assert {s.id for s in chosen} <= {s.id for s in longer}
        counts = {g: sum(s.group == g for s in chosen) for g in {s.group for s in samples}}
        whole = {g: sum(s.group == g for s in samples) for g in counts}
        # A group has fewer than another one only where it has no more.
        assert all(
            counts[g] >= counts[h] - 1 or counts[g] == whole[g] for g in counts for h in counts
        )


async def test_the_doubles_themselves_pay() -> None:
    ledger = Ledger(Budget(tokens=100))
    assert await by_asking(Query("number 7"), model(), ledger) == "it is 7"
    assert ledger.spent.tokens.total == 4
