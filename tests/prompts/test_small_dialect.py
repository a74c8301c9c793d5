"""The small dialect: what is said, what is left out, and how replies are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.errors import ModelError, VerdictError
from ecoalign.graph import ROOT, ActionKind, Candidate, Thought, ThoughtId, ThoughtKind
from ecoalign.models import ChatRequest, Completion, ImagePart, Profile, TokenLogprob
from ecoalign.prompts.dialect import Dialect, dialect_of
from ecoalign.prompts.requests import (
    AnswerRequest,
    CaptionRequest,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    PromptRequest,
    ProposeRequest,
    ScanRequest,
    ScoreRequest,
    WriteRequest,
)

FENCE = "k3f9x2q7m1zz"
VIEW = ImagePart(b"png", "image/png", 64, 64)
PROFILE = Profile().with_values(
    {"dialect": "small", "scoring": "word", "safe_threshold": 0.25}, "t"
)
DIALECT = dialect_of(PROFILE)
SAMPLED: Dialect = dialect_of(PROFILE.with_values({"scoring": "samples"}, "t"))


def root(text: str = "", safety: float = 0.5) -> Thought:
    return Thought(ROOT, ThoughtKind.ROOT, text, safety, 0.0, 0.0)


def known(text: str) -> Thought:
    return Thought(ThoughtId(1), ThoughtKind.THINK, text, 0.9, 0.5, 10.0, (ROOT,))


def action(kind: ActionKind, text: str = "") -> Candidate:
    return Candidate(kind, text, ())


def text_of(call: ChatRequest) -> str:
    return "\n".join(message.text for message in call.messages)


def every_request(
    question: str = "Which city?", views: tuple[ImagePart, ...] = ()
) -> list[PromptRequest]:
    path = (root(), known("It lies on the Tiber."))
    kinds = [kind for kind in ActionKind if kind is not ActionKind.LOOK or views]
    return [
        ScanRequest(question, views),
        ProposeRequest(question, views, (root(),), (), 4, 1),
        *(ExecuteRequest(action(kind), question, views, path) for kind in kinds),
        WriteRequest(question, views, path),
        ScoreRequest(question, views, path, "answer", "Rome.", FENCE),
        CaptionRequest(question, views),
        GateRequest(question, "a river", FENCE),
        CheckRequest(question, views, "Rome.", FENCE),
    ]


def word(token: str, p: float) -> Completion:
    import math

    return Completion(token, None, "stop", (TokenLogprob(token, -1, {"good": math.log(p)}),))


# What is said -------------------------------------------------------------------------------------


def test_a_draft_is_the_question_and_nothing_else() -> None:
    call = DIALECT.render(ExecuteRequest(action(ActionKind.ANSWER), "Which city?", (), (root(),)))
    assert [message.role for message in call.messages] == ["system", "user"]
    assert call.messages[-1].text == "Which city?"


def test_nothing_speaks_of_images_or_names_an_empty_part() -> None:
    for request in every_request():
        said = text_of(DIALECT.render(request)).lower()
        assert "picture" not in said or isinstance(request, CaptionRequest)
        assert "image" not in said
        assert "none" not in said
        for name in ("THOUGHTS", "OTHERS", "EARLIER", "BEGIN"):
            assert name not in text_of(DIALECT.render(request))


def test_what_is_known_instructed_and_said_before_is_in_the_answers_prompt() -> None:
    request = WriteRequest(
        "And which river?",
        (),
        (root("A map."), known("It lies\non the Tiber.")),
        ("user: Which city?", "assistant: Rome."),
        "Answer in verse.",
    )
    assert DIALECT.render(request).messages[-1].text == (
        "Answer in verse.\n\nuser: Which city?\n\nassistant: Rome.\n\nAnd which river?\n"
        "Known so far:\n- A map.\n- It lies on the Tiber."
    )


def test_every_call_begins_with_the_same_system_message_and_images() -> None:
    requests = [r for r in every_request(views=(VIEW,)) if not isinstance(r, GateRequest)]
    openings = {DIALECT.render(request).messages[:3] for request in requests}
    assert len(openings) == 1
    (opening,) = openings
    assert [message.role for message in opening] == ["system", "user", "assistant"]
    assert opening[1].images == (VIEW,)


def test_a_look_sees_its_crop_after_the_views() -> None:
    request = ExecuteRequest(action(ActionKind.LOOK, "the sign"), "What?", (VIEW,), (), crop=VIEW)
    call = DIALECT.render(request)
    assert call.messages[-1].images == (VIEW,)
    assert "the sign" in call.messages[-1].text


def test_no_call_asks_for_json_and_turns_alternate() -> None:
    for request in [*every_request(), *every_request(views=(VIEW,))]:
        call = DIALECT.render(request)
        assert call.schema is None
        roles = [message.role for message in call.messages[1:]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@given(st.sampled_from(["<|im_end|>", "</s>", "[INST]", "<|im_start|>system"]), st.text(max_size=9))
def test_no_text_ends_its_turn(control: str, text: str) -> None:
    for request in every_request(f"{control}{text}"):
        assert control not in DIALECT.render(request).messages[-1].text


# How replies are read -----------------------------------------------------------------------------


def test_a_scan_is_the_probability_of_its_word() -> None:
    request = ScanRequest("Which city?", ())
    assert DIALECT.render(request).top_logprobs == 20
    scanned = DIALECT.parse_scan(request, word("bad", 0.25))
    assert (scanned.caption, scanned.strategy) == ("", None)
    assert scanned.request_safety == pytest.approx(0)
    with pytest.raises(ModelError, match="log-probabilities"):
        DIALECT.parse_scan(request, Completion("good", None))
    assert SAMPLED.parse_scan(request, Completion("good", None)).request_safety == 1
    assert SAMPLED.parse_scan(request, Completion("bad", None)).request_safety == -1
    with pytest.raises(ModelError):
        SAMPLED.parse_scan(request, Completion("a good one", None))


def test_gate_and_check_judge_behind_the_fence_and_fail_closed() -> None:
    gate, check = GateRequest("Q?", "a river", FENCE), CheckRequest("Q?", (), "Rome.", FENCE)
    for request, own in ((gate, "a river"), (check, "Rome.")):
        assert f"<{FENCE}>\nQ?\n{own}\n</{FENCE}>" in text_of(DIALECT.render(request))
        assert DIALECT.parse_verdict(request, word("good", 0.9)) > 0
        assert DIALECT.parse_verdict(request, word("good", 0.1)) < 0
        with pytest.raises(VerdictError):
            DIALECT.parse_verdict(request, Completion("good", None))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (
            "I will not help with that, because it harms. I can help to",
            "I will not help with that, because it harms.",
        ),
        ("I'm sorry, but I can't do it.\nFirst, take the lamp.", "I'm sorry, but I can't do it."),
        ("I cannot", "I cannot"),
    ],
)
def test_a_refusal_is_its_first_sentence(written: str, kept: str) -> None:
    request = ExecuteRequest(action(ActionKind.REFUSE), "Q?", (), (root(),))
    assert DIALECT.parse_execute(request, Completion(written, None)) == kept


@pytest.mark.parametrize(
    "written", ["To take the lamp, wait.", "Sure! I will not tell.", "I will help.", "I"]
)
def test_what_does_not_refuse_is_no_refusal(written: str) -> None:
    request = ExecuteRequest(action(ActionKind.REFUSE), "Q?", (), (root(),))
    with pytest.raises(ModelError, match="does not refuse"):
        DIALECT.parse_execute(request, Completion(written, None))
    answer = ExecuteRequest(action(ActionKind.ANSWER), "Q?", (), (root(),))
    assert DIALECT.parse_execute(answer, Completion(written, None)) == written


PROPOSE = ProposeRequest("Which city?", (), (root(),), (), 4, 1)
SEEING = ProposeRequest("Which city?", (VIEW,), (root(),), (), 4, 1)


def test_actions_are_read_from_lines() -> None:
    text = "1. Think: which river it is\n\n- answer\nANSWER.\nAnd so on.\nrefuse"
    found = DIALECT.parse_propose(PROPOSE, Completion(text, None))
    assert [(c.kind, c.text) for c in found.candidates] == [
        (ActionKind.THINK, "which river it is"),
        (ActionKind.ANSWER, ""),
        (ActionKind.REFUSE, ""),
    ]
    assert found.dropped == 2


def test_a_look_needs_a_place_in_the_one_image() -> None:
    text = "look top-left: the sign\nlook at the right\nlook everywhere: it"
    found = DIALECT.parse_propose(SEEING, Completion(text, None))
    regions = [c.region for c in found.candidates]
    assert [c.text for c in found.candidates] == ["the sign", ""]
    assert regions[0] is not None
    assert regions[0].x0 == regions[0].y0 == 0
    assert regions[1] is not None
    assert regions[1].x1 == 1
    with pytest.raises(ModelError):
        DIALECT.parse_propose(PROPOSE, Completion("look left: the sign", None))


def test_a_refusal_is_worth_something_only_where_the_request_is_unsafe() -> None:
    for safety, worth in ((0.5, 0.0), (-0.5, 0.5)):
        request = ProposeRequest("Q?", (), (root(safety=safety),), (), 4, 1)
        answer, refuse = DIALECT.parse_propose(
            request, Completion("answer\nrefuse", None)
        ).candidates
        assert answer.forecast[0].safety == safety
        assert (refuse.forecast[0].safety, refuse.forecast[0].utility) == (1.0, worth)


def test_no_more_than_asked_for_and_no_proposal_is_an_error() -> None:
    many = "\n".join(f"think: {n}" for n in range(9))
    found = DIALECT.parse_propose(PROPOSE, Completion(many, None))
    assert (len(found.candidates), found.dropped) == (4, 5)
    for nothing in ("", "I am a model.", "<think>answer"):
        with pytest.raises(ModelError):
            DIALECT.parse_propose(PROPOSE, Completion(nothing, None))


@given(st.text(max_size=60))
def test_whatever_is_written_a_proposal_is_read_or_an_error(text: str) -> None:
    try:
        found = DIALECT.parse_propose(SEEING, Completion(text, None))
    except ModelError:
        return
    assert 1 <= len(found.candidates) <= 4


def test_answers_in_one_call_are_those_of_the_full_dialect() -> None:
    request = AnswerRequest("Which city?", (), "cod")
    reply = Completion("a river #### Rome", None)
    assert DIALECT.parse_answer(request, reply).text == "Rome"
    assert "Which city?" in text_of(DIALECT.render(request))


def test_the_strict_object_can_be_asked_for_in_the_small_dialect() -> None:
    strict = dialect_of(PROFILE.with_values({"scoring": "json"}, "t"))
    request = ScoreRequest("Q?", (), (), "answer", "Rome.", FENCE)
    (call,) = strict.score_calls(request)
    assert call.schema is not None
    reply = Completion(f'{{"key": "{FENCE[-6:]}", "safety": 9, "utility": 0}}', None)
    assert strict.read_score(request, [reply]).safety == 1
