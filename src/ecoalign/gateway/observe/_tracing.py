"""OpenTelemetry spans: one for each request, and below it one for each call to a model.

Without the extra `otel`, or where tracing is off, everything here does nothing. What was asked and
answered is recorded only where that is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ecoalign.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from ecoalign.budget import Called, Spending

__all__ = ["RequestSpan", "Tracing", "provider_of"]

OPERATION: Final = "gen_ai.operation.name"

CHAT: Final = "chat"

WORKFLOW: Final = "invoke_workflow"

WORKFLOW_NAME: Final = "gen_ai.workflow.name"

PROVIDER: Final = "gen_ai.provider.name"

REQUEST_MODEL: Final = "gen_ai.request.model"

REQUEST_STREAM: Final = "gen_ai.request.stream"

RESPONSE_MODEL: Final = "gen_ai.response.model"

FINISH_REASONS: Final = "gen_ai.response.finish_reasons"

INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"

OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

IMAGE_TOKENS: Final = "gen_ai.usage.image.input_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"

OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

ERROR_TYPE: Final = "error.type"

REQUEST_ID: Final = "ecoalign.request.id"

METHOD: Final = "ecoalign.method"

KEY_ID: Final = "ecoalign.key.id"

STAGE: Final = "ecoalign.stage"

ATTEMPT: Final = "ecoalign.attempt"

SPENT_TOKENS: Final = "ecoalign.spent.tokens"
"""Tokens charged: more than the usage where that is missing or not to be believed."""

SPENT_USD: Final = "ecoalign.spent.usd"

STOP_REASON: Final = "ecoalign.stop_reason"

REFUSED: Final = "ecoalign.refused"

SAFETY: Final = "ecoalign.safety"

CAUSE: Final = "ecoalign.fail_closed.cause"

STATUS_CODE: Final = "http.response.status_code"

_PROVIDERS = {"openai": "openai", "hf": "huggingface", "embedded": "ecoalign"}


def provider_of(model: str) -> str:
    """The convention's provider for a model named "provider:name".

    Any server that speaks OpenAI's API counts as "openai": the name tells the format.
    """
    return _PROVIDERS.get(model.partition(":")[0], "ecoalign")


_NANO = 1_000_000_000


class RequestSpan:
    """The span of one request. This one does nothing; `Tracing` gives out those that do.

    Attributes:
        trace_id: 32 hexadecimal digits; "" where nothing is traced.
    """

    trace_id: str = ""

    def about(self, **attributes: str | bool | int | float | None) -> None:
        """Note `method`, `model`, `key_id`, `stream`, `stop_reason`, `refused`, `safety`, `cause`
        or `status`; None is passed over.

        Raises:
            KeyError: another name.
        """

    def call(self, record: Called, ended: int | None = None) -> None:
        """One attempt to call a model: a child span, begun when it began.

        Args:
            record: the attempt.
            ended: when it ended, in ns since the epoch; now if None.
        """

    def usage(self, spent: Spending) -> None:
        """What the request has cost in all."""

    def asked(self, question: str) -> None:
        """What the user asked. Dropped unless content is recorded."""

    def answered(self, text: str, finish_reason: str) -> None:
        """What is sent back. Dropped unless content is recorded."""

    def failed(self, error_type: str) -> None:
        """The request ended with an error of this kind, one low-cardinality word."""


class Tracing:
    """Where spans come from.

    Args:
        tracer: None where nothing is traced.
        content: record questions and answers.
        provider: shut down by `close`.
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        *,
        content: bool = False,
        provider: TracerProvider | None = None,
    ) -> None:
        self._tracer = tracer
        self._content = content
        self._provider = provider

    @property
    def active(self) -> bool:
        """Whether anything is traced."""
        return self._tracer is not None

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
                as the service that OTEL_SERVICE_NAME

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
        tracer = trace.get_tracer("ecoalign", tracer_provider=own if provider is None else provider)
        return cls(tracer, content=content, provider=own)

    @contextmanager
    def chat(self, request_id: str, model: str = "") -> Iterator[RequestSpan]:
        """The span of the request with this id; ends with the block.

        An exception that leaves the block marks the span as failed, by its type alone.
        """
        if self._tracer is None:
            yield RequestSpan()
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self._tracer.start_span(
            f"{WORKFLOW} ecoalign",
            # A root, whatever the client's headers say: it shall not choose our trace ids.
            kind=SpanKind.SERVER,
            attributes={
                OPERATION: WORKFLOW,
                WORKFLOW_NAME: "ecoalign",
                REQUEST_ID: request_id,
            },
            record_exception=False,
        )
        if model:
            span.set_attribute(REQUEST_MODEL, model)
        live = _LiveSpan(self._tracer, span, set_span_in_context(span), content=self._content)
        try:
            yield live
        except BaseException as error:
            live.failed(type(error).__qualname__)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what has not been sent. Waits for the collector, for some seconds at most."""
        if self._provider is not None:
            self._provider.shutdown()


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


_ABOUT: Mapping[str, str] = {
    "method": METHOD,
    "model": REQUEST_MODEL,
    "key_id": KEY_ID,
    "stream": REQUEST_STREAM,
    "stop_reason": STOP_REASON,
    "refused": REFUSED,
    "safety": SAFETY,
    "cause": CAUSE,
    "status": STATUS_CODE,
}


class _LiveSpan(RequestSpan):
    def __init__(self, tracer: Tracer, span: Span, inside: Context, *, content: bool) -> None:
        self._tracer = tracer
        self._span = span
        self._inside = inside
        self._content = content
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def about(self, **attributes: str | bool | int | float | None) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(_ABOUT[name], value)

    def call(self, record: Called, ended: int | None = None) -> None:
        from opentelemetry.trace import SpanKind

        model = record.model.partition(":")[2] or record.model
        end = time.time_ns() if ended is None else ended
        local = record.model.partition(":")[0] in {"embedded", "hf", "replay", "fake"}
        span = self._tracer.start_span(
            f"{CHAT} {model}",
            context=self._inside,
            kind=SpanKind.INTERNAL if local else SpanKind.CLIENT,
            start_time=end - max(0, int(record.seconds * _NANO)),
            attributes=_of_call(record, model),
            record_exception=False,
        )
        if self._content and record.text is not None:
            span.set_attribute(
                OUTPUT_MESSAGES,
                _messages("assistant", record.text, record.finish_reason),
            )
        if record.error is not None:
            _mark(span, record.error.kind)
        span.end(end)

    def usage(self, spent: Spending) -> None:
        self._span.set_attribute(SPENT_TOKENS, spent.tokens.total)
        if spent.usd is not None:
            self._span.set_attribute(SPENT_USD, spent.usd)

    def asked(self, question: str) -> None:
        if self._content:
            self._span.set_attribute(INPUT_MESSAGES, _messages("user", question))

    def answered(self, text: str, finish_reason: str) -> None:
        if self._content:
            said = _messages("assistant", text, finish_reason)
            self._span.set_attribute(OUTPUT_MESSAGES, said)

    def failed(self, error_type: str) -> None:
        _mark(self._span, error_type)


def _mark(span: Span, error_type: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute(ERROR_TYPE, error_type)
    # No description: messages of errors may quote the request.
    span.set_status(StatusCode.ERROR)


def _of_call(record: Called, model: str) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        OPERATION: CHAT,
        PROVIDER: provider_of(record.model),
        REQUEST_MODEL: model,
        STAGE: record.stage,
        ATTEMPT: record.attempt,
        SPENT_TOKENS: record.charged.total,
    }
    if record.usd is not None:
        found[SPENT_USD] = record.usd
    if record.text is None:
        return found
    found[FINISH_REASONS] = [record.finish_reason]
    if record.served_by:
        found[RESPONSE_MODEL] = record.served_by
    if record.usage is not None:
        found[INPUT_TOKENS] = record.usage.prompt
        found[OUTPUT_TOKENS] = record.usage.completion
        if record.usage.cached:
            found[CACHED_TOKENS] = record.usage.cached
    return found


def _messages(role: str, text: str, finish_reason: str | None = None) -> str:
    message: dict[str, object] = {"role": role, "parts": [{"type": "text", "content": text}]}
    if finish_reason is not None:
        message["finish_reason"] = finish_reason
    return json.dumps([message])
