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
from typing import Literal

from ecoalign.graph.economics import Economy, SafetyAggregator
from ecoalign.graph.pareto._label_setting import Label, Objective, PathProblem, PruningBound

Constraint = Literal["budget", "safety"]

_TOLERANCE = 1e-10

_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Band:
    """The paths whose safety S lies in [low, high]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RelaxedSolution:
    """The relaxed problem solved for one band.

    Attributes:
        excess: upper bound of the excess over all paths of the band within the budget.
        pruning: the same bound for every label.
        path: indexes in the problem of the path that attains it, the root excluded; it may break
            the budget.
        slack: how much rounding may have moved `excess`; closer to 0 than that is a tie.
    """

    excess: float
    pruning: PruningBound
    path: list[int]
    slack: float


class Relaxation:
    """Bounds for one problem, budget and objective.

    Attributes:
        solved: how many longest paths were looked for so far.
    """

    def __init__(self, problem: PathProblem, budget: float, objective: Objective) -> None:
        self.problem = problem
        self.budget = budget
        self.objective = objective
        self.solved = 0
        self._most_utility = max(self._longest(problem.utility))
        self._most_cost = min(budget, max(self._longest(problem.cost)))

    def relax(self, band: Band, value: float) -> list[RelaxedSolution]:
        """Relaxed solutions for the paths of a band that would beat `value`, the tightest last.

        The list is empty if the band has no path at all. All paths in it are worth trying.
        """
        found = [self._solve(band, value, 0.0, 0.0)]
        if found[0].excess == -math.inf:
            return []
        over = 0.0
        if self._cost(found[0].path) > self.budget:
            over = self._tighten(band, value, found, constraint="budget", fixed=0.0)
        if self._mean and self._lack(found[-1].path, band.low) > 0.0:
            self._tighten(band, value, found, constraint="safety", fixed=over)
        found.sort(key=lambda r: -r.excess)
        return found

    def label(self, path: list[int]) -> Label:
        """The label of a path given by its indexes in the problem, the root excluded."""
        problem, cost, gain, steps = self.problem, 0.0, 0.0, 0
        carried = 0.0 if self._mean else -1.0
        for v in path:
            cost, gain, steps = cost + problem.cost[v], gain - problem.utility[v], steps + 1
            carried = self.objective.carry(carried, problem.safety[v])
        ids = (problem.ids[0], *(problem.ids[v] for v in path))
        return (cost, gain, carried, steps, ids)

    def bound(self, band: Band, value: float, excess: float) -> float:
        """The value that no path of the band exceeds, given the excess over `value`."""
        if self.objective.economy is not Economy.RATIO:
            return value + max(0.0, excess)
        least = self.problem.cost_to_go[0]
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
        return sum(self.problem.cost[v] for v in path)

    def _lack(self, path: list[int], low: float) -> float:
        return sum(low - self.problem.safety[v] for v in path)

    def _tighten(
        self,
        band: Band,
        value: float,
        found: list[RelaxedSolution],
        *,
        constraint: Constraint,
        fixed: float,
    ) -> float:
        """Search the multiplier of one constraint; appends to `found`, returns the best.

        Args:
            fixed: the multiplier of the budget, while that of the safety is searched.
        """
        budget = constraint == "budget"

        def solve(multiplier: float) -> tuple[RelaxedSolution, bool]:
            pair = (multiplier, 0.0) if budget else (fixed, multiplier)
            solved = self._solve(band, value, *pair)
            found.append(solved)
            if budget:
                return solved, self._cost(solved.path) > self.budget
            return solved, self._lack(solved.path, band.low) > 0.0

        unit = self._most_cost if budget else float(len(self.problem.ids))
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

    def _solve(self, band: Band, value: float, mu: float, nu: float) -> RelaxedSolution:
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
        problem = self.problem
        weight = [
            -math.inf
            if weakest and s < band.low
            else band.high * u - price * c + nu * (s - band.low)
            for s, u, c in zip(problem.safety, problem.utility, problem.cost, strict=True)
        ]
        ends = [
            end and not (last and not band.low <= s <= band.high)
            for end, s in zip(problem.is_end, problem.safety, strict=True)
        ]
        completion, following = self._completion_bounds(weight, ends)
        scale = self._most_utility + abs(price) * self._most_cost + abs(constant)
        slack = _TOLERANCE * (scale + abs(nu) * len(problem.ids))
        path = []
        v = following[0]
        while v > 0:
            path.append(v)
            v = following[v]
        lift = constant + slack
        pruning = PruningBound(
            band.high,
            price,
            nu,
            band.low,
            [
                -math.inf if w == -math.inf else h + lift
                for w, h in zip(weight, completion, strict=True)
            ],
            ends,
        )
        return RelaxedSolution(completion[0] + constant, pruning, path, slack)

    def _completion_bounds(
        self, weight: list[float], ends: list[bool]
    ) -> tuple[list[float], list[int]]:
        """The greatest weight after each thought on the way to an end, and the next thought."""
        parents = self.problem.parents
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
        for v, parents in enumerate(self.problem.parents):
            if parents:
                total[v] = weight[v] + max(total[p] for p in parents)
        return total
