"""The ledger's arithmetic: exact sums, what a reported usage is worth, the accounts by stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from ecoalign.budget import Spending, StageSpending
from ecoalign.models.base import Usage

__all__ = ["BEYOND_BELIEF", "NO_USAGE", "Accounts", "Sums", "chargeable", "dollars", "femto"]

NO_USAGE = Usage()
BEYOND_BELIEF = 131_072
"""Tokens above a call's bound. Hidden reasoning past the cap and tools of the server's own may pass
a bound; no model writes this much at once, and no such tool reads as much."""
_FEMTO = 10**15
# Wide enough for any price times any number of tokens, whatever context the caller's thread has.
_UP = Context(prec=60, rounding=ROUND_CEILING)
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)


def femto(usd: Decimal | float, *, up: bool = True) -> int:
    """Dollars as a whole number of 1e-15 dollars: sums are then exact.

    Args:
        usd: dollars.
        up: round up, as a cost is; a budget is rounded down.

    Raises:
        ValueError: not a finite number >= 0.
    """
    value = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
    if not value.is_finite() or value < 0:
        raise ValueError(f"a price must be a finite number of dollars, 0 or more, not {usd!r}")
    exact = _UP if up else _DOWN
    return int(exact.to_integral_value(exact.multiply(value, Decimal(_FEMTO))))


def dollars(femtos: int) -> float:
    """The inverse of `femto`, correctly rounded, so that order is kept."""
    return femtos / _FEMTO


@dataclass(frozen=True, slots=True)
class Sums:
    """Tokens and 1e-15 dollars, added and compared unit by unit."""

    tokens: int = 0
    usd: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.tokens - other.tokens, self.usd - other.usd)

    def least(self, other: Sums) -> Sums:
        """The lesser of both in each unit."""
        return Sums(min(self.tokens, other.tokens), min(self.usd, other.usd))

    def at_least_zero(self) -> Sums:
        """The same with nothing negative."""
        return Sums(max(0, self.tokens), max(0, self.usd))


def chargeable(reported: Usage | None, bound: Usage, floor: Usage = NO_USAGE) -> Usage:
    """What a reported usage is charged as, so that a false report cannot hide spending.

    No report, and one without a single token, count as the bound. A count that is not a whole
    number, is negative or is below `floor`, and a prompt of no tokens, count as the bound of that
    kind. Parts of the prompt that cannot be (more cached than there was) are not believed:
    `cached` counts as 0, the dearest, and `image` as its bound. Nothing is ever charged below
    `floor`. Counts above the bound are kept: the truth is recorded, whatever it costs; but one that
    passes it by more than `BEYOND_BELIEF` is no truth, and counts as the bound of that kind, too.
    """
    if reported is None or not (_count(reported.prompt) and _count(reported.completion)):
        return _at_least(bound, floor)
    if reported.total == 0:
        return _at_least(bound, floor)
    prompt, completion = reported.prompt, reported.completion
    if not max(1, floor.prompt) <= prompt <= bound.prompt + BEYOND_BELIEF:
        prompt = max(bound.prompt, floor.prompt)
    if not floor.completion <= completion <= bound.completion + BEYOND_BELIEF:
        completion = max(bound.completion, floor.completion)
    believed = prompt == reported.prompt
    cached = reported.cached if believed and _count(reported.cached, prompt) else 0
    image = reported.image if _count(reported.image, prompt) else min(bound.image, prompt)
    return Usage(prompt, completion, image, cached)


def _at_least(bound: Usage, floor: Usage) -> Usage:
    return Usage(
        max(bound.prompt, floor.prompt), max(bound.completion, floor.completion), bound.image
    )


def _count(value: object, most: int | None = None) -> bool:
    return type(value) is int and value >= 0 and (most is None or value <= most)


@dataclass(slots=True)
class _Stage:
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    usd: int | None = 0


@dataclass(slots=True)
class Accounts:
    """What has been spent, in all and by stage. Not locked: the ledger does that."""

    usage: Usage = NO_USAGE
    total: Sums = field(default_factory=Sums)
    calls: int = 0
    priced: bool = True
    _stages: dict[str, _Stage] = field(default_factory=dict)

    def add(self, stage: str, usage: Usage, cost: Sums, seconds: float, *, priced: bool) -> None:
        """Enter one call."""
        self.usage += usage
        self.total += cost
        self.calls += 1
        self.priced = self.priced and priced
        entry = self._stages.setdefault(stage, _Stage())
        entry.tokens += usage.total
        entry.calls += 1
        entry.seconds += seconds
        entry.usd = None if entry.usd is None or not priced else entry.usd + cost.usd

    def spending(self, seconds: float) -> Spending:
        """A snapshot. `seconds` is the wall-clock so far."""
        return Spending(
            tokens=self.usage,
            by_stage={
                name: StageSpending(
                    entry.tokens,
                    entry.calls,
                    entry.seconds,
                    None if entry.usd is None else dollars(entry.usd),
                )
                for name, entry in self._stages.items()
            },
            usd=dollars(self.total.usd) if self.priced else None,
            seconds=seconds,
            calls=self.calls,
        )
