"""Whatever goes wrong with a score: the text that has none is never seen again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from judge import Judge
from scripted import Prompt, Script, action, actions, align, of_kind

from ecoalign.errors import BudgetExceeded, ModelError, VerdictError
from ecoalign.models import Completion, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.requests import ScoreRequest, ScoreResult
from ecoalign.search.synthesizer import FIXED_REFUSALS
from ecoalign.trace import Alignment
from ecoalign.trace.events import ActionFailed, Called, Finished, RunFailed, ThoughtAdded, to_json

CANARY = "CANARY-7f3"


def verdict(key: str, safety: object, utility: object) -> str:
    return json.dumps({"key": key, "safety": safety, "utility": utility})


def cut(prompt: Prompt) -> Completion:
    whole = prompt.verdict(9, 9)
    return Completion(whole, Usage(10, 5), "length")


BAD_VERDICTS = {
    "timeout": lambda p: ModelError("too slow", fault="timeout"),
    "down": lambda p: ModelError("no connection", fault="down", billed=False),
    "empty": lambda p: "",
    "prose": lambda p: f"This is safe: {p.item}",
    "not safe": lambda p: "not safe",
    "html": lambda p: f"<html><body>502 {p.item}</body></html>",
    "cut off": lambda p: p.verdict(9, 9)[:-1],
    "cut off, whole to the eye": cut,
    "doubled": lambda p: p.verdict(9, 9) * 2,
    "doubled part": lambda p: p.verdict(9, 9)[:-1] + ', "safety": 9}',
    "out of range": lambda p: verdict(p.key, 10, 9),
    "negative": lambda p: verdict(p.key, -1, 9),
    "fraction": lambda p: verdict(p.key, 8.5, 9),
    "text": lambda p: verdict(p.key, "9", 9),
    "no key": lambda p: '{"safety": 9, "utility": 9}',
    "foreign key": lambda p: verdict("abc123", 9, 9),
    "with a word more": lambda p: p.verdict(9, 9) + " surely",
    "filtered": lambda p: Completion(p.verdict(9, 9), Usage(10, 5), "content_filter"),
}


def seen_later(model: FakeModel) -> bool:
    """Whether the canary is in any prompt but the one that asks for its score."""
    return any(
        CANARY in prompt.text
        for prompt in map(Prompt.of, model.requests)
        if not (prompt.stage == "score" and CANARY in prompt.item)
    )


def shown(result: Alignment) -> bool:
    """Whether the canary is anywhere in the result or in the last event."""
    last = result.trace.events[-1]
    assert isinstance(last, Finished)
    return CANARY in to_json(last) or CANARY in json.dumps(result.to_json())


@pytest.mark.parametrize("bad", BAD_VERDICTS.values(), ids=BAD_VERDICTS)
@pytest.mark.parametrize("kind", ["think", "answer"])
async def test_a_thought_without_a_proper_score_is_lost(bad: object, kind: str) -> None:
    assert callable(bad)

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action(kind, "x", [[9, 9, 100], [9, 9, 100]]), action("think", "fine"))
        return actions(action("answer", "end", [[9, 9, 100]]))

    script = Script(
        propose=propose,
        execute=lambda p: CANARY if p.task == "x" else f"{p.kind} {p.task}",
        score=lambda p: bad(p) if CANARY in p.item else (9, 8),
    )
    model = script.model()
    result = await align(model, speculate="off")
    assert any(CANARY in Prompt.of(r).item for r in model.requests)  # it was there to be scored
    assert not seen_later(model)
    assert not shown(result)
    assert not result.refused
    (failed,) = of_kind(list(result.trace), ActionFailed)
    assert isinstance(failed, ActionFailed)
    assert (failed.action, failed.stage) == (0, "score")
    assert CANARY not in str([e for e in result.trace if isinstance(e, ThoughtAdded)])


OUTAGES = {"timeout", "down"}

NO_JUDGE = {*OUTAGES, "filtered"}
"""What says nothing of the judge: a filter that takes its verdicts has refused, too."""


@pytest.mark.parametrize("bad", [BAD_VERDICTS[name] for name in sorted(OUTAGES)])
async def test_a_judge_that_cannot_be_asked_is_an_outage_and_no_refusal(bad: object) -> None:
    assert callable(bad)
    script = Script(propose=lambda p: actions(), write=lambda p: f"{CANARY} harmless", score=bad)
    with pytest.raises(ModelError) as caught:
        await align(script.model())
    assert caught.value.role == "evaluator"
    assert not [e for e in caught.value.trace if isinstance(e, ThoughtAdded)]


@pytest.mark.parametrize("bad", [v for n, v in BAD_VERDICTS.items() if n not in NO_JUDGE])
async def test_a_written_answer_without_a_proper_score_is_never_given(bad: object) -> None:
    """Where not one verdict can be read nobody has refused anything: that is an error."""
    assert callable(bad)
    script = Script(
        propose=lambda p: actions(),
        write=lambda p: f"{CANARY} harmless",
        score=bad,
    )
    model = script.model()
    with pytest.raises(VerdictError, match="so nothing can be shown") as caught:
        await align(model)
    assert CANARY not in str(caught.value)
    assert not seen_later(model)
    assert CANARY not in to_json(caught.value.trace.events[-1])


@pytest.mark.parametrize("bad", [v for n, v in BAD_VERDICTS.items() if n not in OUTAGES])
async def test_where_some_verdict_was_read_it_is_a_refusal(bad: object) -> None:
    """Thoughts are scored; answers are not."""

    def score(prompt: Prompt) -> Any:
        assert callable(bad)
        return bad(prompt) if prompt.kind == "answer" else (9, 5)

    script = Script(
        propose=lambda p: (
            actions(action("think", "on", [[9, 9, 100]])) if len(p.thoughts) < 2 else actions()
        ),
        write=lambda p: f"{CANARY} harmless",
        score=score,
    )
    model = script.model()
    result = await align(model)
    assert result.answer in FIXED_REFUSALS
    assert (result.refused, result.stop_reason) == (True, "fail-closed")
    assert not seen_later(model)
    assert not shown(result)
    assert result.hint


@pytest.mark.parametrize("reason", ["content_filter", "stop"])
async def test_an_answer_that_a_filter_withheld_is_not_in_the_hint_either(reason: str) -> None:
    text = CANARY if reason == "content_filter" else f"<think>{CANARY}"
    script = Script(
        propose=lambda p: actions(), write=lambda p: Completion(text, Usage(10, 5), reason)
    )
    result = await align(script.model())
    assert result.answer in FIXED_REFUSALS
    assert not shown(result)
    assert "write" in result.hint


@pytest.mark.parametrize("depth", [1, 2])
async def test_nothing_grows_from_a_thought_that_was_scored_unsafe(depth: int) -> None:
    def propose(prompt: Prompt) -> str:
        return actions(
            action("think", f"bad {len(prompt.thoughts)}", [[9, 9, 100], [9, 9, 90]]),
            action("think", f"good {len(prompt.thoughts)}", [[9, 8, 100]]),
        )

    def execute(prompt: Prompt) -> str:
        return CANARY if prompt.task == f"bad {depth}" else prompt.task

    script = Script(
        propose=propose,
        execute=execute,
        # The least grade that is negative.
        score=lambda p: (4, 9) if CANARY in p.item else (9, 5),
    )
    model = script.model()
    result = await align(model, max_thoughts=14, speculate="off")
    pruned = [e.thought for e in result.trace if isinstance(e, ThoughtAdded) and e.pruned]
    assert [t.text for t in pruned][:1] == [CANARY]
    grown = [e.thought for e in result.trace if isinstance(e, ThoughtAdded)]
    assert not any(p.id in t.parents for p in pruned for t in grown)
    assert not seen_later(model)
    assert not shown(result)


async def test_a_text_between_zero_and_the_threshold_is_pruned_like_an_unsafe_one() -> None:
    script = Script(score=lambda p: (6, 8))
    assert not (await align(script.model(), safety_threshold=0.3, max_thoughts=6)).refused
    strict = await align(script.model(), safety_threshold=0.4, max_thoughts=6)
    assert strict.answer in FIXED_REFUSALS
    assert all(e.pruned for e in strict.trace if isinstance(e, ThoughtAdded))


class Broken:
    """An evaluator that fails in a given way, or has nothing against it."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def score(
        self, request: ScoreRequest, metered: object, *, fund: str | None = None
    ) -> ScoreResult:
        if CANARY in request.text:
            raise self.error
        return ScoreResult(1.0, 0.9)

    def bound(self, request: ScoreRequest) -> Usage:
        return Usage(1, 1)


@pytest.mark.parametrize(
    "error",
    [
        VerdictError(f"nothing to be read in {CANARY}"),
        ModelError(f"gone while reading {CANARY}", fault="server"),
        BudgetExceeded("no money", unit="tokens", needed=5, remaining=1),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_an_evaluator_that_raises_lets_nothing_through(error: Exception) -> None:
    script = Script(propose=lambda p: actions(), write=lambda p: CANARY)
    model = script.model()
    if not isinstance(error, BudgetExceeded):
        with pytest.raises(type(error)):
            await align(model, evaluator=Broken(error))
        assert not seen_later(model)
        return
    result = await align(model, evaluator=Broken(error))
    assert result.answer in FIXED_REFUSALS
    assert not shown(result)
    assert not seen_later(model)


async def test_a_budget_that_is_gone_between_execute_and_score_lets_nothing_through() -> None:
    """The server lies about its output cap, so that the score does not fit any more."""
    long = f"{CANARY} " + "word " * 5000
    usage = Usage(150, 200)

    def propose(prompt: Prompt) -> str:
        return (
            actions(action("answer", "", [[9, 9, 100]])) if len(prompt.thoughts) == 1 else actions()
        )

    script = Script(propose=propose, execute=lambda p: Completion(long, usage))
    model = script.model()
    result = await align(model, 8_000)
    assert not any(CANARY in Prompt.of(r).text for r in model.requests)
    assert CANARY not in to_json(result.trace.events[-1])
    failed = of_kind(list(result.trace), ActionFailed)[0]
    assert isinstance(failed, ActionFailed)
    assert (failed.stage, failed.cause) == ("score", "BudgetExceeded")
    # What was set aside for the answer was not touched by it.
    assert result.answer == "the written answer"


async def test_a_server_that_reports_what_cannot_be_ends_the_run_at_once() -> None:
    script = Script(execute=lambda p: Completion(CANARY, Usage(300, 90_000)))
    model = script.model()
    with pytest.raises(ModelError, match="reported 90,000 tokens of output") as caught:
        await align(model, 20_000)
    error = caught.value
    assert (error.fault, error.role, error.exit_code) == ("false-usage", "model", 3)
    assert not seen_later(model)
    events = list(error.trace)
    assert isinstance(events[-1], RunFailed)
    assert not of_kind(events, Finished)
    assert CANARY not in "".join(map(to_json, events))
    calls = [one for one in events if isinstance(one, Called)]
    (lie,) = [one for one in calls if one.error and one.error.kind == error.fault]
    assert (lie.charged.completion, lie.usage) == (90_000, Usage(300, 90_000))
    # Nobody is asked after that.
    assert events.index(lie) >= len(events) - 4


@pytest.mark.parametrize("draft", [True, False])
async def test_a_judge_that_gives_no_verdict_ends_the_run_soon_and_the_error_says_why(
    draft: bool,
) -> None:
    judge = Judge(lambda request: VerdictError("no", advice="ask it for one word"))
    model = Script().model()
    with pytest.raises(VerdictError, match="ask it for one word") as caught:
        await align(model, evaluator=judge, draft=draft, speculate="off")
    assert "verdicts could be read" in str(caught.value) or "only verdict" in str(caught.value)
    assert len(model.requests) <= 6
