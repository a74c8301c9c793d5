"""The loop: scan, propose -> simulate -> score -> execute, extract, answer."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align, asking, of_kind

from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.trace.events import (
    ActionsChosen,
    Called,
    Event,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    RunStarted,
    StepStarted,
    ThoughtAdded,
    Valued,
)


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_the_stages_come_in_the_order_of_the_paper() -> None:
    model = Script(propose=lambda p: actions(action("answer"))).model()
    trace = (await align(model)).trace

    assert [r.stage for r in model.requests] == ["scan", "propose", "execute", "score"]
    assert names(list(trace)) == [
        "RunStarted",
        "Called",
        "RootScanned",
        "StepStarted",
        "Called",
        "Proposed",
        "Valued",
        "ActionsChosen",
        "Called",
        "Called",
        "ThoughtAdded",
        # A second round finds nothing left to expand or to choose.
        "StepStarted",
        "Valued",
        "PathChosen",
        "Finished",
    ]
    assert isinstance(trace.events[0], RunStarted)
    assert isinstance(trace.events[-1], Finished)


async def test_each_step_values_what_was_proposed_before_it_executes_any_of_it() -> None:
    trace = (await align(Script().model(), max_thoughts=12)).trace
    proposed: set[int] = set()
    valued: dict[int, float] = {}
    for event in trace:
        if isinstance(event, Proposed):
            proposed |= set(range(event.first, event.first + len(event.candidates)))
        elif isinstance(event, Valued):
            valued = {one.action: one.value for one in event.actions}
            assert set(valued) <= proposed
            ordered = [one.value for one in event.actions]
            assert ordered == sorted(ordered, reverse=True)
        elif isinstance(event, ActionsChosen):
            assert all(valued[chosen] > 0 for chosen in event.actions)
            proposed -= set(event.actions)
        elif isinstance(event, ThoughtAdded) and event.action >= 0:
            assert event.action in valued


async def test_actions_chosen_together_run_at_once_and_the_batch_is_synchronous() -> None:
    gate = asyncio.Barrier(3)
    under_way: list[str] = []

    async def execute(prompt: Prompt) -> str:
        if not prompt.task.startswith("together"):
            return "alone"
        under_way.append(prompt.task)
        # Nobody gets through before all three are here: they cannot have run one by one.
        await gate.wait()
        return f"thought of {prompt.task}"

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(*(action("think", f"together {i}", [[9, 9, 100]]) for i in range(3)))
        assert len(under_way) == 3  # the next round begins when the batch is over
        return actions(action("answer", "", [[9, 9, 100]]))

    model = Script(propose=propose, execute=execute).model()
    trace = (await asyncio.wait_for(align(model, batch=3), 10)).trace
    assert model.peak == 3
    first = of_kind(list(trace), ActionsChosen)[0]
    assert isinstance(first, ActionsChosen)
    assert first.actions == (0, 1, 2)


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    async def execute(prompt: Prompt) -> str:
        await asyncio.sleep(0)
        return f"thought {prompt.task}"

    propose = lambda p: actions(*(action("think", str(i)) for i in range(4)))  # noqa: E731
    model = Script(propose=propose, execute=execute).model()
    await align(model, batch=4, max_concurrency=2, max_thoughts=5)
    assert model.peak == 2


async def test_outcomes_enter_the_graph_in_the_order_of_the_choice_not_of_arrival() -> None:
    async def execute(prompt: Prompt) -> str:
        for _ in range(10 - 3 * int(prompt.task)):
            await asyncio.sleep(0)
        return f"thought {prompt.task}"

    propose = lambda p: actions(*(action("think", str(i)) for i in range(3)))  # noqa: E731
    trace = (await align(Script(propose=propose, execute=execute).model(), max_thoughts=4)).trace
    added = [e for e in trace if isinstance(e, ThoughtAdded)]
    assert [e.thought.text for e in added[:3]] == ["thought 0", "thought 1", "thought 2"]


@pytest.mark.parametrize(
    "settings",
    [
        {"horizon_unit": "actions"},
        {"horizon_unit": "tokens", "look_ahead": 0.002, "horizon_cap": 64},
    ],
)
async def test_the_horizon_shrinks_as_the_budget_does(settings: dict[str, Any]) -> None:
    script = Script(propose=lambda p: actions(action("think", "a"), action("think", "b")))
    more = settings | {"lambda0": 0.0, "horizon_cap": 64}
    trace = (await align(script.model(), 30_000, **more)).trace
    horizons = [e.horizon for e in trace if isinstance(e, StepStarted)]
    lefts = [e.remaining.tokens or 0 for e in trace if isinstance(e, StepStarted)]
    assert all(a >= b for a, b in pairwise(lefts))
    assert horizons[0] > horizons[-1]
    # The mean cost is not known before the first batch; from then on the horizon never grows.
    assert all(a >= b for a, b in pairwise(horizons[2:]))


async def test_the_horizon_asked_for_is_that_of_the_step() -> None:
    model = Script().model()
    trace = (await align(model, max_thoughts=6, look_ahead=0.05)).trace
    steps = [e.horizon for e in trace if isinstance(e, StepStarted)]
    asked = [r for r in model.requests if r.stage == "propose"]
    for horizon, request in zip(steps, asked, strict=False):
        text = request.messages[-1].text
        if horizon:
            assert f"then up to {horizon} steps after it" in text
        else:
            assert "steps after it" not in text


async def test_myopic_never_looks_ahead_and_fixed_is_blind_to_the_budget() -> None:
    for preset, horizon in (("myopic", 0), ("fixed-horizon", 4)):
        trace = (await align(Script().model(), 20_000, preset=preset)).trace
        assert {e.horizon for e in trace if isinstance(e, StepStarted)} == {horizon}


async def test_a_path_of_greater_use_is_chosen_over_an_earlier_answer() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(
                action("answer", "guess", [[9, 3, 100]]),
                action("think", "work it out", [[9, 2, 100], [9, 9, 100]]),
            )
        return actions(action("answer", "known", [[9, 9, 100]]))

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, {"guess": 2, "work it out": 2, "known": 9}[prompt.item]

    script = Script(propose=propose, execute=lambda p: p.task, score=score)
    result = await align(script.model())
    assert result.answer == "known"
    assert [t.text for t in result.path[1:]] == ["work it out", "known"]
    assert not result.refused
    chosen = [e for e in result.trace if isinstance(e, PathChosen)]
    assert [e.rank for e in chosen] == [0]


async def test_only_answers_and_refusals_win_where_there_are_any() -> None:
    # Thoughts are of greater use and cheaper than the answer, which wins all the same.
    script = Script(score=lambda p: (9, 1 if p.kind == "answer" else 9))
    for economy in ("surplus", "ratio", "no-cost"):
        result = await align(script.model(), economy=economy, max_thoughts=12)
        assert result.path[-1].kind is ThoughtKind.ANSWER
        assert result.answer == result.path[-1].text


async def test_without_any_answer_one_is_written_from_the_best_path_and_scored() -> None:
    def propose(prompt: Prompt) -> str:
        return actions(action("think", "deep")) if len(prompt.thoughts) < 3 else actions()

    model = Script(propose=propose).model()
    result = await align(model)
    assert result.answer == "the written answer"
    assert [r.stage for r in model.requests][-2:] == ["write", "score"]
    scored = Prompt.of(model.requests[-1])
    assert scored.item == "the written answer"
    # It is scored against the path that it was written from.
    assert [t[2] for t in scored.thoughts] == [t.text for t in result.path[:-1]]
    assert result.path[-1].kind is ThoughtKind.ANSWER


async def test_a_look_sees_its_part_of_its_image_and_everything_else_the_views() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) > 1:
            return actions(action("answer", "", [[9, 9, 100]]))
        return actions(action("look", "there", region=[600, 0, 900, 300], image=2))

    model = Script(propose=propose).model()
    result = await align(model, query=asking(2))
    by_stage = {r.stage: r.messages[-1].images for r in model.requests[:4]}
    assert [len(by_stage[s]) for s in ("scan", "propose", "execute", "score")] == [2, 2, 1, 1]
    # As large as the view of its image, so that the one tells what the other costs.
    crop, view = by_stage["execute"][0], by_stage["scan"][1]
    assert (crop.width, crop.height, crop.detail) == (view.width, view.height, view.detail)
    assert by_stage["score"] == by_stage["execute"]
    look = next(t for t in result.path if t.kind is ThoughtKind.LOOK)
    assert look.region is not None
    assert (look.region.x0, look.region.image) == (0.6, 1)


async def test_cost_of_a_thought_is_what_its_making_and_scoring_was_charged() -> None:
    trace = (await align(Script().model(), max_thoughts=6)).trace
    waiting = 0
    checked = 0
    for event in trace:
        if isinstance(event, Called) and event.stage in ("execute", "score"):
            waiting += event.charged.total
        elif isinstance(event, ThoughtAdded) and event.action >= 0:
            # Calls of one action come right before what they made.
            assert event.thought.cost == waiting
            waiting, checked = 0, checked + 1
    assert checked > 2


async def test_path_cost_and_spending_are_two_things() -> None:
    result = await align(Script().model(), max_thoughts=8)
    path_cost = sum(t.cost for t in result.path[1:])
    charged = [e.charged for e in result.trace if isinstance(e, Called)]
    assert result.spent.tokens.total == sum(usage.total for usage in charged)
    assert result.spent.tokens.total == sum(s.tokens for s in result.spent.by_stage.values())
    chosen = next(e for e in result.trace if isinstance(e, PathChosen))
    assert chosen.cost == path_cost < result.spent.tokens.total
    root = next(e for e in result.trace if isinstance(e, RootScanned)).root
    assert root.cost == result.spent.by_stage["scan"].tokens  # known, and not in C[P]
