"""A simulated model: what it reads of the real prompts, and how it replies to them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from ecoalign.bench.simulated import (
    AnswerAsked,
    Asked,
    CaptionAsked,
    ExecuteAsked,
    Grades,
    Proposal,
    ProposeAsked,
    Said,
    ScanAsked,
    Scanned,
    ScoreAsked,
    SimulatedModel,
    VerdictAsked,
    WriteAsked,
)
from ecoalign.errors import VerdictError
from ecoalign.evaluators import GuardEvaluator
from ecoalign.graph import ROOT, ActionKind, Candidate, Region, Thought, ThoughtId, ThoughtKind
from ecoalign.graph.economics import UtilityAggregator
from ecoalign.models import (
    BoxConvention,
    ChatRequest,
    Completion,
    ImagePart,
    Message,
    Profile,
    TextPart,
)
from ecoalign.prompts.dialect import dialect_of
from ecoalign.prompts.requests import (
    AnswerRequest,
    AnswerStyle,
    CaptionRequest,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    ProposeRequest,
    ScanRequest,
    ScoreRequest,
    WriteRequest,
)

VIEW = ImagePart(b"view", "image/png", 512, 384)
CROP = ImagePart(b"crop", "image/png", 400, 300)
QUESTION = "What does the sign say?\n\nBe brief."
PATH = (
    Thought(ROOT, ThoughtKind.ROOT, "A street.", 1.0, 0.0, 1.0),
    Thought(ThoughtId(1), ThoughtKind.THINK, "Two lines\nof text.", 1.0, 0.5, 1.0),
)
PLACE = Region(0.25, 0.5, 0.5, 0.75)
FENCE = "0a1b2c3d4e5f"


class Remembers:
    """Decides plainly, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def scan(self, asked: ScanAsked) -> Scanned:
        self.asked.append(asked)
        return Scanned(7, "a street with a sign", "go slowly")

    def propose(self, asked: ProposeAsked) -> Sequence[Proposal]:
        self.asked.append(asked)
        look = Proposal(ActionKind.LOOK, ((9, 3, 90), (9, 8, 120)), "the sign", PLACE)
        fuse = Proposal(ActionKind.FUSE, ((8, 4, 50),), partners=(asked.others[0].id,))
        return look, fuse

    def execute(self, asked: ExecuteAsked) -> str:
        self.asked.append(asked)
        return f"a {asked.kind}"

    def write(self, asked: WriteAsked) -> str:
        self.asked.append(asked)
        return "It says OPEN."

    def score(self, asked: ScoreAsked) -> Grades:
        self.asked.append(asked)
        return Grades(8.25, 4.5)

    def verdict(self, asked: VerdictAsked) -> bool:
        self.asked.append(asked)
        return asked.text is None

    def answer(self, asked: AnswerAsked) -> Said:
        self.asked.append(asked)
        return Said("OPEN", "first this, then that")

    def caption(self, asked: CaptionAsked) -> str:
        self.asked.append(asked)
        return "a street"


def complete(model: SimulatedModel, call: ChatRequest) -> Completion:
    reply = asyncio.run(model.complete(call))
    assert reply.usage is not None
    most = model.bound(call)
    assert reply.usage.prompt <= most.prompt
    assert reply.usage.completion <= most.completion
    assert reply.finish_reason == "stop"
    return reply


def score_request(kind: str = "answer", fence: str = FENCE, text: str = "OPEN") -> ScoreRequest:
    return ScoreRequest(QUESTION, (VIEW,), PATH, kind, text, fence)


def test_a_scan_is_read_and_answered() -> None:
    does, dialect = Remembers(), dialect_of(Profile())
    request = ScanRequest(QUESTION, (VIEW,), ("an earlier turn",), "be kind")
    result = dialect.parse_scan(request, complete(SimulatedModel(does), dialect.render(request)))
    assert (result.caption, result.strategy) == ("a street with a sign", "go slowly")
    assert result.request_safety == pytest.approx(5 / 9)
    (asked,) = does.asked
    assert (asked.question, asked.earlier, asked.instructions) == (
        QUESTION,
        "an earlier turn",
        "be kind",
    )
    assert [(shown.image, shown.width, shown.region) for shown in asked.images] == [(0, 512, None)]


@pytest.mark.parametrize("boxes", get_args(BoxConvention))
def test_proposals_are_written_in_the_models_own_convention(boxes: BoxConvention) -> None:
    profile = Profile(boxes=boxes)
    does, dialect = Remembers(), dialect_of(profile)
    other = Thought(ThoughtId(2), ThoughtKind.LOOK, "A sign.", 1.0, 0.5, 1.0)
    request = ProposeRequest(QUESTION, (VIEW,), PATH, (other,), 3, 2)
    reply = complete(SimulatedModel(does, profile=profile), dialect.render(request))
    look, fuse = dialect.parse_propose(request, reply).candidates
    assert look.region is not None
    read = (look.region.x0, look.region.y0, look.region.x1, look.region.y1)
    assert read == pytest.approx((0.25, 0.5, 0.5, 0.75), abs=0.01)
    assert [step.utility for step in look.forecast] == pytest.approx([3 / 9, 8 / 9])
    assert fuse.partners == (2,)
    (asked,) = does.asked
    assert isinstance(asked, ProposeAsked)
    assert (asked.limit, asked.steps, set(asked.kinds)) == (3, 2, set(ActionKind))
    assert [(line.id, line.kind, line.text) for line in asked.thoughts] == [
        (0, "caption", "A street."),
        (1, "think", "Two lines\nof text."),
    ]
    assert [line.id for line in asked.others] == [2]


@pytest.mark.parametrize("kind", ActionKind)
def test_each_kind_of_action_is_recognised(kind: ActionKind) -> None:
    does, dialect = Remembers(), dialect_of(Profile())
    look = kind is ActionKind.LOOK
    action = Candidate(kind, "the sign", (), PLACE if look else None)
    request = ExecuteRequest(action, QUESTION, (VIEW,), PATH, crop=CROP if look else None)
    reply = complete(SimulatedModel(does), dialect.render(request))
    assert dialect.parse_execute(request, reply) == f"a {kind}"
    (asked,) = does.asked
    assert isinstance(asked, ExecuteAsked)
    assert (asked.kind, asked.task) == (kind, "the sign")
    shown = [(one.image, one.width, one.region) for one in asked.images]
    assert shown == [(0, 512, None)] + ([(0, 400, PLACE)] if look else [])


def test_writing_is_told_from_answering() -> None:
    does, dialect = Remembers(), dialect_of(Profile())
    request = WriteRequest(QUESTION, (VIEW,), PATH)
    reply = complete(SimulatedModel(does), dialect.render(request))
    assert dialect.parse_execute(request, reply) == "It says OPEN."
    assert isinstance(does.asked[0], WriteAsked)


@pytest.mark.parametrize(
    "kind", ["request", "strategy", "think", "look", "fuse", "answer", "refusal"]
)
@pytest.mark.parametrize("logprobs", [0, 10])
def test_each_kind_of_text_is_graded(kind: str, logprobs: int) -> None:
    profile = Profile(logprobs=logprobs)
    does, dialect = Remembers(), dialect_of(profile)
    request = score_request(kind)
    (call,) = dialect.score_calls(request)
    result = dialect.read_score(request, [complete(SimulatedModel(does, profile=profile), call)])
    (asked,) = does.asked
    assert isinstance(asked, ScoreAsked)
    assert (asked.kind, asked.text) == (kind, "OPEN")
    # Where there are log-probabilities they tell what is believed, else the nearest grades do.
    believed = (8.25, 4.5) if logprobs else (8, 4)
    assert result.safety == pytest.approx((2 * believed[0] - 9) / 9)
    assert result.utility == pytest.approx(believed[1] / 9)


@pytest.mark.parametrize("utility", UtilityAggregator)
def test_a_confirmation_is_another_draw_of_the_same_verdict(utility: UtilityAggregator) -> None:
    does, profile = Remembers(), Profile(logprobs=0)
    model, dialect = SimulatedModel(does, profile=profile), dialect_of(profile)
    for check in (0, 1, 2, 3):
        fence = f"{FENCE[:-1]}{check}"
        request = replace(score_request("look", fence), check=check, utility=utility)
        (call,) = dialect.score_calls(request)
        result = dialect.read_score(request, [complete(model, call)])
        assert (result.safety, result.utility) == pytest.approx((7 / 9, 4 / 9))
        asked = does.asked[-1]
        assert isinstance(asked, ScoreAsked)
        assert (asked.kind, asked.text) == ("look", "OPEN")
    assert len({asked.key for asked in does.asked}) == 4


@pytest.mark.parametrize("style", get_args(AnswerStyle))
def test_each_style_of_an_answer_is_recognised(style: AnswerStyle) -> None:
    does, dialect = Remembers(), dialect_of(Profile())
    caption = "a street" if style == "blind" else ""
    request = AnswerRequest(QUESTION, (VIEW, VIEW), style, caption=caption)
    result = dialect.parse_answer(request, complete(SimulatedModel(does), dialect.render(request)))
    assert result.text == "OPEN"
    (asked,) = does.asked
    assert isinstance(asked, AnswerAsked)
    assert (asked.style, asked.question, asked.caption) == (style, QUESTION, caption)
    assert [one.image for one in asked.images] == ([] if style == "blind" else [0, 1])


def test_captions_and_verdicts() -> None:
    does, dialect = Remembers(), dialect_of(Profile())
    model = SimulatedModel(does)
    caption = CaptionRequest(QUESTION, (VIEW,))
    told = dialect.parse_caption(caption, complete(model, dialect.render(caption)))
    assert told.text == "a street"
    gate = GateRequest(QUESTION, "a street", FENCE)
    check = CheckRequest(QUESTION, (VIEW,), "OPEN", FENCE)
    assert dialect.parse_verdict(gate, complete(model, dialect.render(gate))) == 1.0
    assert dialect.parse_verdict(check, complete(model, dialect.render(check))) == -1.0
    _, gated, checked = does.asked
    assert isinstance(gated, VerdictAsked)
    assert isinstance(checked, VerdictAsked)
    assert (gated.text, gated.caption, gated.question) == (None, "a street", QUESTION)
    assert (checked.text, checked.caption, len(checked.images)) == ("OPEN", "", 1)


def test_a_guard_is_asked_in_its_own_template() -> None:
    does = Remembers()
    guard = GuardEvaluator(SimulatedModel(does))
    request = score_request()
    call = guard.render(request)
    assert guard.parse(request, complete(SimulatedModel(does), call)).safety == -1.0
    (asked,) = does.asked
    assert isinstance(asked, VerdictAsked)
    assert (asked.text, asked.question, len(asked.images)) == ("OPEN", QUESTION, 1)


def keys(seed: int, *calls: ChatRequest) -> list[str]:
    does = Remembers()
    model = SimulatedModel(does, seed=seed)
    for call in calls:
        complete(model, call)
    return [asked.key for asked in does.asked]


def test_the_same_request_has_the_same_draw_and_any_other_its_own() -> None:
    render = dialect_of(Profile()).render
    one, other = render(score_request()), render(score_request(fence="f5e4d3c2b1a0"))
    longer = render(score_request(text="OPEN at nine"))
    drawn = keys(1, one, one, other, one, longer, other)
    assert drawn[0] == drawn[1] == drawn[3]
    assert drawn[2] == drawn[5]
    assert len(set(drawn)) == 3
    # The fences of another run are other words, and count by their order.
    assert keys(1, other, one) == [drawn[0], drawn[2]]
    assert keys(2, one) != drawn[:1]


def test_samples_without_a_seed_are_drawn_anew() -> None:
    call = replace(dialect_of(Profile()).render(AnswerRequest(QUESTION, (VIEW,))), temperature=0.8)
    drawn = keys(1, call, call)
    assert len(set(drawn)) == 2
    assert keys(1, call, call) == drawn
    seeded = replace(call, seed=3)
    assert len(set(keys(1, seeded, seeded))) == 1


def test_a_reply_is_cut_at_the_cap() -> None:
    class Wordy(Remembers):
        def answer(self, asked: AnswerAsked) -> Said:
            return Said("word " * 5000)

    dialect = dialect_of(Profile())
    request = AnswerRequest(QUESTION, (VIEW,))
    reply = asyncio.run(SimulatedModel(Wordy()).complete(dialect.render(request)))
    assert reply.finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion == dialect.render(request).max_tokens


def test_a_sloppy_reply_is_no_verdict_and_still_a_list_of_actions() -> None:
    dialect = dialect_of(Profile())
    sloppy, scored = SimulatedModel(Remembers(), sloppy=1.0), score_request()
    with pytest.raises(VerdictError):
        dialect.read_score(scored, [complete(sloppy, dialect.render(scored))])
    other = Thought(ThoughtId(2), ThoughtKind.LOOK, "A sign.", 1.0, 0.5, 1.0)
    proposing = ProposeRequest(QUESTION, (VIEW,), PATH, (other,), 3, 2)
    reply = complete(sloppy, dialect.render(proposing))
    assert len(dialect.parse_propose(proposing, reply).candidates) == 2


def test_an_unknown_task_is_an_error() -> None:
    messages = (Message("user", (TextPart("Task: sing a song."),)),)
    with pytest.raises(ValueError, match="sing a song"):
        asyncio.run(SimulatedModel(Remembers()).complete(ChatRequest(messages, 10, "execute")))
