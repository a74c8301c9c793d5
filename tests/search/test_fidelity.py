"""How the future is simulated: forecasts, a surrogate that learns, rollouts that are paid for."""

from __future__ import annotations

import pytest
from scripted import Prompt, Script, action, actions, align, asking, image

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import ModelError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.graph import ROOT, ActionKind, Candidate, Forecast, PendingAction, ValuedAction
from ecoalign.query import Query
from ecoalign.search.context import RunContext
from ecoalign.search.simulator import Simulator, SurrogateSimulator
from ecoalign.settings import Settings
from ecoalign.trace.events import (
    ActionsChosen,
    Called,
    Finished,
    Proposed,
    ThoughtAdded,
    Valued,
)


def deep(prompt: Prompt) -> str:
    return actions(
        action("think", "a", [[9, 5, 300], [9, 9, 300]]),
        action("answer", "b", [[9, 6, 300]]),
        action("think", "c", [[9, 4, 300], [9, 6, 300]]),
    )


async def test_a_forecast_costs_no_tokens() -> None:
    for fidelity in ("forecast", "surrogate"):
        result = await align(Script(propose=deep).model(), fidelity=fidelity, max_thoughts=10)
        assert "simulate" not in result.spent.by_stage


async def test_a_rollout_is_generated_and_paid_for_under_its_own_stage() -> None:
    model = Script(propose=deep).model()
    result = await align(model, fidelity="rollout", max_thoughts=6)
    simulated = [e for e in result.trace if isinstance(e, Called) and e.stage == "simulate"]
    assert result.spent.by_stage["simulate"].tokens == sum(e.charged.total for e in simulated)
    assert len(simulated) > 2
    assert result.spent.tokens.total == sum(
        e.charged.total for e in result.trace if isinstance(e, Called)
    )


async def test_a_rollout_goes_on_to_the_most_hopeful_of_what_follows() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "lead"))
        return actions(
            action("answer", "poor", [[9, 2, 100]]),
            action("answer", "good", [[9, 9, 100]]),
            action("answer", "unsafe", [[1, 9, 100]]),
        )

    model = Script(propose=propose, execute=lambda p: p.task).model()
    await align(model, fidelity="rollout", max_thoughts=2)
    simulated = [Prompt.of(r) for r in model.requests if r.stage == "simulate"]
    assert [(p.stage, p.task or p.item) for p in simulated] == [
        ("execute", "lead"),
        ("score", "lead"),
        ("propose", ""),
        ("execute", "good"),
        ("score", "good"),
    ]


async def test_a_simulated_action_is_not_paid_for_again_when_it_is_chosen() -> None:
    model = Script(propose=lambda p: actions(action("answer", "only"))).model()
    result = await align(model, fidelity="rollout")
    assert [r.stage for r in model.requests] == ["scan", "propose", "simulate", "simulate"]
    added = next(e for e in result.trace if isinstance(e, ThoughtAdded))
    # Its cost is known all the same.
    assert added.thought.cost == result.spent.by_stage["simulate"].tokens
    assert result.answer == added.thought.text


async def test_every_call_of_a_rollout_is_on_record_before_the_values_it_led_to() -> None:
    result = await align(Script(propose=deep).model(), fidelity="rollout", max_thoughts=4)
    waiting = 0
    for event in result.trace:
        if isinstance(event, Called) and event.stage == "simulate":
            waiting += 1
        elif isinstance(event, Valued):
            waiting = 0
        elif isinstance(event, ActionsChosen):
            assert waiting == 0


async def test_a_rollout_that_turns_out_unsafe_is_never_chosen_nor_gone_on_from() -> None:
    def execute(prompt: Prompt) -> str:
        return f"CANARY {prompt.task}" if prompt.task == "a" else f"fine {prompt.task}"

    model = Script(
        propose=deep, execute=execute, score=lambda p: (0, 9) if "CANARY" in p.item else (9, 8)
    ).model()
    result = await align(model, fidelity="rollout", max_thoughts=5)
    assert not any("CANARY" in t.text for t in result.path)
    later = [p for p in map(Prompt.of, model.requests) if p.stage != "score"]
    assert not any("CANARY" in p.text for p in later)


@pytest.mark.parametrize("broken", ["propose", "execute", "score"])
async def test_a_rollout_that_breaks_off_does_not_break_the_run(broken: str) -> None:
    """The first proposal is answered; what a rollout asks for beyond it fails."""
    asked = 0

    def propose(prompt: Prompt) -> str | ModelError:
        nonlocal asked
        asked += 1
        if broken == "propose" and asked == 2:
            return ModelError("gone", fault="server")
        return deep(prompt) if asked != 3 else "garbage"

    def execute(prompt: Prompt) -> str | ModelError:
        if broken == "execute" and len(prompt.thoughts) > 1:
            return ModelError("gone", fault="server")
        return f"thought {prompt.task} {len(prompt.thoughts)}"

    def score(prompt: Prompt) -> tuple[int, int] | str:
        return "?" if broken == "score" and len(prompt.thoughts) > 1 else (9, 8)

    script = Script(propose=propose, execute=execute, score=score)
    result = await align(script.model(), fidelity="rollout", max_thoughts=6)
    assert isinstance(result.trace.events[-1], Finished)
    assert not result.refused


async def test_rollouts_stay_within_a_small_budget() -> None:
    for budget in range(4_000, 7_600, 300):
        result = await align(Script(propose=deep).model(), budget, fidelity="rollout")
        assert result.spent.tokens.total <= budget
        assert result.answer


def disappointing(prompt: Prompt) -> str:
    """Looks promise more than thoughts, every time."""
    n = len(prompt.thoughts)
    at = 90 * (n - 1)
    return actions(
        action("look", f"look {n}", [[9, 8, 300]], region=[at, 0, at + 80, 80]),
        action("look", f"peek {n}", [[9, 8, 300]], region=[at, 900, at + 80, 980]),
        action("think", f"think {n}", [[9, 6, 300]]),
    )


def rank_of_looks(events: list[ValuedAction]) -> list[str]:
    return [one.kind.value for one in events]


async def test_a_kind_of_action_that_always_disappoints_is_ranked_lower_by_the_surrogate() -> None:
    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, 0 if prompt.kind == "look" else 6

    orders = {}
    for fidelity in ("forecast", "surrogate"):
        script = Script(propose=disappointing, score=score)
        result = await align(
            script.model(),
            query=Query.of(image(2000, 1500), "What does the sign say?"),
            fidelity=fidelity,
            batch=1,
            max_thoughts=10,
            lambda0=0.0,
            merge=False,
        )
        chosen = [e.actions[0] for e in result.trace if isinstance(e, ActionsChosen)]
        kinds = {
            e.first + i: c.kind.value
            for e in result.trace
            if isinstance(e, Proposed)
            for i, c in enumerate(e.candidates)
        }
        orders[fidelity] = [kinds[one] for one in chosen]
    # Believing the forecasts, looks come first to the end; the surrogate has learned.
    assert set(orders["forecast"]) == {"look"}
    assert orders["surrogate"][0] == "look"
    assert set(orders["surrogate"][-4:]) == {"think"}


def context() -> RunContext:
    model, ledger = Script().model(), Ledger(Budget(tokens=1000))
    return RunContext.of(asking(), model, SelfEvaluator(model), ledger, Settings.load(env={}))


@pytest.mark.parametrize("simulator", [Simulator(), SurrogateSimulator()])
async def test_the_engine_prices_the_steps_whatever_the_model_made_of_them(
    simulator: Simulator,
) -> None:
    cheap = Candidate(ActionKind.THINK, "", (Forecast(1.0, 0.5, 10.0), Forecast(0.5, 1.0, 20.0)))
    assert not await simulator.prepare(context(), (), 1)
    found = simulator.forecast(PendingAction(7, ROOT, cheap), 300.0, 400.0)
    assert found == (Forecast(1.0, 0.5, 300.0), Forecast(0.5, 1.0, 400.0))


@pytest.mark.parametrize("gap", [-1.0, 1.0])
async def test_the_surrogate_never_leaves_the_ranges_of_the_scores(gap: float) -> None:
    """What it has seen so far was far worse (or better) than forecast, every time."""
    surrogate = SurrogateSimulator()
    seen = Candidate(ActionKind.THINK, "", (Forecast(-gap, 0.5 - gap / 2, 10.0),))
    for _ in range(20):
        surrogate.learn(seen, gap, 0.5 + gap / 2)
    extreme = Candidate(ActionKind.THINK, "", (Forecast(gap, 0.5 + gap / 2, 10.0),))
    assert await surrogate.prepare(context(), (), 1)  # what was learned may raise a value
    assert not await surrogate.prepare(context(), (), 1)
    found = surrogate.forecast(PendingAction(0, ROOT, extreme), 10.0, 10.0)
    assert found == (Forecast(gap, 0.5 + gap / 2, 10.0),)


@pytest.mark.parametrize("economy", ["surplus", "ratio"])
async def test_what_a_model_forecasts_to_be_cheap_or_dear_is_valued_alike(economy: str) -> None:
    """It forecasts safety and utility; a reply that still has a cost is read."""
    valued = []
    for cost in (10_000, 99_999):
        propose = lambda p, c=cost: actions(action("think", "x", [[9, 6, c]]))  # noqa: E731
        result = await align(Script(propose=propose).model(), max_thoughts=6, economy=economy)
        values = [e.actions[0].value for e in result.trace if isinstance(e, Valued) and e.actions]
        valued.append(values)
    assert len(valued[0]) > 2
    assert valued[0] == valued[1]
