"""What is wrong with a request, and where: the place is the one that a client wrote."""

from __future__ import annotations

import pytest

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway.chat._passed_request import passed_messages
from ecoalign.gateway.chat._request import read_messages, read_parameters, sampling_of

URL = "data:image/png;base64,AAAA"


def _parts(*parts: object) -> list[object]:
    return [{"role": "system", "content": "x"}, {"role": "user", "content": list(parts)}]


def _image(value: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": value}


WHERE = "messages[1].content[0]"


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        (_parts({"type": "text"}), f"{WHERE}.text", None),
        (_parts({"type": "refusal", "refusal": 5}), f"{WHERE}.refusal", None),
        (_parts({"type": "sound"}), f"{WHERE}.type", "unsupported_value"),
        (_parts({}), f"{WHERE}.type", "unsupported_value"),
        (_parts(7), f"{WHERE}.type", "unsupported_value"),
        (_parts(_image(None)), f"{WHERE}.image_url.url", None),
        (_parts(_image({"url": 5})), f"{WHERE}.image_url.url", None),
        (
            _parts(_image({"url": "http://x/" + "a" * 5000})),
            f"{WHERE}.image_url.url",
            "invalid_image_url",
        ),
        (_parts(_image({"url": URL, "detail": "x"})), f"{WHERE}.image_url.detail", None),
        # The keys are like the names that a union gives to its types.
        ([{"role": "user", "content": {"str": 1}}], "messages[0].content", None),
        ([{"role": "user", "content": "x", "name": ""}], "messages[0].name", None),
        ([{"content": "x", "role": "user"}, {"content": "x"}], "messages[1].role", None),
        (
            [{"role": "assistant", "tool_calls": {}}, {"role": "user", "content": "x"}],
            "messages[0].tool_calls",
            None,
        ),
        (
            [{"role": "system", "content": [_image(URL)]}, {"role": "user", "content": "x"}],
            "messages[0].content[0].type",
            "unsupported_value",
        ),
    ],
    ids=str,
)
def test_the_place_in_the_messages(messages: object, param: str, code: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        read_messages(messages, max_images=1)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 2.5}, "temperature must be a number from 0 to 2"),
        ({"top_logprobs": "3"}, "top_logprobs must be a whole number from 0 to 20"),
        ({"logprobs": 1}, "logprobs must be true or false"),
        ({"stop": [1]}, "stop must be a text or a list of texts"),
        ({"tools": [1]}, "tools must be a list of objects"),
        ({"tool_choice": "x"}, "tool_choice must be one of none, auto, required or an object"),
        ({"logit_bias": {"5": "x"}}, "logit_bias must be an object of numbers"),
        ({"logit_bias": {"budget": "x"}}, "logit_bias must be an object of numbers"),
        (
            {"response_format": {}},
            "response_format.type must be one of text, json_object, json_schema",
        ),
        ({"thinking": {"type": "on"}}, "thinking.type must be one of enabled, disabled"),
        (
            {"reasoning": {"max_tokens": -1}},
            "reasoning.max_tokens must be a whole number from 0 to 10000000",
        ),
        (
            {"store": True},
            "store must be false: an answer is one of many texts, and none is stored upstream",
        ),
        ({"user": 5}, "user must be a text"),
        ({"metadata": []}, "metadata must be an object"),
        (
            {"ecoalign": {"preset": "x" * 65}},
            "ecoalign.preset must be a text of 1 to 64 characters",
        ),
        ({"n": True}, "n must be 1: one scored answer"),
        ({"n": 1.0}, "n must be 1: one scored answer"),
    ],
    ids=str,
)
def test_what_a_parameter_must_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_parameters({"model": "m", **changes})
    assert refused.value.message == message


def test_what_is_passed_on_with_an_answer() -> None:
    body: dict[str, object] = {
        "model": "m",
        "messages": [],
        "n": 1,
        "stream": True,
        "stream_options": {},
        "modalities": ["text"],
        "max_tokens": 7,
        "temperature": 1,
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": None, "parameters": {"default": None}},
            }
        ],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"x": None}}},
        "metadata": {"guardrails": []},
        "vendor": None,
        "seed": None,
        "functions": None,
    }
    sampling = sampling_of(read_parameters(body), body)
    assert sampling.max_tokens == 7
    function = {"name": "f", "parameters": {"default": None}}
    assert sampling.params == {
        "temperature": 1,
        "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"x": None}}},
    }


def test_a_conversation_becomes_a_question_with_its_context() -> None:
    read = read_messages(
        [
            {"role": "developer", "content": "Be brief.", "name": "app"},
            {"role": "user", "content": [_image(URL), {"type": "text", "text": "one"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
            {"role": "tool", "content": "4", "tool_call_id": "c"},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": None},
            {"role": "user", "content": [{"type": "text", "text": "two"}, _image({"url": URL})]},
            {"role": "system", "content": "now"},
        ],
        max_images=2,
    )
    assert read.question == "two image 2"
    assert [image.param for image in read.images] == [
        "messages[1].content[0].image_url.url",
        "messages[6].content[1].image_url.url",
    ]
    assert read.context == [
        "user: image 1\none",
        'assistant: called {"id": "c"}',
        "tool: 4",
        "assistant: no",
    ]
    assert read.instructions == "Be brief.\n\nnow"


def test_what_is_passed_on_is_what_was_read() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [{**call, "index": 0}]}
    sent, images = passed_messages(
        [
            *_parts(_image(URL), {"type": "text", "text": "x", "cache_control": None}),
            {**said, "annotations": [], "audio": None, "reasoning_content": "so"},
            {"role": "tool", "content": "4", "tool_call_id": "c"},
        ],
        max_images=1,
    )
    assert [image.url for image in images] == [URL]
    assert sent == [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [_image({"url": URL}), {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (_parts({"type": "file"}), f"{WHERE}.type"),
        (_parts({"type": "input_audio", "input_audio": {}}), f"{WHERE}.type"),
        (_parts("text"), f"{WHERE}.type"),
        (_parts({"type": "image_url"}), f"{WHERE}.image_url.url"),
        (_parts(_image({"url": ""})), f"{WHERE}.image_url.url"),
        (_parts(_image({"url": URL, "max_pixels": 9**9})), f"{WHERE}.image_url.max_pixels"),
        (_parts({"type": "text", "text": "x", "cache_control": {}}), f"{WHERE}.cache_control"),
        ([{"role": "user", "content": "x", "cache_control": {}}], "messages[0].cache_control"),
        ([{"role": "user", "content": "x", "tools": []}], "messages[0].tools"),
        ([{"role": "assistant", "content": "x", "prefix": True}], "messages[0].prefix"),
        ([{"role": "user", "content": "x", "tool_call_id": 5}], "messages[0].tool_call_id"),
        ([{"role": "assistant", "tool_calls": [{"id": "c"}]}], "messages[0].tool_calls[0]"),
        ([{"role": "king", "content": "x"}], "messages[0].role"),
        (_parts(*[_image(URL)] * 3), "messages[1].content[2].image_url.url"),
    ],
    ids=str,
)
def test_what_is_not_passed_on_with_a_message(messages: object, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        passed_messages(messages, max_images=2)
    assert (refused.value.status, refused.value.param) == (400, param)
