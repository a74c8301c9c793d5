"""One request from its first byte to its last: its id, its log line, its metrics and its span."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign.budget import Spending
from ecoalign.gateway._errors import internal_error, shutting_down
from ecoalign.gateway._limits import send_error
from ecoalign.gateway.observe._logs import current_request, log_fields, request_id, word
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.gateway.observe._tracing import RequestSpan, Tracing
from ecoalign.trace.events import DROPPED, ActionFailed, Called, Event, Finished, RunStarted

QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: neither logged nor counted."""

CLIENT_GONE: Final = 499

_STATE: Final = "ecoalign_record"

_CAUSES: Final[Mapping[str, str]] = {
    "BudgetExceeded": "budget",
    "BudgetTooSmall": "budget",
    "ModelError": "model",
    "VerdictError": "evaluator",
}

_log = logging.getLogger("ecoalign.request")


@dataclass(slots=True)
class RequestRecord:
    """What is recorded of a request while it is answered.

    Attributes:
        id: the request's id.
        metrics: counts what is recorded.
        span: of the request.
        key_id: the public part of the client's key; "" without keys.
        method: how it is answered; "none" where nothing is.
        model: as served, never what the client wrote.
        stop_reason, refused, cause: how it ended; see `answered`.
        tokens: tokens charged, by stage.
        usd: dollars charged; None where any price is unknown.
        arrived: when its head was read, as of `time.monotonic`.
    """

    id: str
    metrics: GatewayMetrics
    span: RequestSpan = field(default_factory=RequestSpan)
    key_id: str = ""
    method: str = "none"
    model: str = ""
    stop_reason: str = ""
    refused: bool | None = None
    cause: str = ""
    tokens: dict[str, int] = field(default_factory=dict)
    usd: float | None = 0.0
    error: str = ""
    told: str = ""
    arrived: float = field(default_factory=time.monotonic)
    _failure: str = ""
    _began: int = 0

    def start(self, *, method: str, model: str, stream: bool = False) -> None:
        """The request asks for an answer."""
        self.method, self.model = method.partition(":")[0], model
        self.span.about(
            method=self.method, model=model, key_id=self.key_id or None, stream=stream or None
        )

    def on_event(self, event: Event) -> None:
        """An event of a run. Its calls are recorded, and how things end."""
        match event:
            case RunStarted():
                self._began = time.time_ns()
            case Called():
                self.span.call(event, self._began + int(event.at * 1e9) if self._began else None)
                if event.error is not None and event.error.kind != "cancelled":
                    role = "evaluator" if event.stage in {"score", "check"} else "model"
                    self.metrics.upstream_failed(role, event.error.kind)
            case ActionFailed() if event.cause != DROPPED:
                self._failure = _CAUSES.get(event.cause, "other")
            case Finished():
                self.answered(event.stop_reason, refused=event.refused)

    def answered(self, stop_reason: str, *, refused: bool, cause: str = "") -> None:
        """There is an answer. `cause`, one of `_metrics.CAUSES`, says why it fails closed, if it
        does: by default the last failure that `on_event` saw, or else that all was judged unsafe.
        """
        self.stop_reason, self.refused = stop_reason, refused
        if stop_reason == "fail-closed":
            self.cause = cause or self._failure or "unsafe"

    def spent(self, spending: Spending) -> None:
        """What the request has cost in all. Once, at its end, however it ends."""
        for stage, entry in spending.by_stage.items():
            self.charge(stage, entry.tokens, entry.usd)
        self.span.usage(spending)

    def charge(self, stage: str, tokens: int, usd: float | None) -> None:
        """`tokens` were charged for `stage`, for `usd` dollars; for calls without a ledger."""
        self.tokens[stage] = self.tokens.get(stage, 0) + tokens
        self.usd = None if self.usd is None or usd is None else self.usd + usd
        self.metrics.spent(stage, tokens, usd)

    def failed(self, error: str, told: str = "") -> None:
        """The client gets an error: its code, one low-cardinality word; and what is to be told of
        it in the log, its own line."""
        self.error, self.told = error, told
        self.span.failed(error)

    def finished(self, status: int, seconds: float) -> None:
        """Count the request and log its line. `seconds` is its wall-clock."""
        self.metrics.request_finished(self.method, status, seconds)
        if self.refused:
            self.metrics.refusal(self.method)
        if self.cause:
            self.metrics.fail_closed(self.cause)
        if status == CLIENT_GONE:
            self.metrics.disconnected(self.method)
        self.span.about(
            stop_reason=self.stop_reason or None,
            refused=self.refused,
            cause=self.cause or None,
            status=status,
        )
        if self.told:
            _log.warning("%s", self.told)
        if _log.isEnabledFor(logging.INFO):
            log_fields(_log, logging.INFO, "request", self.line(status, seconds), clean=True)

    def line(self, status: int, seconds: float) -> dict[str, object]:
        """The fields of the request's line in the log."""
        found: dict[str, object] = {
            "key": word(self.key_id) or None,
            "method": word(self.method),
            "model": word(self.model) or None,
            "status": status,
            "seconds": round(seconds, 4),
        }
        if self.tokens:
            found["tokens"] = {word(stage): count for stage, count in self.tokens.items()}
            found["usd"] = self.usd
        for name, value in (
            ("stop_reason", self.stop_reason),
            ("fail_closed", self.cause),
            ("error", self.error),
            ("trace", self.span.trace_id),
        ):
            if value:
                found[name] = word(value)
        if self.refused is not None:
            found["refused"] = self.refused
        return found


def record_of(scope: Scope) -> RequestRecord:
    """The record of the request of an ASGI scope.

    Raises:
        KeyError: the app does not run behind `RequestObserver`.
    """
    record = scope["state"][_STATE]
    if not isinstance(record, RequestRecord):
        raise KeyError(_STATE)
    return record


class RequestObserver:
    """ASGI middleware, the outermost: gives each request an id, and records how it ended.

    The id comes back in the header X-Request-Id. An exception that the app lets through is logged
    by its types and frames and answered with status 500 in the shape of the API's errors.

    Args:
        app: what runs behind it.
        metrics: counts requests.
        tracing: traces them; by default not.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: GatewayMetrics, tracing: Tracing | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing or _UNTRACED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = request_id(_header(scope, b"x-request-id"))
        quiet = scope["path"] in QUIET
        token = current_request.set(name)
        try:
            with (_UNTRACED if quiet else self._tracing).chat(name) as span:
                record = RequestRecord(name, self._metrics, span)
                scope.setdefault("state", {})[_STATE] = record
                await _Exchange(self._app, record, quiet=quiet).run(scope, receive, send)
        finally:
            current_request.reset(token)


_UNTRACED = Tracing()


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return None


class _Exchange:
    """One request under way."""

    def __init__(self, app: ASGIApp, record: RequestRecord, *, quiet: bool) -> None:
        self._app = app
        self._header = (b"x-request-id", record.id.encode())
        self._record = record
        self._quiet = quiet
        self._status = 0
        self._done = False
        self._gone = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not self._done:
                self._gone = True
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            elif not message.get("more_body", False):
                self._done = True
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except ClientDisconnect:
            self._gone = True
        except asyncio.CancelledError:
            if not self._status and not self._gone:
                # The server ends: whoever waits is told so, in the words of the API.
                self._record.failed("shutting_down")
                await send_error(watched_send, shutting_down())
            self._gone = True
            raise
        except Exception as error:
            await self._crashed(error, watched_send)
        finally:
            if not self._quiet:
                # A response that was not completed has failed, whatever status it began with.
                status = self._status if self._done else CLIENT_GONE if self._gone else 500
                self._record.finished(status, time.perf_counter() - started)

    async def _crashed(self, error: Exception, send: Send) -> None:
        _log.error("the app failed", exc_info=error)
        self._record.failed("internal_error")
        if self._status:
            # Half an answer cannot be taken back; the server closes the connection.
            raise error
        await send_error(send, internal_error())
