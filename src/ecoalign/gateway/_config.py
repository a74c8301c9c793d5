"""The configuration of a gateway. Plain values, so that it can be sent to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ecoalign._web import name_of, origin_of
from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway._json import MAX_TEXT
from ecoalign.gateway.keys._policy import Choice, KeyPolicy
from ecoalign.query import FetchPolicy
from ecoalign.settings import Settings

MAY_CHOOSE: frozenset[Choice] = frozenset({"budget", "preset", "trace"})
"""What a request without a key may choose by default: nothing that shows unscored text."""

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything that `create_app` needs.

    Attributes:
        settings: the model, its server, who scores, the default budget and all of the search.
        method: how requests are answered that do not choose; see `ecoalign.methods.METHODS`.
        names: what the model is called by clients; by default its own names and "ecoalign".
        keys: URL of the store of API keys; None for a server without keys.
        anonymous: what a request may do where there are no keys. Its own choice of a budget is cut
            to `most`, or else to what it would get unasked.
        open_to_all: whether a server without keys answers other machines, and by any name. Without
            it, it answers requests from its own machine that name it as such.
        hosts: further names by which such a server may be asked for, as in the header Host.
        origins: the web pages ("https://app.example") that may ask and read the answers, with keys
            and without; exact, and none by default.
        most: the most that any one request may spend, whatever it or its key says.
        concurrency: requests answered at once, from 1.
        queue: requests that wait for their turn, from 0; 429 beyond.
        max_body: largest body of a request, in bytes.
        body_memory: memory for the bodies of all requests under way, in bytes, of which one key may
            hold half; where it is less than twice `max_body`, it is that.
        max_images: images of one request.
        max_pixels: pixels of one image. A baseline JPEG of up to four times as many is decoded at
            half its sides.
        request_pixels: pixels of all images of one request, decoded.
        all_pixels: pixels of all requests under way, of which one key may hold half; at least
            twice `request_pixels`. A request waits for its share of them, and then gets 503.
        max_decoded: bytes of all images of one request, once base64 is undone.
        max_text: characters of a request (messages, tools, schemas, names), but for its images.
        workers: processes that read large requests and decode large pictures, and as many for
            small ones.
        worker_seconds: of processor time that one of them may take for one picture or request; by
            the clock four times as many.
        fetch: images by URL; off by default.
        passes: further parameters that requests may have, by name, each with the tokens (>= 0) that
            it may cost a call beyond its cap. They are passed on unread.
        trace_bytes: memory for the traces that are kept, in bytes; the oldest go first.
        trace_dir: a folder to which the whole trace of each run is written, for the operator: with
            the texts that were not scored safe, which no key can fetch. It is made if need be.
        keepalive: seconds of silence in a stream after which a comment is sent.
        progress: least seconds between two comments of progress.
        drain: seconds that requests under way have to end when the server is stopped.
        metrics: whether there is GET /metrics.
        otel: whether requests are traced with OpenTelemetry (extra `otel`).
        log_content: whether logs and spans hold questions and answers.

    Raises:
        InputError: a number is out of its range, a name is empty, or a parameter cannot be listed.
    """

    settings: Settings = field(default_factory=Settings)
    method: str = "ecoalign"
    names: tuple[str, ...] = ()
    keys: str | None = field(default=None, repr=False)
    anonymous: KeyPolicy = field(default_factory=lambda: KeyPolicy(may_choose=MAY_CHOOSE))
    open_to_all: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    most: Budget | None = None
    concurrency: int = 32
    queue: int = 64
    max_body: int = 20 * _MIB
    body_memory: int = 160 * _MIB
    max_images: int = 16
    max_pixels: int = 12_000_000
    request_pixels: int = 36_000_000
    all_pixels: int = 96_000_000
    max_decoded: int = 20 * _MIB
    max_text: int = MAX_TEXT
    workers: int = 1
    worker_seconds: float = 15.0
    fetch: FetchPolicy = field(default_factory=FetchPolicy)
    passes: Mapping[str, int] = field(default_factory=dict)
    trace_bytes: int = 64 * _MIB
    trace_dir: Path | None = None
    keepalive: float = 10.0
    progress: float = 0.25
    drain: float = 30.0
    metrics: bool = True
    otel: bool = False
    log_content: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("concurrency", 1),
            ("queue", 0),
            ("max_body", 1024),
            ("body_memory", 0),
            ("max_images", 0),
            ("max_pixels", 1),
            ("request_pixels", self.max_pixels),
            ("all_pixels", 2 * self.request_pixels),
            ("max_decoded", 1024),
            ("max_text", 1),
            ("workers", 1),
            ("trace_bytes", 0),
            ("drain", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if not 0.1 <= self.worker_seconds <= 3600:
            raise InputError("worker_seconds goes from 0.1 to 3600 s")
        if not (0.01 <= self.keepalive <= 3600 and 0 <= self.progress <= 3600):
            raise InputError("keepalive goes from 0.01 to 3600 s and progress from 0 to 3600 s")
        if any(not name.strip() or len(name) > 256 for name in self.names):
            raise InputError("a model's name has 1 to 256 characters")
        origins = tuple(map(origin_of, self.origins))
        for given, origin in zip(self.origins, origins, strict=True):
            if origin is None:
                raise InputError(
                    "a web page is allowed by its exact origin, such as https://app.example or "
                    f"http://localhost:3000, not {given[:80]!r}"
                )
        hosts = tuple(host.strip().lower() for host in self.hosts)
        if any(name_of(host) != host for host in hosts):
            raise InputError("a host is allowed by its name alone, without scheme, port and path")
        object.__setattr__(self, "origins", origins)
        object.__setattr__(self, "hosts", hosts)

    @property
    def all_bodies(self) -> int:
        """Bytes of memory for all bodies, and for images that are fetched."""
        return max(self.body_memory, 2 * self.max_body)

    @property
    def worker_memory(self) -> int:
        """Bytes that a worker may take: a body as it came, read, and its images; a picture as its
        decoder holds it (a progressive JPEG or a WebP takes 24 bytes a pixel)."""
        return 128 * _MIB + 32 * self.max_pixels + 5 * self.max_body

    @property
    def served(self) -> tuple[str, ...]:
        """The names under which clients can ask for the model, the first its own."""
        if self.names:
            return self.names
        own = self.settings.model
        return tuple(dict.fromkeys((own, own.removeprefix("openai:"), "ecoalign")))
