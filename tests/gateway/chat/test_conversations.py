"""How messages are read: images keep their place, instructions are told apart from turns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway.chat._passed_request import passed_messages
from ecoalign.gateway.chat._request import (
    IMAGE_ALONE,
    IMAGE_SENT,
    Conversation,
    read_messages,
    read_parameters,
    sampling_of,
)

PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def _user(*parts: object, **more: object) -> dict[str, object]:
    content = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)
    return {"role": "user", "content": content, **more}


def _read(*messages: object) -> Conversation:
    return read_messages(list(messages), max_images=16)


def test_images_stand_where_the_user_put_them() -> None:
    read = _read(_user(_text("Before:"), PART, _text("After:"), PART, _text("What changed?")))
    assert read.question == "Before: image 1\nAfter: image 2\nWhat changed?"
    assert [image.param[:24] for image in read.images] == [
        "messages[0].content[1].i",
        "messages[0].content[3].i",
    ]


def test_images_of_earlier_turns_are_told_apart() -> None:
    read = _read(
        _user(PART, _text("What colour?")),
        {"role": "assistant", "content": "Red."},
        _user(PART, _text("And this one?")),
    )
    assert read.context == ["user: image 1\nWhat colour?", "assistant: Red."]
    assert read.question == "image 2\nAnd this one?"


def test_the_only_image_is_marked_where_it_came_earlier() -> None:
    read = _read(_user(PART), {"role": "assistant", "content": "A sign."}, _user("Its colour?"))
    assert read.context == ["user: image 1", "assistant: A sign."]
    assert read.question == "Its colour?"


def test_one_image_beside_the_question_needs_no_mark() -> None:
    assert _read(_user(PART, _text("What is it?"))).question == "What is it?"


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_image_has_one_number_in_order(turns: list[list[bool]]) -> None:
    messages = [_user(*(PART if image else _text("x") for image in turn)) for turn in turns]
    count = sum(map(sum, turns))
    if not count:
        return
    read = _read(*messages)
    said = "\n".join((*read.context, read.question))
    marks = [f"image {n}" for n in range(1, count + 1)]
    if count > 1:
        places = [said.index(mark) for mark in marks]
        assert places == sorted(places)
        assert len(re.findall(r"image \d", said)) == count
    assert len(read.images) == count


def test_system_and_developer_prompts_are_instructions() -> None:
    read = _read(
        {"role": "system", "content": "Answer in French."},
        _user("Hello"),
        {"role": "developer", "content": [_text("Be brief.")]},
        {"role": "assistant", "content": "Bonjour"},
        _user("What colour is the sky?"),
    )
    assert read.instructions == "Answer in French.\n\nBe brief."
    assert read.context == ["user: Hello", "assistant: Bonjour"]


def test_who_asks_is_told() -> None:
    assert _read(_user("Read it.", name="ann")).question == "ann: Read it."


@pytest.mark.parametrize(
    ("messages", "question", "instructions"),
    [
        ([{"role": "system", "content": "Return the text."}, _user(PART)], "Return the text.", ""),
        ([_user("What does it say?"), _user(PART)], IMAGE_SENT, ""),
        ([_user(PART, _text(""))], IMAGE_ALONE, ""),
        (
            [{"role": "system", "content": "Be kind."}, _user(PART, _text("Read.")), _user(PART)],
            f"image 2\n{IMAGE_SENT}",
            "Be kind.",
        ),
    ],
)
def test_an_image_without_words(messages: list[object], question: str, instructions: str) -> None:
    read = _read(*messages)
    assert (read.question, read.instructions) == (question, instructions)


def test_no_words_and_no_image_is_no_question() -> None:
    with pytest.raises(ApiError, match="no question"):
        _read(_user(" "))


def test_what_costs_nothing_is_taken_and_kept_back() -> None:
    body: dict[str, object] = {
        "model": "ecoalign",
        "store": False,
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "user": "ann",
        "safety_identifier": "ann",
        "temperature": 0.5,
    }
    sampling = sampling_of(read_parameters(body), body)
    assert dict(sampling.params) == {
        "user": "ann",
        "safety_identifier": "ann",
        "temperature": 0.5,
    }


def test_a_cheaper_tier_is_passed_on() -> None:
    body: dict[str, object] = {"model": "ecoalign", "service_tier": "flex"}
    assert sampling_of(read_parameters(body), body).params == {"service_tier": "flex"}


def test_nothing_is_stored_upstream() -> None:
    body: dict[str, object] = {"model": "ecoalign", "store": True}
    with pytest.raises(ApiError) as error:
        read_parameters(body)
    assert error.value.param == "store"


def test_bare_base64_is_told_what_it_lacks() -> None:
    part = {"type": "image_url", "image_url": {"url": "QUJD" * 2000}}
    with pytest.raises(ApiError, match="data:image/png;base64,"):
        _read(_user(_text("x"), part))


CALL = {"id": "a1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def _result(content: object, name: str = "a1") -> dict[str, object]:
    return {"role": "tool", "tool_call_id": name, "content": content}


def test_results_are_told_apart_by_their_calls() -> None:
    other = {**CALL, "id": "a2"}
    read = _read(
        _user("What does it say?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL, other]},
        _result("Harbour", "a2"),
        _result("Exit"),
        _result("?", "of nobody"),
        _result(None),
    )
    assert read.question == "What does it say?"
    assert read.context[1:] == [
        "tool (look, a2): Harbour",
        "tool (look, a1): Exit",
        "tool: ?",
        "tool (look, a1): (nothing)",
    ]


def test_images_of_results_have_their_places() -> None:
    read = _read(
        _user(PART, _text("What does it say?")),
        {"role": "assistant", "tool_calls": [CALL]},
        _result([_text("Closer:"), PART]),
    )
    assert read.question == "image 1\nWhat does it say?"
    assert read.context[-1] == "tool (look, a1): Closer: image 2"
    assert len(read.images) == 2
    sent, images = passed_messages(
        [_user("x"), {"role": "assistant", "tool_calls": [CALL]}, _result([PART])], max_images=4
    )
    assert sent[-1] == {"role": "tool", "tool_call_id": "a1", "content": [PART]}
    assert [image.param for image in images] == ["messages[2].content[0].image_url.url"]


@pytest.mark.parametrize("empty", [None, "", []])
@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_a_turn_without_content_is_taken(role: str, empty: object) -> None:
    messages = [_user("First."), {"role": role, "content": empty}, _user("What is it?")]
    read = _read(*messages)
    assert read.question == "What is it?"
    assert read.instructions == ""
    sent, _ = passed_messages(messages, max_images=4)
    # Servers take null from the assistant alone.
    assert (sent[1]["content"] is None) == (role == "assistant" and empty is None)


def test_null_is_not_given_in_a_message_either() -> None:
    nothing = dict.fromkeys(("name", "refusal", "tool_calls", "tool_call_id", "audio"))
    messages = [
        {"role": "system", "content": "Be kind.", **nothing},
        {"role": "user", "content": [{**_text("x"), "image_url": None}, PART], **nothing},
        {"role": "assistant", "content": "y", "function_call": None, **nothing},
        {"role": "user", "content": "z", **nothing},
    ]
    assert _read(*messages).question == "z"
    sent, _ = passed_messages(messages, max_images=4)
    assert [set(message) for message in sent] == [{"role", "content"}] * 4
