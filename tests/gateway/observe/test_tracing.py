"""Spans: one for the request, one for each call below it, and no content unless asked for."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ecoalign.budget import Called, CallFailure, Spending
from ecoalign.errors import SettingsError
from ecoalign.gateway.observe._tracing import RequestSpan, Tracing
from ecoalign.models import Completion, Usage

USAGE = Usage(prompt=100, completion=20, image=40, cached=30)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def tracing(exporter: InMemorySpanExporter, *, content: bool = False) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing.open(True, content=content, provider=provider)


def record(
    *, model: str = "openai:gpt-4o", error: CallFailure | None = None, usage: Usage | None = USAGE
) -> Called:
    done = Completion("canary answer", usage, "length", model="gpt-4o-2024-08-06")
    return Called(
        stage="score",
        model=model,
        key="k",
        text=None if error else done.text,
        usage=None if error else done.usage,
        finish_reason="" if error else done.finish_reason,
        served_by="" if error else done.model,
        error=error,
        charged=Usage(prompt=150, completion=20),
        usd=0.002,
        seconds=0.5,
        attempt=2,
    )


def attributes(span: ReadableSpan) -> Mapping[str, object]:
    assert span.attributes is not None
    return span.attributes


def test_a_request_and_its_calls(exporter: InMemorySpanExporter) -> None:
    with tracing(exporter).chat("req-1", "ecoalign") as span:
        span.about(method="ecoalign", key_id="k1", stream=True, stop_reason=None)
        span.call(record())
        span.call(record(model="embedded", usage=None))
        span.usage(Spending(tokens=Usage(prompt=300, completion=40), usd=0.004))
        span.about(stop_reason="satisfied", refused=False, safety=0.9, status=200)
        trace = span.trace_id
    first, second, root = exporter.get_finished_spans()
    assert (root.name, root.kind, root.parent) == (
        "invoke_workflow ecoalign",
        SpanKind.SERVER,
        None,
    )
    assert attributes(root) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "ecoalign",
        "gen_ai.request.model": "ecoalign",
        "gen_ai.request.stream": True,
        "ecoalign.request.id": "req-1",
        "ecoalign.method": "ecoalign",
        "ecoalign.key.id": "k1",
        "ecoalign.spent.tokens": 340,
        "ecoalign.spent.usd": 0.004,
        "ecoalign.stop_reason": "satisfied",
        "ecoalign.refused": False,
        "ecoalign.safety": 0.9,
        "http.response.status_code": 200,
    }
    assert (first.name, first.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert attributes(first) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "ecoalign.stage": "score",
        "ecoalign.attempt": 2,
        "ecoalign.spent.tokens": 170,
        "ecoalign.spent.usd": 0.002,
    }
    assert (second.name, second.kind) == ("chat embedded", SpanKind.INTERNAL)
    # A usage that no server reported is not made up.
    assert "gen_ai.usage.input_tokens" not in attributes(second)
    for child in (first, second):
        assert child.parent is not None
        assert root.context is not None
        assert child.parent.span_id == root.context.span_id
        assert child.status.status_code is StatusCode.UNSET
    assert root.context is not None
    assert trace == f"{root.context.trace_id:032x}"


def test_a_call_is_as_long_as_it_took(exporter: InMemorySpanExporter) -> None:
    before = time.time_ns()
    with tracing(exporter).chat("req-1") as span:
        span.call(record())
    call = exporter.get_finished_spans()[0]
    assert call.start_time is not None
    assert call.end_time is not None
    assert call.end_time - call.start_time == 500_000_000
    assert before <= call.end_time <= time.time_ns()


def test_calls_that_fail_are_marked_without_a_word(exporter: InMemorySpanExporter) -> None:
    with tracing(exporter).chat("req-1") as span:
        span.call(record(error=CallFailure("timeout", "canary", billed=True)))
        span.failed("model_timeout")
    call, root = exporter.get_finished_spans()
    for span_, kind in ((call, "timeout"), (root, "model_timeout")):
        assert span_.status.status_code is StatusCode.ERROR
        assert attributes(span_)["error.type"] == kind
    assert attributes(call)["ecoalign.spent.tokens"] == 170
    assert "canary" not in call.to_json() + root.to_json()


@pytest.mark.parametrize("error", [ValueError("canary"), asyncio.CancelledError("canary")])
def test_what_breaks_the_block_is_told_by_its_type(
    exporter: InMemorySpanExporter, error: BaseException
) -> None:
    with pytest.raises(type(error)), tracing(exporter).chat("req-1"):
        raise error
    (root,) = exporter.get_finished_spans()
    assert attributes(root)["error.type"] == type(error).__name__
    assert not root.events
    assert "canary" not in root.to_json()


@pytest.mark.parametrize("content", [False, True])
def test_content_is_recorded_only_where_that_is_asked_for(
    exporter: InMemorySpanExporter, content: bool
) -> None:
    with tracing(exporter, content=content).chat("req-1") as span:
        span.asked("canary question")
        span.call(record())
        span.answered("canary answer", "stop")
    call, root = exporter.get_finished_spans()
    assert ("canary" in call.to_json() + root.to_json()) == content
    if content:
        asked = json.loads(str(attributes(root)["gen_ai.input.messages"]))
        assert asked == [
            {"role": "user", "parts": [{"type": "text", "content": "canary question"}]}
        ]
        said = json.loads(str(attributes(root)["gen_ai.output.messages"]))
        assert said[0]["finish_reason"] == "stop"
        assert "canary answer" in str(attributes(call)["gen_ai.output.messages"])


def test_an_unknown_attribute_is_a_mistake(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), tracing(exporter).chat("req-1") as span:
        span.about(colour="red")


def test_turned_off_it_does_nothing() -> None:
    with Tracing.open(False).chat("req-1", "m") as span:
        span.about(method="base", status=200)
        span.call(record())
        span.usage(Spending())
        span.asked("x")
        span.answered("x", "stop")
        span.failed("x")
        assert type(span) is RequestSpan
        assert span.trace_id == ""
    Tracing.open(False).close()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"ecoalign\[otel\]"):
        Tracing.open(True)
    with Tracing.open(False).chat("req-1"):
        pass
