"""What is believed of a server's answer, without a server."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import ModelError
from ecoalign.models import Completion, Usage, ending
from ecoalign.models.openai._response import parse, said, scrub, seconds_to_wait, usage_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "logprobs", "error", "text", "token"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2}, Usage(10, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, Usage(10, 2)),
        # Hidden reasoning that only the total shows.
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 90}, Usage(10, 80)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 5}, Usage(10, 2)),
        ({"prompt_tokens": 10.0, "completion_tokens": 2}, Usage(10, 2)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 8, "image_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            Usage(10, 2, image=4, cached=8),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 99, "image_tokens": -4},
            },
            Usage(10, 2, cached=10),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": None},
            Usage(10, 2),
        ),
        (None, None),
        ({}, None),
        ([], None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": 10, "completion_tokens": 0}, None),
        ({"prompt_tokens": -10, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10, "completion_tokens": -2}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, Usage(100_000_000, 2)),
        ({"prompt_tokens": 1.5, "completion_tokens": 2}, None),
        ({"prompt_tokens": float("nan"), "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": True}, None),
        ({"prompt_tokens": "10", "completion_tokens": "2"}, None),
    ],
)
def test_usage(reported: object, usage: Usage | None) -> None:
    assert usage_of(reported, "some text") == usage


def test_no_text_may_cost_nothing() -> None:
    assert usage_of({"prompt_tokens": 4, "completion_tokens": 0}, "") == Usage(4, 0)


def body(**choice: object) -> bytes:
    return json.dumps({"choices": [choice]}).encode()


def test_content_in_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "A sign?"}]},
        {"type": "reasoning", "text": "A sign?"},
        {"type": "text", "text": "a "},
        {"text": "door"},
        3,
    ]
    assert parse(body(message={"content": parts}), seconds=1.0).text == "a door"


def test_a_refusal_is_an_answer_of_its_own_kind() -> None:
    done = parse(body(message={"content": None, "refusal": "I can't."}), seconds=1.0)
    assert (done.text, done.finish_reason, done.usage) == ("I can't.", "refusal", None)


@pytest.mark.parametrize(
    "entry",
    [
        {"token": "a", "logprob": 0.5},
        {"token": "a", "logprob": float("-inf")},
        {"token": "a", "logprob": None},
        {"token": "a", "logprob": True},
        {"token": None, "logprob": -1.0},
        {"logprob": -1.0},
        "a",
    ],
)
def test_one_bad_logprob_spoils_them_all(entry: object) -> None:
    good = {"token": "a", "logprob": -0.5}
    logprobs = {"content": [good, entry]}
    done = parse(body(message={"content": "aa"}, logprobs=logprobs), seconds=1.0)
    assert done.text == "aa"
    assert done.logprobs is None
    fine = parse(body(message={"content": "aa"}, logprobs={"content": [good]}), seconds=1.0)
    assert fine.logprobs is not None


def test_bad_alternatives_are_left_out_and_doubled_ones_keep_the_likelier() -> None:
    top = [{"token": "b", "logprob": -3.0}, {"token": "b", "logprob": -2.0}, {"token": "c"}, None]
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": top}
    done = parse(body(message={"content": "a"}, logprobs={"content": [entry]}), seconds=1.0)
    assert done.logprobs is not None
    assert done.logprobs[0].top == {"b": -2.0}


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_any_json_is_a_completion_or_a_bad_response(value: object) -> None:
    done: Completion | ModelError
    try:
        done = parse(json.dumps(value).encode(), seconds=1.0)
    except ModelError as error:
        done = error
    if isinstance(done, ModelError):
        assert done.fault == "filtered" or (done.fault, done.billed) == ("bad-response", True)
    else:
        assert done.text.strip() or ending(done.finish_reason) == "content_filter"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_error_body_can_be_read(data: bytes) -> None:
    assert isinstance(said(data), str)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('{"error": {"message": "m", "code": "c", "param": "p"}}', "m; c; p"),
        ('{"error": {"message": "m", "code": 500}}', "m"),  # llama.cpp: the status once more
        ('{"error": {"message": "m", "code": 1301}}', "m; 1301"),
        ('{"error": "plain"}', "plain"),
        ('[{"error": {"message": "listed"}}]', "listed"),  # Gemini's endpoint
        ('{"message": "outer"}', "outer"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"detail": [{"loc": ["body", "x"], "msg": "bad", "input": "secret"}]}', "body.x: bad"),
        ("<html>long page</html>", "an HTML page"),
        ("Bad Gateway", "Bad Gateway"),
        ("3", ""),
    ],
)
def test_said(data: str, words: str) -> None:
    assert said(data.encode()) == words


def test_scrub() -> None:
    assert scrub("key abc-secret here", "abc-secret") == "key [key] here"
    assert scrub("an example", "x") == "an example"
    assert scrub("another sk-proj-12345678 shown", "") == "another [key] shown"
    assert scrub("Authorization: Bearer xyz", "other") == "Authorization: [key]"
    assert scrub("a\x00\x1b[31m\nb", "") == "a [31m b"
    assert len(scrub("x" * 5000, "")) == 300


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_date_without_a_zone_is_in_utc(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    then = time.time() + 100
    asctime = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(then))
    try:
        for date in (formatdate(then, usegmt=True), formatdate(then), asctime):
            seconds = seconds_to_wait({"retry-after-ms": "", "retry-after": date}.__getitem__)
            assert seconds is not None
            assert 90 <= seconds <= 100
    finally:
        monkeypatch.undo()
        time.tzset()
