"""Responses with the official client, unchanged, against a real gateway: aligned and passed on,
whole and in a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from hostile import HostileServer, Received, Reply
from pydantic import BaseModel
from served import well_behaved
from serving import ANY_METHOD, WAIT, Served, picture, serving

METHODS = ("ecoalign", "base")

EACH = pytest.mark.parametrize("method", METHODS)

LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Looks closer.",
    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
}


class Sign(BaseModel):
    text: str


class Upstream:
    """Answers "42", or what a test says; verdicts have a grade."""

    def __init__(self) -> None:
        self.message: dict[str, object] = {}
        self.finish = "stop"
        self.grade = 9

    def __call__(self, request: Received) -> Reply:
        usual = well_behaved(request)
        assert isinstance(usual.body, dict)
        (choice,) = usual.body["choices"]
        words = choice["message"]["content"]
        if '"safety"' in words and '"key"' in words:
            choice["message"]["content"] = json.dumps(json.loads(words) | {"safety": self.grade})
        elif words == "42" and ("tools" in request.json or "tool_calls" not in self.message):
            choice["message"] |= self.message
            choice["finish_reason"] = self.finish
        if not request.json.get("stream"):
            return usual
        return Reply(b"".join(_events(usual.body, request.json)), 200, _EVENTS)


_EVENTS = {"Content-Type": "text/event-stream"}


def _events(body: dict[str, Any], asked: dict[str, Any]) -> Iterator[bytes]:
    (choice,) = body["choices"]
    message = choice["message"]
    calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls", ()))]
    for text in (message.pop("content") or "").split(" "):
        yield _event({**message, "content": text})
        message = {}
    for call in calls:
        yield _event({"tool_calls": [call]})
    yield _event({}, choice["finish_reason"])
    if asked.get("stream_options"):
        yield b"data: " + json.dumps({"choices": [], "usage": body["usage"]}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _event(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def server(upstream: Upstream) -> Iterator[HostileServer]:
    with HostileServer(upstream) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: HostileServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("responses"),
        *("--model", "gpt-4o", "--base-url", server.url, "--budget", "100000"),
        *ANY_METHOD,
    ) as served:
        yield served


@pytest.fixture
def client(gateway: Served, upstream: Upstream) -> Iterator[openai.OpenAI]:
    upstream.message, upstream.finish, upstream.grade = {}, "stop", 9
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as made:
        yield made


def _image() -> str:
    url = picture()["image_url"]
    assert isinstance(url, dict)
    return str(url["url"])


@EACH
def test_a_text(client: openai.OpenAI, method: str) -> None:
    done = client.responses.create(
        model="ecoalign",
        input="What is six times seven?",
        instructions="Be brief.",
        temperature=0.5,
        metadata={"a": "b"},
        store=False,
        extra_body={"ecoalign": {"method": method}},
    )
    assert done.output_text == "42"
    assert (done.status, done.error, done.incomplete_details) == ("completed", None, None)
    assert (done.instructions, done.temperature, done.metadata) == ("Be brief.", 0.5, {"a": "b"})
    assert (done.store if hasattr(done, "store") else None) is False
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 0
    evidence = (done.model_extra or {}).get("ecoalign")
    assert (evidence is None) == (method == "base")
    if evidence:
        assert evidence["method"] == method
        assert done.usage.total_tokens == evidence["spent"]["tokens"]["total"]


@EACH
def test_a_stream(client: openai.OpenAI, upstream: Upstream, method: str) -> None:
    words = "The answer is forty two, as is well known to everybody who has read the book at all."
    upstream.message = {"content": words}
    with client.responses.stream(
        model="ecoalign",
        input=[{"role": "user", "content": "What is six times seven?"}],
        extra_body={"ecoalign": {"method": method}},
    ) as stream:
        events = list(stream)
        done = stream.get_final_response()
    kinds = [event.type for event in events]
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    if method == "base":
        words = words.replace(" ", "")
    assert "".join(said) == done.output_text == words
    assert len(said) > 1
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    order = [kind for kind in kinds if kind != "response.output_text.delta"]
    assert order == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert done.status == "completed"
    assert done.usage is not None
    assert done.usage.total_tokens > 0
    assert bool((done.model_extra or {}).get("ecoalign")) == (method != "base")


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_form(client: openai.OpenAI, upstream: Upstream, method: str, stream: bool) -> None:
    upstream.message = {"content": '{"text":"Harbour"}'}
    asked: dict[str, Any] = {
        "model": "ecoalign",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Read the sign."},
                    {"type": "input_image", "image_url": _image(), "detail": "high"},
                ],
            }
        ],
        "text_format": Sign,
        "extra_body": {"ecoalign": {"method": method}},
    }
    if stream:
        with client.responses.stream(**asked) as events:
            done = events.get_final_response()
    else:
        done = client.responses.parse(**asked)
    assert done.output_parsed == Sign(text="Harbour")


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_refusal_where_a_form_was_asked_for(
    client: openai.OpenAI, upstream: Upstream, method: str, stream: bool
) -> None:
    upstream.message = {"content": None, "refusal": "I cannot help with that."}
    asked: dict[str, Any] = {
        "model": "ecoalign",
        "input": "Read the sign.",
        "text_format": Sign,
        "extra_body": {"ecoalign": {"method": method}},
    }
    if stream:
        with client.responses.stream(**asked) as events:
            done = events.get_final_response()
    else:
        done = client.responses.parse(**asked)
    assert done.output_parsed is None
    (item,) = done.output
    assert item.type == "message"
    (part,) = item.content
    assert part.type == "refusal"
    assert part.refusal == "I cannot help with that."


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_through_all_turns(
    client: openai.OpenAI,
    upstream: Upstream,
    server: HostileServer,
    method: str,
    stream: bool,
) -> None:
    upstream.message = {
        "content": None,
        "tool_calls": [
            {
                "id": "x",
                "type": "function",
                "function": {"name": "look", "arguments": f'{{"x":{n}}}'},
            }
            for n in (1, 2)
        ],
    }
    upstream.finish = "tool_calls"
    turns: list[Any] = [{"role": "user", "content": "What does the sign say?"}]
    more: Any = {"tools": [LOOK], "extra_body": {"ecoalign": {"method": method}}}

    def ask() -> Any:
        if not stream:
            return client.responses.create(model="ecoalign", input=turns, **more)
        with client.responses.stream(model="ecoalign", input=turns, **more) as events:
            return events.get_final_response()

    done = ask()
    calls = [item for item in done.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [
        ("look", '{"x":1}'),
        ("look", '{"x":2}'),
    ]
    assert len({call.call_id for call in calls}) == 2
    assert done.status == "completed"
    upstream.message, upstream.finish = {}, "stop"
    turns += [
        item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in done.output
    ]
    results: list[Any] = ["a harbour", [{"type": "input_image", "image_url": _image()}]]
    turns += [
        {"type": "function_call_output", "call_id": call.call_id, "output": result}
        for call, result in zip(calls, results, strict=True)
    ]
    begun = len(server.received)
    again = ask()
    assert again.output_text == "42"
    told = json.dumps([one.json["messages"] for one in server.received[begun:]])
    # Both the calls and their results are there, by the ids that were given out.
    for call in calls:
        assert told.count(call.call_id) >= 2
    assert "a harbour" in told
    assert "data:image" in told


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "max_output_tokens"),
        ("SAFETY", "content_filter"),
        ("who knows", "max_output_tokens"),
    ],
)
def test_what_is_not_whole(
    client: openai.OpenAI, upstream: Upstream, method: str, stream: bool, finish: str, reason: str
) -> None:
    upstream.finish = finish
    made = client.responses.create(
        model="ecoalign",
        input="What is six times seven?",
        stream=stream,
        extra_body={"ecoalign": {"method": method}},
    )
    done: Any = made
    if stream:
        events: Any = list(made)
        done = events[-1].response
        assert events[-1].type == f"response.{done.status}"
    if method == "base":
        assert done.status == "incomplete"
        assert done.incomplete_details.reason == reason
    else:
        # A method may do better, or refuse; what it shows as whole has ended so.
        assert done.status == "completed" or done.incomplete_details.reason == reason


Bad = Callable[[], dict[str, Any]]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"store": True}, "store", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"truncation": "auto"}, "truncation", "unsupported_value"),
        ({"include": ["file_search_call.results"]}, "include", "unsupported_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "mcp", "server_url": "http://x"}]},
         "tools[0]", "unsupported_parameter"),
        ({"tool_choice": {"type": "function", "name": "look"}}, "tool_choice", None),
        ({"messages": []}, "messages", "unsupported_parameter"),
        ({"max_tokens": 5}, "max_tokens", "unsupported_parameter"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"text": {"format": {"type": "json_schema", "schema": {"$ref": "http://x"}}}},
         "text.format.schema", "unsupported_value"),
        ({"temperature": "1"}, "temperature", None),
        ({"max_output_tokens": 0}, "max_output_tokens", None),
        ({"input": []}, "input", None),
        ({"input": None}, "input", None),
        ({"input": 5}, "input", None),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "unsupported_value"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "unsupported_value"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", None),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
         "input[0].content[0].type", "unsupported_value"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
         "input[0].content[0].image_url", None),
        ({"input": [{"role": "user", "content": [
            {"type": "input_text", "text": "x"},
            {"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
         "input[0].content[1].image_url", "invalid_image_url"),
        ({"input": [{"role": "user", "content": "x", "cache_control": {}}]},
         "input[0].cache_control", "unsupported_parameter"),
        ({"instructions": "x", "input": [{"role": "user", "content": ""}]}, "input[0]", None),
        ({"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
         "input[1].role", None),
        ({"ecoalign": {"budget": -1}}, "ecoalign.budget", None),
        ({"model": "gpt-9"}, "model", "model_not_found"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused_by_its_own_name(
    client: openai.OpenAI, changes: dict[str, Any], param: str, code: str | None
) -> None:
    body = {"model": "ecoalign", "input": "x", **changes}
    with pytest.raises(openai.APIStatusError) as refused:
        client.post("/responses", body=body, cast_to=object)
    told = refused.value.body
    assert isinstance(told, dict)
    assert (told["param"], told["code"]) == (param, code), told
    assert refused.value.status_code in {400, 404}


@EACH
def test_null_is_not_given(client: openai.OpenAI, method: str) -> None:
    nothing = dict.fromkeys(
        (
            *("instructions", "max_output_tokens", "text", "reasoning", "tools", "tool_choice"),
            *("include", "truncation", "background", "previous_response_id", "conversation"),
            *("prompt", "store", "metadata", "temperature", "top_p", "top_logprobs", "stream"),
            *("stream_options", "user", "service_tier", "parallel_tool_calls", "max_tool_calls"),
        )
    )
    turn = {"type": None, "role": "user", "content": "What is it?", "id": None, "status": None}
    body = {"model": "ecoalign", "input": [turn], "ecoalign": {"method": method}, **nothing}
    done: Any = client.post("/responses", body=body, cast_to=object)
    assert done["status"] == "completed"


def test_what_fails_in_a_stream_is_raised(tmp_path: Path) -> None:
    def failing(request: Received) -> Reply:
        body = _event({"content": "Har"}) + b'data: {"error": {"message": "x"}}\n\n'
        return Reply(body, 200, _EVENTS)

    with _passing(tmp_path, failing) as client, pytest.raises(openai.APIError) as failed:
        list(client.responses.create(model="base", input="x", stream=True))
    assert failed.value.code == "model_bad_response"


@contextmanager
def _passing(home: Path, handler: Callable[[Received], Reply]) -> Iterator[openai.OpenAI]:
    with (
        HostileServer(handler) as upstream,
        serving(home, "--model", "m", "--base-url", upstream.url, *ANY_METHOD) as gateway,
        openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as client,
    ):
        yield client
