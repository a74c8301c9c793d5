"""Upper bounds on the best path, by relaxing what makes extraction hard.

A path with S[P] <= hi beats the value x only if its *excess* is positive:

    ratio     hi*U - x*C > 0        no-cost   hi*U - x > 0        surplus   hi*U - lambda*C - x > 0

The excess is a sum over thoughts, so its maximum is one longest path in a directed acyclic graph
(this is Dinkelbach's step for a ratio). The budget and, under `mean`, the least average are
moved into it with multipliers (Lagrange), which keeps it an upper bound and makes it tight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.graph.economics import Economy, SafetyAggregator
from ecoalign.graph.pareto._label_setting import PruningBound

if TYPE_CHECKING:
    from ecoalign.graph.pareto._label_setting import Label, Objective, PathProblem

__all__ = ["Band", "Relaxation", "Relaxed"]

_TOLERANCE = 1e-10

_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Band:
    """The paths whose safety S lies in [low, high]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The relaxed problem solved for one band.

    Attributes:
        excess: upper bound of the excess over all paths of the band within the budget.
        cut: the same bound for every label.
        path: net indexes of the path that attains it, the root excluded; it may break the budget.
        slack: how much rounding may have moved `excess`; closer to 0 than that is a tie.
    """

    excess: float
    cut: PruningBound
    path: list[int]
    slack: float


class Relaxation:
    """Bounds for one net, budget and objective.

    Attributes:
        solved: how many longest paths were looked for so far.
    """

    def __init__(self, net: PathProblem, budget: float, objective: Objective) -> None:
        self.net = net
        self.budget = budget
        self.objective = objective
        self.solved = 0
        self._most_utility = max(self._longest(net.utility))
        self._most_cost = min(budget, max(self._longest(net.cost)))

    def relax(self, band: Band, value: float) -> list[Relaxed]:
        """Relaxed solutions for the paths of a band that would beat `value`, the tightest last.

        The list is empty if the band has no path at all. All paths in it are worth trying.
        """
        found = [self._solve(band, value, 0.0, 0.0)]
        if found[0].excess == -math.inf:
            return []
        over = 0.0
        if self._cost(found[0].path) > self.budget:
            over = self._tighten(band, value, found, money=True, fixed=0.0)
        if self._mean and self._lack(found[-1].path, band.low) > 0.0:
            self._tighten(band, value, found, money=False, fixed=over)
        found.sort(key=lambda r: -r.excess)
        return found

    def label(self, path: list[int]) -> Label:
        """The label of a path given by its net indexes, the root excluded."""
        net, cost, gain, steps = self.net, 0.0, 0.0, 0
        carried = 0.0 if self._mean else -1.0
        for v in path:
            cost, gain, steps = cost + net.cost[v], gain - net.utility[v], steps + 1
            carried = self.objective.carry(carried, net.safety[v])
        ids = (net.ids[0], *(net.ids[v] for v in path))
        return (cost, gain, carried, steps, ids)

    def bound(self, band: Band, value: float, excess: float) -> float:
        """The value that no path of the band exceeds, given the excess over `value`."""
        if self.objective.economy is not Economy.RATIO:
            return value + max(0.0, excess)
        least = self.net.rest[0]
        simple = value + max(0.0, excess) / least if least > 0.0 else math.inf
        # Dinkelbach without multipliers: the best ratio of the relaxed paths, budget or not.
        ratio = value
        for _ in range(50):
            step = self._solve(band, ratio, 0.0, 0.0)
            if step.excess <= step.slack:
                return min(simple, ratio + step.slack / least if least > 0.0 else math.inf)
            cost, gain = self.label(step.path)[:2]
            if cost == 0.0:
                return simple
            ratio = max(band.high * -gain / cost, math.nextafter(ratio, math.inf))
        return simple

    @property
    def _mean(self) -> bool:
        return self.objective.aggregator is SafetyAggregator.MEAN

    def _cost(self, path: list[int]) -> float:
        return sum(self.net.cost[v] for v in path)

    def _lack(self, path: list[int], low: float) -> float:
        return sum(low - self.net.safety[v] for v in path)

    def _tighten(
        self, band: Band, value: float, found: list[Relaxed], *, money: bool, fixed: float
    ) -> float:
        """Search the multiplier of one constraint; appends to `found`, returns the best."""

        def solve(multiplier: float) -> tuple[Relaxed, bool]:
            pair = (multiplier, 0.0) if money else (fixed, multiplier)
            solved = self._solve(band, value, *pair)
            found.append(solved)
            if money:
                return solved, self._cost(solved.path) > self.budget
            return solved, self._lack(solved.path, band.low) > 0.0

        unit = self._most_cost if money else float(len(self.net.ids))
        low, high = 0.0, max(band.high * self._most_utility, 1e-12) / max(unit, 1e-12)
        best, least = 0.0, found[-1].excess
        growing = True
        for _ in range(_ROUNDS):
            middle = high if growing else (low + high) / 2.0
            solved, broken = solve(middle)
            if solved.excess < least:
                best, least = middle, solved.excess
            if least < -solved.slack:
                break
            if broken:
                low, high = middle, high * 4.0 if growing else high
            else:
                high, growing = middle, False
        return best

    def _solve(self, band: Band, value: float, mu: float, nu: float) -> Relaxed:
        self.solved += 1
        economy = self.objective.economy
        price = value if economy is Economy.RATIO else 0.0
        if economy is Economy.SURPLUS:
            price = self.objective.price
        constant = 0.0 if economy is Economy.RATIO else -value
        if mu:
            price, constant = price + mu, constant + mu * self.budget
        weakest = self.objective.aggregator is SafetyAggregator.MIN
        last = self.objective.aggregator is SafetyAggregator.LAST
        net = self.net
        weight = [
            -math.inf
            if weakest and s < band.low
            else band.high * u - price * c + nu * (s - band.low)
            for s, u, c in zip(net.safety, net.utility, net.cost, strict=True)
        ]
        ends = [
            end and not (last and not band.low <= s <= band.high)
            for end, s in zip(net.is_end, net.safety, strict=True)
        ]
        ahead, following = self._ahead(weight, ends)
        scale = self._most_utility + abs(price) * self._most_cost + abs(constant)
        slack = _TOLERANCE * (scale + abs(nu) * len(net.ids))
        path = []
        v = following[0]
        while v > 0:
            path.append(v)
            v = following[v]
        lift = constant + slack
        cut = PruningBound(
            band.high,
            price,
            nu,
            band.low,
            [-math.inf if w == -math.inf else h + lift for w, h in zip(weight, ahead, strict=True)],
            ends,
        )
        return Relaxed(ahead[0] + constant, cut, path, slack)

    def _ahead(self, weight: list[float], ends: list[bool]) -> tuple[list[float], list[int]]:
        """The greatest weight after each thought on the way to an end, and the next thought."""
        parents = self.net.parents
        best = [0.0 if end else -math.inf for end in ends]
        following = [0] * len(weight)
        for v in range(len(weight) - 1, 0, -1):
            through = best[v] + weight[v]
            if through == -math.inf:
                continue
            for p in parents[v]:
                if through > best[p]:
                    best[p], following[p] = through, v
        return best, following

    def _longest(self, weight: list[float]) -> list[float]:
        total = [0.0] * len(weight)
        for v, parents in enumerate(self.net.parents):
            if parents:
                total[v] = weight[v] + max(total[p] for p in parents)
        return total
