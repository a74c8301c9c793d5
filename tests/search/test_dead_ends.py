"""Dead ends are pruned, and proposals that cannot pay for themselves are not bought."""

from __future__ import annotations

from scripted import Prompt, Script, action, actions, align

from ecoalign.errors import ModelError
from ecoalign.trace import Alignment
from ecoalign.trace.events import ActionFailed, Proposed, ThoughtAdded, ThoughtsDropped


def dropped(result: Alignment) -> list[tuple[int, ...]]:
    return [e.thoughts for e in result.trace if isinstance(e, ThoughtsDropped)]


def text_of(result: Alignment) -> dict[int, str]:
    return {e.thought.id: e.thought.text for e in result.trace if isinstance(e, ThoughtAdded)}


def two_ways(prompt: Prompt) -> str:
    """A bad lead and a good one; each thought leads to one more, and that to an answer."""
    depth = len(prompt.thoughts)
    if depth == 1:
        return actions(
            action("think", "bad", [[9, 5, 100], [9, 9, 100]]),
            action("think", "good", [[9, 5, 100], [9, 8, 100]]),
        )
    if depth == 2:
        return actions(action("think", f"{prompt.last} deeper", [[9, 5, 100], [9, 9, 100]]))
    return actions(action("answer", f"answer of {prompt.last}", [[9, 9, 100]]))


def grade(prompt: Prompt) -> tuple[int, int]:
    if "answer of bad" in prompt.item:
        return 0, 9
    return 9, 9 if prompt.kind == "answer" else 5


async def test_what_led_to_nothing_but_unsafe_thoughts_is_dropped_all_the_way_up() -> None:
    script = Script(propose=two_ways, execute=lambda p: p.task, score=grade)
    result = await align(script.model())
    assert result.answer == "answer of good deeper"
    texts = text_of(result)
    assert [[texts[i] for i in ids] for ids in dropped(result)] == [["bad deeper"], ["bad"]]
    # What is dropped is not proposed from and not offered to be fused any more.
    at = next(i for i, e in enumerate(result.trace) if isinstance(e, ThoughtsDropped))
    gone = {i for ids in dropped(result) for i in ids}
    later = [e.parent for e in list(result.trace)[at:] if isinstance(e, Proposed)]
    assert later
    assert not gone & set(later)


async def test_a_branch_with_something_alive_or_waiting_in_it_is_kept() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "lead", [[9, 5, 100], [9, 9, 100]]))
        return actions(
            action("answer", "answer of bad lead", [[9, 9, 100]]),
            action("answer", "answer of lead", [[9, 8, 100]]),
        )

    script = Script(propose=propose, execute=lambda p: p.task, score=grade)
    result = await align(script.model())
    assert result.answer == "answer of lead"
    assert [e.pruned for e in result.trace if isinstance(e, ThoughtAdded)] == [False, True, False]
    assert dropped(result) == []


async def test_a_call_that_failed_drops_nothing() -> None:
    def execute(prompt: Prompt) -> str | ModelError:
        if prompt.kind == "answer":
            return ModelError("gone", fault="server")
        return prompt.task

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "lead", [[9, 5, 100], [9, 9, 100]]))
        return actions(action("answer", "it", [[9, 9, 100]]))

    result = await align(Script(propose=propose, execute=execute).model())
    assert any(isinstance(e, ActionFailed) for e in result.trace)
    assert dropped(result) == []
    assert result.answer == "the written answer"
    assert [t.text for t in result.path[1:]] == ["lead", "the written answer"]


async def test_a_thought_with_nothing_to_add_is_dropped_only_if_it_is_worthless() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(
                action("think", "idle", [[9, 5, 100], [9, 9, 100]]),
                action("think", "useful", [[9, 5, 100], [9, 9, 100]]),
            )
        return actions()

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, 0 if prompt.item == "idle" else 7

    script = Script(propose=propose, execute=lambda p: p.task, score=score)
    result = await align(script.model())
    texts = text_of(result)
    assert [[texts[i] for i in ids] for ids in dropped(result)] == [["idle"]]
    assert [t.text for t in result.path[1:]] == ["useful", "the written answer"]


async def test_no_proposal_is_bought_from_a_thought_that_promises_less_than_it_costs() -> None:
    """After a good answer, what is left to gain does not pay for another round of proposals."""

    def propose(prompt: Prompt) -> str:
        return actions(
            action("answer", "fair", [[9, 8, 100]]), action("think", "on", [[9, 7, 100]])
        )

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, 7 if prompt.kind == "answer" else 5

    script = Script(propose=propose, execute=lambda p: p.task, score=score)
    dear = await align(script.model(), lambda0=0.1)
    cheap = await align(script.model(), lambda0=0.0, max_thoughts=12)
    bought = [sum(isinstance(e, Proposed) for e in result.trace) for result in (dear, cheap)]
    assert bought[0] <= 2 < bought[1]
    assert dear.stop_reason == "no-positive-action"
    assert dear.answer == "fair"
