"""Speculation: fewer calls in line, the same answer, inside the budget, and nothing unscored."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Prompt, Script, action, actions, align, asking
from ticking import Ticking, ticks_of

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import EcoAlignError, ModelError
from ecoalign.models import ChatRequest, Completion
from ecoalign.models.fake import FakeModel
from ecoalign.replay import replay
from ecoalign.search.context import IN_VAIN
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Called, RunFailed, ThoughtAdded, to_json

LONG = [[9, 5], [9, 9]]


def deep(prompt: Prompt) -> str:
    """A thought, then one that grows from it, then an answer."""
    depth = len(prompt.thoughts)
    if depth < 3:
        return actions(action("think", f"step {depth}", [*LONG, *LONG][: 4 - depth]))
    return actions(action("answer", "", [[9, 9]]))


def calls_of(result: Alignment) -> list[Called]:
    return [event for event in result.trace if isinstance(event, Called)]


def told(result: Alignment) -> list[tuple[str, str]]:
    return [(thought.kind.value, thought.text) for thought in result.path]


async def test_the_proposal_and_the_answer_start_while_a_thought_is_scored() -> None:
    found = {}
    for speculate in ("off", "likely"):
        model = Ticking(Script(propose=deep, execute=lambda p: f"{p.kind} {p.task}"))
        run = align(model, speculate=speculate, max_thoughts=4)
        found[speculate], ticks = await ticks_of(run, model)
        assert found[speculate].critical_path == ticks
    off, likely = found["off"], found["likely"]
    assert told(off) == told(likely)
    assert off.spent.tokens == likely.spent.tokens
    # Off: scan, (propose, execute, score) for two thoughts and the answer. Likely: both further
    # proposals and the answer itself run beside a score.
    assert (off.critical_path, likely.critical_path) == (10, 7)
    assert off.spent.by_stage.keys() == likely.spent.by_stage.keys()


@pytest.mark.parametrize(("speculate", "line"), [("off", 5), ("likely", 5), ("all", 4)])
async def test_the_proposal_from_the_root_starts_while_the_draft_is_scored(
    speculate: str, line: int
) -> None:
    script = Script(
        propose=lambda p: actions(action("think", "on", [[9, 9]])),
        score=lambda p: (9, 2 if p.kind == "answer" else 5),
    )
    model = Ticking(script)
    run = align(model, speculate=speculate, draft=True, max_thoughts=3)
    result, ticks = await ticks_of(run, model)
    assert result.critical_path == ticks == line


async def test_where_the_request_needs_caution_it_is_likely_to_be_needed() -> None:
    script = Script(request_safety=6, score=lambda p: (9, 2 if p.kind == "answer" else 5))
    model = Ticking(script)
    run = align(model, speculate="likely", draft=True, max_thoughts=3)
    result, ticks = await ticks_of(run, model)
    first = [call.stage for call in calls_of(result) if call.waited == 1]
    assert sorted(first) == ["propose", "score"]
    assert result.critical_path == ticks


async def test_what_was_asked_in_vain_is_booked_apart() -> None:
    """The draft stands, so the proposal from the root was not needed."""
    script = Script(score=lambda p: (9, 9))
    off = await align(script.model(), draft=True, speculate="off")
    result = await align(script.model(), draft=True, speculate="all")
    assert (result.answer.split()[0], result.ended) == (off.answer.split()[0], "drafted")
    vain = result.spent.by_stage[IN_VAIN]
    assert vain.calls == 1
    assert result.spent.tokens.total - off.spent.tokens.total == vain.tokens > 0
    assert set(result.spent.by_stage) - set(off.spent.by_stage) == {IN_VAIN}
    assert result.critical_path == off.critical_path == 2


@pytest.mark.parametrize("speculate", ["off", "likely", "all"])
async def test_spending_by_stage_is_that_of_the_trace(speculate: str) -> None:
    script = Script(score=lambda p: (1 if "number 2" in p.item else 9, 5))
    result = await align(script.model(), draft=True, speculate=speculate, max_thoughts=9)
    tokens: Counter[str] = Counter()
    for call in calls_of(result):
        tokens[call.stage] += call.charged.total
    assert tokens == {name: stage.tokens for name, stage in result.spent.by_stage.items()}
    assert result.spent.calls == len(calls_of(result))


async def test_an_answer_from_a_thought_that_proves_unsafe_is_lost_and_never_scored() -> None:
    """It is asked ahead, and so is the proposal; neither gets any further."""
    answers = []

    def execute(prompt: Prompt) -> str:
        if prompt.kind == "answer" and "POISON" in str(prompt.thoughts):
            answers.append(prompt)
            return "CANARY"
        return "POISON" if prompt.task == "bad" else f"{prompt.kind} {prompt.task}"

    def propose(prompt: Prompt) -> str:
        if "POISON" in str(prompt.thoughts):
            return actions(action("think", "CANARY", LONG), action("answer"))
        return actions(action("think", "bad", LONG), action("answer", "", [[9, 3]]))

    script = Script(
        propose=propose, execute=execute, score=lambda p: (0 if "POISON" in p.item else 9, 7)
    )
    model = script.model()
    result = await align(model, speculate="likely", max_thoughts=5)
    assert answers
    assert not any("CANARY" in Prompt.of(request).item for request in model.requests)
    assert not any("CANARY" in request.messages[-1].text for request in model.requests)
    assert "CANARY" not in result.answer
    added = [event.thought for event in result.trace if isinstance(event, ThoughtAdded)]
    assert not any("CANARY" in thought.text for thought in added)
    assert result.spent.by_stage[IN_VAIN].calls == 2


@pytest.mark.parametrize("verdict", [9, 0])
async def test_an_answer_that_needs_two_verdicts_is_given_both_at_once(verdict: int) -> None:
    """The first answer was unsafe; where the second one is, too, its second verdict was in vain."""
    script = Script(
        propose=lambda p: actions(
            action("answer", "first", [[9, 9]]), action("answer", "second", [[9, 8]])
        ),
        execute=lambda p: p.task,
        score=lambda p: (verdict if p.item == "second" else 0, 9),
    )
    lines = {}
    for speculate in ("off", "likely"):
        model = Ticking(script)
        run = align(model, speculate=speculate, unsafe_answers=2)
        result, ticks = await ticks_of(run, model)
        assert result.critical_path == ticks
        assert (result.answer == "second") == (verdict == 9)
        lines[speculate] = ticks
        assert (IN_VAIN in result.spent.by_stage) == (speculate != "off" and verdict == 0)
    assert lines["off"] - lines["likely"] == (verdict == 9)


class Watched(Ledger):
    """Fails as soon as more than the budget is committed."""

    def reserve(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        made = super().reserve(*args, **kwargs)  # type: ignore[arg-type]
        assert (self.committed.tokens or 0) <= (self.budget.tokens or 0)
        return made


@settings(max_examples=25, deadline=None)
@given(st.integers(2_000, 14_000), st.sampled_from(["likely", "all"]), st.booleans())
def test_no_budget_is_passed_and_the_answer_is_always_paid_for(
    tokens: int, speculate: str, draft: bool
) -> None:
    def run(value: str) -> Alignment | None:
        aligner = Aligner(
            Script(propose=deep).model(),
            Settings.load(env={}, retries=0, draft=draft, speculate=value),
        )
        try:
            return asyncio.run(aligner.align(asking(), ledger=Watched(Budget(tokens=tokens))))
        except EcoAlignError:
            return None

    off, on = run("off"), run(speculate)
    assert (off is None) == (on is None)
    if off is not None and on is not None:
        assert on.spent.tokens.total <= tokens
        assert on.refused == off.refused


@pytest.mark.parametrize("speculate", ["likely", "all"])
async def test_the_same_run_again_whatever_ends_first(speculate: str) -> None:
    """Each call takes another number of turns of the loop, also the speculated ones."""
    turns = iter(range(10_000))

    class Uneven(FakeModel):
        async def complete(self, request: ChatRequest) -> Completion:
            for _ in range(7 * next(turns) % 11):
                await asyncio.sleep(0)
            return await super().complete(request)

    for _ in range(4):
        script = Script(score=lambda p: (1 if "number 3" in p.item else 9, 5))
        query = asking()
        result = await align(
            Uneven(script), query=query, draft=True, speculate=speculate, max_thoughts=9
        )
        again = await replay(result.trace.events, query.pictures, bound=Uneven(script).bound)
        assert [*map(to_json, again)] == [*map(to_json, result.trace.events)]


async def test_a_proposal_that_failed_ahead_has_failed() -> None:
    """It is not asked for twice, and its failure is told where it would have been asked for."""
    asked = Counter[str]()

    def propose(prompt: Prompt) -> object:
        asked[prompt.last] += 1
        if len(prompt.thoughts) > 1:
            return ModelError("down", fault="down", billed=False)
        return actions(action("think", "on", LONG), action("answer", "", [[9, 5]]))

    script = Script(propose=propose, execute=lambda p: f"{p.kind} {p.task}")  # type: ignore[arg-type]
    result = await align(script.model(), speculate="likely", max_thoughts=4)
    assert max(asked.values()) == 1
    assert IN_VAIN not in result.spent.by_stage or not result.refused
    assert any(e.stage == "propose" and e.error is not None for e in calls_of(result))


async def test_all_is_on_record_where_the_run_is_cut_off() -> None:
    model = Ticking(Script(propose=deep))
    ledger = Ledger(Budget(tokens=100_000))
    events: list[object] = []
    aligner = Aligner(model, Settings.load(env={}, retries=0, draft=False))
    task = asyncio.create_task(aligner.align(asking(), ledger=ledger, on_event=events.append))
    while (under_way := len(model.waiting)) < 2:
        # Until a score and what is asked beside it are under way.
        model.tick()
        for _ in range(100):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    calls = [event for event in events if isinstance(event, Called)]
    assert isinstance(events[-1], RunFailed)
    assert sum(call.error is not None for call in calls) == under_way
    assert sum(call.charged.total for call in calls) == ledger.spent.tokens.total
    assert ledger.open_calls == 0
    assert ledger.reserved.tokens == 0
