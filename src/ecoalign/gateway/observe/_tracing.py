"""OpenTelemetry spans: one for each request, and below it one for each call to a model.

Without the extra `otel`, or where tracing is off, everything here does nothing. What was asked and
answered is recorded only where that is asked for. Names follow OpenTelemetry's conventions for
generative AI, which are still in development.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.budget import Called, Spending
from ecoalign.errors import SettingsError
from ecoalign.models import ending

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue


_ABOUT: Mapping[str, str] = {
    "method": "ecoalign.method",
    "model": "gen_ai.request.model",
    "key_id": "ecoalign.key.id",
    "stream": "gen_ai.request.stream",
    "stop_reason": "ecoalign.stop_reason",
    "refused": "ecoalign.refused",
    "safety": "ecoalign.safety",
    "cause": "ecoalign.fail_closed.cause",
    "status": "http.response.status_code",
}

_INPUT = "gen_ai.input.messages"

_OUTPUT = "gen_ai.output.messages"

_WORKFLOW = "invoke_workflow"

_PROVIDERS = {"openai": "openai", "embedded": "ecoalign"}

_LOCAL = frozenset({"embedded", "replay", "fake"})

_NANO = 1_000_000_000


def provider_of(model: str) -> str:
    """The convention's provider for a model named "provider:name".

    Any server that speaks OpenAI's API counts as "openai": the name tells the format.
    """
    return _PROVIDERS.get(model.partition(":")[0], "ecoalign")


@dataclass(frozen=True, slots=True)
class _Live:
    """What a span is recorded with."""

    tracer: Tracer
    span: Span
    inside: Context
    content: bool


class RequestSpan:
    """The span of one request; it does nothing unless `Tracing` gave it out for a traced one.

    Attributes:
        trace_id: 32 hexadecimal digits; "" where nothing is traced.
    """

    def __init__(self, live: _Live | None = None) -> None:
        self._live = live
        self.trace_id = "" if live is None else f"{live.span.get_span_context().trace_id:032x}"

    def about(self, **attributes: str | bool | int | float | None) -> None:
        """Record `method`, `model`, `key_id`, `stream`, `stop_reason`, `refused`, `safety`,
        `cause` or `status`; None is passed over.

        Raises:
            KeyError: another name.
        """
        if self._live is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._live.span.set_attribute(_ABOUT[name], value)

    def call(self, record: Called, ended: int | None = None) -> None:
        """One attempt to call a model: a child span, begun when it began.

        Args:
            record: the attempt.
            ended: when it ended, in ns since the epoch; now if None.
        """
        if self._live is None:
            return
        from opentelemetry.trace import SpanKind

        provider, _, name = record.model.partition(":")
        end = time.time_ns() if ended is None else ended
        span = self._live.tracer.start_span(
            f"chat {name or provider}",
            context=self._live.inside,
            kind=SpanKind.INTERNAL if provider in _LOCAL else SpanKind.CLIENT,
            start_time=end - max(0, int(record.seconds * _NANO)),
            attributes=_of_call(record, name or provider),
            record_exception=False,
        )
        if self._live.content and record.text is not None:
            span.set_attribute(_OUTPUT, _messages("assistant", record.text, record.finish_reason))
            span.set_attribute("gen_ai.response.model", record.served_by)
        if record.error is not None:
            _mark(span, record.error.kind)
        span.end(end)

    def usage(self, spent: Spending) -> None:
        """What the request has cost in all."""
        if self._live is not None:
            self._live.span.set_attribute("ecoalign.spent.tokens", spent.tokens.total)
            if spent.usd is not None:
                self._live.span.set_attribute("ecoalign.spent.usd", spent.usd)

    def asked(self, question: str) -> None:
        """What the user asked. Dropped unless content is recorded."""
        if self._live is not None and self._live.content:
            self._live.span.set_attribute(_INPUT, _messages("user", question))

    def answered(self, text: str, finish_reason: str) -> None:
        """What is sent back. Dropped unless content is recorded."""
        if self._live is not None and self._live.content:
            self._live.span.set_attribute(_OUTPUT, _messages("assistant", text, finish_reason))

    def failed(self, error_type: str) -> None:
        """The request ended with an error of this kind, one low-cardinality word."""
        if self._live is not None:
            _mark(self._live.span, error_type)


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans come from. Build it with `open`.

    Attributes:
        tracer: None where nothing is traced.
        content: whether questions and answers are recorded.
        provider: shut down by `close`.
    """

    tracer: Tracer | None = None
    content: bool = False
    provider: TracerProvider | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls, enabled: bool, *, content: bool = False, provider: TracerProvider | None = None
    ) -> Tracing:
        """Tracing as it is set.

        Args:
            enabled: otherwise everything does nothing, with or without the extra.
            content: record questions and answers, too.
            provider: where the spans go. By default to the collector that the usual environment
                names (OTEL_EXPORTER_OTLP_ENDPOINT, by default on this machine), by OTLP over HTTP,
                as the service that OTEL_SERVICE_NAME names.

        Raises:
            SettingsError: it is enabled and the extra is not installed.
        """
        if not enabled:
            return cls()
        try:
            from opentelemetry import trace

            own = _to_collector() if provider is None else None
        except ImportError as missing:
            raise SettingsError(
                f"tracing needs {missing.name}, which is not installed; install ecoalign[otel], "
                "or turn tracing off"
            ) from None
        return cls(trace.get_tracer("ecoalign", tracer_provider=own or provider), content, own)

    @contextmanager
    def chat(self, request_id: str, model: str = "") -> Iterator[RequestSpan]:
        """The span of the request with this id; ends with the block.

        An exception that leaves the block marks the span as failed, by its type alone.
        """
        if self.tracer is None:
            yield RequestSpan()
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self.tracer.start_span(
            f"{_WORKFLOW} ecoalign",
            # A root, whatever the client's headers say: it shall not choose our trace ids.
            kind=SpanKind.SERVER,
            attributes={
                "gen_ai.operation.name": _WORKFLOW,
                "gen_ai.workflow.name": "ecoalign",
                "ecoalign.request.id": request_id,
            },
            record_exception=False,
        )
        made = RequestSpan(_Live(self.tracer, span, set_span_in_context(span), self.content))
        made.about(model=model or None)
        try:
            yield made
        except BaseException as error:
            made.failed(type(error).__qualname__)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what has not been sent. Waits for the collector, for some seconds at most."""
        if self.provider is not None:
            self.provider.shutdown()


def _to_collector() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "ecoalign"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _mark(span: Span, error_type: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", error_type)
    # No description: messages of errors may quote the request.
    span.set_status(StatusCode.ERROR)


def _of_call(record: Called, model: str) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_of(record.model),
        "gen_ai.request.model": model,
        "ecoalign.stage": record.stage,
        "ecoalign.attempt": record.attempt,
        # More than the usage where that is missing or not to be believed.
        "ecoalign.spent.tokens": record.charged.total,
        "ecoalign.spent.usd": record.usd,
    }
    if record.text is not None:
        # Of the words that a server has for it, those that are known.
        found["gen_ai.response.finish_reasons"] = [ending(record.finish_reason)]
    if record.text is not None and record.usage is not None:
        found["gen_ai.usage.input_tokens"] = record.usage.prompt
        found["gen_ai.usage.output_tokens"] = record.usage.completion
        found["gen_ai.usage.cache_read.input_tokens"] = record.usage.cached or None
    return {name: value for name, value in found.items() if value is not None}


def _messages(role: str, text: str, finish_reason: str | None = None) -> str:
    message: dict[str, object] = {"role": role, "parts": [{"type": "text", "content": text}]}
    if finish_reason is not None:
        message["finish_reason"] = finish_reason
    return json.dumps([message])
