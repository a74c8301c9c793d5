"""Requests as an operator sees them: ids, one line each, counts, spans, errors."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from asgi_running import post, running, told
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from ecoalign.budget import Called, CallFailure, Spending
from ecoalign.budget._amounts import StageSpending
from ecoalign.gateway.observe._logs import configure, request_id, word
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.gateway.observe._requests import RequestObserver, RequestRecord, record_of
from ecoalign.gateway.observe._tracing import Tracing
from ecoalign.models import Usage
from ecoalign.trace.events import ActionFailed, Finished

SPENT = Spending(
    tokens=Usage(prompt=90, completion=10),
    by_stage={"score": StageSpending(60, 2, 0.1, 0.5), "write": StageSpending(40, 1, 0.1, None)},
    usd=None,
    calls=3,
)


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = configure(stream=stream)
    try:
        yield stream
    finally:
        logs.close()


def lines(output: io.StringIO) -> list[dict[str, object]]:
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    return [line for line in found if line["logger"] == "ecoalign.request"]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Does what its path says."""
    path = scope["path"]
    request = Request(scope, receive)
    await request.body()
    if path == "/crash":
        raise ValueError("canary")
    if path == "/halfway":
        await StreamingResponse(half())(scope, receive, send)
    if path == "/answer":
        record = record_of(scope)
        record.key_id = "abc"
        record.start(method="ecoalign:paper", model="openai:gpt-4o")
        record.on_event(ActionFailed(1, "score", "VerdictError", "canary"))
        record.on_event(Finished("canary", True, "fail-closed", 0.0, 0.0, ()))
        record.on_event(failed("score", "timeout"))
        record.on_event(failed("write", "cancelled"))
        record.spent(SPENT)
    await PlainTextResponse(path)(scope, receive, send)


async def half() -> AsyncIterator[bytes]:
    yield b"half"
    raise ValueError("canary")


def failed(stage: str, kind: str) -> Called:
    error = CallFailure("cancelled" if kind == "cancelled" else "timeout", "canary")
    return Called(stage, "openai:m", "k", 1, Usage(), None, 0.1, error=error)


def get(path: str, *headers: str) -> bytes:
    return post(b"", *headers, path=path).replace(b"POST", b"GET", 1)


def metric(metrics: GatewayMetrics, name: str) -> float:
    for line in metrics.render()[0].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return 0.0


async def test_an_answer_is_one_line_with_all_that_matters(output: io.StringIO) -> None:
    metrics = GatewayMetrics()
    async with running(RequestObserver(app, metrics=metrics)) as port:
        answer = await told(port, post(b"canary", "X-Request-Id: mine-1", path="/answer"))
    assert b"x-request-id: mine-1\r\n" in answer
    (line,) = lines(output)
    seconds = line.pop("seconds")
    assert isinstance(seconds, float)
    assert line.pop("at")
    assert line == {
        "level": "info",
        "logger": "ecoalign.request",
        "message": "request",
        "request": "mine-1",
        "key": "abc",
        "method": "ecoalign",
        "model": "openai:gpt-4o",
        "status": 200,
        "tokens": {"score": 60, "write": 40},
        "usd": None,
        "stop_reason": "fail-closed",
        "fail_closed": "evaluator",
        "refused": True,
    }
    assert "canary" not in output.getvalue()
    assert metric(metrics, 'ecoalign_requests_total{method="ecoalign",status="200"}') == 1
    assert metric(metrics, 'ecoalign_refusals_total{method="ecoalign"}') == 1
    assert metric(metrics, 'ecoalign_fail_closed_total{cause="evaluator"}') == 1
    assert metric(metrics, 'ecoalign_spent_tokens_total{stage="score"}') == 60
    assert metric(metrics, 'ecoalign_spent_usd_total{stage="score"}') == 0.5
    assert metric(metrics, 'ecoalign_unpriced_tokens_total{stage="write"}') == 40
    name = 'ecoalign_upstream_failures_total{fault="timeout",role="evaluator"}'
    assert metric(metrics, name) == 1
    # What was cancelled did not fail.
    assert 'role="model"' not in metrics.render()[0].decode()


async def test_a_crash_is_answered_in_the_apis_shape(output: io.StringIO) -> None:
    metrics = GatewayMetrics()
    async with running(RequestObserver(app, metrics=metrics)) as port:
        answer = await told(port, get("/crash"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"x-request-id: req-" in head
    assert json.loads(body)["error"]["code"] == "internal_error"
    crash, line = lines(output)
    assert crash["error"]
    assert (line["status"], line["error"]) == (500, "internal_error")
    assert crash["request"] == line["request"]
    assert b"canary" not in answer
    assert "canary" not in output.getvalue()


async def test_a_crash_within_an_answer_cuts_it_off(output: io.StringIO) -> None:
    async with running(RequestObserver(app, metrics=GatewayMetrics())) as port:
        answer = await told(port, get("/halfway"))
    # The last chunk is missing, so no client takes it for whole.
    assert answer.endswith(b"4\r\nhalf\r\n")
    assert lines(output)[-1]["status"] == 500
    assert "canary" not in output.getvalue()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_machines_that_ask_all_the_time_are_not_logged(
    output: io.StringIO, path: str
) -> None:
    metrics = GatewayMetrics()
    async with running(RequestObserver(app, metrics=metrics)) as port:
        answer = await told(port, get(path))
    assert b"x-request-id: req-" in answer
    assert not lines(output)
    assert "ecoalign_requests_total{" not in metrics.render()[0].decode()


async def test_a_client_that_leaves_is_told_apart(output: io.StringIO) -> None:
    inside = asyncio.Event()
    ended = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        record_of(scope).start(method="base", model="m")
        inside.set()
        assert (await receive())["type"] == "http.disconnect"

    metrics = GatewayMetrics()
    observer = RequestObserver(waiting, metrics=metrics)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await observer(scope, receive, send)
        ended.set()

    async with running(outer) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"x"))
        await asyncio.wait_for(inside.wait(), 20)
        writer.close()
        await asyncio.wait_for(ended.wait(), 20)
    assert lines(output)[-1]["status"] == 499
    assert metric(metrics, 'ecoalign_disconnects_total{method="base"}') == 1


async def test_a_request_is_a_trace(output: io.StringIO) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing.open(True, provider=provider)
    async with running(RequestObserver(app, metrics=GatewayMetrics(), tracing=tracing)) as port:
        # What a client says of traces has no say.
        theirs = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await told(port, post(b"", theirs, path="/answer"))
        await told(port, get("/healthz"))
    *calls, root = exporter.get_finished_spans()
    assert [call.name for call in calls] == ["chat m", "chat m"]
    assert root.context is not None
    assert root.context.trace_id != 0x0AF7651916CD43DD8448EB211C80319C
    assert lines(output)[-1]["trace"] == f"{root.context.trace_id:032x}"
    assert root.attributes is not None
    assert root.attributes["ecoalign.fail_closed.cause"] == "evaluator"
    assert root.attributes["ecoalign.spent.tokens"] == 100


async def test_many_requests_do_not_mix(output: io.StringIO) -> None:
    async with running(RequestObserver(app, metrics=GatewayMetrics())) as port:
        names = [f"mine-{n}" for n in range(20)]
        await asyncio.gather(*(told(port, get("/x", f"X-Request-Id: {n}")) for n in names))
    assert sorted(str(line["request"]) for line in lines(output)) == sorted(names)


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([], "unsafe"),
        (["ModelError"], "model"),
        (["ModelError", "BudgetExceeded"], "budget"),
        (["KeyError"], "other"),
    ],
)
def test_the_cause_is_the_last_failure(failures: list[str], cause: str) -> None:
    record = RequestRecord("r", GatewayMetrics())
    for failure in failures:
        record.on_event(ActionFailed(1, "s", failure, "m"))
    record.answered("fail-closed", refused=True)
    assert record.cause == cause
    record = RequestRecord("r", GatewayMetrics())
    record.answered("satisfied", refused=False)
    assert record.cause == ""


def test_a_request_without_a_ledger_is_charged_as_well() -> None:
    record = RequestRecord("r", GatewayMetrics())
    record.charge("answer", 10, 0.5)
    record.charge("answer", 5, 0.25)
    assert (record.tokens, record.usd) == ({"answer": 15}, 0.75)
    record.charge("answer", 1, None)
    assert record.line(200, 1.0)["usd"] is None


@pytest.mark.parametrize("given_", ["a", "A-1_b.c", "0" * 64, "550e8400-e29b-41d4-a716"])
def test_harmless_ids_are_kept(given_: str) -> None:
    assert request_id(given_) == given_


@pytest.mark.parametrize(
    "given_",
    [
        None,
        "",
        " a",
        "a b",
        "a\r\nX: y",
        "a\n",
        "é",
        "0" * 65,
        "-a",
        "<script>",
        "a;b",
        "%0d%0a",
        "sk-0123456789",
        "SK-0123456789",
        "eco-aaaaaaaaaaaa-bbbbbb",
    ],
)
def test_other_ids_are_replaced(given_: str | None) -> None:
    found = request_id(given_)
    assert found.startswith("req-")
    assert found != request_id(given_)


@given(st.text())
def test_words_are_harmless_whatever_comes_in(text: str) -> None:
    found = word(text)
    assert found in {text, "other"}
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found
