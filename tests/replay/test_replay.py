"""A run again from its trace: byte for byte, whatever happened in it."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import EcoAlignError, InputError, ModelError, ModelFault
from ecoalign.evaluators import GuardEvaluator, SelfEvaluator
from ecoalign.methods import open_method
from ecoalign.models import Completion, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.replay import replay
from ecoalign.search.context import RunContext, record_run
from ecoalign.search.loop import search
from ecoalign.settings import Settings
from ecoalign.trace.events import Called, Event, Finished, RunFailed, RunStarted, to_json


async def recorded(
    model: FakeModel, query: Query, budget: Budget, **settings: Any
) -> tuple[Event, ...]:
    aligner = Aligner(model, Settings.load(env={}, **({"retries": 0, "draft": False} | settings)))
    try:
        return tuple((await aligner.align(query, budget)).trace)
    except EcoAlignError as error:
        return () if error.trace is None else tuple(error.trace)


async def assert_same(
    model: FakeModel, query: Query, events: tuple[Event, ...], **more: Any
) -> None:
    again = await replay(events, query.pictures, bound=model.bound, **more)
    assert [to_json(event) for event in again] == [to_json(event) for event in events]


def shuffled(seed: int, chaos: float = 0.0, usage: str = "given") -> Script:
    """A lively script whose calls come back in any order, and fail now and then."""
    rng = random.Random(seed)

    async def some_time() -> None:
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)

    def answered(text: str) -> str | Completion:
        if usage == "given":
            return text
        return Completion(text, None if usage == "missing" or rng.random() < 0.5 else Usage(9, 9))

    async def said(text: str) -> Any:
        await some_time()
        if rng.random() < chaos:
            billed = rng.random() < 0.5
            faults: list[ModelFault] = ["server", "timeout", "down", "filtered"]
            used = Usage(11, 7) if rng.random() < 0.5 else None
            return ModelError("lost", fault=rng.choice(faults), billed=billed, usage=used)
        if rng.random() < chaos:
            return answered(text[: len(text) // 2])
        return answered(text)

    async def propose(prompt: Prompt) -> Any:
        partners = [number for number, _, _ in prompt.others[:1]]
        kinds = ["think", "look", "answer", *(["fuse"] if partners else [])]
        chosen = [rng.choice(kinds) for _ in range(4)]
        items = [
            action(
                kind,
                f"t{rng.randrange(5)}",
                [[9, rng.randrange(4, 10), 300], [9, 9, 300]],
                region=[0, 0, 100 * rng.randrange(1, 10), 500],
                partners=partners,
            )
            for kind in chosen
        ]
        return await said(actions(*items))

    async def execute(prompt: Prompt) -> Any:
        return await said(f"{prompt.kind} says {rng.randrange(6)}")

    async def score(prompt: Prompt) -> Any:
        return await said(prompt.verdict(rng.choice([2, 6, 9, 9]), rng.randrange(10)))

    return Script(
        request_safety=rng.choice([5, 9]),
        plan="Careful.",
        propose=propose,
        execute=execute,
        score=score,
    )


@pytest.mark.parametrize("seed", range(12))
async def test_runs_whose_calls_come_back_in_any_order(seed: int) -> None:
    model, query = shuffled(seed).model(), asking(seed % 3)
    more = {"batch": 4, "max_concurrency": 1 + seed % 4, "max_thoughts": 20}
    events = await recorded(model, query, Budget(tokens=25_000), **more)
    assert isinstance(events[-1], Finished)
    assert model.peak <= 1 + seed % 4
    await assert_same(model, query, events)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("usage", ["given", "missing", "sometimes"])
async def test_runs_with_failures_and_servers_that_do_not_tell_the_usage(
    seed: int, usage: str
) -> None:
    model, query = shuffled(seed, 0.2, usage).model(), asking(1)
    preset = ["default", "paper", "no-cost"][seed % 3]
    events = await recorded(model, query, Budget(tokens=20_000), preset=preset, max_thoughts=16)
    await assert_same(model, query, events)


@pytest.mark.parametrize("fidelity", ["surrogate", "rollout"])
@pytest.mark.parametrize("seed", range(3))
async def test_runs_of_every_fidelity(fidelity: str, seed: int) -> None:
    model, query = shuffled(seed, 0.1).model(), asking(1)
    events = await recorded(model, query, Budget(tokens=25_000), fidelity=fidelity, max_thoughts=12)
    await assert_same(model, query, events)


async def test_retries_are_replayed_without_waiting_for_them() -> None:
    """Each stage fails once before it works; the server even asks for a minute's patience."""
    failed: set[str] = set()
    waits: list[float] = []

    def reply(request: Any) -> Any:
        if request.stage not in failed:
            failed.add(request.stage)
            return ModelError("busy", fault="rate-limited", billed=False, retry_after=59.0)
        return script(request)

    script = Script(propose=lambda p: actions(action("answer", "x")))
    model, query = FakeModel(reply), asking(1)

    async def counted(seconds: float) -> None:
        waits.append(seconds)

    ctx = RunContext.of(
        query,
        model,
        SelfEvaluator(model),
        Ledger(Budget(tokens=20_000)),
        Settings.load(env={}, retries=2, draft=False),
        sleep=counted,
    )
    events = tuple((await record_run(ctx, "ecoalign", search)).trace)
    assert len(waits) == 4
    assert [e.attempt for e in events if isinstance(e, Called)] == [1, 2] * 4
    await asyncio.wait_for(assert_same(model, query, events), 20)


async def test_runs_that_failed() -> None:
    query = asking(1)
    for script in (
        Script(scan=lambda p: ModelError("no server here", fault="down", billed=False)),
        Script(scan=lambda p: ModelError("who are you", fault="rejected")),
    ):
        model = script.model()
        events = await recorded(model, query, Budget(tokens=20_000))
        assert isinstance(events[-1], RunFailed)
        await assert_same(model, query, events)
    model = Script().model()
    events = await recorded(model, query, Budget(tokens=900))
    assert isinstance(events[-1], RunFailed)
    assert events[-1].error == "BudgetTooSmall"
    await assert_same(model, query, events)


async def test_runs_under_seconds_and_dollars_have_their_times_from_the_tape() -> None:
    def price(model: str, usage: Usage) -> Decimal:
        return Decimal(usage.total) / 10**6

    model, query = shuffled(3).model(), asking(1)
    settings = Settings.load(env={}, max_thoughts=12, draft=False)
    aligner = Aligner(model, settings, price=price)
    events = tuple(
        (await aligner.align(query, Budget(tokens=20_000, usd=0.5, seconds=500.0))).trace
    )
    assert any(isinstance(e, Called) and e.usd for e in events)
    await assert_same(model, query, events, price=price)


async def test_a_changed_world_is_noticed() -> None:
    model, query = shuffled(1).model(), asking(2)
    events = await recorded(model, query, Budget(tokens=15_000))
    for pictures in ((), query.pictures[:1], query.pictures[::-1], asking(3).pictures):
        with pytest.raises(InputError, match="SHA-256"):
            await replay(events, pictures, bound=model.bound)
    with pytest.raises(InputError, match="does not begin"):
        await replay(events[1:], query.pictures, bound=model.bound)
    with pytest.raises(InputError, match="does not begin"):
        await replay((), query.pictures, bound=model.bound)
    lost = tuple(e for e in events if not (isinstance(e, Called) and e.stage == "propose"))
    with pytest.raises(InputError, match="no answer to this propose"):
        await replay(lost, query.pictures, bound=model.bound)


async def test_a_run_scored_by_somebody_else_is_not_replayed() -> None:
    guard = GuardEvaluator(FakeModel(lambda r: "safe", name="guard"))
    aligner = Aligner(
        Script().model(), Settings.load(env={}, max_thoughts=4, draft=False), evaluator=guard
    )
    events = tuple((await aligner.align(asking(1), Budget(tokens=20_000))).trace)
    with pytest.raises(InputError, match="guard:guard"):
        await replay(events, asking(1).pictures)


@pytest.mark.parametrize("name", ["base", "best-of-n"])
async def test_a_run_of_another_method_is_not_replayed(name: str) -> None:
    model = FakeModel(
        lambda r: f"{Prompt.of(r).verdict(9, 9)}" if r.stage == "score" else "an answer"
    )
    method = open_method(name, Settings.load(env={}, retries=0))
    result = await method.answer(asking(0), model, Ledger(Budget(tokens=40_000)))
    with pytest.raises(InputError, match=f"method '{name}' cannot be replayed"):
        await replay(tuple(result.trace), (), bound=model.bound)


async def test_the_nonce_is_new_for_every_run_and_the_fences_follow_from_it() -> None:
    fences: list[set[str]] = []
    for _ in range(2):
        model = Script(propose=lambda p: actions(action("answer"))).model()
        events = await recorded(model, asking(0), Budget(tokens=20_000))
        assert isinstance(events[0], RunStarted)
        fences.append({Prompt.of(r).key for r in model.requests if r.stage == "score"})
    assert not fences[0] & fences[1]


async def test_a_replay_of_the_compact_dialect() -> None:
    said = {
        "scan": "a red circle > 9",
        "propose": "think 9 6 2; answer 9 9 2",
        "execute": "it is red",
        "score": "9 8",
        "write": "red",
    }
    model = FakeModel(lambda r: said[r.stage], dialect="compact")
    events = await recorded(model, asking(1), Budget(tokens=5_000), max_thoughts=6)
    assert isinstance(events[-1], Finished)
    assert events[-1].answer == "it is red"
    await assert_same(model, asking(1), events, dialect="compact")
