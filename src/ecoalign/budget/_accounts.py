"""What calls have cost: exact sums, and what a server's report of its usage is charged as."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Self

from ecoalign.budget._amounts import Spending, StageSpending
from ecoalign.budget._money import Money
from ecoalign.models import Usage

NO_USAGE = Usage()

IMPLAUSIBLE_EXCESS = 131_072
"""Tokens above a call's bound. Hidden reasoning past the cap and tools of the server's own may pass
a bound; no model writes this much at once, and no such tool reads as much."""


@dataclass(slots=True)
class Cost:
    """Tokens and `Money.units`, added and compared unit by unit.

    Only `+=` and `-=` change one, by its owner, who keeps a sum: each call enters a dozen of them.
    """

    tokens: int = 0
    units: int = 0

    def __iadd__(self, other: Cost) -> Self:
        self.tokens += other.tokens
        self.units += other.units
        return self

    def __isub__(self, other: Cost) -> Self:
        self.tokens -= other.tokens
        self.units -= other.units
        return self

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.units + other.units)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.tokens - other.tokens, self.units - other.units)

    def least(self, other: Cost) -> Cost:
        """The lesser of both in each unit."""
        tokens = self.tokens if self.tokens < other.tokens else other.tokens
        return Cost(tokens, self.units if self.units < other.units else other.units)

    def beyond(self, other: Cost) -> Cost:
        """What this has more than another, >= 0 in each unit."""
        tokens, units = self.tokens - other.tokens, self.units - other.units
        return Cost(tokens if tokens > 0 else 0, units if units > 0 else 0)

    def share(self, share: float) -> Cost:
        """`share` of both, rounded down; share in [0, 1]."""
        return Cost(int(self.tokens * share), Money(self.units).share(share).units)

    @property
    def usd(self) -> float:
        """The money in dollars."""
        return Money(self.units).usd


NO_COST = Cost()


def chargeable(reported: Usage | None, bound: Usage, floor: Usage = NO_USAGE) -> Usage:
    """What a reported usage is charged as, so that a false report cannot hide spending.

    No report, and one without a single token, count as the bound. A count that is not a whole
    number, is negative or is below `floor`, and a prompt of no tokens, count as the bound of that
    kind. Parts of the prompt that cannot be (more cached than there was) are not believed:
    `cached` counts as 0, the dearest, and `image` as its bound. Nothing is ever charged below
    `floor`. Counts above the bound are kept: the truth is recorded, whatever it costs; but one that
    passes it by more than `IMPLAUSIBLE_EXCESS` is no truth and counts as the bound of its kind.
    """
    if reported is None or not (_count(reported.prompt) and _count(reported.completion)):
        return _at_least(bound, floor)
    if reported.total == 0:
        return _at_least(bound, floor)
    prompt, completion = reported.prompt, reported.completion
    if not max(1, floor.prompt) <= prompt <= bound.prompt + IMPLAUSIBLE_EXCESS:
        prompt = max(bound.prompt, floor.prompt)
    if not floor.completion <= completion <= bound.completion + IMPLAUSIBLE_EXCESS:
        completion = max(bound.completion, floor.completion)
    believed = prompt == reported.prompt
    cached = reported.cached if believed and _count(reported.cached, prompt) else 0
    image = reported.image if _count(reported.image, prompt) else min(bound.image, prompt)
    told = reported.prompt, reported.completion, reported.image, reported.cached
    charged = prompt, completion, image, cached
    return reported if charged == told else Usage(*charged)


def _at_least(bound: Usage, floor: Usage) -> Usage:
    return Usage(
        max(bound.prompt, floor.prompt), max(bound.completion, floor.completion), bound.image
    )


def _count(value: object, most: int | None = None) -> bool:
    return type(value) is int and value >= 0 and (most is None or value <= most)


@dataclass(slots=True)
class _Stage:
    cost: Cost = field(default_factory=Cost)
    calls: int = 0
    seconds: float = 0.0
    priced: bool = True


@dataclass(slots=True)
class Accounts:
    """What has been spent, in all and by stage. Not locked: the ledger does that."""

    usage: Usage = NO_USAGE
    total: Cost = field(default_factory=Cost)
    calls: int = 0
    priced: bool = True
    _stages: defaultdict[str, _Stage] = field(default_factory=lambda: defaultdict(_Stage))

    def add(self, stage: str, usage: Usage, cost: Cost, seconds: float, *, priced: bool) -> None:
        """Enter one call."""
        self.usage += usage
        self.total += cost
        self.calls += 1
        self.priced = self.priced and priced
        entry = self._stages[stage]
        entry.cost += cost
        entry.calls += 1
        entry.seconds += seconds
        entry.priced = entry.priced and priced

    def move(self, stage: str, other: str, cost: Cost, seconds: float, *, priced: bool) -> None:
        """Enter a call of one stage under another one."""
        source, target = self._stages[stage], self._stages[other]
        source.cost -= cost
        source.calls -= 1
        source.seconds = max(0.0, source.seconds - seconds)
        target.cost += cost
        target.calls += 1
        target.seconds += seconds
        target.priced = target.priced and priced
        if not source.calls:
            del self._stages[stage]

    def spending(self, seconds: float) -> Spending:
        """A snapshot. `seconds` is the wall-clock so far."""
        return Spending(
            tokens=self.usage,
            by_stage={
                name: StageSpending(
                    entry.cost.tokens,
                    entry.calls,
                    entry.seconds,
                    entry.cost.usd if entry.priced else None,
                )
                for name, entry in self._stages.items()
            },
            usd=self.total.usd if self.priced else None,
            seconds=seconds,
            calls=self.calls,
        )
