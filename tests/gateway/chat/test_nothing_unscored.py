"""Canaries in everything that a model or its server can say: none comes out, but in a text that is
the answer itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from canaries import ANSWER, CANARY, Planted, spilled
from command import both, run
from hostile import HostileServer, Received, Reply
from serving import ANY_METHOD, Served, asking, picture, serving, text

METHODS = ("ecoalign", "best-of-n", "ecso", "base")

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("look", "read")
]


class Upstream:
    """An upstream that each test plants anew."""

    def __init__(self) -> None:
        self.planted = Planted()

    def __call__(self, request: Received) -> Reply:
        return self.planted(request)


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unscored")


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, home: Path) -> Iterator[Served]:
    with (
        HostileServer(upstream) as server,
        serving(
            home,
            *("--model", "gpt-4o", "--base-url", server.url, "--budget", "400000"),
            *("--set", "retries=0", "--set", "strategy=true", "--trace-dir", "whole"),
            *ANY_METHOD,
        ) as served,
    ):
        yield served


def ask(
    gateway: Served, method: str, *, stream: bool, **changes: object
) -> tuple[httpx2.Response, str]:
    """The response, and the trace that a client can read of it; "" where there is none."""
    more: dict[str, object] = {"stream_options": {"include_usage": True}} if stream else {}
    body = asking(
        text("What does the sign say?"),
        picture(),
        ecoalign={"method": method, "trace": True},
        stream=stream,
        **more,
        **changes,
    )
    reply = gateway.post(body)
    name = reply.headers.get("x-ecoalign-trace", "")
    trace = gateway.get(f"/v1/ecoalign/traces/{name}").text if name else ""
    return reply, trace


def shown(reply: httpx2.Response) -> tuple[dict[str, Any], str | None]:
    """The message that a client makes of a response, and why it ends."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        choice = reply.json()["choices"][0]
        return choice["message"], choice["finish_reason"]
    message: dict[str, Any] = {"content": "", "refusal": "", "tool_calls": []}
    reason = None
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    for choice in (c for event in events for c in json.loads(event)["choices"]):
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        message["refusal"] += delta.get("refusal") or ""
        message["tool_calls"] += delta.get("tool_calls") or []
        reason = choice["finish_reason"] or reason
    return message, reason


def nothing_came_out(gateway: Served, reply: httpx2.Response, trace: str) -> None:
    metrics = gateway.get("/metrics").text
    log = "".join(gateway.said)
    assert spilled(reply.text, reply.headers, trace, metrics, log) == []


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

EACH = pytest.mark.parametrize("method", METHODS)


@EACH
@BOTH
def test_beside_a_safe_answer(
    gateway: Served, upstream: Upstream, method: str, stream: bool
) -> None:
    upstream.planted = Planted()
    reply, trace = ask(gateway, method, stream=stream)
    assert reply.status_code == 200, reply.text
    message, reason = shown(reply)
    assert (message["content"], reason) == (ANSWER, "stop")
    assert bool(trace) == (method != "base")
    assert (ANSWER in trace) == bool(trace)
    nothing_came_out(gateway, reply, trace)


@EACH
@BOTH
def test_beside_its_logprobs(
    gateway: Served, upstream: Upstream, method: str, stream: bool
) -> None:
    upstream.planted = Planted()
    reply, trace = ask(gateway, method, stream=stream, logprobs=True, top_logprobs=5)
    assert reply.status_code == 200, reply.text
    if stream:
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if '"logprobs"' in line]
        choices = [choice for event in events for choice in event["choices"]]
    else:
        choices = reply.json()["choices"]
    entries = [e for choice in choices for e in (choice["logprobs"] or {"content": []})["content"]]
    assert "".join(entry["token"] for entry in entries) == ANSWER
    for entry in entries:
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert [other["token"] for other in entry["top_logprobs"]] == [entry["token"]]
    nothing_came_out(gateway, reply, trace)


@EACH
@BOTH
def test_answers_that_are_not_safe(
    gateway: Served, upstream: Upstream, method: str, stream: bool
) -> None:
    upstream.planted = Planted(("canary answer", "canary answer", "canary answer", ANSWER))
    if method == "ecso":
        upstream.planted = Planted(("canary answer", ANSWER))
    reply, trace = ask(gateway, method, stream=stream)
    assert reply.status_code == 200, reply.text
    message, _ = shown(reply)
    if method == "base":
        # Unscored by what it is: the text itself, and nothing else.
        assert message["content"] == "canary answer"
        pieces = ("canary answer", '"cana', '"content":"cana', "ry answer")
        rest = reply.text
        for piece in pieces:
            rest = rest.replace(piece, "")
        assert spilled(rest, reply.headers) == []
        return
    assert CANARY not in str(message)
    nothing_came_out(gateway, reply, trace)


@EACH
@BOTH
@pytest.mark.parametrize(
    ("said", "reason"),
    [("canary finish", "length"), ("SAFETY: canary", "content_filter"), ("refusal", "stop")],
)
def test_the_end_of_an_answer(
    gateway: Served, upstream: Upstream, method: str, stream: bool, said: str, reason: str
) -> None:
    upstream.planted = Planted(finish=said)
    reply, trace = ask(gateway, method, stream=stream)
    assert reply.status_code == 200, reply.text
    if method == "base":
        expected = "content_filter" if said == "refusal" else reason
        assert shown(reply)[1] == expected
    nothing_came_out(gateway, reply, trace)


@EACH
@BOTH
@pytest.mark.parametrize("name", ["look", "canary"])
def test_calls_of_tools(
    gateway: Served, upstream: Upstream, method: str, stream: bool, name: str
) -> None:
    call = {
        "index": 0,
        "id": "canary_id",
        "type": "function",
        "function": {"name": name, "arguments": '{"x": 1}', "canary": "canary"},
        "extra_content": {"google": {"thought_signature": "canary"}},
    }
    upstream.planted = Planted(("",), "tool_calls", {"tool_calls": [call]})
    reply, trace = ask(gateway, method, stream=stream, tools=TOOLS)
    nothing_came_out(gateway, reply, trace)
    if name == "look" and method != "ecso":
        message, reason = shown(reply)
        assert reason == "tool_calls", reply.text
        (made,) = message["tool_calls"]
        assert made["function"] == {"name": "look", "arguments": '{"x": 1}'}
        assert set(made) - {"index"} == {"id", "type", "function"}


@EACH
@BOTH
def test_a_refusal_of_the_models_own(
    gateway: Served, upstream: Upstream, method: str, stream: bool
) -> None:
    """A canary in the refusal is a canary in the answer: scored, it does not come out."""
    upstream.planted = Planted(("",), message={"refusal": "canary refusal"})
    reply, trace = ask(gateway, method, stream=stream, response_format={"type": "json_object"})
    if method == "base":
        message, _ = shown(reply)
        assert (message["content"] or "", message["refusal"]) == ("", "canary refusal")
        assert spilled(reply.text.replace("canary refusal", ""), reply.headers) == []
        return
    nothing_came_out(gateway, reply, trace)


_ERROR = {
    "message": "canary",
    "type": "canary",
    "param": "canary",
    "code": "canary",
    "failed_generation": "canary",
    "innererror": {"code": "canary"},
    "metadata": {"raw": "canary"},
}

_LOC = {"loc": ["body", "canary"], "msg": "canary", "input": "canary"}

_EVENTS = {"Content-Type": "text/event-stream"}

_DELTA = {"choices": [{"index": 0, "delta": {"content": "Har"}}]}

FAILURES: dict[str, Reply] = {
    **{
        str(status): Reply({"error": _ERROR}, status, {"Retry-After": "canary", "X-C": "canary"})
        for status in (302, 400, 401, 403, 404, 413, 415, 422, 429, 500, 501, 503, 529)
    },
    "400, filtered": Reply({"error": {**_ERROR, "code": "content_filter"}}, 400),
    "400, long": Reply({"error": {**_ERROR, "message": "maximum context canary"}}, 400),
    "422, detail": Reply({"detail": [_LOC]}, 422),
    "400, text": Reply("canary", 400, {"Content-Type": "text/plain"}),
    "400, list": Reply([{"error": _ERROR}], 400),
    "500, HTML": Reply("<html>canary</html>", 500, {"Content-Type": "text/html"}),
    "200, error": Reply({"error": _ERROR}),
    "200, choice": Reply({"choices": [{"message": {"content": "canary"}, "error": _ERROR}]}),
    "200, gave up": Reply(
        {"choices": [{"message": {"content": "canary"}, "finish_reason": "error"}]}
    ),
    "200, text": Reply("canary"),
    "200, half": Reply('{"choices": [{"message": {"content": "canary'),
    "200, nothing": Reply({"choices": [], "canary": "canary"}),
    "200, strange": Reply({"choices": [{"message": "canary"}]}),
    "stream, error": Reply(f"data: {json.dumps({'error': _ERROR})}\n\n", 200, _EVENTS),
    "stream, error later": Reply(
        f"data: {json.dumps(_DELTA)}\n\ndata: {json.dumps({'error': _ERROR})}\n\n", 200, _EVENTS
    ),
    "stream, no JSON": Reply("data: canary\n\n", 200, _EVENTS),
    "stream, half": Reply(f'data: {json.dumps(_DELTA)}\n\ndata: {{"canary', 200, _EVENTS, 9999),
    "stream, nothing": Reply(": canary\n\n", 200, _EVENTS),
    "stream, a name": Reply('event: canary\ndata: ["canary"]\n\n', 200, _EVENTS),
}


@EACH
@BOTH
@pytest.mark.parametrize("name", FAILURES)
def test_failures(
    gateway: Served, upstream: Upstream, method: str, stream: bool, name: str
) -> None:
    upstream.planted = Planted(fails=FAILURES[name])
    reply, trace = ask(gateway, method, stream=stream)
    nothing_came_out(gateway, reply, trace)
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    for line in reply.text.splitlines():
        # An error that comes after the first words is an event.
        assert not line.startswith("event:") or line == "event: error"


def test_what_can_be_done_with_the_trace(
    gateway: Served, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.planted = Planted(("canary answer", ANSWER))
    _, trace = ask(gateway, "ecoalign", stream=False)
    (tmp_path / "run.jsonl").write_text(trace)
    done = run(tmp_path, "show", "run.jsonl")
    assert done.returncode == 0, both(done)
    assert "withheld" in both(done)
    assert CANARY not in both(done)
    done = run(tmp_path, "view", "run.jsonl")
    assert done.returncode == 0, both(done)
    assert CANARY not in (tmp_path / "run.html").read_text()
    done = run(tmp_path, "replay", "run.jsonl")
    assert done.returncode == 2
    assert "not scored safe" in both(done)


def test_the_operators_trace_is_whole(gateway: Served, upstream: Upstream, home: Path) -> None:
    upstream.planted = Planted(("canary answer", ANSWER))
    reply, _ = ask(gateway, "ecoalign", stream=False)
    name = reply.headers["x-ecoalign-trace"]
    whole = home / "whole" / f"{name}.jsonl"
    assert "canary answer" in whole.read_text()
    assert "canary caption" in whole.read_text()
    # Whoever does not ask for a trace gets none, and the operator has it all the same.
    before = set(whole.parent.iterdir())
    reply = gateway.post(asking("What now?"))
    assert "x-ecoalign-trace" not in reply.headers
    assert len(set(whole.parent.iterdir()) - before) == 1
