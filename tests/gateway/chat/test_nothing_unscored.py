"""Canaries in everything that a model or its server can say: none comes out, but in a text that is
the answer itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from canaries import ANSWER, CANARY, Planted, Upstream, spilled
from command import both, run
from hostile import HostileServer, Reply
from routes import Answer, Route, body_of, read
from serving import ANY_METHOD, WAIT, Served, asking, picture, serving, text

METHODS = ("ecoalign", "best-of-n", "ecso", "base")

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("look", "read")
]


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
    gateway: Served, method: str, way: Way, **changes: object
) -> tuple[httpx2.Response, Answer, str]:
    """The response, what a client makes of it, and the trace that it can read of it; "" where there
    is none."""
    route = Route(*way, method)
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        path = "/chat/completions" if route.path == "chat" else "/responses"
        content = [text("What does the sign say?"), picture()]
        reply = client.post(path, json=body_of(route, changes, content))
    name = reply.headers.get("x-ecoalign-trace", "")
    trace = gateway.get(f"/v1/ecoalign/traces/{name}").text if name else ""
    return reply, read(route, reply), trace


def nothing_came_out(gateway: Served, reply: httpx2.Response, trace: str) -> None:
    metrics = gateway.get("/metrics").text
    log = "".join(gateway.said)
    assert spilled(reply.text, reply.headers, trace, metrics, log) == []


Way = tuple[Literal["chat", "responses"], bool]

WAYS: tuple[Way, ...] = (
    *(("chat", False), ("chat", True)),
    *(("responses", False), ("responses", True)),
)
"""Chat completions and responses, each whole and in a stream."""

EVERY = pytest.mark.parametrize(
    "way", WAYS, ids=[f"{path}-{'stream' if stream else 'whole'}" for path, stream in WAYS]
)

EACH = pytest.mark.parametrize("method", METHODS)


@EACH
@EVERY
def test_beside_a_safe_answer(gateway: Served, upstream: Upstream, method: str, way: Way) -> None:
    upstream.planted = Planted()
    reply, got, trace = ask(gateway, method, way)
    assert reply.status_code == 200, reply.text
    assert (got.content, got.reason) == (ANSWER, Route(*way, method).reason("stop"))
    assert bool(trace) == (method != "base")
    assert (ANSWER in trace) == bool(trace)
    nothing_came_out(gateway, reply, trace)


def _tokens(way: Way, reply: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The tokens of an answer with their log-probabilities, as its text has them."""
    path, stream = way
    bodies = (
        [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        if stream
        else [reply.json()]
    )
    for body in bodies:
        if path == "chat":
            for choice in body["choices"]:
                yield from (choice["logprobs"] or {"content": []})["content"]
        elif stream:
            yield from body["logprobs"] if body["type"] == "response.output_text.delta" else ()
        else:
            yield from body["output"][0]["content"][0]["logprobs"]


@EACH
@EVERY
def test_beside_its_logprobs(gateway: Served, upstream: Upstream, method: str, way: Way) -> None:
    upstream.planted = Planted()
    reply, _, trace = ask(gateway, method, way, logprobs=True, top_logprobs=5)
    assert reply.status_code == 200, reply.text
    entries = list(_tokens(way, reply))
    assert "".join(entry["token"] for entry in entries) == ANSWER
    for entry in entries:
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert [other["token"] for other in entry["top_logprobs"]] == [entry["token"]]
    nothing_came_out(gateway, reply, trace)


@EACH
@EVERY
def test_answers_that_are_not_safe(
    gateway: Served, upstream: Upstream, method: str, way: Way
) -> None:
    upstream.planted = Planted(("canary answer", "canary answer", "canary answer", ANSWER))
    if method == "ecso":
        upstream.planted = Planted(("canary answer", ANSWER))
    reply, got, trace = ask(gateway, method, way)
    assert reply.status_code == 200, reply.text
    if method == "base":
        # Unscored by what it is: the text itself, and nothing else.
        assert got.content == "canary answer"
        pieces = ("canary answer", '"cana', '"content":"cana', "ry answer")
        rest = reply.text
        for piece in pieces:
            rest = rest.replace(piece, "")
        assert spilled(rest, reply.headers) == []
        return
    assert CANARY not in f"{got.content}{got.refusal}{got.calls}"
    nothing_came_out(gateway, reply, trace)


@EACH
@EVERY
@pytest.mark.parametrize(
    ("said", "reason"),
    [("canary finish", "length"), ("SAFETY: canary", "content_filter"), ("refusal", "stop")],
)
def test_the_end_of_an_answer(
    gateway: Served, upstream: Upstream, method: str, way: Way, said: str, reason: str
) -> None:
    upstream.planted = Planted(finish=said)
    reply, got, trace = ask(gateway, method, way)
    assert reply.status_code == 200, reply.text
    if method == "base":
        expected = "content_filter" if said == "refusal" else reason
        assert got.reason == Route(*way, method).reason(expected)
    nothing_came_out(gateway, reply, trace)


@EACH
@EVERY
@pytest.mark.parametrize("name", ["look", "canary"])
def test_calls_of_tools(
    gateway: Served, upstream: Upstream, method: str, way: Way, name: str
) -> None:
    call = {
        "index": 0,
        "id": "canary_id",
        "type": "function",
        "function": {"name": name, "arguments": '{"x": 1}', "canary": "canary"},
        "extra_content": {"google": {"thought_signature": "canary"}},
    }
    upstream.planted = Planted(("",), "tool_calls", {"tool_calls": [call]})
    reply, got, trace = ask(gateway, method, way, tools=TOOLS)
    nothing_came_out(gateway, reply, trace)
    if name == "look" and method != "ecso":
        assert got.reason == Route(*way, method).reason("tool_calls"), reply.text
        assert got.calls == [("look", '{"x": 1}')]


@EACH
@EVERY
def test_a_refusal_of_the_models_own(
    gateway: Served, upstream: Upstream, method: str, way: Way
) -> None:
    """A canary in the refusal is a canary in the answer: scored, it does not come out."""
    upstream.planted = Planted(("",), message={"refusal": "canary refusal"})
    reply, got, trace = ask(gateway, method, way, response_format={"type": "json_object"})
    if method == "base":
        assert (got.content, got.refusal) == ("", "canary refusal")
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
@EVERY
@pytest.mark.parametrize("name", FAILURES)
def test_failures(gateway: Served, upstream: Upstream, method: str, way: Way, name: str) -> None:
    upstream.planted = Planted(fails=FAILURES[name])
    reply, _, trace = ask(gateway, method, way)
    nothing_came_out(gateway, reply, trace)
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    for line in reply.text.splitlines():
        # An error that comes after the first words is an event.
        known = ("event: error", "event: response.")
        assert not line.startswith("event:") or line.startswith(known)


def test_what_can_be_done_with_the_trace(
    gateway: Served, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.planted = Planted(("canary answer", ANSWER))
    _, _, trace = ask(gateway, "ecoalign", ("chat", False))
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
    reply, _, _ = ask(gateway, "ecoalign", ("chat", False))
    name = reply.headers["x-ecoalign-trace"]
    whole = home / "whole" / f"{name}.jsonl"
    assert "canary answer" in whole.read_text()
    assert "canary caption" in whole.read_text()
    # Whoever does not ask for a trace gets none, and the operator has it all the same.
    before = set(whole.parent.iterdir())
    reply = gateway.post(asking("What now?"))
    assert "x-ecoalign-trace" not in reply.headers
    assert len(set(whole.parent.iterdir()) - before) == 1
