from __future__ import annotations

import contextlib
import math

import pytest
from full_samples import said, spelled

from ecoalign.errors import ModelError, VerdictError
from ecoalign.models import Completion, TokenLogprob
from ecoalign.prompts._reading import finite, loose_json, require_whole, token_mass, visible_text


def grade(token: str) -> str | None:
    return token if token in {"1", "2", "3"} else None


def test_visible_text_drops_thoughts_wherever_they_are() -> None:
    assert visible_text("t", said(" <think>a {b}\n</think>\n The answer. ")) == "The answer."
    assert visible_text("t", said("It says <think>x</think>so.")) == "It says so."


@pytest.mark.parametrize(
    "completion",
    [
        said(""),
        said(" \n"),
        said("<think>cut off here", "length"),
        said("<think>a</think>  "),
        said("The answer. <think>or", "length"),
    ],
)
def test_no_visible_text_is_a_bad_response(completion: Completion) -> None:
    with pytest.raises(ModelError) as caught:
        visible_text("execute", completion)
    assert caught.value.fault == "bad-response"
    assert caught.value.billed
    assert "execute" in str(caught.value)


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "content-filter: RECITATION"])
def test_what_a_content_filter_took_is_a_fault_of_its_own(reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        visible_text("execute", said("fine", reason))
    assert caught.value.fault == "filtered"
    assert "fine" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value", "repaired"),
    [
        ('{"a": 1}', {"a": 1}, False),
        ('```json\n{"a": 1}\n```', {"a": 1}, True),
        ('<think>{"a": 2}</think>{"a": 1}', {"a": 1}, False),
        ('Sure! {"a": [1, 2', {"a": [1, 2]}, True),
        ("{'a': 1,}", {"a": 1}, True),
    ],
)
def test_loose_json(text: str, value: object, repaired: bool) -> None:
    assert loose_json("t", said(text)) == (value, repaired)


def test_a_repeated_key_counts_as_repaired() -> None:
    assert loose_json("t", said('{"a": 1, "a": 2}'))[1]


def test_deep_nesting_is_no_crash() -> None:
    with contextlib.suppress(ModelError):
        value, repaired = loose_json("t", said("[" * 100_000))
        assert repaired
        assert isinstance(value, list | str)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (True, None),
        ("3", None),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ([1], None),
    ],
)
def test_finite(value: object, number: float | None) -> None:
    assert finite(value) == number


def raised(reason: str) -> Exception | None:
    try:
        require_whole(said("x", reason))
    except VerdictError as error:
        return error
    return None


@pytest.mark.parametrize("reason", ["stop", "eos", "end_turn", "STOP"])
def test_a_natural_end_is_whole(reason: str) -> None:
    assert raised(reason) is None


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "abort", "", "null"])
def test_any_other_end_is_not(reason: str) -> None:
    with pytest.raises(VerdictError, match="not whole"):
        require_whole(said("x", reason))


@pytest.mark.parametrize("text", ["a<think>b</think>c", "<think>a</think>", "<think>a", " "])
def test_a_verdict_is_one_run_of_text(text: str) -> None:
    with pytest.raises(VerdictError, match="after its thoughts"):
        require_whole(said(text))


def test_a_verdict_follows_its_thoughts() -> None:
    seen = require_whole(said("<think>2 or 3?</think>\n 3 "))
    assert (seen.text, seen.start) == ("3", 24)


@pytest.mark.parametrize("spelled", ["all", "visible", "all and end"])
@pytest.mark.parametrize("text", ["<think>a 2?</think>\n\na 2", "So a 3, or a 2. </think>a 2"])
def test_the_alternatives_of_a_verdict_after_its_thoughts(spelled: str, text: str) -> None:
    start = text.rindex("2")
    before = text[:start] if spelled != "visible" else "a "
    deciding = TokenLogprob("2", math.log(0.75), {"2": math.log(0.75), "3": math.log(0.25)})
    tokens = [*(TokenLogprob(c, -0.5, {c: -0.5}) for c in before), deciding]
    tokens += [TokenLogprob("<|im_end|>", 0.0)] if spelled == "all and end" else []
    masses = token_mass(Completion(text, None, logprobs=tuple(tokens)), start, grade)
    assert masses == pytest.approx({"2": 0.75, "3": 0.25})


def test_the_alternatives_of_thoughts_are_never_taken_for_the_verdicts() -> None:
    thoughts = "<think>a 2</think>"
    tokens = tuple(TokenLogprob(c, -0.5, {c: -0.5}) for c in thoughts + "a 2 a 2")
    assert token_mass(Completion(thoughts + "a 2", None, logprobs=tokens), 20, grade) is None


def test_masses_are_summed_by_class() -> None:
    completion = spelled("a 2", {2: {"2": 0.5, " 2": 0.25, "3": 0.125, "x": 0.125}})
    assert token_mass(completion, 2, grade) == pytest.approx({"2": 0.75, "3": 0.125})


def test_the_generated_token_counts_even_if_it_is_not_among_the_alternatives() -> None:
    entry = TokenLogprob("2", math.log(0.2), {"1": math.log(0.7)})
    assert token_mass(Completion("2", None, logprobs=(entry,)), 0, grade) == pytest.approx(
        {"1": 0.7, "2": 0.2}
    )


def test_stripped_space_and_end_tokens_do_not_move_the_position() -> None:
    tokens = (
        TokenLogprob("\n", 0.0),
        TokenLogprob("a", 0.0),
        TokenLogprob(" 3", math.log(0.9), {" 3": math.log(0.9), " 1": math.log(0.1)}),
        TokenLogprob("<|eot_id|>", 0.0),
    )
    for text, start in (("a 3", 2), ("\na 3", 3)):
        masses = token_mass(Completion(text, None, logprobs=tokens), start, grade)
        assert masses == pytest.approx({"3": 0.9, "1": 0.1})


@pytest.mark.parametrize(
    "completion",
    [
        said("a2"),
        Completion("a2", None, logprobs=()),
        # tokens that spell something else, or the text twice
        Completion("a2", None, logprobs=(TokenLogprob("a3", -0.1, {"3": -0.1}),)),
        Completion("2", None, logprobs=(TokenLogprob("2", -0.1, {"2": -0.1}),) * 2),
        # no alternatives, a token wider than its word, probabilities that are none
        spelled("a2", {}),
        Completion("a2", None, logprobs=(TokenLogprob("a2", -0.1, {"a2": -0.1}),)),
        Completion("2", None, logprobs=(TokenLogprob("2", 0.5, {"2": 0.5}),)),
        Completion("2", None, logprobs=(TokenLogprob("2", math.nan, {"2": math.nan}),)),
        Completion("2", None, logprobs=(TokenLogprob("2", -0.1, {"2": -0.1, "3": -0.1}),)),
    ],
)
def test_unusable_alternatives_are_none(completion: Completion) -> None:
    assert token_mass(completion, completion.text.index("2"), grade) is None
