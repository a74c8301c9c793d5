"""Single decisions of a search, each in a run where it alone makes the difference."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align

from ecoalign.graph import ROOT, ThoughtKind
from ecoalign.trace import Alignment
from ecoalign.trace.events import Called, PathChosen, Proposed, StepStarted


def stages(result: Alignment) -> list[str]:
    return [event.stage for event in result.trace if isinstance(event, Called)]


@pytest.mark.parametrize(
    ("grade", "bars", "stands"),
    [
        (6, {}, False),  # s = 1/3, below low_risk_threshold 0.5
        (7, {}, True),  # s = 5/9
        (6, {"low_risk_threshold": 0.0}, True),
        (7, {"safety_threshold": 0.6}, False),  # the draft is pruned, too
    ],
)
async def test_a_draft_stands_only_if_it_is_safe_enough_however_dear_going_on_is(
    grade: int, bars: dict[str, Any], stands: bool
) -> None:
    """At this price nothing could be gained by going on."""
    script = Script(propose=lambda p: actions(), score=lambda p: (grade, 9))
    result = await align(script.model(), draft=True, lambda0=1.0, **bars)
    assert (result.ended == "drafted") is stands


async def test_a_perfect_answer_ends_a_search_for_which_tokens_have_no_price() -> None:
    """Without this end it would go on until the limit: at price 0 everything is worth trying."""

    def score(prompt: Prompt) -> tuple[int, int]:
        return (9, 9) if prompt.kind == "answer" else (9, 5)

    result = await align(Script(score=score).model(), lambda0=0.0, max_thoughts=20)
    assert result.stop_reason == "satisfied"
    steps = [event for event in result.trace if isinstance(event, StepStarted)]
    assert [step.headroom for step in steps] == [*([1.0] * (len(steps) - 1)), 0.0]
    assert result.answer.startswith("answer")
    imperfect = await align(Script(score=lambda p: (9, 8)).model(), lambda0=0.0, max_thoughts=20)
    assert imperfect.stop_reason == "limits"


async def test_nothing_is_proposed_from_the_root_beside_a_strategy() -> None:
    """The plan governs everything that follows, in a search that expands all there is."""
    more: dict[str, Any] = {"strategy": True, "lambda0": 0.0, "max_thoughts": 16}
    governed = await align(Script(request_safety=6, plan="Leave out names.").model(), **more)
    parents = [event.parent for event in governed.trace if isinstance(event, Proposed)]
    assert len(parents) > 3
    assert ROOT not in parents
    assert all(t.kind is ThoughtKind.STRATEGY for t in governed.path[1:2])
    free = await align(Script(request_safety=9, plan="Leave out names.").model(), **more)
    assert ROOT in [event.parent for event in free.trace if isinstance(event, Proposed)]


async def test_what_a_path_has_cost_does_not_count_at_its_end_only_how_good_it_is() -> None:
    """A cheap answer, and one of slightly more use at the end of a long and costly path."""

    def propose(prompt: Prompt) -> str:
        depth = len(prompt.thoughts)
        if depth == 1:
            return actions(
                action("answer", "cheap", [[9, 9, 100]]),
                action("think", "1", [[9, 5, 100], [9, 9, 100]]),
            )
        if depth < 4:
            return actions(action("think", str(depth), [[9, 5, 100], [9, 9, 100]]))
        return actions(action("answer", "costly", [[9, 9, 100]]))

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, {"cheap": 7, "costly": 8}.get(prompt.item, 5)

    def execute(prompt: Prompt) -> str:
        return prompt.task if prompt.kind == "answer" else f"{prompt.task}: " + "step " * 100

    script = Script(propose=propose, score=score, execute=execute)
    result = await align(script.model(), lambda0=0.02, batch_margin=0.0)
    answers = {
        event.thought.text: event.thought.cost
        for event in result.trace
        if hasattr(event, "thought") and event.thought.kind is ThoughtKind.ANSWER
    }
    assert set(answers) == {"cheap", "costly"}
    assert result.answer == "costly"
    (chosen,) = [event for event in result.trace if isinstance(event, PathChosen)]
    assert chosen.cost > answers["cheap"] + 3_000
    # S*U alone: no price has been taken off.
    assert chosen.gamma == pytest.approx(chosen.safety * chosen.utility)


async def test_in_the_paper_every_thought_of_the_path_earns() -> None:
    """U[P] is the sum over the path, so thoughts of use lead to more than an answer at once."""

    def propose(prompt: Prompt) -> str:
        at_once = action("answer", "at once", [[9, 7, 300]])
        if len(prompt.thoughts) == 1:
            return actions(at_once, action("think", "of use", [[9, 9, 300]]))
        return actions(at_once)

    script = Script(
        propose=propose,
        execute=lambda p: p.task,
        score=lambda p: (9, 9) if p.item == "of use" else (9, 7),
    )
    result = await align(script.model(), preset="paper", max_thoughts=4)
    earned = [thought.utility for thought in result.path[1:]]
    assert len(earned) >= 2
    assert result.utility == pytest.approx(sum(earned))
    alone: dict[str, Any] = {"preset": "paper", "utility_aggregator": "last"}
    last = await align(script.model(), max_thoughts=4, **alone)
    assert last.utility == pytest.approx(last.path[-1].utility)
