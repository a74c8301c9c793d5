"""Whether a request could be answered now: what `/readyz` says, and how it becomes green again.

Nothing here waits for traffic, as a load balancer sends none to a replica that is red: each part is
looked at anew when it is asked about, at most every `AGAIN` seconds however often that is.

An upstream is suspected before its first call, and after `SUSPECT` calls in a row that failed as if
nobody were there, or that it rejected. It is red only if it is not there: asked for the list of its
models, which costs nothing, it gives no answer, or does not know the key (401), or (after calls
that failed) says 5xx. A key may have no right to the list (403): that tells nothing. So no client
can make a replica red by what it asks, and an upstream that has come back is green at the next
look.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ecoalign.errors import EcoAlignError, ModelError
from ecoalign.gateway.keys import KeyStore
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.models import ChatModel, Endpoint, Failure, cause_of_answer
from ecoalign.models.openai import OpenAIModel, listed
from ecoalign.trace.events import Called, Event

SUSPECT: Final = 3
"""Calls in a row that failed."""

AGAIN: Final = 2.0
"""Seconds for which what was found counts."""

PATIENCE: Final = 3.0
"""Seconds that a part may take to show that it works."""

_TO_LIST: Final = 2.5
"""Seconds for the list of an upstream's models: less, so that what is wrong with it is told."""

_SUSPICIOUS: Final = frozenset({"down", "timeout", "server"})
"""Faults of an upstream that is not there."""

Look = Callable[[], Awaitable[str | None]]
"""Why a part does not work, in words that strangers may read; None if it does."""

_log = logging.getLogger("ecoalign.gateway")


@dataclass(slots=True)
class _Part:
    """One part, and what was found when it was looked at last."""

    look: Look
    why: str | None = None
    until: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def found(self, name: str) -> str | None:
        async with self.turn:
            if self.until <= time.monotonic():
                before = self.why
                try:
                    async with asyncio.timeout(PATIENCE):
                        self.why = await self.look()
                except TimeoutError:
                    self.why = f"the {name} did not answer in time"
                self.until = time.monotonic() + AGAIN
                if self.why != before:
                    _log.warning("readiness, %s: %s", name, self.why or "works again")
            return self.why


@dataclass(slots=True, eq=False)
class Upstream:
    """The memory of the last calls to one server.

    Args:
        role: what it is for.
        endpoint: the server.

    Attributes:
        failed: how many calls in a row failed; None before the first call or look.
        rejected: how many in a row it rejected: for what was asked, or for a key that is no more.
    """

    role: str
    endpoint: Endpoint
    failed: int | None = None
    rejected: int = 0

    def called(self, fault: str | None) -> None:
        """A call has ended: with this fault, or None if it was answered."""
        self.failed = (self.failed or 0) + 1 if fault in _SUSPICIOUS else 0
        self.rejected = self.rejected + 1 if fault == "rejected" else 0

    async def look(self) -> str | None:
        """Why it cannot be asked; None if it can, or is not suspected."""
        failed = self.failed
        if failed is not None and max(failed, self.rejected) < SUSPECT:
            return None
        who = f"the {self.role}'s upstream cannot be used"
        answer = await listed(self.endpoint, _TO_LIST)
        if isinstance(answer, Failure):
            return f"{who}: {answer.public}"
        key = bool(self.endpoint.key or self.endpoint.has_user)
        cause = cause_of_answer(answer.status, "", page=False, key=key)
        if cause in {"key", "no-key", "proxy-password"} and answer.status != 403:
            return f"{who}: {Failure(cause, self.endpoint).public}"
        if answer.status >= 500 and answer.status != 501 and (failed or 0) >= SUSPECT:
            return f"{who}: it answers with HTTP {answer.status}"
        self.failed = self.rejected = 0
        return None


class Readiness:
    """The parts that a request needs.

    Args:
        metrics: shows which of them work, as found last.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._parts: dict[str, _Part] = {}
        self._upstreams: dict[str, list[Upstream]] = {}

    def add(self, name: str, look: Look) -> None:
        """A part of this name, one word; it is looked at when readiness is asked for."""
        self._parts[name] = _Part(look)
        self._metrics.ready(name, works=True)

    def watch(self, role: str, model: ChatModel) -> None:
        """The server of a model; one in this process needs no watching."""
        if isinstance(model, OpenAIModel):
            upstream = Upstream(role, model.endpoint)
            self._upstreams.setdefault(model.name, []).append(upstream)
            self.add(role, upstream.look)

    def store(self, store: KeyStore) -> None:
        """The store of the keys: it has to take what is written."""

        async def look() -> str | None:
            try:
                await store.ping()
            except EcoAlignError as error:
                return f"the store of the keys {_of_store(str(error))}"
            return None

        self.add("store", look)

    def folder(self, folder: Path) -> None:
        """The folder of the operator's traces: it has to take files."""

        async def look() -> str | None:
            try:
                await asyncio.to_thread(_write_in, folder)
            except OSError as error:
                return f"traces cannot be written to their folder ({error.strerror})"
            return None

        self.add("traces", look)

    def on_event(self, event: Event) -> None:
        """An event of a run: its calls are remembered."""
        if isinstance(event, Called):
            self._called(event.model, None if event.error is None else event.error.kind)

    def passed(self, model: ChatModel, error: EcoAlignError | None) -> None:
        """A request that was passed through has ended: with an error, or None."""
        if error is None or isinstance(error, ModelError):
            self._called(model.name, None if error is None else error.fault)

    def _called(self, model: str, fault: str | None) -> None:
        for upstream in self._upstreams.get(model, ()):
            upstream.called(fault)

    async def reasons(self) -> Mapping[str, str]:
        """Why no request can be answered now, by part; empty if one can."""
        looks = [part.found(name) for name, part in self._parts.items()]
        found = dict(zip(self._parts, await asyncio.gather(*looks), strict=True))
        for name, why in found.items():
            self._metrics.ready(name, works=why is None)
        return {name: why for name, why in found.items() if why is not None}


def _of_store(said: str) -> str:
    """What is wrong with it, without its place and its own words."""
    low = said.lower()
    if "readonly" in low or "read-only" in low:
        return "is read-only"
    if "is gone" in low:
        return "is gone"
    return "is full" if "full" in low or "no space" in low else "does not answer"


def _write_in(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
