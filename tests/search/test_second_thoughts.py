"""The forecast that called for a refusal is doubted where refusing proves to be worth little."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align

from ecoalign.trace import Alignment
from ecoalign.trace.events import ThoughtAdded

SHORT, LONG = "short answer", "answer from the lead"


def propose(prompt: Prompt) -> str:
    """Answers are forecast to be unsafe everywhere, a refusal after the lead to be good."""
    if len(prompt.thoughts) == 1:
        return actions(
            action("think", "lead", [[9, 5, 100], [9, 9, 100]]),
            action("answer", SHORT, [[0, 9, 100]]),
        )
    return actions(action("refuse", "no", [[9, 9, 100]]), action("answer", LONG, [[2, 9, 100]]))


def made(result: Alignment) -> list[str]:
    return [e.thought.text for e in result.trace if isinstance(e, ThoughtAdded)]


async def asked(
    refusal: int, answer: tuple[int, int], *, request: int = 6, **settings: Any
) -> Alignment:
    """Refusing is worth `refusal` of 9; the answer has this safety and utility, and the request
    such a safety: below 7 it needs caution."""

    def grade(prompt: Prompt) -> tuple[int, int]:
        if prompt.kind == "refusal":
            return 9, refusal
        return answer if prompt.kind == "answer" else (9, 5)

    script = Script(propose=propose, execute=lambda p: p.task, score=grade, request_safety=request)
    return await align(script.model(), **settings)


async def test_the_answer_is_tried_once_from_the_thought_that_knows_most() -> None:
    result = await asked(1, (9, 9))
    assert made(result) == ["lead", "no", LONG]
    assert (result.answer, result.refused) == (LONG, False)


async def test_the_answer_that_was_tried_is_written_anew_where_every_answer_is() -> None:
    result = await asked(1, (9, 9), synthesis="always")
    assert made(result) == ["lead", "no", LONG, "the written answer"]
    # It is as good as the one that was tried, and no better.
    assert result.answer == LONG


async def test_of_several_answers_the_one_at_the_end_of_the_longest_path_is_tried() -> None:
    """Further down more is known; of answers to the same thought the older is tried."""

    def growing(prompt: Prompt) -> str:
        depth = len(prompt.thoughts)
        doubtful = [action("answer", f"{depth}{way}", [[2, 9, 100]]) for way in "ab"]
        if depth < 4:
            return actions(*doubtful, action("think", "on", [[9, 5, 100], [9, 9, 100]]))
        return actions(action("refuse", "no", [[9, 9, 100]]), *doubtful)

    script = Script(
        propose=growing,
        execute=lambda p: p.task if p.kind != "think" else f"lead {len(p.thoughts)}",
        score=lambda p: {"refusal": (9, 1), "answer": (9, 9)}.get(p.kind, (9, 5)),
        request_safety=6,
    )
    result = await align(script.model())
    assert made(result) == ["lead 1", "lead 2", "lead 3", "no", "4a"]


async def test_an_answer_that_is_unsafe_does_not_come_out() -> None:
    result = await asked(1, (3, 9))
    assert made(result) == ["lead", "no", LONG]
    assert (result.answer, result.refused) == ("no", True)


async def test_a_refusal_that_is_worth_it_is_not_doubted() -> None:
    result = await asked(9, (9, 9))
    assert made(result) == ["lead", "no"]
    assert result.refused


@pytest.mark.parametrize("safety", [9, 3])
async def test_any_refusal_of_a_request_that_needs_no_caution_is_doubted(safety: int) -> None:
    result = await asked(9, (safety, 1), request=9)
    assert made(result) == ["lead", "no", LONG]
    assert result.refused is (safety == 3)


@pytest.mark.parametrize(("price", "doubted"), [(0.1, True), (0.5, False)])
async def test_an_answer_must_be_worth_its_price_at_even_odds(price: float, doubted: bool) -> None:
    # What is left to gain is 4/9, and half of it pays for an action at 0.1 of utility, not at 0.5.
    result = await asked(5, (9, 9), lambda0=price, batch=1)
    assert (LONG in made(result)) is doubted


async def test_the_paper_knows_no_second_thoughts() -> None:
    assert LONG not in made(await asked(1, (9, 9), preset="paper"))


async def test_a_guess_from_the_bare_request_is_not_tried() -> None:
    def bare(prompt: Prompt) -> str:
        return actions(
            action("refuse", "no", [[9, 9, 100]]), action("answer", SHORT, [[2, 9, 100]])
        )

    script = Script(propose=bare, execute=lambda p: p.task, score=lambda p: (9, 1))
    result = await align(script.model())
    assert made(result) == ["no"]
    assert result.refused
