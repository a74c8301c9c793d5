"""The critical path: what had to wait for what."""

from __future__ import annotations

import asyncio

import pytest
from scripted import Script, action, actions, align, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Amount, Budget
from ecoalign.errors import ModelError
from ecoalign.evaluators import Ensemble, SelfEvaluator
from ecoalign.models import ChatRequest, Completion, Usage
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.settings import Settings
from ecoalign.trace import critical_path
from ecoalign.trace._critical_path import chain
from ecoalign.trace.events import ActionsChosen, Called, Event, StepStarted


def line(*attempts: str) -> int:
    """The chain of attempts that are written "stage" or "stage:key"."""
    pairs = [attempt.partition(":") for attempt in attempts]
    return chain([Called(stage, "one", key, 1, Usage(), None, 0.0) for stage, _, key in pairs])


def test_each_call_waits_for_the_one_before_and_each_retry_too() -> None:
    assert line() == 0
    assert line("answer:a") == 1
    assert line("answer:a", "answer:a", "check:b") == 3


def test_an_ensemble_scores_at_once_and_its_slowest_member_counts() -> None:
    assert line("execute:a", "score:x", "score:y", "score:z") == 2
    assert line("execute:a", "score:x", "score:y", "score:y") == 3
    # Two scorings with a call between them follow each other.
    assert line("write:a", "score:x", "score:y", "write:b", "score:p", "score:q") == 4


async def test_the_actions_of_a_batch_count_once() -> None:
    propose = lambda p: (  # noqa: E731
        actions(*(action("think", str(i), [[9, 8, 100]]) for i in range(3)))
        if len(p.thoughts) == 1
        else actions()
    )
    model = Script(propose=propose).model()
    result = await align(model, batch_margin=0.0, max_thoughts=4)
    batches = [len(e.actions) for e in result.trace if isinstance(e, ActionsChosen)]
    assert 3 in batches
    # Of each batch one line counts: execute and score.
    at_once = sum(2 * (size - 1) for size in batches)
    assert critical_path(result.trace.events) == result.spent.calls - at_once


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
    model = FakeModel(flaky)
    result = await align(model, batch_margin=0.0, retries=2)
    attempts = [e for e in result.trace if isinstance(e, Called) and e.stage == "execute"]
    assert len(attempts) >= 5
    # Three attempts and a score beside two attempts and a score: those three are not waited for.
    made = [e for e in result.trace if isinstance(e, Called)]
    assert critical_path(result.trace.events) == len(made) - 3


@pytest.mark.parametrize("fidelity", ["forecast", "rollout"])
@pytest.mark.parametrize("preset", ["default", "paper"])
async def test_one_action_at_a_time_makes_every_call_wait(fidelity: str, preset: str) -> None:
    result = await align(
        Script().model(), preset=preset, batch=1, max_thoughts=5, fidelity=fidelity
    )
    assert critical_path(result.trace.events) == result.spent.calls


def traced(*stages: str) -> list[Event]:
    """Events of a run: "[" begins a batch, "|" a step, all else is a call of that stage."""
    made: list[Event] = []
    for number, stage in enumerate(stages):
        if stage == "[":
            made.append(ActionsChosen(number, ()))
        elif stage == "|":
            made.append(StepStarted(number, Amount(), 1.0, 0, 0.0, 0.0, 1.0))
        else:
            made.append(Called(stage, "one", f"key {number}", 1, Usage(), None, 0.1))
    return made


@pytest.mark.parametrize(
    ("stages", "length"),
    [
        ([], 0),
        (["scan", "score", "|", "propose"], 3),
        (["[", "execute", "score", "execute", "score"], 2),
        # A line that got no score is shorter.
        (["[", "execute", "execute", "score"], 2),
        # An answer that is tried before the scan.
        (["[", "execute", "score", "scan", "|", "propose"], 4),
        # An answer that is written right after a batch, with no further step.
        (["|", "[", "execute", "score", "execute", "score", "write", "score"], 4),
        (["|", "[", "execute", "score", "|", "write", "score", "write", "score"], 6),
        # Two batches in a row; rollouts one by one.
        (["[", "execute", "score", "[", "execute", "score", "execute", "score"], 4),
        (["|", "simulate", "simulate", "simulate", "[", "execute", "score"], 5),
    ],
)
def test_what_waits_for_what(stages: list[str], length: int) -> None:
    assert critical_path(traced(*stages)) == length


class Ticking(FakeModel):
    """Every call takes one tick of a clock that a test moves by hand."""

    def __init__(self) -> None:
        super().__init__(Script())
        self.waiting: list[asyncio.Event] = []

    async def complete(self, request: ChatRequest) -> Completion:
        gate = asyncio.Event()
        self.waiting.append(gate)
        await gate.wait()
        return await super().complete(request)

    def tick(self) -> bool:
        """Answer all that wait; whether there was one."""
        ready, self.waiting = self.waiting, []
        for gate in ready:
            gate.set()
        return bool(ready)


@pytest.mark.parametrize("synthesis", ["needed", "always"])
@pytest.mark.parametrize("batch", [1, 2, 4])
async def test_it_is_what_a_clock_would_show(synthesis: str, batch: int) -> None:
    model = Ticking()
    run = asyncio.create_task(
        align(model, synthesis=synthesis, max_thoughts=9, batch_margin=0.0, batch=batch)
    )
    ticks = 0
    while not run.done():
        for _ in range(50):
            # All that can be asked without a further answer is asked.
            await asyncio.sleep(0)
        ticks += model.tick()
    result = run.result()
    assert critical_path(result.trace.events) == ticks
    assert (ticks == result.spent.calls) == (batch == 1)


async def test_the_members_of_an_ensemble_wait_for_nobody() -> None:
    first, second = Script().model("one"), Script().model("two")
    both = Ensemble([SelfEvaluator(first), SelfEvaluator(second)])
    chosen = Settings.load(env={}, retries=0)
    script = Script(propose=lambda p: actions(action("answer")))
    aligner = Aligner(script.model(), chosen, evaluator=both)
    result = await aligner.align(asking(), Budget(tokens=100_000))
    # One and the same request goes to two models: half of the scoring calls are not waited for.
    scores = result.spent.by_stage["score"].calls
    assert scores >= 2
    assert critical_path(result.trace.events) == result.spent.calls - scores / 2
