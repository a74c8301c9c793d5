"""How far a batch is, what it has cost, and what is left of time and money."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ecoalign._text import pace
from ecoalign.budget import Budget
from ecoalign.budget.pacing import Sum


@dataclass(slots=True)
class BatchProgress:
    """What a batch has done so far. Kept up to date while it runs.

    Attributes:
        total: rows of the input.
        limit: what the batch may spend; empty for no bound.
        before: rows that an earlier run has left; they cost no time now.
        statuses: how many rows have each status.
        charged: what all attempts cost, earlier runs included.
        held: what is reserved for items under way.
        price: the shadow price, as a factor.
        seconds: since this run began.
    """

    total: int
    limit: Budget = field(default_factory=Budget)
    before: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    charged: Sum = field(default_factory=Sum)
    held: Sum = field(default_factory=Sum)
    price: float = 1.0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Rows that are there, those of before included."""
        return self.statuses.total()

    @property
    def rate(self) -> float | None:
        """Rows per second in this run; None while there is none."""
        fresh = self.done - self.before
        return fresh / self.seconds if fresh > 0 and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until all is done, at the rate so far; None while that is unknown."""
        rate = self.rate
        return None if rate is None else (self.total - self.done) / rate

    @property
    def share_spent(self) -> float | None:
        """The share of the scarcer unit of the budget that is charged, in [0, 1]."""
        shares = []
        if self.limit.tokens is not None:
            shares.append(self.charged.tokens / self.limit.tokens)
        if self.limit.usd is not None:
            shares.append(self.charged.usd / self.limit.usd)
        return max(shares, default=None)

    def __str__(self) -> str:
        """All of it in one line, for people."""
        parts = [f"{self.done:,} of {self.total:,}"]
        tokens = f"{self.charged.tokens:,}"
        if self.limit.tokens is not None:
            tokens += f" of {self.limit.tokens:,}"
        parts.append(f"{tokens} tokens")
        if self.limit.usd is not None:
            parts.append(f"${self.charged.usd:.4f} of ${self.limit.usd:g}")
        elif self.charged.nano:
            parts.append(f"${self.charged.usd:.4f}")
        for status, word in (("refused", "refused"), ("error", "failed")):
            if number := self.statuses[status]:
                parts.append(f"{number:,} {word}")
        return ", ".join([*parts, *pace(self.rate, self.seconds_left)])
