"""What calls have cost: exact sums, and what a server's report of its usage is charged as."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Self

from ecoalign.budget._amounts import Spending, StageSpending
from ecoalign.budget._money import Money
from ecoalign.models import Usage

NO_USAGE = Usage()

MOST_REPORTED = 10**9
"""Tokens of one kind that a report is believed up to; a greater count is charged as this one."""

CAP_SLACK = 16
"""Tokens that a server may report beyond the cap of a call: some count the end of the text or a
marker of thoughts beside it."""

MOST_APART = 65_536
"""Tokens of hidden reasoning that a server may report beside the cap, where it says that they are:
some keep the cap for the answer alone. No model thinks longer in one call."""

PROMPT_SLACK = 8192
"""Tokens that a prompt may have beyond twice its bound: what a server puts before it, say."""

IMAGE_SLACK = 50_000
"""Tokens that each image may have beside that: the dearest that any maker bills is 48,169, and a
server may go by a name that does not tell."""


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
    `floor`. Counts above the bound are kept: what is reported is what may be billed.
    """
    if reported is None or not (_count(reported.prompt) and _count(reported.completion)):
        return _at_least(bound, floor)
    if reported.total == 0:
        return _at_least(bound, floor)
    prompt = min(reported.prompt, MOST_REPORTED)
    completion = min(reported.completion, MOST_REPORTED)
    if prompt < max(1, floor.prompt):
        prompt = max(bound.prompt, floor.prompt)
    if completion < floor.completion:
        completion = max(bound.completion, floor.completion)
    believed = prompt == reported.prompt
    cached = reported.cached if believed and _count(reported.cached, prompt) else 0
    image = reported.image if _count(reported.image, prompt) else min(bound.image, prompt)
    told = reported.prompt, reported.completion, reported.image, reported.cached
    charged = prompt, completion, image, cached
    return reported if charged == told else Usage(*charged)


def impossible(reported: Usage, bound: Usage, *, images: int, apart: int) -> str:
    """Why no honest server reports this of a call, in words; "" where one may.

    Args:
        reported: its report.
        bound: of the call, by the formula: what was learned from the server may be wrong.
        images: of the call.
        apart: tokens of hidden reasoning in the report, as the server says.
    """
    cap = bound.completion + CAP_SLACK
    if reported.completion - min(apart, MOST_APART) > cap:
        return f"{reported.completion:,} tokens of output, where the cap allowed {cap:,}"
    most = 2 * bound.prompt + PROMPT_SLACK + IMAGE_SLACK * images
    if reported.prompt > most:
        return f"a prompt of {reported.prompt:,} tokens, which cannot have had {most:,}"
    return ""


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
