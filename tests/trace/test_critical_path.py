"""Calls in line: what had to wait for what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from methodical import Stages, answered
from scripted import Script, action, actions, align, asking
from ticking import Ticking, ticks_of

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.errors import ModelError
from ecoalign.evaluators import Ensemble, SelfEvaluator
from ecoalign.models import ChatRequest, Usage
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.replay import replay
from ecoalign.settings import Settings
from ecoalign.trace import critical_path
from ecoalign.trace.events import ActionsChosen, Called, CallFailure, to_json


def thinking(count: int) -> Script:
    """Proposes so many thoughts from the root, and nothing from them."""
    return Script(
        propose=lambda p: (
            actions(*(action("think", str(i), [[9, 8, 100]]) for i in range(count)))
            if len(p.thoughts) == 1
            else actions()
        )
    )


@pytest.mark.parametrize("synthesis", ["needed", "always"])
@pytest.mark.parametrize("batch", [1, 2, 4])
async def test_it_is_what_a_clock_would_show(synthesis: str, batch: int) -> None:
    model = Ticking()
    run = align(model, synthesis=synthesis, max_thoughts=9, batch_margin=0.0, batch=batch)
    result, ticks = await ticks_of(run, model)
    assert critical_path(result.trace.events) == result.critical_path == ticks
    assert (ticks == result.spent.calls) == (batch == 1)


@pytest.mark.parametrize("fidelity", ["forecast", "rollout"])
@pytest.mark.parametrize("preset", ["default", "paper"])
async def test_one_action_at_a_time_makes_every_call_wait(fidelity: str, preset: str) -> None:
    model = Ticking()
    run = align(model, preset=preset, batch=1, max_thoughts=5, fidelity=fidelity, speculate="off")
    result, ticks = await ticks_of(run, model)
    assert result.critical_path == result.spent.calls == ticks


@pytest.mark.parametrize(
    ("name", "calls", "ticks"), [("base", 1, 1), ("best-of-4", 8, 2), ("vlm-guard", 4, 4)]
)
async def test_other_methods_are_counted_the_same_way(name: str, calls: int, ticks: int) -> None:
    model = Ticking(Stages())
    result, took = await ticks_of(answered(name, model), model)
    assert (result.spent.calls, result.critical_path, took) == (calls, ticks, ticks)


async def test_a_model_that_answers_at_once_has_the_same_line() -> None:
    result = await align(thinking(3).model(), batch_margin=0.0, max_thoughts=4)
    batches = [len(e.actions) for e in result.trace if isinstance(e, ActionsChosen)]
    assert 3 in batches
    # Of each batch one line counts: execute and score.
    at_once = sum(2 * (size - 1) for size in batches)
    assert result.critical_path == result.spent.calls - at_once


async def test_a_retry_lengthens_the_line_of_its_own_action_only() -> None:
    """One of two actions fails once, the other twice: the longer line counts."""
    left = {"a": 1, "b": 2}

    def flaky(request: ChatRequest) -> Reply:
        for name, failures in left.items():
            if request.stage == "execute" and f"\n{name}\n" in request.messages[-1].text:
                left[name] = failures - 1
                if failures > 0:
                    return ModelError("busy", fault="server", billed=False, retry_after=0.0)
        said = script(request)
        assert isinstance(said, str)
        return said

    script = Script(
        propose=lambda p: (
            actions(*(action("think", name, [[9, 8, 100]]) for name in left))
            if len(p.thoughts) == 1
            else actions()
        )
    )
    result = await align(FakeModel(flaky), batch_margin=0.0, retries=2, speculate="off")
    attempts = [e for e in result.trace if isinstance(e, Called) and e.stage == "execute"]
    assert len(attempts) >= 5
    # Three attempts and a score beside two attempts and a score: those three are not waited for.
    made = [e for e in result.trace if isinstance(e, Called)]
    assert result.critical_path == len(made) - 3


@pytest.mark.parametrize("ticking", [True, False])
async def test_the_members_of_an_ensemble_wait_for_nobody(ticking: bool) -> None:
    script = Script(propose=lambda p: actions(action("answer")))
    models = [Ticking(script, n) if ticking else script.model(n) for n in ("fake", "one", "two")]
    both = Ensemble([SelfEvaluator(models[1]), SelfEvaluator(models[2])])
    aligner = Aligner(models[0], Settings.load(env={}, retries=0), evaluator=both)
    run = aligner.align(asking(), Budget(tokens=100_000))
    result, ticks = await ticks_of(run, *(m for m in models if isinstance(m, Ticking)))
    # One and the same request goes to two models: half of the scoring calls are not waited for.
    scores = result.spent.by_stage["score"].calls
    assert scores >= 2
    assert not ticking or result.critical_path == ticks
    assert result.critical_path <= result.spent.calls - scores / 2


async def test_a_replay_waits_as_the_run_did_and_an_old_trace_is_still_one() -> None:
    query = asking()
    result = await align(Script().model(), query=query, batch_margin=0.0)
    events = list(result.trace)
    told = [e.waited for e in events if isinstance(e, Called)]
    assert sorted(set(told), key=lambda w: w or 0) == list(range(result.critical_path))
    old = [replace(e, waited=None) if isinstance(e, Called) else e for e in events]
    for recorded in (events, old):
        again = await replay(recorded, query.pictures, bound=Script().model().bound)
        assert [*map(to_json, again)] == [*map(to_json, recorded)]


def called(at: float, seconds: float, waited: int | None = None, kind: str = "") -> Called:
    """An attempt that ended at `at` and took so long."""
    failed = CallFailure(kind, "") if kind else None
    return Called(
        "score", "one", "k", 1, Usage(), None, seconds, error=failed, at=at, waited=waited
    )


def test_what_was_cancelled_was_not_waited_for() -> None:
    events = [called(1.0, 1.0, 0), called(1.5, 0.5, 1, "cancelled"), called(2.0, 1.0, 1, "server")]
    assert critical_path(events) == 2
    assert critical_path([*events, called(9.0, 7.0, 2, "cancelled")]) == 2
    assert critical_path([]) == 0


def test_of_an_old_trace_the_times_are_read() -> None:
    # A long call beside two short ones that follow each other, and one that waits for all.
    assert critical_path([called(3, 3), called(1, 1), called(2, 1), called(4.5, 1.5)]) == 3
    # Times without a clock: each waits for the one before.
    assert critical_path([called(0, 0)] * 3) == 3
    # Rounded to the microsecond, a start may seem to be before the end that it waited for.
    assert critical_path([called(1, 1), called(1.999999, 1)]) == 2


spans = st.lists(
    st.builds(lambda start, length: (start, start + length), st.integers(0, 9), st.integers(1, 5)),
    max_size=7,
)


@given(spans)
def test_the_longest_chain_of_times_is_that_of_all_chains(found: list[tuple[int, int]]) -> None:
    best = 0
    for chosen in product([False, True], repeat=len(found)):
        chain = sorted(span for span, taken in zip(found, chosen, strict=True) if taken)
        if all(one[1] <= other[0] for one, other in pairwise(chain)):
            best = max(best, len(chain))
    assert critical_path([called(end, end - start) for start, end in found]) == best
