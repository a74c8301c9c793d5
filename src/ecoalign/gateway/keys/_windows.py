"""What a window still holds: pure functions of its counters. The stores keep them and lock them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ecoalign.budget import Budget, Money, Spending, pacing
from ecoalign.budget.pacing import NOTHING, Account, PacingState, Short, Sum
from ecoalign.gateway.keys._policy import KeyPolicy

MOST_COST = Sum(10**15, 10**18)
"""The most that one grant can be charged with, whatever a server reports."""


@dataclass(frozen=True, slots=True)
class Window:
    """The counters of one window of a key.

    Attributes:
        start: seconds since the epoch.
        since: when the key could first use it: `start`, or later for a new key.
        requests, open: grants made, and those not settled.
        spent: settled.
        held: reserved by open grants, and leased ahead by processes.
        seconds: its length; None is the policy's own.
    """

    start: float
    since: float
    requests: int = 0
    open: int = 0
    spent: Sum = field(default_factory=Sum)
    held: Sum = field(default_factory=Sum)
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a grant may be: the request's budget, what is reserved for it, and the price; `crowded`
    where it would be more without the requests under way."""

    budget: Budget
    held: Sum
    price: float
    crowded: bool


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
    """What a grant costs: what was spent, as it was reported, also above what it held.

    A request's ledger stops at its budget, so only a server that reports more than the bound of a
    call leads above it; then the window shows what was reported. Dollars that are not known cost
    all that is held. No grant costs more than `MOST_COST`.
    """
    usd = spent.usd
    if usd is None:
        nano = held.nano
    elif math.isnan(usd) or usd * 1e9 >= MOST_COST.nano:
        nano = MOST_COST.nano
    else:
        nano = pacing.owed(max(0.0, usd))
    return Sum(max(0, min(spent.tokens.total, MOST_COST.tokens)), nano)


def repriced(
    policy: KeyPolicy,
    window: Window,
    pace: PacingState,
    costs: Sequence[tuple[Sum, float]],
    now: float,
) -> PacingState:
    """The pace after requests have been settled.

    Args:
        policy: of the key.
        window: the counters after the settlements.
        pace: before.
        costs: what each request has cost, and seconds from its grant to its settlement.
        now: seconds since the epoch.
    """
    if not costs:
        return pace
    if pace.tokens == 0.0:
        # The mean that the guess at what is still to come is made of.
        first = costs[0][0]
        pace = replace(pace, tokens=float(first.tokens), nano=float(first.nano))
    rest = _rest(policy, window, pace, now)
    return pacing.learned(_account(policy, window), pace, costs, rest)


def _account(policy: KeyPolicy, window: Window) -> Account:
    return Account(*limits(policy), window.spent, window.held, window.open)


def limits(policy: KeyPolicy) -> tuple[int | None, int | None]:
    """Tokens and billionths of a dollar of a window; None where there is no limit."""
    usd = policy.window_usd
    return policy.window_tokens, None if usd is None else Money.down(usd).billionths(up=False)


def _rest(policy: KeyPolicy, window: Window, pace: PacingState, now: float) -> float:
    """Requests expected in the rest of the window."""
    end = window.start + (window.seconds or policy.window_seconds)
    guess = float(policy.expected_requests or pace.last) or None
    if guess is None:
        # Nothing is known: as if the window were just right.
        means = (pace.tokens, pace.nano)
        fits = [
            limit / mean
            for limit, mean in zip(limits(policy), means, strict=True)
            if limit and mean
        ]
        guess = min(fits, default=None)
    since = min(max(window.since, window.start), now)
    return pacing.expected_requests(window.requests, now - since, max(0.0, end - now), guess)


_ALL_LEASES = 32
"""All processes together lease no more than this part of a window's limit."""

_ONE_LEASE = 64
"""And one of them no more than this part."""

_SCARCE = 8
"""With less than this part of the limit left, nothing is leased: every grant is exact."""

_WORTH = 4
"""A lease holds at least so many of the largest grants, or it is none."""


def scarce(policy: KeyPolicy, window: Window) -> bool:
    """Whether so little of a window is left that nothing of it may be leased ahead."""
    return any(
        limit is not None and limit - spent - held < limit // _SCARCE
        for limit, spent, held in zip(
            limits(policy),
            (window.spent.tokens, window.spent.nano),
            (window.held.tokens, window.held.nano),
            strict=True,
        )
    )


def lease_size(
    policy: KeyPolicy, window: Window, others: Sum, free: Sum, wish: Sum, largest: Sum
) -> Sum:
    """How much more a process may lease ahead; nothing where it is not worth it.

    Args:
        policy: of the key.
        window: its counters.
        others: what other processes have leased of it.
        free: what this one has leased and not granted.
        wish: what it would like to have of that.
        largest: the most that one grant has held lately.
    """
    more = []
    for limit, spent, held, lent, left, wanted, one in zip(
        limits(policy),
        (window.spent.tokens, window.spent.nano),
        (window.held.tokens, window.held.nano),
        (others.tokens, others.nano),
        (free.tokens, free.nano),
        (wish.tokens, wish.nano),
        (largest.tokens, largest.nano),
        strict=True,
    ):
        most = MOST_COST.tokens
        if limit is not None:
            most = min(
                limit // _ONE_LEASE - left,
                limit // _ALL_LEASES - lent - left,
                limit - spent - held - limit // _SCARCE,
            )
        part = max(0, min(wanted - left, most))
        if left + part < _WORTH * one:
            return NOTHING
        more.append(part)
    return Sum(*more)
