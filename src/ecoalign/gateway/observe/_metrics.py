"""What the gateway counts, for Prometheus. Labels take known values only; all else is "other"."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

OTHER: Final = "other"

METHODS: Final = frozenset(
    {
        *("base", "best-of-n", "cod", "cot", "ecoalign", "ecso", "safety-prompt", "vlm-guard"),
        "none",
    }
)
"""Methods; "none" for requests that asked for no answer or failed before one was chosen."""

STAGES: Final = frozenset(
    {
        *("answer", "blind", "caption", "check", "execute", "propose", "sample", "scan", "score"),
        *("simulate", "write"),
    }
)

CAUSES: Final = frozenset({"budget", "evaluator", "model", "time", "unsafe"})

TURNED_AWAY: Final = frozenset(
    {"key", "place", "overloaded", "rate", "window", "too-large", "too-slow", "draining"}
)

FAULTS: Final = frozenset(
    {
        *("bad-response", "crashed", "deadline", "down", "filtered", "rate-limited", "rejected"),
        *("server", "timeout", "false-usage"),
    }
)

ROLES: Final = frozenset({"model", "evaluator"})

IMAGE_REASONS: Final = frozenset(
    {
        *("off", "url", "host", "address", "connection", "status", "type", "size", "time"),
        "redirect",
    }
)

STATUSES: Final = frozenset(
    {200, 400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 431, 499, 500, 502, 503, 504}
)

# From a pass-through to a long search.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


def _known(value: str, known: Collection[str]) -> str:
    return value if value in known else OTHER


def _method(name: str) -> str:
    """`name` without its parameters: "ecoalign:paper" is "ecoalign", "best-of-8" "best-of-n"."""
    kind = name.partition(":")[0]
    return _known("best-of-n" if kind.startswith("best-of-") else kind, METHODS)


class GatewayMetrics:
    """The counters, histograms and gauges of one gateway.

    Args:
        registry: where they are registered; a new one by default, so that several gateways in
            one process do not mix.

    Attributes:
        registry: the same.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._requests = self._counter(
            "requests", "Requests that ended, by method and HTTP status.", "method", "status"
        )
        self._seconds = Histogram(
            "ecoalign_request_duration_seconds",
            "Wall-clock of requests in seconds, from the first byte read to the last sent.",
            ["method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = self._counter("spent_tokens", "Tokens charged, by stage.", "stage")
        self._usd = self._counter(
            "spent_usd", "Dollars charged, by stage; calls without a known price add none.", "stage"
        )
        self._unpriced = self._counter(
            "unpriced_tokens", "Tokens charged at no known price, by stage.", "stage"
        )
        self._refusals = self._counter("refusals", "Answers that are refusals.", "method")
        self._closed = self._counter(
            "fail_closed", "Answers withheld as nothing could be shown to be safe.", "cause"
        )
        self._turned = self._counter(
            "turned_away", "Requests rejected before they were answered.", "reason"
        )
        self._failures = self._counter(
            "upstream_failures", "Failed calls, by upstream and kind.", "role", "fault"
        )
        self._ready = Gauge(
            "ecoalign_ready",
            "Whether a part that every request needs works (1) or not (0), as readiness found it.",
            ["part"],
            registry=self.registry,
        )
        self._images = self._counter("image_url_refusals", "Image URLs not fetched.", "reason")
        self._disconnects = self._counter(
            "disconnects", "Clients that disconnected before the end of their answer.", "method"
        )
        # Finding a sample by its labels takes longer than counting: the busiest are kept.
        self._ends: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._stages: dict[str, tuple[Counter, Counter, Counter]] = {}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ecoalign_{name}", text, labels, registry=self.registry)

    def request_finished(self, method: str, status: int, seconds: float) -> None:
        """A request ended with HTTP `status` after `seconds` of wall-clock."""
        known = _method(method)
        code = str(status) if status in STATUSES else OTHER
        ends = self._ends.get((known, code))
        if ends is None:
            ends = self._requests.labels(known, code), self._seconds.labels(known)
            self._ends[known, code] = ends
        ends[0].inc()
        ends[1].observe(max(0.0, seconds))

    def spent(self, stage: str, tokens: int, usd: float | None) -> None:
        """`tokens` were charged for `stage`, for `usd` dollars (None: the price is unknown)."""
        known = _known(stage, STAGES)
        counters = self._stages.get(known)
        if counters is None:
            counters = (
                self._tokens.labels(known),
                self._usd.labels(known),
                self._unpriced.labels(known),
            )
            self._stages[known] = counters
        counters[0].inc(max(0, tokens))
        if usd is None:
            counters[2].inc(max(0, tokens))
        else:
            counters[1].inc(max(0.0, usd))

    def refusal(self, method: str) -> None:
        """An answer was a refusal."""
        self._refusals.labels(_method(method)).inc()

    def fail_closed(self, cause: str) -> None:
        """Nothing could be shown to be safe, for one of `CAUSES`."""
        self._closed.labels(_known(cause, CAUSES)).inc()

    def turned_away(self, reason: str) -> None:
        """A request was rejected: one of "key", "place" (where it comes from, without keys),
        "overloaded", "rate", "window", "too-large", "too-slow", "draining"."""
        self._turned.labels(_known(reason, TURNED_AWAY)).inc()

    def upstream_failed(self, role: str, fault: str) -> None:
        """A call to the "model" or the "evaluator" failed, with one of `FAULTS`."""
        self._failures.labels(_known(role, ROLES), _known(fault, FAULTS)).inc()

    def image_refused(self, reason: str) -> None:
        """An image URL was not fetched, for the reason of its `ImageUrlError`."""
        self._images.labels(_known(reason, IMAGE_REASONS)).inc()

    def disconnected(self, method: str) -> None:
        """A client disconnected before its answer was sent."""
        self._disconnects.labels(_method(method)).inc()

    def ready(self, part: str, *, works: bool) -> None:
        """A part that every request needs works, or does not, as `/readyz` found last."""
        self._ready.labels(part).set(works)

    def queue(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Show how many requests wait and run, read anew for each scrape. To be called once."""
        for name, text, ask in (
            ("ecoalign_queue_waiting", "Requests that wait for their turn.", waiting),
            ("ecoalign_requests_running", "Requests that are being answered.", running),
        ):
            Gauge(name, text, registry=self.registry).set_function(ask)

    def render(self) -> tuple[bytes, str]:
        """All of it in Prometheus's text format, and that format's media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
