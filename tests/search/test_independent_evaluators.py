"""Somebody else scores: a guard, or several; the least safety wins and everybody is paid."""

from __future__ import annotations

from functools import partial

import pytest
from scripted import Prompt, Script, action, actions, align, of_kind

from ecoalign.errors import BudgetTooSmall, ModelError, ModelFault, VerdictError
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator
from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.models import ChatRequest
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.trace.events import ActionFailed, Called, RunStarted, ThoughtAdded


def judged(model: FakeModel, guard: FakeModel) -> Ensemble:
    return Ensemble([SelfEvaluator(model), GuardEvaluator(guard)])


def strict(request: ChatRequest) -> Reply:
    return "unsafe\nS1" if "secret" in request.messages[-1].text else "safe"


def propose(prompt: Prompt) -> str:
    if len(prompt.thoughts) > 1:
        return actions()
    return actions(
        action("answer", "the secret code", [[9, 9, 100]]),
        action("answer", "the colour", [[9, 8, 100]]),
    )


async def test_the_least_safety_wins_and_utility_is_the_models_own() -> None:
    model = Script(propose=propose, execute=lambda p: p.task).model()
    guard = FakeModel(strict, name="guard")
    result = await align(model, evaluator=judged(model, guard))
    assert result.answer == "the colour"
    added = {e.thought.text: e for e in result.trace if isinstance(e, ThoughtAdded)}
    assert added["the secret code"].pruned
    assert added["the secret code"].thought.safety == -1.0
    assert added["the colour"].thought.utility > 0.7
    started = result.trace.events[0]
    assert isinstance(started, RunStarted)
    assert started.evaluator == "least(self:fake, guard:guard)"
    # Both are in the books, under the stage that asked.
    scores = [e for e in result.trace if isinstance(e, Called) and e.stage == "score"]
    assert {e.model for e in scores} == {"fake", "guard"}
    assert result.spent.by_stage["score"].tokens == sum(e.charged.total for e in scores)
    thought = added["the colour"].thought
    assert thought.kind is ThoughtKind.ANSWER
    assert thought.cost < result.spent.tokens.total


def said(reply: Reply, request: ChatRequest) -> Reply:
    return reply


async def test_a_guard_that_is_silent_is_a_veto() -> None:
    replies: list[Reply] = [
        "",
        "not safe",
        "safe\nunsafe",
        "Safe, I think",
    ]
    for reply in replies:
        model = Script(propose=propose).model()
        guard = FakeModel(partial(said, reply), name="guard")
        with pytest.raises(VerdictError) as caught:
            await align(model, evaluator=judged(model, guard))
        assert not [e for e in caught.value.trace if isinstance(e, ThoughtAdded)]


@pytest.mark.parametrize("fault", ["down", "server", "rejected", "rate-limited"])
async def test_a_guard_that_fails_is_an_error_and_no_refusal(fault: ModelFault) -> None:
    model = Script(propose=propose).model()
    guard = FakeModel(lambda request: ModelError("x", fault=fault, billed=False), name="guard")
    with pytest.raises(ModelError) as caught:
        await align(model, evaluator=judged(model, guard))
    assert (caught.value.role, caught.value.upstream) == ("evaluator", "guard")
    assert not [e for e in caught.value.trace if isinstance(e, ThoughtAdded)]


async def test_money_for_both_is_set_aside_from_the_start() -> None:
    async def smallest(both: bool) -> float:
        model = Script().model()
        guard = FakeModel(strict, name="guard")
        evaluator = judged(model, guard) if both else None
        try:
            await align(model, 500, evaluator=evaluator)
        except BudgetTooSmall as error:
            return error.smallest
        return 0.0

    one, two = await smallest(both=False), await smallest(both=True)
    assert two > one > 500
    # With just what was named, both could be asked about the answer.
    model = Script(propose=propose).model()
    guard = FakeModel(strict, name="guard")
    result = await align(model, int(two), evaluator=judged(model, guard))
    assert result.answer == "the written answer"
    assert guard.calls == 1
    assert result.spent.tokens.total <= int(two)


async def test_no_score_fails_for_lack_of_money_when_its_thought_could_be_paid_for() -> None:
    """An action is chosen only if making it and all of its scores fit together."""
    wide = lambda p: actions(*(action("think", str(i)) for i in range(4)))  # noqa: E731
    for budget in range(4_500, 8_500, 350):
        model = Script(propose=wide).model()
        guard = FakeModel(strict, name="guard")
        result = await align(model, budget, evaluator=judged(model, guard), lambda0=0.0)
        assert result.spent.tokens.total <= budget
        failed = of_kind(list(result.trace), ActionFailed)
        assert [e for e in failed if isinstance(e, ActionFailed) and e.stage == "score"] == []


async def test_a_fusion_is_set_aside_for_with_all_of_its_parents() -> None:
    """Its score quotes the partners, too; they are long, and the money is just enough."""

    def fusing(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "a"), action("think", "b"))
        if prompt.others:
            partners = [number for number, _, _ in prompt.others]
            return actions(action("fuse", "f", [[9, 9, 50]], partners=partners))
        return actions()

    script = Script(propose=fusing, execute=lambda p: f"{p.task} " + "long word " * 80)
    fused = 0
    for budget in range(6_000, 11_000, 200):
        result = await align(script.model(), budget, lambda0=0.0, max_thoughts=6, max_depth=2)
        failed = of_kind(list(result.trace), ActionFailed)
        assert [e for e in failed if isinstance(e, ActionFailed) and e.stage == "score"] == []
        fused += any(
            isinstance(e, ThoughtAdded) and e.thought.kind is ThoughtKind.FUSE for e in result.trace
        )
    assert fused
