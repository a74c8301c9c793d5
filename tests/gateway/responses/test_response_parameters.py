"""What a request for a response may have: the list of chat completions, by its own names."""

from __future__ import annotations

from typing import Any

import pytest
from hostile_parameters import PARAMETERS, TOOLS
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.gateway._errors import ApiError, invalid
from ecoalign.gateway.chat._request import passed_on, read_messages, read_parameters
from ecoalign.gateway.responses._protocol import ResponsesRequest
from ecoalign.gateway.responses._request import Asked, read_request

ROWS = [
    pytest.param(name, value, id=f"{server}-{name}")
    for server, (_, values) in PARAMETERS.items()
    for name, value in values.items()
]

PART = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def _read(items: object = "x", passes: dict[str, int] | None = None, **more: object) -> Asked:
    return read_request({"model": "ecoalign", "input": items, **more}, passes or {})


def _passed(body: dict[str, object], passes: dict[str, int] | None = None) -> dict[str, object]:
    return passed_on(read_parameters(body, passes or {}), body, passes or {})


@pytest.mark.parametrize(("name", "value"), ROWS)
def test_nothing_passes_that_a_chat_would_refuse(name: str, value: Any) -> None:
    refused, passed = 0, {}
    try:
        passed = _passed(_read(**{name: value}).body)
    except ApiError as error:
        refused = error.status
    if refused:
        assert refused == 400
        return
    if name in ResponsesRequest.model_fields and name not in passed:
        # Read here, and worth nothing to an upstream.
        assert passed == {} or set(passed) <= {"reasoning_effort", "tools", "tool_choice"}
        return
    chat: dict[str, object] = {"model": "ecoalign", name: value}
    assert passed == _passed(chat)


@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_tools_of_a_server_are_refused(tool: object) -> None:
    with pytest.raises(ApiError, match="only function tools"):
        _read(tools=[tool])


def test_every_parameter_by_its_name_there() -> None:
    schema = {"type": "object", "properties": {}}
    asked = _read(
        instructions="Be brief.",
        max_output_tokens=9,
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
              "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        tools=[{"type": "function", "name": "look", "parameters": schema, "strict": None}],
        tool_choice={"type": "allowed_tools", "mode": "auto",
                     "tools": [{"type": "function", "name": "look"}]},
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        top_logprobs=2,
        temperature=0.5,
        seed=3,
        store=False,
        metadata={"a": "b"},
        truncation="disabled",
        max_tool_calls=3,
        stream=True,
    )  # fmt: skip
    assert asked.body == {
        "model": "ecoalign",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "x"},
        ],
        "max_completion_tokens": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [{"type": "function", "function": {"name": "look"}}],
            },
        },
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
        "seed": 3,
        "store": False,
        "metadata": {"a": "b"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    read_parameters(asked.body)


def test_turns_are_those_of_a_chat() -> None:
    asked = _read(
        [
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user",
             "content": [PART, {"type": "input_text", "text": "?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}],
             "encrypted_content": "x"},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Let me look.", "annotations": [],
                          "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "look",
             "arguments": "{}", "status": "completed"},
            {"type": "function_call", "call_id": "b", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "Exit"},
            {"type": "function_call_output", "call_id": "b", "output": [PART]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "user", "content": "Why?"},
        ]
    )  # fmt: skip
    image = {"type": "image_url", "image_url": {"url": PART["image_url"]}}
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert asked.body["messages"] == [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [image, {"type": "text", "text": "?"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me look."}],
            "tool_calls": [{"id": "a", **call}, {"id": "b", **call}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "Exit"},
        {"role": "tool", "tool_call_id": "b", "content": [image]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    ]
    read = read_messages(asked.body["messages"], max_images=4)
    assert read.question == "Why?"
    assert read.context[2:4] == ["tool (look, a): Exit", "tool (look, b): image 2"]


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("messages[0].content", "instructions"),
        ("messages[1].content[0].image_url.url", "input[0].content[0].image_url"),
        ("messages[2].tool_calls[1].function.name", "input[3].name"),
        ("messages[3].content[1].image_url.url", "input[4].output[1].image_url"),
        ("messages[3].tool_call_id", "input[4].call_id"),
        ("messages", "input"),
        ("response_format.json_schema", "text.format.json_schema"),
        ("max_completion_tokens", "max_output_tokens"),
        ("reasoning_effort", "reasoning.effort"),
        ("temperature", "temperature"),
        ("ecoalign.budget", "ecoalign.budget"),
    ],
)
def test_the_place_is_the_one_that_the_client_wrote(param: str, own: str) -> None:
    call = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
    asked = _read(
        [
            {"role": "user", "content": [PART]},
            {"type": "reasoning", "summary": []},
            call,
            {**call, "call_id": "b"},
            {"type": "function_call_output", "call_id": "a", "output": [PART, PART]},
        ],
        instructions="Be kind.",
    )
    told = asked.own(invalid(f"{param} is wrong", param))
    assert (told.param, told.message) == (own, f"{own} is wrong")


def test_what_the_operator_lists_passes_here_too() -> None:
    listed = {"top_n_sigma": 0, "web_search_options": 700}
    asked = _read(passes=listed, top_n_sigma=2, web_search_options={})
    assert _passed(asked.body, listed) == {"top_n_sigma": 2, "web_search_options": {}}
    # What is asked, and how, is read whatever is listed.
    assert _read(passes={"input": 0, "text": 0}, text={"verbosity": "low"}).body["verbosity"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "output", "call_id", "name", "x"]),
            inner
            | st.sampled_from(["message", "user", "input_text", "function_call", "reasoning"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.dictionaries(st.sampled_from(sorted(ResponsesRequest.model_fields)), JSON))
def test_whatever_comes_is_read_or_refused_with_its_place(items: Any, more: dict[str, Any]) -> None:
    body = {**more, "model": "ecoalign", "input": items}
    refused = None
    try:
        asked = read_request(body, {})
        read_parameters(asked.body)
        read_messages(asked.body["messages"], max_images=1)
    except ApiError as error:
        refused = error
    assert refused is None or (refused.status == 400 and refused.param), refused
