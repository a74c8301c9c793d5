"""Whatever a model does: spent <= B, every hold is closed, the run ends, the answer is scored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from chaos import Chaos, HighBound, prices
from clock import no_wait
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Prompt, Script, action, actions, align, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, ModelError, UnpricedModelError, VerdictError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.models import ChatRequest, Profile
from ecoalign.models.fake import FakeModel
from ecoalign.search.context import RunContext, record_run
from ecoalign.search.loop import search
from ecoalign.search.synthesizer import FIXED_REFUSALS
from ecoalign.settings import PRESETS, Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    Called,
    Finished,
    PathChosen,
    RunFailed,
    StepStarted,
    ThoughtAdded,
)

if TYPE_CHECKING:
    pass

KINDS = ["think", "look", "fuse", "answer", "refuse", "fly"]


class Wild(Chaos):
    """Anything at any stage of a search."""

    def text(self, request: ChatRequest) -> str:
        rng, prompt = self.rng, Prompt.of(request)
        if prompt.stage == "scan":
            body = {"caption": "c" * rng.randrange(400), "safety": rng.randrange(10)}
            return json.dumps(body | {"strategy": rng.choice(["", "careful " * 30])})
        if prompt.stage == "propose":
            ids = [number for number, _, _ in prompt.others] or [7]
            return actions(
                *(
                    action(
                        rng.choice(KINDS),
                        "x" * rng.randrange(50),
                        [
                            [rng.randrange(10), rng.randrange(10), rng.choice([0, 1, 50, 10**9])]
                            for _ in range(rng.randrange(4))
                        ],
                        region=[0, 0, rng.randrange(1, 1001), 500],
                        image=rng.randrange(2),
                        partners=[rng.choice(ids)],
                    )
                    for _ in range(rng.randrange(6))
                )
            )
        if prompt.stage == "score":
            return prompt.verdict(rng.choice([0, 3, 5, 9, 9, 9]), rng.randrange(10))
        return rng.choice(["same", "t" * rng.randrange(1, 900), f"thought {rng.random()}"])


async def wild_run(
    wild: Wild, budget: Budget, chosen: Settings, ledgers: list[Ledger]
) -> Alignment:
    model = HighBound(wild)
    ledger = Ledger(budget, prices, lambda: wild.clock)
    ledgers.append(ledger)
    ctx = RunContext.of(
        asking(1),
        model,
        SelfEvaluator(model),
        ledger,
        chosen,
        clock=lambda: wild.clock,
        sleep=no_wait,
    )
    return await asyncio.wait_for(record_run(ctx, "ecoalign", search), 60)


budgets = st.builds(
    Budget,
    st.none() | st.integers(300, 40_000),
    st.none() | st.floats(0.001, 0.3),
    st.none() | st.floats(0.05, 30.0),
).filter(lambda budget: not budget.is_empty)

choices = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(sorted(PRESETS)),
        "fidelity": st.sampled_from(["forecast", "surrogate", "rollout"]),
        "batch": st.integers(1, 5),
        "max_thoughts": st.integers(1, 20),
        "max_depth": st.integers(1, 4),
        "retries": st.integers(0, 1),
        "synthesis": st.sampled_from(["needed", "always"]),
        "unsafe_root": st.sampled_from(["refuse", "explore"]),
        "draft": st.booleans(),
        "verified_utility": st.sampled_from([None, 0.0, 1.0]),
        "confirm": st.booleans(),
        "unsafe_answers": st.integers(1, 5),
        "satisfice": st.booleans(),
        "second_thought": st.booleans(),
        "batch_margin": st.sampled_from([0.0, 0.7]),
    }
)


def check_money(budget: Budget, ledger: Ledger) -> None:
    spent = ledger.spent
    assert ledger.open_calls == 0
    assert ledger.reserved.tokens in (0, None)
    with pytest.raises(ValueError, match="no fund"):
        ledger.remaining("action 0")
    if budget.tokens is not None:
        assert spent.tokens.total <= budget.tokens
    if budget.usd is not None:
        assert spent.usd is not None
        assert spent.usd <= budget.usd


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.1, 0.4, 1.0]), budgets, choices)
def test_any_run_ends_within_its_budget_with_a_scored_answer_or_a_clear_error(
    seed: int, chaos: float, budget: Budget, chosen: dict[str, Any]
) -> None:
    if budget.tokens is None and PRESETS[chosen["preset"]].get("horizon_unit") == "tokens":
        chosen = chosen | {"horizon_unit": "actions"}
    wild = Wild(seed, chaos)
    ledgers: list[Ledger] = []
    settings_given = Settings.load(env={}, budget=budget, **chosen)
    try:
        result: Alignment | None = asyncio.run(wild_run(wild, budget, settings_given, ledgers))
        events = None if result is None else result.trace
    except (ModelError, VerdictError, BudgetTooSmall) as error:
        result, events, outage = None, error.trace, not isinstance(error, BudgetTooSmall)
    check_money(budget, ledgers[0])
    assert events is not None
    if result is None:
        # Once the search has begun there is always an answer, but in an outage.
        assert isinstance(events.events[-1], RunFailed)
        assert outage or not any(isinstance(e, StepStarted) for e in events)
        return
    last = result.trace.events[-1]
    assert isinstance(last, Finished)
    charged = [e.charged.total for e in result.trace if isinstance(e, Called)]
    assert sum(charged) == result.spent.tokens.total
    if result.answer in FIXED_REFUSALS:
        assert result.refused
        assert result.stop_reason == "fail-closed"
        return
    scored = [e.thought.text for e in result.trace if isinstance(e, ThoughtAdded) and not e.pruned]
    assert result.answer in scored
    if settings_given.aggregator == "min":
        assert all(t.safety >= settings_given.safety_threshold for t in result.path[1:])
    assert result.safety is not None
    assert result.safety >= settings_given.safety_threshold
    assert sum(t.cost for t in result.path[1:]) <= result.spent.tokens.total


@pytest.mark.parametrize("tokens", [1, 300, 700, 900, 1100, 1300, 1500, 1700])
@pytest.mark.parametrize("caption", ["short", "long " * 60])
@pytest.mark.parametrize("request_safety", [0, 9])
async def test_the_smallest_budget_that_is_named_does_answer(
    tokens: int, caption: str, request_safety: int
) -> None:
    script = Script(caption=caption, request_safety=request_safety)
    small: BudgetTooSmall | None = None
    try:
        result = await align(script.model(), tokens)
    except BudgetTooSmall as error:
        small = error
        result = await align(script.model(), int(small.smallest))
    if tokens < 1000:
        assert small is not None
    if small is not None:
        assert small.unit == "tokens"
        assert small.smallest > tokens
        assert str(int(small.smallest)) in str(small)
        assert small.trace is not None
    assert result.answer not in FIXED_REFUSALS
    assert result.spent.tokens.total <= (result.budget.tokens or 0)


async def test_in_dollars_too() -> None:
    chosen = Settings.load(env={}, draft=False)
    tight = Aligner(Script().model(), chosen, price=prices)
    with pytest.raises(BudgetTooSmall) as caught:
        await tight.align(asking(), Budget(usd=1e-4))
    assert caught.value.unit == "usd"
    enough = Budget(usd=caught.value.smallest * 1.0001)
    result = await tight.align(asking(), enough)
    assert result.answer not in FIXED_REFUSALS
    assert result.spent.usd is not None
    assert result.spent.usd <= (enough.usd or 0)


async def test_an_unknown_price_is_an_error_before_anything_is_called() -> None:
    model = Script().model("fake:unpriced")
    with pytest.raises(UnpricedModelError) as caught:
        await align(model, Budget(usd=1.0))
    assert model.calls == 0
    assert caught.value.trace is not None


async def test_a_batch_is_paid_for_together_in_dollars_as_in_tokens() -> None:
    """Each of two actions fits what is left, both together do not: only one is chosen."""
    propose = lambda p: (  # noqa: E731
        actions(*(action("think", str(i)) for i in range(4))) if len(p.thoughts) == 1 else actions()
    )
    for cents in range(2, 40, 2):
        aligner = Aligner(
            Script(propose=propose).model(),
            Settings.load(env={}, lambda0=0.0, draft=False),
            price=prices,
        )
        try:
            trace = (await aligner.align(asking(), Budget(usd=cents / 1000))).trace
        except BudgetTooSmall:
            continue
        assert "execute" not in {getattr(e, "stage", "") for e in trace if hasattr(e, "cause")}


@pytest.mark.parametrize("proposal", ["", "[]", actions(), actions({"kind": "fly"}), "<html>"])
async def test_a_model_that_proposes_nothing_ends_the_search_at_once(proposal: str) -> None:
    model = Script(propose=lambda p: proposal).model()
    result = await align(model)
    assert [r.stage for r in model.requests] == ["scan", "propose", "write", "score"]
    assert result.answer == "the written answer"
    assert result.stop_reason == "no-positive-action"


async def test_proposals_are_not_bought_when_no_action_can_be_paid_for() -> None:
    """What is left pays for further proposals, but not for carrying one of them out."""
    script = Script(
        propose=lambda p: actions(*(action("answer", str(i), [[9, 9, 50]]) for i in range(4))),
        execute=lambda p: p.task * 50,
    )
    seen = 0
    for budget in range(4_000, 7_500, 150):
        result = await align(script.model(), budget, lambda0=0.0, batch=1)
        stages = [e.stage for e in result.trace if isinstance(e, Called)]
        if result.stop_reason == "budget":
            seen += 1
            assert stages[-4:].count("propose") <= 1
            assert "has no room for" in result.hint
    assert seen


async def test_thoughts_that_are_too_long_to_be_written_from_still_leave_an_answer() -> None:
    """Every token goes into the search; the answer is then written from less."""
    script = Script(
        propose=lambda p: actions(*(action("think", str(i)) for i in range(4))),
        execute=lambda p: f"{p.task} " + "long thought " * 60,
    )
    for budget in range(4_000, 10_400, 400):
        result = await align(script.model(), budget, lambda0=0.0)
        assert result.answer == "the written answer", budget
        assert result.spent.tokens.total <= budget


async def test_what_it_takes_to_write_from_a_longer_path_is_set_aside_as_the_path_grows() -> None:
    """However the search spends the rest, the best path is the one that is written from."""
    script = Script(
        propose=lambda p: actions(action("think", "one"), action("think", "two")),
        execute=lambda p: f"{p.task} " + "long thought " * 120,
    )
    for budget in range(8_000, 16_000, 400):
        result = await align(script.model(), budget, lambda0=0.0)
        assert result.stop_reason == "budget"
        assert result.path[-1].text == "the written answer"
        assert [e.rank for e in result.trace if isinstance(e, PathChosen)] == [0], budget


async def test_the_horizon_in_dollars_is_how_many_more_actions_they_buy() -> None:
    chosen = Settings.load(env={}, lambda0=0.0, draft=False, horizon_cap=64, look_ahead=1.0)
    aligner = Aligner(Script().model(), chosen, price=lambda model, usage: Decimal(usage.total))
    result = await aligner.align(asking(), Budget(usd=15_000.0))
    steps = [e for e in result.trace if isinstance(e, StepStarted)]
    assert len(steps) > 3
    for step in steps:
        # A token costs a dollar, so an action costs as many dollars as tokens.
        assert step.remaining.usd is not None
        assert step.horizon == int(step.remaining.usd / step.mean_cost)


async def test_the_answer_has_time_of_its_own_in_a_budget_of_seconds() -> None:
    now = [0.0]

    def tick(prompt: Prompt) -> str:
        now[0] += 1.0
        return f"thought {now[0]}"

    propose = lambda p: actions(*(action("think", str(i)) for i in range(4)))  # noqa: E731
    script = Script(propose=propose, execute=tick)
    chosen = Settings.load(env={}, lambda0=0.0, draft=False, max_thoughts=500, max_depth=64)
    aligner = Aligner(script.model(), chosen, clock=lambda: now[0])
    result = await aligner.align(asking(), Budget(seconds=20.0))
    assert result.stop_reason == "budget"
    assert result.answer == "the written answer"
    assert result.spent.seconds <= 20.0
    horizons = [e.horizon for e in result.trace if isinstance(e, StepStarted)]
    assert horizons[-1] < max(horizons)


async def test_a_token_counter_that_hangs_takes_little_of_a_budget_of_seconds() -> None:
    class Hanging(FakeModel):
        async def count_lines(self, lines: Iterable[str]) -> None:
            await asyncio.Event().wait()

    model = Hanging(Script(), profile=Profile(tokenize="/tokenize"))
    async with asyncio.timeout(5.0):
        result = await Aligner(model, Settings.load(env={})).align(asking(), Budget(seconds=1.0))
    assert result.answer
    assert result.spent.seconds <= 1.0
