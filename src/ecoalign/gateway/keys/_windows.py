"""What a window still holds: pure functions of its counters. The stores keep them and lock them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ecoalign.budget import Budget, Money, Spending, pacing
from ecoalign.budget.pacing import Account, PacingState, Short, Sum
from ecoalign.gateway.keys._policy import KeyPolicy


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
    spent: Sum = field(default_factory=Sum)
    held: Sum = field(default_factory=Sum)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a grant may be: the request's budget, what is reserved for it, and the price; `crowded`
    where it would be more without the requests under way."""

    budget: Budget
    held: Sum
    price: float
    crowded: bool


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
    account = _account(policy, window)
    rest = _rest(policy, window, pace, now) if policy.fleet else None
    share = pacing.share_out(account, want, least, rest)
    if isinstance(share, Short):
        return share
    shared = policy.fleet and (account.tokens, account.nano) != (None, None)
    return Decision(share.budget, share.held, pace.price if shared else 1.0, share.crowded)


def charge(held: Sum, spent: Spending) -> Sum:
    """What a grant costs: what was spent, at most what it held.

    More cannot be owed: the request's ledger stops at its budget, and what a server reports beyond
    the bound of a call is no more than a claim. Dollars that are not known cost all that is held.
    """
    usd = held.nano if spent.usd is None else pacing.owed(spent.usd)
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
        # The mean that the guess at what is still to come is made of.
        pace = replace(pace, tokens=float(cost.tokens), nano=float(cost.nano))
    rest = _rest(policy, window, pace, now)
    return pacing.repriced(_account(policy, window), pace, cost, took, rest)


def _account(policy: KeyPolicy, window: Window) -> Account:
    return Account(*_limits(policy), window.spent, window.held, window.open)


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


def _within(amount: int, most: int) -> int:
    return max(0, min(amount, most)) if most else max(0, amount)
