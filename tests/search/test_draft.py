"""The draft: tried beside the scan, kept if it suffices, else one thought among others."""

from __future__ import annotations

import pytest
from scripted import Prompt, Script, action, actions, align

from ecoalign.errors import BudgetTooSmall, ModelError
from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.models.fake import Reply
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    ActionFailed,
    Called,
    Finished,
    Proposed,
    RootScanned,
    ThoughtAdded,
)


def stages(result: Alignment) -> list[str]:
    return [e.stage for e in result.trace if isinstance(e, Called)]


def answers(result: Alignment) -> list[ThoughtAdded]:
    return [
        e
        for e in result.trace
        if isinstance(e, ThoughtAdded) and e.thought.kind is ThoughtKind.ANSWER
    ]


def grading(grade: tuple[int, int]) -> Script:
    """The first answer gets `grade`, later ones the best."""
    asked: list[str] = []

    def score(prompt: Prompt) -> tuple[int, int]:
        if prompt.kind == "answer":
            asked.append(prompt.item)
            return grade if len(asked) == 1 else (9, 9)
        return 9, 5

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(
                action("answer", "", [[9, 9, 100]]), action("think", "on", [[9, 5, 100], [9, 9, 1]])
            )
        return actions(action("answer", "", [[9, 9, 100]]))

    return Script(propose=propose, score=score)


async def test_a_good_draft_is_the_answer_at_the_price_of_three_calls() -> None:
    result = await align(grading((9, 9)).model(), draft=True)
    assert stages(result) == ["scan", "execute", "score"]
    assert result.answer == "answer number 0"
    assert (result.stop_reason, result.refused) == ("satisfied", False)
    assert (result.safety, result.utility) == (1.0, 1.0)
    assert [t.id for t in result.path] == [0, 1]
    assert result.ended == "drafted"
    root = result.path[0]
    assert (root.text, root.safety, root.cost > 0) == ("A sign with a number on it.", 1.0, True)
    assert result.spent.tokens.total == sum(
        e.charged.total for e in result.trace if isinstance(e, Called)
    )


@pytest.mark.parametrize(
    ("grade", "suffices"),
    [
        ((9, 8), True),  # 8/9 leaves 0.11, less than three actions at 0.08 each
        ((7, 9), False),  # s = 5/9 leaves 0.44
        ((9, 7), False),  # 7/9 is not what the evaluator calls verified
        ((6, 9), False),  # s = 1/3: less safe than a request that needs no caution
        ((0, 9), False),
    ],
)
async def test_a_draft_suffices_if_it_leaves_less_than_going_on_costs(
    grade: tuple[int, int], suffices: bool
) -> None:
    result = await align(grading(grade).model(), draft=True, lambda0=0.08)
    assert (result.ended == "drafted") is suffices
    assert ("propose" not in stages(result)) is suffices
    assert (len(answers(result)) == 1) is suffices


async def test_a_poor_draft_is_a_thought_of_the_search_and_not_proposed_again() -> None:
    result = await align(grading((9, 3)).model(), draft=True)
    assert stages(result)[:3] == ["scan", "execute", "score"]
    first, second = answers(result)
    assert first.thought.parents == (0,)
    assert first.action == 0
    assert not first.pruned
    # The answer proposed from the root is left out; the one after the thought is not.
    proposed = [e for e in result.trace if isinstance(e, Proposed)]
    assert [c.kind.value for c in proposed[1].candidates] == ["think"]
    assert proposed[1].dropped == 1
    assert len(second.thought.parents) == 1
    assert second.thought.parents != (0,)
    assert result.answer == second.thought.text
    ids = [i for e in proposed for i in range(e.first, e.first + len(e.candidates))]
    assert ids == list(range(len(ids)))


async def test_an_unsafe_draft_never_comes_out_and_is_answered_with_a_refusal() -> None:
    script = Script(
        propose=lambda p: actions(),
        score=lambda p: (9, 8) if p.kind == "refusal" else (0, 9),
        write=lambda p: "unsafe again",
    )
    result = await align(script.model(), draft=True)
    assert result.refused
    assert result.answer.startswith("refuse number")
    assert [e.pruned for e in answers(result)] == [True]


@pytest.mark.parametrize("broken", ["execute", "score"])
async def test_a_draft_that_fails_is_noted_and_the_scan_goes_on(broken: str) -> None:
    failed: list[str] = []

    def fails(prompt: Prompt) -> Reply:
        if not failed:
            failed.append(prompt.stage)
            return ModelError("gone", fault="server")
        if prompt.stage == "score":
            return prompt.verdict(9, 9)
        return "said"

    script = Script(propose=lambda p: actions(action("answer", "", [[9, 9, 100]])))
    if broken == "execute":
        script.execute = fails
    else:
        script.score = fails
    result = await align(script.model(), draft=True)
    assert failed == [broken]
    assert next(e for e in result.trace if isinstance(e, ActionFailed)).action == 0
    assert any(isinstance(e, RootScanned) for e in result.trace)
    # With no draft to stand for it, an answer from the root may be proposed.
    assert not result.refused
    assert isinstance(result.trace.events[-1], Finished)


async def test_a_budget_with_no_room_for_a_draft_is_kept_for_the_scan() -> None:
    script = Script(propose=lambda p: actions(action("answer", "", [[9, 9, 100]])))
    with pytest.raises(BudgetTooSmall) as refused:
        await align(script.model(), 100, draft=True)
    smallest = int(refused.value.smallest) + 1
    result = await align(script.model(), smallest, draft=True)
    assert stages(result)[0] == "scan"
    assert result.spent.tokens.total <= smallest


async def test_where_going_on_costs_nothing_only_a_perfect_draft_suffices() -> None:
    for free in ({"lambda0": 0.0}, {"satisfice": False}):
        fair = await align(grading((9, 8)).model(), draft=True, max_thoughts=6, **free)
        assert "propose" in stages(fair)
        perfect = await align(grading((9, 9)).model(), draft=True, **free)
        assert "propose" not in stages(perfect)
