"""The routes on which a question can be asked, and what a client makes of the answer on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2

QUESTION = "What does the sign say?"


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask."""

    path: Literal["chat", "responses"]
    stream: bool
    method: str

    def __str__(self) -> str:
        return f"{self.path}-{'stream' if self.stream else 'whole'}-{self.method}"

    def reason(self, word: str) -> str:
        """How a finish reason of chat completions is told on this route."""
        if self.path == "chat":
            return word
        return {"length": "max_output_tokens", "content_filter": "content_filter"}.get(
            word, "completed"
        )


ROUTES = [
    Route(path, stream, method)
    for path in ("chat", "responses")
    for stream in (False, True)
    for method in ("ecoalign", "base")
]
"""Search and pass-through, chat and responses, whole and streamed."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in an answer."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Answer:
    """What a client gets.

    Attributes:
        error: what was said in place of an answer; "" if nothing was.
        raw: all that was sent.
    """

    content: str = ""
    refusal: str = ""
    whole_calls: list[ToolCall] = field(default_factory=list)
    reason: str | None = None
    total: int | None = None
    refused: bool = False
    error: str = ""
    raw: str = ""
    status: int = 0

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Names and arguments."""
        return [(call.name, call.arguments) for call in self.whole_calls]


def body_of(
    route: Route, asked: Mapping[str, object], content: object = QUESTION
) -> dict[str, Any]:
    """The body of a request; `asked` has parameters by their names in chat completions."""
    body: dict[str, Any] = {
        "model": "ecoalign",
        "stream": route.stream,
        "ecoalign": {"method": route.method, "trace": True},
    }
    if route.path == "chat":
        body |= {"messages": [{"role": "user", "content": content}], **asked}
        return body | ({"stream_options": {"include_usage": True}} if route.stream else {})
    body["input"] = [{"role": "user", "content": _parts(content)}]
    for name, value in asked.items():
        match name, value:
            case "tools", list():
                body["tools"] = [{"type": "function", **tool["function"]} for tool in value]
            case "response_format", dict():
                inner = value.get("json_schema", {})
                body["text"] = {"format": {"type": value["type"], **inner}}
            case (("max_tokens" | "max_completion_tokens"), _):
                body["max_output_tokens"] = value
            case "logprobs", _:
                body["include"] = ["message.output_text.logprobs"]
            case _:
                body[name] = value
    return body


def _parts(content: object) -> object:
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    return [
        {"type": "input_text", "text": part["text"]}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"]}
        for part in content
    ]


def ask(
    client: httpx2.Client, route: Route, asked: Mapping[str, object], content: object = QUESTION
) -> Answer:
    """Ask, and read what comes."""
    path = "/chat/completions" if route.path == "chat" else "/responses"
    reply = client.post(path, json=body_of(route, asked, content))
    return read(route, reply)


def read(route: Route, reply: httpx2.Response) -> Answer:
    """What a client makes of a response."""
    got = Answer(raw=reply.text, status=reply.status_code)
    if reply.status_code != 200:
        got.error = json.dumps(reply.json()["error"])
    elif not route.stream:
        (_whole_chat if route.path == "chat" else _whole_response)(got, reply.json())
    else:
        events = [
            json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")
        ]
        (_chunks if route.path == "chat" else _events)(got, events)
    return got


def _told(got: Answer, usage: Any, total: str = "total_tokens") -> None:
    got.total = None if usage is None else usage[total]


def _whole_chat(got: Answer, body: Any) -> None:
    (choice,) = body["choices"]
    message = choice["message"]
    got.content, got.refusal = message["content"] or "", message["refusal"] or ""
    got.whole_calls = [
        _call(call["id"], call["function"]) for call in message.get("tool_calls") or ()
    ]
    got.reason = choice["finish_reason"]
    got.refused = (body.get("ecoalign") or {}).get("refused", False)
    _told(got, body["usage"])


def _whole_response(got: Answer, body: Any) -> None:
    for item in body["output"]:
        if item["type"] == "function_call":
            got.whole_calls.append(_call(item["call_id"], item))
            continue
        for part in item["content"]:
            got.content += part.get("text") or ""
            got.refusal += part.get("refusal") or ""
    details = body["incomplete_details"]
    got.reason = body["status"] if details is None else details["reason"]
    assert (details is None) == (body["status"] == "completed")
    got.refused = (body.get("ecoalign") or {}).get("refused", False)
    _told(got, body["usage"])


def _call(name: str, function: Any) -> ToolCall:
    return ToolCall(name, function["name"], function["arguments"])


def _chunks(got: Answer, events: list[Any]) -> None:
    for event in events:
        if "error" in event:
            got.error = json.dumps(event["error"])
            continue
        if event.get("usage"):
            _told(got, event["usage"])
        for choice in event["choices"]:
            delta = choice["delta"]
            got.content += delta.get("content") or ""
            got.refusal += delta.get("refusal") or ""
            for call in delta.get("tool_calls") or ():
                got.whole_calls.append(_call(call["id"], call["function"]))
            got.reason = choice["finish_reason"] or got.reason
        got.refused = got.refused or (event.get("ecoalign") or {}).get("refused", False)


def _events(got: Answer, events: list[Any]) -> None:
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    said = Answer()
    for event in events:
        match event["type"]:
            case "error":
                got.error = json.dumps(event["error"])
            case "response.output_text.delta":
                said.content += event["delta"]
            case "response.refusal.delta":
                said.refusal += event["delta"]
            case "response.completed" | "response.incomplete":
                _whole_response(got, event["response"])
                # The pieces are what the end says.
                assert (got.content, got.refusal) == (said.content, said.refusal)
