"""The economy of a search, one equation a function (arXiv 2511.11301, section 1 of the method).

Everything here is pure: numbers in, a number out. Units: safety s in [-1, 1], utility u >= 0
(no unit), cost c >= 0 in tokens (or any one unit used throughout), values in units of utility.
Sums run left to right in plain floating point, so that equal paths give equal numbers on every
version of Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

__all__ = [
    "Economy",
    "SafetyAggregator",
    "UtilityAggregator",
    "candidate_value",
    "gamma",
    "gamma_without_cost",
    "horizon_actions",
    "horizon_tokens",
    "npv",
    "path_cost",
    "path_safety",
    "path_utility",
    "prospect_value",
    "risk_budget",
    "rollout_value",
    "shadow_price",
    "surplus",
    "worth",
]


class SafetyAggregator(StrEnum):
    """How the safety of a path follows from that of its thoughts."""

    MIN = "min"
    """The weakest link: the paper's rule and ours."""
    LAST = "last"
    """The last thought alone: an ablation."""
    MEAN = "mean"
    """The average: an ablation."""


class UtilityAggregator(StrEnum):
    """How the utility of a path follows from that of its thoughts."""

    SUM = "sum"
    """Every thought earns its own: the paper's rule."""
    LAST = "last"
    """Only the answer earns, and what leads to it is a means: ours."""


class Economy(StrEnum):
    """What an action, and a path, is worth."""

    RATIO = "ratio"
    """S*U/C, the paper's."""
    SURPLUS = "surplus"
    """S*U - lambda*C with a shadow price lambda per token."""
    NO_COST = "no-cost"
    """S*U, the ablation without a cost term."""


def path_utility(
    utilities: Iterable[float], aggregator: UtilityAggregator = UtilityAggregator.SUM
) -> float:
    """U[P] = sum of u_t over t = 1..T (the root is not in it), or the last. 0 for an empty path.

    Raises:
        ValueError: a utility is negative or not finite, or the aggregator is unknown.
    """
    kind = UtilityAggregator(aggregator)
    total = 0.0
    for utility in utilities:
        own = _amount("utility", utility)
        total = total + own if kind is UtilityAggregator.SUM else own
    return total


def path_cost(costs: Iterable[float]) -> float:
    """C[P] = sum of c_t over t = 1..T (the root is not in it). 0 for an empty path.

    Raises:
        ValueError: a cost is negative or not finite.
    """
    total = 0.0
    for cost in costs:
        total += _amount("cost", cost)
    return total


def path_safety(
    safeties: Iterable[float], aggregator: SafetyAggregator = SafetyAggregator.MIN
) -> float:
    """S[P] = min of s_t over t = 1..T, or the last or the average of them.

    An empty path has done nothing unsafe: its safety is 1.

    Raises:
        ValueError: a safety is outside [-1, 1], or the aggregator is unknown.
    """
    kind = SafetyAggregator(aggregator)
    values = [_safety(safety) for safety in safeties]
    if not values:
        return 1.0
    if kind is SafetyAggregator.MIN:
        return min(values)
    if kind is SafetyAggregator.LAST:
        return values[-1]
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def gamma(safety: float, utility: float, cost: float) -> float:
    """Gamma(P) = S[P] * U[P] / C[P]; of one action, Gamma_local(a) = s_new * u_new / c_new.

    At C = 0 it is the limit from above: plus infinity for S*U > 0, minus infinity for S*U < 0, and
    0 for S*U = 0, so that for S*U > 0 a cheaper path is never worth less.

    Raises:
        ValueError: a number is out of its range.
    """
    product = gamma_without_cost(safety, utility)
    if _amount("cost", cost) > 0.0:
        return product / cost
    return math.copysign(math.inf, product) if product else 0.0


def gamma_without_cost(safety: float, utility: float) -> float:
    """Gamma'(P) = S[P] * U[P], the ablation without the cost term.

    Raises:
        ValueError: a number is out of its range.
    """
    return _safety(safety) * _amount("utility", utility)


def surplus(safety: float, utility: float, cost: float, price: float) -> float:
    """s*u - lambda*c: what is left of the safe utility after its tokens are paid at `price`.

    Raises:
        ValueError: a number is out of its range, or `price` (utility per token) is negative.
    """
    paid = _amount("price", price) * _amount("cost", cost)
    return _safety(safety) * _amount("utility", utility) - paid


def worth(
    economy: Economy, safety: float, utility: float, cost: float, price: float = 0.0
) -> float:
    """The value of one action or one path in the given economy; `price` counts in `SURPLUS` only.

    Raises:
        ValueError: a number is out of its range, or the economy is unknown.
    """
    if economy is Economy.SURPLUS:
        return surplus(safety, utility, cost, price)
    if economy is Economy.RATIO:
        return gamma(safety, utility, cost)
    if economy is not Economy.NO_COST:  # a name, or none that is known
        return worth(Economy(economy), safety, utility, cost, price)
    _amount("cost", cost)
    return gamma_without_cost(safety, utility)


def npv(returns: Sequence[float], delta: float) -> float:
    """Net present value: sum over i = 1..n of delta^(i-1) * r_i. 0 for no returns.

    Raises:
        ValueError: delta is outside (0, 1], a return is NaN, or infinities cancel.
    """
    _discount(delta)
    value = 0.0
    for step in reversed(returns):
        value = step + delta * value
    if math.isnan(value):
        raise ValueError("The returns have no net present value: NaN, or opposite infinities.")
    return value


def rollout_value(
    returns: Sequence[float], safeties: Sequence[float], delta: float, horizon: int
) -> float:
    """V(a) = max over safe rollouts R, |R| <= horizon, of sum of delta^(i-1) * Gamma_local(a'_i).

    The rollouts are the prefixes of one simulated sequence, the empty one included: a step with
    s < 0 ends the safe prefix, and an agent may stop early, so the value is never negative. It is 0
    for a horizon of 0 and where the first step is unsafe.

    Args:
        returns: the return of each simulated step, nearest first.
        safeties: the safety of each step in [-1, 1], as many as `returns`.
        delta: the time value of compute, in (0, 1].
        horizon: how many steps count, >= 0.

    Raises:
        ValueError: the lengths differ, a return is NaN, or a number is out of its range.
    """
    _discount(delta)
    if len(returns) != len(safeties):
        raise ValueError(f"{len(returns)} returns but {len(safeties)} safeties; give one each.")
    if horizon < 0:
        raise ValueError(f"horizon must be >= 0, not {horizon}.")
    safe = 0
    while safe < min(horizon, len(returns)) and _safety(safeties[safe]) >= 0.0:
        safe += 1
    value = 0.0
    # Backwards, the best prefix is: take this step and the best of what follows, or stop here.
    for step in reversed(returns[:safe]):
        if math.isnan(step):
            raise ValueError("A return is NaN.")
        value = max(0.0, step + delta * value)
    return value


def prospect_value(
    safeties: Sequence[float],
    utilities: Sequence[float],
    costs: Sequence[float],
    delta: float,
    horizon: int,
    economy: Economy,
    price: float = 0.0,
) -> float:
    """V(a) where only the answer earns: the best place to stop of what `a` would begin.

        V(a) = max over n = 1..1+horizon of  delta^(n-1) * worth(S_n, u_n, C_n)

    S_n is the least safety and C_n the whole cost of the first n steps, the action itself among
    them, and u_n the utility of the n-th: what a path is worth that ends there. Unlike a sum of
    the returns it pays nothing for a detour to an answer that could be had at once. Steps count up
    to the first with s < 0. With a horizon of 0 only the action itself counts.

    Args:
        safeties: s of the action and of each step after it, in [-1, 1].
        utilities: their u >= 0, as many.
        costs: their c >= 0, as many.
        delta: the time value of compute, in (0, 1].
        horizon: how many steps beyond the action count, >= 0.
        economy: see `worth`.
        price: see `worth`.

    Returns:
        The value; minus infinity if the action itself has s < 0.

    Raises:
        ValueError: the lengths differ, there is no step, or a number is out of its range.
    """
    _discount(delta)
    if not len(safeties) == len(utilities) == len(costs) > 0:
        raise ValueError("Give one safety, utility and cost for each step, and at least one step.")
    if horizon < 0:
        raise ValueError(f"horizon must be >= 0, not {horizon}.")
    best, least, total, discount = -math.inf, 1.0, 0.0, 1.0
    for i in range(min(len(safeties), 1 + horizon)):
        safety = _safety(safeties[i])
        total += _amount("cost", costs[i])
        if safety < least:
            least = safety
            if least < 0.0:
                break
        earned = discount * worth(economy, least, utilities[i], total, price)
        best = max(best, earned)
        discount *= delta
    return best


def candidate_value(local: float, rollout: float, delta: float) -> float:
    """Gamma_local(a) + delta * V(a): the action's own return and the discounted rest.

    The paper defines V from the state that `a` leads to; this is our reading of how it ranks the
    actions themselves. With a horizon of 0, V = 0 and the choice is myopic.

    Raises:
        ValueError: delta is outside (0, 1], or the sum is not a number.
    """
    return npv((local, rollout), delta)


def horizon_tokens(k: float, budget: float, spent: float, cap: int) -> int:
    """|R|_t = floor(k * (B - C_t)), the paper's horizon in steps, at most `cap` and at least 0.

    Args:
        k: the look-ahead factor, steps per unit of budget, >= 0 (0.05 in the paper).
        budget: B, >= 0; may be infinite.
        spent: C_t, what is spent so far, >= 0.
        cap: the longest horizon, >= 0.

    Raises:
        ValueError: a number is out of its range.
    """
    _amount("spent", spent)
    return _steps(k, max(0.0, _limit("budget", budget) - spent), cap)


def horizon_actions(remaining: float, mean_cost: float, cap: int, k: float = 1.0) -> int:
    """floor(k * remaining / mean cost of an action): the horizon in the actions still affordable.

    Unlike `horizon_tokens` it carries over between models and image sizes. Where actions have cost
    nothing so far (`mean_cost` of 0) the horizon is `cap`, unless nothing remains.

    Raises:
        ValueError: a number is out of its range.
    """
    left = _limit("remaining", remaining)
    if _amount("mean_cost", mean_cost) > 0.0:
        return _steps(k, left / mean_cost, cap)
    return _steps(k, math.inf if left > 0.0 else 0.0, cap)


def shadow_price(base: float, remaining: float, budget: float, floor: float = 0.25) -> float:
    """lambda = lambda0 / (floor + (1 - floor) * remaining / B): the price of a token now.

    It is `base` while the whole budget is left, rises hyperbolically as the budget shrinks (half
    of a budget makes each token about twice as scarce) and ends at base/floor with nothing left:
    finite, four times the base by default. An infinite budget never gets scarce.

    Args:
        base: lambda0, utility per token, >= 0.
        remaining: what is left; beyond [0, budget] it counts as the nearer end.
        budget: B, > 0; may be infinite.
        floor: in (0, 1]; 1 keeps the price constant.

    Raises:
        ValueError: a number is out of its range.
    """
    _amount("base", base)
    if not 0.0 < floor <= 1.0:
        raise ValueError(f"floor must be in (0, 1], not {floor}.")
    if not budget > 0.0:
        raise ValueError(f"budget must be > 0, not {budget}.")
    if math.isnan(remaining):
        raise ValueError("remaining must be a number, not NaN.")
    share = 1.0 if math.isinf(budget) else min(1.0, max(0.0, remaining / budget))
    return base / (floor + (1.0 - floor) * share)


def risk_budget(budget: float, safety: float, floor: float = 0.25) -> float:
    """B * (floor + (1 - floor) * (s + 1) / 2): the higher the risk, the tighter the budget.

    Args:
        budget: the most that may be spent, >= 0.
        safety: the root's s in [-1, 1]; 1 is harmless and keeps the whole budget.
        floor: the share that is left at s = -1, in [0, 1].

    Raises:
        ValueError: a number is out of its range.
    """
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor must be in [0, 1], not {floor}.")
    share = floor + (1.0 - floor) * (_safety(safety) + 1.0) / 2.0
    limit = _limit("budget", budget)
    return limit * min(1.0, share) if share > 0.0 else 0.0


def _steps(k: float, amount: float, cap: int) -> int:
    _amount("k", k)
    if cap < 0:
        raise ValueError(f"cap must be >= 0, not {cap}.")
    if k == 0.0 or amount == 0.0:
        return 0
    steps = k * amount
    return cap if steps >= cap else math.floor(steps)


def _safety(value: float) -> float:
    if -1.0 <= value <= 1.0:
        return value
    raise ValueError(f"safety must be in [-1, 1], not {value}.")


def _amount(name: str, value: float) -> float:
    if 0.0 <= value < math.inf:
        return value
    raise ValueError(f"{name} must be finite and >= 0, not {value}.")


def _limit(name: str, value: float) -> float:
    if value >= 0.0:
        return value
    raise ValueError(f"{name} must be >= 0, not {value}.")


def _discount(delta: float) -> None:
    if not 0.0 < delta <= 1.0:
        raise ValueError(f"delta must be in (0, 1], not {delta}.")
