"""What goes with an answer: its finish reason, tool calls and log-probabilities, all scored."""

from __future__ import annotations

import json

import pytest

from ecoalign.models import OWN_REPLY, Completion, Reply, ToolCall, finish_reason, reply_of, spoken
from ecoalign.prompts._reading import visible_text

CALL = ToolCall("call_1", "look_up", '{"what": "a \\"sign\\""}')


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("stop_sequence", "stop"),
        ("MAX_TOKENS", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("content_filter: SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("refusal", "stop"),
        ("tool_calls", "stop"),  # without any
        ("", "length"),  # not known to be whole
        ("error", "length"),
    ],
)
def test_the_words_of_the_servers(said: str, means: str) -> None:
    assert finish_reason(said) == means


def test_tool_calls_end_an_answer_whatever_a_server_calls_its_natural_end() -> None:
    assert finish_reason("tool_calls", [CALL]) == "tool_calls"
    assert finish_reason("stop", [CALL]) == "tool_calls"  # Gemini, Ollama, and a forced tool
    assert finish_reason("tool_calls") == "stop"  # nobody is to wait for results
    assert finish_reason("length", [CALL]) == "length"


def test_a_tool_call_is_part_of_the_text_and_comes_out_of_it_again() -> None:
    done = Completion("Let me see.\n", None, "tool_calls", tool_calls=(CALL, CALL))
    text = visible_text("execute", done)
    lines = text.splitlines()
    assert lines[0] == "Let me see."
    assert [json.loads(line) for line in lines[1:]] == 2 * [
        {"tool_call": {"name": "look_up", "arguments": {"what": 'a "sign"'}}}
    ]
    reply = reply_of(done, text)
    assert reply.tool_calls == (CALL, CALL)
    assert reply.content(text) == "Let me see."
    alone = Completion("", None, "tool_calls", tool_calls=(CALL,))
    assert reply_of(alone, visible_text("execute", alone)).content(spoken((CALL,))) is None


def test_what_a_custom_tool_is_given_is_quoted_as_it_is() -> None:
    custom = ToolCall("c", "run", 'print("x")\n', "custom")
    assert json.loads(custom.text)["tool_call"]["arguments"] == 'print("x")\n'
    assert custom.to_json() == {
        "id": "c",
        "type": "custom",
        "custom": {"name": "run", "input": 'print("x")\n'},
    }
    assert CALL.to_json()["function"] == {"name": "look_up", "arguments": CALL.arguments}


def test_a_text_of_the_house_stands_for_itself() -> None:
    assert Reply("stop", (), None) == OWN_REPLY
    assert OWN_REPLY.content("no") == "no"


def entry(token: str, data: bytes | None = None) -> dict[str, object]:
    return {"token": token, "logprob": -0.5, "bytes": None if data is None else [*data]}


def shown(text: str, *entries: object, visible: str | None = None) -> object:
    done = Completion(text, None, raw_logprobs={"content": [*entries], "refusal": None})
    found = reply_of(done, visible_text("execute", done) if visible is None else visible).logprobs
    return None if found is None else found["content"]


def test_logprobs_that_spell_the_answer_are_given_as_they_came() -> None:
    entries = [entry("4"), entry("2"), entry("\n")]
    assert shown("42\n", *entries) == entries
    raw = {"content": entries, "refusal": None}
    assert reply_of(Completion("42", None, raw_logprobs=raw), "42").logprobs == raw


def test_half_characters_are_spelled_by_their_bytes() -> None:
    entries = [entry("\\xe2\\x82", b"\xe2\x82"), entry("\\xac", b"\xac")]
    assert shown("€", *entries) == entries


@pytest.mark.parametrize("rest", [(), (entry("</think>"),)])
def test_beside_what_the_tokens_spell_nothing_is_shown(rest: tuple[object, ...]) -> None:
    top = [
        {"token": "43", "logprob": -2.0, "bytes": [52, 51], "more": "unscored"},
        {"token": "unscored", "logprob": -9.0, "bytes": [52, 50], "more": "unscored"},
        {"token": "unscored " * 99, "logprob": -2.0},
        {"token": "7", "logprob": -3.0, "top_logprobs": [{"token": "unscored"}]},
        "unscored",
    ]
    told = {**entry("unscored", b"42"), "more": "unscored", "top_logprobs": top}
    itself = entry("42", b"42")
    assert shown("42", *rest, told, visible="42") == [{**itself, "top_logprobs": [itself]}]
    others = {**told, "top_logprobs": top[2:]}
    assert shown("42", *rest, others, visible="42") == [{**itself, "top_logprobs": []}]
    worded = {"token": "unscored", "logprob": "unscored", "bytes": [0xE2, 0x82]}
    assert "unscored" not in repr(shown("€", worded, entry("\\xac", b"\xac")))
    # What is spelled by its bytes is spelled by ours, not by the server's account of them.
    hidden = "".join(f"\\x{byte:02x}" for byte in b"unscored")
    assert hidden not in repr(shown("€", {**worded, "token": hidden}, entry("\\xac", b"\xac")))


def test_logprobs_of_what_is_not_shown_are_left_out() -> None:
    hidden, mark, end, answer = entry("<think>bad"), entry("</think>"), entry("\n"), entry("42")
    assert shown("<think>bad</think>\n42", hidden, mark, end, answer) == [answer]
    steps = [entry("It is bad. "), entry("Answer:"), entry(" 4"), entry("2")]
    assert shown("It is bad. Answer: 42", *steps, visible="42") == steps[2:]


@pytest.mark.parametrize(
    "entries",
    [
        [entry("something else")],
        [entry("<think>bad</think>42")],  # one token holds both
        [entry("4")],
        [],
        [None],
        [{"token": 4}],
        [entry("42", b"4")],
        [{"token": "42", "bytes": [1000]}],
        [{"token": "42", "bytes": ["4", "2"]}],
    ],
)
def test_logprobs_that_spell_anything_else_are_withheld(entries: list[object]) -> None:
    assert shown("<think>bad</think>42", *entries) is None


@pytest.mark.parametrize("raw", [{}, {"content": None}, {"content": "42"}, {"tokens": ["42"]}])
def test_logprobs_of_another_shape_are_withheld(raw: dict[str, object]) -> None:
    assert reply_of(Completion("42", None, raw_logprobs=raw), "42").logprobs is None


def test_the_tokens_of_a_refusal_of_its_own_are_withheld() -> None:
    raw = {"content": [entry("42")], "refusal": [entry("unscored")], "more": "unscored"}
    found = reply_of(Completion("42", None, raw_logprobs=raw), "42").logprobs
    assert found == {"content": [entry("42")], "refusal": None}
