"""What a window still holds: pure functions of its counters. The stores keep them and lock them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ecoalign.budget import Budget, Money, Spending, pacing
from ecoalign.budget.pacing import PacingState
from ecoalign.gateway.keys._policy import KeyPolicy


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount in both units, as the store keeps it: tokens, and billionths of a dollar."""

    tokens: int = 0
    nano: int = 0

    @property
    def usd(self) -> float:
        """Dollars."""
        return Money.from_billionths(self.nano).usd


@dataclass(frozen=True, slots=True)
class Window:
    """The counters of one window of a key.

    Attributes:
        start: seconds since the epoch.
        since: when the key could first use it: `start`, or later for a new key.
        requests, open: grants made, and those not settled.
        spent: settled.
        held: reserved by open grants.
    """

    start: float
    since: float
    requests: int = 0
    open: int = 0
    spent: Sum = Sum()
    held: Sum = Sum()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a grant may be: the request's budget, what is reserved for it, and the price; `crowded`
    where it would be more without the requests under way."""

    budget: Budget
    held: Sum
    price: float
    crowded: bool


@dataclass(frozen=True, slots=True)
class Short:
    """Why there is no grant: `needed` is more than `free`; `limit` is that of the window."""

    unit: Literal["tokens", "usd"]
    needed: int
    free: int
    limit: int


def window_start(now: float, seconds: int) -> float:
    """Start of the window that `now` is in, seconds since the epoch."""
    return float(math.floor(now / seconds) * seconds)


def decide(
    policy: KeyPolicy,
    window: Window,
    pace: PacingState,
    want: Budget,
    least: Budget | None,
    now: float,
) -> Decision | Short:
    """How much of the window a request gets: `want` if it fits, never less than `least`."""
    limits = _limits(policy)
    rest = _rest(policy, window, pace, now) if policy.fleet else None
    parts: list[int | None] = []
    crowded = False
    floor = want if least is None else least
    for unit, limit, spent, held, wanted, enough in (
        (
            "tokens",
            limits[0],
            window.spent.tokens,
            window.held.tokens,
            want.tokens,
            floor.tokens,
        ),
        (
            "usd",
            limits[1],
            window.spent.nano,
            window.held.nano,
            None if want.usd is None else _owed(want.usd),
            None if floor.usd is None else _owed(floor.usd),
        ),
    ):
        if limit is None:
            parts.append(wanted)
            continue
        free = max(0, limit - spent - held)
        needed = max(1, enough or 0) if wanted is None else min(wanted, max(1, enough or 0))
        if free < needed:
            return Short("tokens" if unit == "tokens" else "usd", needed, free, limit)
        top = free if rest is None else pacing.largest_grant(free, rest, needed)
        parts.append(top if wanted is None else min(wanted, top))
        crowded = crowded or (wanted is not None and free < wanted <= limit - spent)
    tokens, billionths = parts
    usd = want.usd
    if billionths is not None and (usd is None or billionths < _owed(usd)):
        usd = Money.from_billionths(billionths).usd
    shared = policy.fleet and limits != (None, None)
    return Decision(
        Budget(tokens, usd, want.seconds),
        Sum(tokens or 0, billionths or 0),
        pace.price if shared else 1.0,
        crowded,
    )


def charge(held: Sum, spent: Spending) -> Sum:
    """What a grant costs: what was spent, at most what it held.

    More cannot be owed: the request's ledger stops at its budget, and what a server reports beyond
    the bound of a call is no more than a claim. Dollars that are not known cost all that is held.
    """
    usd = held.nano if spent.usd is None else _owed(spent.usd)
    return Sum(_within(spent.tokens.total, held.tokens), _within(usd, held.nano))


def repriced(
    policy: KeyPolicy, window: Window, pace: PacingState, cost: Sum, took: float, now: float
) -> PacingState:
    """The pace after a request has been settled.

    Args:
        policy: of the key.
        window: the counters after the settlement.
        pace: before.
        cost: what the request has cost.
        took: seconds from grant to settlement.
        now: seconds since the epoch.
    """
    if pace.tokens == 0.0:
        pace = replace(pace, tokens=float(cost.tokens), nano=float(cost.nano))
    rest = _rest(policy, window, pace, now)
    targets = [
        # What is under way will cost about the mean, not all that it holds.
        None if limit is None else max(0.0, limit - spent - min(held, window.open * mean)) / rest
        for limit, spent, held, mean in zip(
            _limits(policy),
            (window.spent.tokens, window.spent.nano),
            (window.held.tokens, window.held.nano),
            (pace.tokens, pace.nano),
            strict=True,
        )
    ]
    costs = (float(cost.tokens), float(cost.nano))
    return pacing.update(pace, costs, (targets[0], targets[1]), max(0.0, took))


def _limits(policy: KeyPolicy) -> tuple[int | None, int | None]:
    usd = policy.window_usd
    return policy.window_tokens, None if usd is None else Money.down(usd).billionths(up=False)


def _rest(policy: KeyPolicy, window: Window, pace: PacingState, now: float) -> float:
    """Requests expected in the rest of the window."""
    end = window.start + policy.window_seconds
    guess = float(policy.expected_requests or pace.last) or None
    if guess is None:
        # Nothing is known: as if the window were just right.
        means = (pace.tokens, pace.nano)
        fits = [
            limit / mean
            for limit, mean in zip(_limits(policy), means, strict=True)
            if limit and mean
        ]
        guess = min(fits, default=None)
    since = min(max(window.since, window.start), now)
    return pacing.expected_requests(window.requests, now - since, max(0.0, end - now), guess)


def _owed(usd: float) -> int:
    return Money.up(usd).billionths(up=True)


def _within(amount: int, most: int) -> int:
    return max(0, min(amount, most)) if most else max(0, amount)
