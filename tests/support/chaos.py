"""A model that does anything, for tests of what holds whatever a model does."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING

from ecoalign.errors import ModelError
from ecoalign.models import ChatRequest, Completion, Usage
from ecoalign.models.fake import FakeModel, Reply

if TYPE_CHECKING:
    from ecoalign.errors import ModelFault

FAULTS: list[ModelFault] = ["down", "timeout", "rate-limited", "rejected", "bad-response", "server"]


class Chaos:
    """Nonsense, failures, false bills, all from one seed; what it says otherwise is `text`'s.

    Attributes:
        clock: seconds, which every call moves.
    """

    def __init__(self, seed: int, chaos: float) -> None:
        self.rng = random.Random(seed)
        self.chaos = chaos
        self.clock = 0.0

    def __call__(self, request: ChatRequest) -> Reply:
        rng = self.rng
        self.clock += rng.choice([0.0, 0.01, 0.2])
        if rng.random() < self.chaos / 2:
            return ModelError("x", fault=rng.choice(FAULTS), billed=rng.random() < 0.5)
        text = self.text(request)
        if rng.random() < self.chaos:
            text = text[: rng.randrange(len(text) + 1)]
        usage = rng.choice(
            [None, Usage(), Usage(1, 1), Usage(200, 20), Usage(-3, 10), Usage(50, 0, 90, 90)]
        )
        reason = "stop" if rng.random() > self.chaos / 3 else rng.choice(["length", "eh"])
        return Completion(text, usage, reason)

    def text(self, request: ChatRequest) -> str:
        raise NotImplementedError


class HighBound(FakeModel):
    """Its worst case is never below what `Chaos` reports: nobody can bound a server's lies."""

    def bound(self, request: ChatRequest) -> Usage:
        exact = super().bound(request)
        return Usage(max(260, exact.prompt), max(20, exact.completion))


def prices(model: str, usage: Usage) -> Decimal:
    """Two dollars a million prompt tokens, ten a million completion tokens."""
    return Decimal(usage.prompt) * Decimal("2e-6") + Decimal(usage.completion) * Decimal("1e-5")
