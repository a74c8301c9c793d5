"""The Valuator: the net present value of each open action under the terms of the moment, and which
of them are executed next. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ecoalign._record import dataclass
from ecoalign.budget import Amount, Ledger
from ecoalign.graph import ActionKind, Forecast, PendingAction, ValuedAction, economics
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.settings import Settings

GOING_ON = 3
"""Actions that going on takes at least: a proposal, what is proposed, and an answer from it."""

_ENDING = (ActionKind.ANSWER, ActionKind.REFUSE)


@dataclass(frozen=True, slots=True)
class Terms:
    """What valuation depends on besides the candidate.

    Attributes:
        horizon: |R|_t, how many steps beyond the action count.
        price: lambda, utility per token. The economy `surplus` subtracts it in V; in all of them,
            where the search may be satisfied, it says what is not worth an action any more.
        headroom: how much of the utility of an answer is still to be had, in [0, 1]: what a
            scored answer already gives cannot be gained again.
        economy, utility, safety, delta, threshold: from the settings; what falls below the
            threshold will be pruned.
    """

    horizon: int
    price: float
    headroom: float
    economy: Economy
    utility: UtilityAggregator
    delta: float
    threshold: float = 0.0
    safety: SafetyAggregator = SafetyAggregator.MIN


@dataclass(frozen=True, slots=True)
class Prices:
    """What a step costs, in tokens.

    Attributes:
        by_kind: an action of a kind, where one was executed.
        later: each step after an action.
    """

    by_kind: Mapping[ActionKind, float]
    later: float


SLACK = 0.1
"""How much lower than now prices are in a bound, as a share: means of what was paid move both ways,
and only where one has fallen further all bounds are worked out anew."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Terms and prices under which V of every action bounds what it is while they hold: it never
    falls with the horizon and the headroom, and never rises with a price. An action of a kind that
    was never executed is taken to cost nothing."""

    terms: Terms
    prices: Prices

    @classmethod
    def over(cls, terms: Terms, prices: Prices) -> Ceiling:
        """One with some slack."""
        share = 1.0 - SLACK
        by_kind = {kind: share * price for kind, price in prices.by_kind.items()}
        return cls(replace(terms, price=share * terms.price), Prices(by_kind, share * prices.later))

    def holds(self, terms: Terms, prices: Prices) -> bool:
        """Whether no action is worth more under these, and the ceiling is not far above them."""
        least = self.prices.by_kind
        return (
            terms.horizon <= self.terms.horizon
            and terms.headroom <= self.terms.headroom
            and _near(terms.price, self.terms.price)
            and _near(prices.later, self.prices.later)
            and prices.by_kind.keys() == least.keys()
            and all(_near(price, least[kind]) for kind, price in prices.by_kind.items())
        )


def _near(price: float, least: float) -> bool:
    return least <= price <= 2.0 * least


def share_left(remaining: Amount, limit: Amount) -> float:
    """The scarcest unit's remaining share of its limit, in [0, 1]."""
    share = 1.0
    for left, whole in (
        (remaining.tokens, limit.tokens),
        (remaining.usd, limit.usd),
        (remaining.seconds, limit.seconds),
    ):
        if left is not None and whole:
            share = min(share, max(0.0, left / whole))
    return share


def terms(
    settings: Settings,
    ledger: Ledger,
    remaining: Amount,
    means: tuple[float, float | None, float],
    headroom: float,
) -> Terms:
    """The terms of a step.

    Args:
        settings: economy, horizon and prices.
        ledger: its limit and its budget.
        remaining: what is left of each unit.
        means: the mean cost of an action in tokens, dollars (None if not known) and seconds.
        headroom: see `Terms`.
    """
    base = settings.lambda0 / means[0] if means[0] > 0 else 0.0
    return Terms(
        _horizon(settings, ledger, remaining, means),
        economics.shadow_price(base, share_left(remaining, ledger.limit), 1.0),
        headroom,
        Economy(settings.economy),
        UtilityAggregator(settings.utility_aggregator),
        settings.delta,
        settings.safety_threshold,
        SafetyAggregator(settings.aggregator),
    )


def _horizon(
    settings: Settings, ledger: Ledger, remaining: Amount, means: Sequence[float | None]
) -> int:
    # Of the budget as the risk of the request has tightened it.
    cap, tokens = settings.horizon_cap, ledger.limit.tokens
    if settings.horizon_unit == "fixed":
        return settings.fixed_horizon
    if settings.horizon_unit == "tokens" and tokens is not None:
        spent = ledger.spent_tokens
        return economics.horizon_tokens(settings.look_ahead, tokens, spent, cap)
    pairs = zip((remaining.tokens, remaining.usd, remaining.seconds), means, strict=True)
    horizons = [
        economics.horizon_actions(left, mean, cap, settings.look_ahead)
        for left, mean in pairs
        if left is not None and mean is not None
    ]
    return min(horizons) if horizons else cap


def value(forecast: Sequence[Forecast], floor: float, terms: Terms) -> float:
    """V(a) of an action, or minus infinity if it is forecast to be unsafe.

    Where every thought earns (the paper), Gamma_local(a) + delta * V of the best safe rollout;
    where only the answer does, `economics.prospect_value`.

    Args:
        forecast: the action itself, then the steps that would follow; costs in tokens.
        floor: the safety of the path so far: by the weakest link, no step is safer than what it
            stands on.
        terms: see `Terms`.
    """
    if terms.safety is not SafetyAggregator.MIN:
        floor = 1.0
    safeties: list[float] = []
    gains: list[float] = []
    costs: list[float] = []
    for step in forecast:
        safety = step.safety
        if not safety >= terms.threshold:
            break
        safeties.append(safety if safety < floor else floor)
        gains.append(step.utility * terms.headroom)
        costs.append(step.cost)
    if not safeties:
        return -math.inf
    price = terms.price if terms.economy is Economy.SURPLUS else 0.0
    if terms.utility is UtilityAggregator.LAST:
        return economics.prospect_value(
            safeties, gains, costs, terms.delta, terms.horizon, terms.economy, price
        )
    own, *returns = (
        economics.worth(terms.economy, s, u, c, price)
        for s, u, c in zip(safeties, gains, costs, strict=True)
    )
    rollout = economics.rollout_value(returns, safeties[1:], terms.delta, terms.horizon)
    return economics.candidate_value(own, rollout, terms.delta)


def ranked(
    best_first: Iterable[tuple[PendingAction, float]],
    affordable: Callable[[Sequence[PendingAction]], bool],
) -> Iterator[ValuedAction]:
    """Actions with their V, in the order given; what is worth nothing is not looked up.

    Args:
        best_first: actions and V, the best first.
        affordable: whether the worst case of some actions together fits what is left.
    """
    for action, worth in best_first:
        affords = worth > 0 and affordable([action])
        yield ValuedAction(action.id, action.parent, action.candidate.kind, worth, affords)


def select(
    ranked: Iterable[ValuedAction],
    action: Callable[[int], PendingAction],
    affordable: Callable[[Sequence[PendingAction]], bool],
    most: int,
    margin: float,
) -> tuple[list[PendingAction], list[ValuedAction]]:
    """The best actions that the budget allows, executed together.

    Alternatives that fall short of the best one by more than the margin wait for the next step,
    and so does everything beside an answer or a refusal that is the best thing to do: with it the
    rest may no longer be worth its price.

    Args:
        ranked: the open actions, the best first, of equals the older.
        action: by its id.
        affordable: see `ranked`.
        most: how many actions, >= 1.
        margin: least value as a share of the best one's, in [0, 1].

    Returns:
        The actions, and all that were considered: the first ones of `ranked`.
    """
    chosen: list[PendingAction] = []
    considered: list[ValuedAction] = []
    best = 0.0
    for one in ranked:
        considered.append(one)
        if one.value <= 0 or (chosen and one.value < margin * best):
            break
        ends = one.kind in _ENDING and margin > 0
        if not one.affordable or (chosen and ends):
            continue
        wanted = [*chosen, action(one.action)]
        if not chosen or affordable(wanted):
            chosen = wanted
            best = max(best, one.value)
        if len(chosen) == most or (ends and len(chosen) == 1):
            break
    return chosen, considered
