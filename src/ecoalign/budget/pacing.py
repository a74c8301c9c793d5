"""Pacing: one shadow price per token for all requests of a window, so that easy ones pay for hard.

A window of tokens that is shared out by requests as they come is an online knapsack. Its optimum
is not an equal share for everyone: it is one price per token, the same for every request, at which
the window is just used up; a question for which a further step is worth more than that price goes
on, any other stops. Nobody knows the price beforehand, so it is learned. After each request

    price <- price * exp(eta * min(2, c / g - 1)),      g = free / n

with c what the request has cost, `free` what is left of the window and n the requests expected in
the rest of it. That is online mirror descent on the dual of the knapsack, with the entropy as the
mirror map, so that the price stays positive and moves by factors (Balseiro, Lu and Mirrokni, "The
Best of Many Worlds: Dual Mirror Descent for Online Allocation Problems", arXiv 2011.10124, a
multiplicative-weights update); the target is what is really left per request, not the average of
the whole window, which makes up for past errors (Li and Ye, "Online Linear Programming: Dual
Convergence, New Algorithms, and Regret Bounds", arXiv 1909.05499, the action-history-dependent
rule).

The price only steers. What keeps the window is the reservation of each request: `share_out`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ecoalign.budget._amounts import Budget
from ecoalign.budget._money import Money

__all__ = [
    "MAX_PRICE",
    "MIN_PRICE",
    "NOTHING",
    "STEP_SIZE",
    "Account",
    "PacingState",
    "Share",
    "Short",
    "Sum",
    "expected_requests",
    "largest_grant",
    "learned",
    "repriced",
    "share_out",
    "update",
]

STEP_SIZE = 0.1
"""eta, the step size of the mirror descent."""

MIN_PRICE = 1.0
"""Lowest factor: with plenty left a token still has its own price, lambda0. Below it more was spent
for nothing (208 questions of the embedded model's world: factor 0.5 cost 407 tokens a question for
92.5 % right, factor 1 327 for 94.4 %)."""

MAX_PRICE = 8.0
"""Highest factor; from about 2.2 on (1 / (3 lambda0)) every safe draft is taken as it is."""

_CLIP = 2.0
"""The greatest subgradient c / g - 1 that one request may count for."""

_PRIOR = 0.1
"""Weight of the expected number of requests, as a share of a window, against those counted."""

_MEMORY = 0.05
"""Weight of one request in the running means."""

_SHARE = 0.25
"""Most of what is left that one request may hold."""


@dataclass(frozen=True, slots=True)
class PacingState:
    """The dual variable of a key and its running means, kept from request to request.

    Attributes:
        price: the shadow price, as a factor on lambda0.
        tokens, nano: running mean cost of a request, in tokens and billionths of a dollar (the
            unit of the store); 0 before the first.
        seconds: running mean time from grant to settlement.
        window: start of the window that `requests` is about, seconds since the epoch.
        last: requests of the window before, scaled to a whole one; 0 if unknown.
    """

    price: float = 1.0
    tokens: float = 0.0
    nano: float = 0.0
    seconds: float = 0.0
    window: float = 0.0
    last: float = 0.0

    def to_json(self) -> str:
        """The text that `from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PacingState:
        """The state in a text; unknown names are ignored, so that old programs read new text."""
        body = json.loads(text)
        return cls(**{name: float(body[name]) for name in cls.__slots__ if name in body})


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount in both units, as stores keep it: tokens, and billionths of a dollar."""

    tokens: int = 0
    nano: int = 0

    @property
    def usd(self) -> float:
        """Dollars."""
        return Money.from_billionths(self.nano).usd

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.tokens + other.tokens, self.nano + other.nano)

    def __sub__(self, other: Sum) -> Sum:
        return Sum(self.tokens - other.tokens, self.nano - other.nano)

    def beyond(self, other: Sum) -> Sum:
        """What is more than `other`, unit by unit, >= 0."""
        return Sum(max(0, self.tokens - other.tokens), max(0, self.nano - other.nano))

    def least(self, other: Sum) -> Sum:
        """The lesser of both, unit by unit."""
        return Sum(min(self.tokens, other.tokens), min(self.nano, other.nano))


NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class Account:
    """What is shared out, and how much of it is gone.

    Attributes:
        tokens, nano: the limits, in tokens and billionths of a dollar; None where there is none.
        spent: settled.
        held: reserved by open requests.
        open: how many those are.
    """

    tokens: int | None
    nano: int | None
    spent: Sum = Sum()
    held: Sum = Sum()
    open: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What a request may spend, and what is reserved for it; `crowded` where it would be more
    without the requests under way."""

    budget: Budget
    held: Sum
    crowded: bool


@dataclass(frozen=True, slots=True)
class Short:
    """Why there is no grant: `needed` is more than `free`; `limit` is that of the account."""

    unit: Literal["tokens", "usd"]
    needed: int
    free: int
    limit: int


def share_out(
    account: Account, want: Budget, least: Budget | None, requests: float | None
) -> Share | Short:
    """How much of an account a request gets: `want` if it fits, never less than `least`.

    Args:
        account: what is shared.
        want: the most that the request wants. A unit that has a limit and is missing here gets a
            share of what is left of it.
        least: what it can do with at the least, unit by unit; `want` if None.
        requests: those still to come, this one included, >= 1; None where all that is left may go
            to one.
    """
    parts: list[int | None] = []
    crowded = False
    floor = want if least is None else least
    units: tuple[Literal["tokens", "usd"], ...] = ("tokens", "usd")
    for unit, limit, spent, held, wanted, enough in zip(
        units,
        (account.tokens, account.nano),
        (account.spent.tokens, account.spent.nano),
        (account.held.tokens, account.held.nano),
        (want.tokens, None if want.usd is None else owed(want.usd)),
        (floor.tokens, None if floor.usd is None else owed(floor.usd)),
        strict=True,
    ):
        if limit is None:
            parts.append(wanted)
            continue
        free = max(0, limit - spent - held)
        needed = max(1, enough or 0) if wanted is None else min(wanted, max(1, enough or 0))
        if free < needed:
            return Short(unit, needed, free, limit)
        top = free if requests is None else largest_grant(free, requests, needed)
        parts.append(top if wanted is None else min(wanted, top))
        crowded = crowded or (wanted is not None and free < wanted <= limit - spent)
    tokens, billionths = parts
    usd = want.usd
    if billionths is not None and (usd is None or billionths < owed(usd)):
        usd = Money.from_billionths(billionths).usd
    return Share(Budget(tokens, usd, want.seconds), Sum(tokens or 0, billionths or 0), crowded)


def repriced(
    account: Account, pace: PacingState, cost: Sum, took: float, requests: float
) -> PacingState:
    """The pace after a request has been settled.

    Args:
        account: after the settlement.
        pace: before.
        cost: what the request has cost.
        took: seconds from grant to settlement.
        requests: those still to come, >= 1.
    """
    return learned(account, pace, [(cost, took)], requests)


def learned(
    account: Account, pace: PacingState, costs: Sequence[tuple[Sum, float]], requests: float
) -> PacingState:
    """The pace after some requests have been settled.

    Args:
        account: after the settlements.
        pace: before.
        costs: what each request has cost, and seconds from its grant to its settlement.
        requests: those still to come, >= 1.
    """
    if costs and pace.tokens == 0.0:
        first = costs[0][0]
        pace = replace(pace, tokens=float(first.tokens), nano=float(first.nano))
    targets = [
        # What is under way will cost about the mean, not all that it holds.
        None
        if limit is None
        else max(0.0, limit - spent - min(held, account.open * mean)) / requests
        for limit, spent, held, mean in zip(
            (account.tokens, account.nano),
            (account.spent.tokens, account.spent.nano),
            (account.held.tokens, account.held.nano),
            (pace.tokens, pace.nano),
            strict=True,
        )
    ]
    for cost, took in costs:
        spent = (float(cost.tokens), float(cost.nano))
        pace = update(pace, spent, (targets[0], targets[1]), max(0.0, took))
    return pace


def owed(usd: float) -> int:
    """Dollars in billionths, rounded up."""
    return Money.up(usd).billionths(up=True)


def expected_requests(counted: int, elapsed: float, left: float, guess: float | None) -> float:
    """Requests expected in the rest of a window, at least 1.

    Args:
        counted: requests so far.
        elapsed: seconds so far, >= 0.
        left: seconds to come, >= 0.
        guess: requests expected in the whole window before it began; None if nothing is known.
    """
    whole = elapsed + left
    if whole <= 0:
        return 1.0
    prior = 0.0 if guess is None else _PRIOR
    rate = (counted + prior * (guess or 0.0)) / (elapsed + prior * whole) if elapsed + prior else 0
    return max(1.0, rate * left)


def largest_grant(free: int, requests: float, least: int) -> int:
    """The most of `free` that one request may hold, at least `least`."""
    return min(free, max(least, math.floor(free * max(_SHARE, 1.0 / max(1.0, requests)))))


def update(
    state: PacingState,
    costs: tuple[float, float],
    targets: tuple[float | None, float | None],
    took: float,
) -> PacingState:
    """The state after a request: one step of the dual mirror descent.

    Args:
        state: before.
        costs: what the request cost (c) in tokens and billionths of a dollar, >= 0.
        targets: what is left of the window per expected request (g), in the same units; None where
            a unit has no limit. The scarcer unit counts.
        took: seconds from grant to settlement, >= 0.
    """
    subgradients = [
        (cost / target if target > 0 else math.inf) - 1.0
        for cost, target in zip(costs, targets, strict=True)
        if target is not None
    ]
    price = state.price
    if subgradients:
        price *= math.exp(STEP_SIZE * min(_CLIP, max(subgradients)))
    return replace(
        state,
        price=min(MAX_PRICE, max(MIN_PRICE, price)),
        tokens=_mean(state.tokens, costs[0]),
        nano=_mean(state.nano, costs[1]),
        seconds=_mean(state.seconds, took),
    )


def _mean(old: float, new: float) -> float:
    return new if old == 0.0 else old + _MEMORY * (new - old)
