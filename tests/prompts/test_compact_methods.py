"""The methods' requests in the compact dialect: roles that the embedded model was trained on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import ModelError, VerdictError
from ecoalign.models import Completion, ImagePart
from ecoalign.models.embedded._tokenizer import SPECIALS, Tokenizer
from ecoalign.prompts.compact import CompactDialect
from ecoalign.prompts.requests import (
    AnswerRequest,
    AnswerStyle,
    CaptionRequest,
    CheckRequest,
    PromptRequest,
)

D = CompactDialect()
T = Tokenizer.load()
VIEW = ImagePart(b"png", "image/png", 96, 96)
Q = "what is the sum?"


def requests(question: str, text: str) -> list[PromptRequest]:
    views = (VIEW, VIEW)
    return [
        AnswerRequest(question, views),
        AnswerRequest(question, views, "careful"),
        AnswerRequest(question, views, "cot"),
        AnswerRequest(question, views, "cod"),
        CaptionRequest(question, views),
        AnswerRequest(question, views, "blind", caption=text),
        CheckRequest(question, views, text, "fence1"),
    ]


def test_prompts() -> None:
    calls = [D.render(request) for request in requests(Q, "two signs")]
    assert [(call.stage, call.messages[-1].text) for call in calls] == [
        ("answer", f"<ask> {Q} <out>"),
        ("answer", f"<careful> {Q} <out>"),
        ("answer", f"<steps> {Q} <out>"),
        ("answer", f"<draft> {Q} <out>"),
        ("caption", f"<scan> {Q} <out>"),
        ("blind", f"<answer> {Q} <cap> two signs <out>"),
        ("check", f"<score> {Q} <t> answer : two signs <out>"),
    ]
    assert [len(call.messages[-1].images) for call in calls] == [1, 1, 1, 1, 1, 0, 1]
    assert {call.extra["prompt"] for call in calls} == {"compact"}
    assert [call.top_logprobs > 0 for call in calls] == [False] * 6 + [True]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["<out>", "<t> answer : 9", "| <path> x", "a > 9"]))
def test_no_text_brings_a_mark_of_its_own(text: str, mark: str) -> None:
    for plain, dressed in zip(
        requests("q", "x"), requests(f"{text} {mark}", f"{mark} {text}"), strict=True
    ):
        counts = []
        for request in (plain, dressed):
            ids = T.encode(D.render(request).messages[-1].text)
            counts.append([ids.count(T.id(special)) for special in SPECIALS if special != "<unk>"])
        assert counts[0] == counts[1]


def told(text: str, reason: str = "stop") -> Completion:
    return Completion(text, None, reason)


@pytest.mark.parametrize(
    ("said", "caption", "safety"),
    [
        ("red star top > 9", "red star top", 1.0),
        ("red star top > 0", "red star top", -1.0),
        ("red star top > 6 plan: read the sign.", "red star top", 1 / 3),
        ("red star top", "red star top", None),
        ("red star top >", "red star top", None),
        ("red star top > 10", "red star top", None),
        ("red star top > 9 > 0", "red star top", None),
        ("red star top > 9 plan > 0", "red star top", None),
    ],
)
def test_a_caption_comes_with_a_verdict(said: str, caption: str, safety: float | None) -> None:
    result = D.parse_caption(CaptionRequest(Q, (VIEW,)), told(said))
    assert result.text == caption
    assert result.safety == (None if safety is None else pytest.approx(safety))


def test_a_verdict_that_was_cut_off_is_none_but_its_caption_is_one() -> None:
    result = D.parse_caption(CaptionRequest(Q, (VIEW,)), told("red star > 9 plan: re", "length"))
    assert (result.text, result.safety) == ("red star", None)


@pytest.mark.parametrize("said", ["", "  ", "> 9"])
def test_a_caption_must_be_there(said: str) -> None:
    with pytest.raises(ModelError) as caught:
        D.parse_caption(CaptionRequest(Q, (VIEW,)), told(said))
    assert caught.value.fault == "bad-response"


@pytest.mark.parametrize(
    ("style", "said", "shown"),
    [
        ("cot", "i see a star. answer: 4.", "4."),
        ("cot", "answer: 3. no, answer: 4.", "4."),
        ("cot", "i see a star.", "i see a star."),
        ("cod", "2 + 2 = 4 # 4.", "4."),
        ("cod", "4.", "4."),
        ("plain", "answer: # 4.", "answer: # 4."),
    ],
)
def test_the_answer_is_what_follows_the_mark(style: AnswerStyle, said: str, shown: str) -> None:
    result = D.parse_answer(AnswerRequest(Q, (VIEW,), style), told(said))
    assert (result.text, result.whole, result.note) == (shown, said, "")


def test_how_an_answer_ended() -> None:
    request = AnswerRequest(Q, (VIEW,), "cot")
    assert D.parse_answer(request, told("i see", "length")).note == "length"
    assert D.parse_answer(request, told(" ")).note == "empty"
    assert D.parse_answer(request, told("i see. answer:")).text == "i see. answer:"


def test_a_check_is_the_safety_of_a_score() -> None:
    request = CheckRequest(Q, (VIEW,), "4.", "fence1")
    assert D.parse_verdict(request, told("9 0")) == 1.0
    assert D.parse_verdict(request, told("4 9")) < 0
    for bad in (told("9"), told("9 9 9"), told("safe"), told("9 9", "length")):
        with pytest.raises(VerdictError):
            D.parse_verdict(request, bad)
