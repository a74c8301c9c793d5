"""What is left of a trace for whoever asked: no text that was not scored safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from methodical import SAFE as CHECKED
from methodical import UNSAFE, Stages, answered, graded
from scripted import Script, action, actions, align, asking

from ecoalign.budget import CallFailure
from ecoalign.errors import EcoAlignError, InputError, ModelError
from ecoalign.models import Completion
from ecoalign.replay import replay, what_if
from ecoalign.trace import WITHHELD, Alignment, Story, redacted
from ecoalign.trace.events import (
    Called,
    Event,
    Finished,
    RunFailed,
    RunStarted,
    ThoughtAdded,
    from_json,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripted import Prompt

    from ecoalign.models import ChatRequest

CANARY = "canary"

SAFE = "harbour"


def said(text: str) -> Completion:
    """A completion with a canary in all that is not its text."""
    logprobs = {"content": [{"token": CANARY, "logprob": -1.0}]}
    return Completion(f"<think>{CANARY}</think>{text}", None, model=CANARY, raw_logprobs=logprobs)


def script() -> Script:
    """A model that has a canary in all that it says, and scores whatever has one as unsafe."""
    thoughts = iter([f"{CANARY} one", f"{SAFE} one", f"{CANARY} two"])

    def executed(prompt: Prompt) -> Completion:
        return said(f"{SAFE} answer" if prompt.kind == "answer" else next(thoughts, f"{SAFE} two"))

    def scored(prompt: Prompt) -> Completion:
        safe = CANARY not in prompt.item
        return said(prompt.verdict(9 if safe else 0, 7 if prompt.kind == "answer" else 5))

    return Script(
        caption=f"{CANARY} caption",
        plan=f"{CANARY} plan",
        request_safety=7,
        propose=lambda prompt: actions(
            action("think", f"{CANARY} on"), action("think", f"{CANARY} off"), action("answer")
        ),
        execute=executed,
        write=lambda prompt: said(f"{SAFE} written"),
        score=scored,
    )


def lines(events: Sequence[Event]) -> str:
    return "\n".join(map(to_json, events))


def stages(method: str) -> Stages:
    """A model for the other methods: of its answers those with a canary are unsafe."""
    answers = iter([f"{CANARY} one", f"{SAFE} one"])

    def answer(request: ChatRequest) -> Completion:
        thoughts = f"{CANARY} thoughts\nAnswer: {SAFE}"
        return said(thoughts if method == "cot" else next(answers, f"{SAFE} two"))

    def score(request: ChatRequest) -> Completion:
        safe = f"{CANARY} one" not in request.messages[-1].text
        return said(graded(9 if safe else 0, 7)(request))

    return Stages(
        answer=answer,
        sample=answer,
        blind=lambda request: said(f"{SAFE} blind"),
        caption=lambda request: said(f"{CANARY} caption"),
        gate=lambda request: said(UNSAFE(request)),
        check=lambda request: said(
            (UNSAFE if f"{CANARY} one" in request.messages[-1].text else CHECKED)(request)
        ),
        score=score,
    )


async def run(method: str) -> Alignment:
    if method == "ecoalign":
        return await align(script().model(), strategy=True)
    return await answered(method, stages(method).model())


@pytest.mark.parametrize("method", ["ecoalign", "best-of-n", "ecso", "vlm-guard", "cot"])
async def test_no_text_that_was_not_scored_safe_is_left(method: str) -> None:
    result = await run(method)
    whole = tuple(result.trace)
    assert CANARY in lines(whole)
    assert CANARY not in result.answer
    left = redacted(whole)
    assert CANARY not in lines(left)
    # It can be read and shown as any other, and the answer is there.
    again = tuple(map(from_json, lines(left).splitlines()))
    assert again == left
    shown = Story.of(again).result
    assert shown is not None
    assert shown["answer"] == result.answer
    assert len(left) == len(whole)
    assert sum(e.charged.total for e in left if isinstance(e, Called)) == result.spent.tokens.total
    assert isinstance(left[-1], Finished)
    assert left[-1].answer == result.answer
    assert method == "vlm-guard" or SAFE in result.answer


async def test_thoughts_that_were_scored_safe_stay() -> None:
    whole = tuple((await run("ecoalign")).trace)
    before = {e.thought.id: e for e in whole if isinstance(e, ThoughtAdded)}
    after = {e.thought.id: e for e in redacted(whole) if isinstance(e, ThoughtAdded)}
    assert {e.pruned for e in before.values()} == {True, False}
    for number, event in after.items():
        kept = not before[number].pruned
        assert event.thought.text == (before[number].thought.text if kept else WITHHELD)
        assert event.thought.safety == before[number].thought.safety


async def test_what_is_the_operators_is_left_out() -> None:
    model = script().model()
    result = await align(model, base_url="http://10.0.0.7:8000/v1", extra_body={"x": CANARY})
    started = redacted(tuple(result.trace))[0]
    assert isinstance(started, RunStarted)
    assert "10.0.0.7" not in to_json(started)
    assert (started.nonce, started.known, started.profile) == ("", {}, {})
    assert started.question == "What does the sign say?"


async def test_a_failure_is_told_without_the_words_of_a_server() -> None:
    failing = Script(scan=lambda prompt: ModelError(CANARY, fault="server", billed=True))
    with pytest.raises(EcoAlignError) as caught:
        await align(failing.model())
    assert caught.value.trace is not None
    left = redacted(tuple(caught.value.trace))
    assert CANARY not in lines(left)
    call = next(event for event in left if isinstance(event, Called))
    assert call.error == CallFailure("server", WITHHELD, billed=True)
    assert isinstance(left[-1], RunFailed)
    with pytest.raises(EcoAlignError) as caught:
        await align(script().model(), 100)
    assert caught.value.trace is not None
    last = redacted(tuple(caught.value.trace))[-1]
    assert isinstance(last, RunFailed)
    assert "too small" in last.message


async def test_it_says_why_it_cannot_be_run_again() -> None:
    query = asking()
    left = redacted(tuple((await align(script().model(), query=query)).trace))
    read = tuple(map(from_json, lines(left).splitlines()))
    for events in (left, read):
        with pytest.raises(InputError, match="not scored safe"):
            await replay(events, query.pictures)
        with pytest.raises(InputError, match="not run again"):
            await what_if(events, query.pictures, {"lambda0": 2.0})
