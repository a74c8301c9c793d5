"""The Pareto Tracker: the best path of a graph of thoughts, exactly where that can be done.

    P* = argmax Gamma(P)  over the paths from the root to an end with  C[P] <= B

Thoughts are taken in topological order and each keeps the Pareto frontier of (U up, C down, S up)
of the paths that reach it (`ecoalign.labels` says why that is exact). On the graphs that a search
makes, that is all. Where the frontiers explode, the search goes on by bands of S:

1. A narrow sweep finds a good path. It is the value to beat.
2. For a band [lo, hi] of S an upper bound on what its paths could gain over that value is one
   longest path (`ecoalign.relaxation`). A band that cannot gain is closed.
3. Otherwise a sweep follows only the labels that can gain. Too many of them: the band is split.
4. When the allowance of labels runs out, what is still open goes into an upper bound on the
   optimum, and the result says so: `exact` is False, and value >= (1 - epsilon) * optimum.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.economics import Economy, SafetyAggregator
from ecoalign.labels import Cut, Label, Net, Objective, Sweeper, build_net
from ecoalign.relaxation import Band, Relaxation, Relaxed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ecoalign.graph import ThoughtGraph
    from ecoalign.thoughts import Thought, ThoughtId

__all__ = ["Frontier", "Limits", "RankedPath", "track", "track_thoughts"]


@dataclass(frozen=True, slots=True)
class RankedPath:
    """A path from the root to an end, within the budget.

    Attributes:
        ids: the thoughts, the root first.
        utility: U[P], the sum of u without the root.
        cost: C[P], the sum of c without the root, <= B.
        safety: S[P] by the aggregator asked for, in [0, 1].
        gamma: the value in the economy asked for (the paper's S*U/C for `ratio`).
    """

    ids: tuple[ThoughtId, ...]
    utility: float
    cost: float
    safety: float
    gamma: float


@dataclass(frozen=True, slots=True)
class Frontier:
    """The result of the tracker.

    Attributes:
        paths: the best path and the alternatives, the best first: what to try when the answer
            written from a path turns out to be unsafe. They are the undominated paths to each end
            (where `whole` is False, only some of them). Empty if no path ends within the budget.
        exact: whether the first path is proven to have the greatest value.
        epsilon: the proven gap of the first path, gamma >= (1 - epsilon) * optimum: 0 if exact,
            infinite where no such factor is known (a gamma <= 0, say).
        bound: no path within the budget has a greater value; -inf if there is none.
        whole: whether the plain sweep sufficed, and the alternatives are complete, too.
    """

    paths: tuple[RankedPath, ...]
    exact: bool
    epsilon: float
    bound: float
    whole: bool

    @property
    def best(self) -> RankedPath | None:
        """The best path, or None if no path ends within the budget."""
        return self.paths[0] if self.paths else None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work the tracker may do. The defaults take well under a second.

    Attributes:
        plain: labels that the plain sweep may keep before the bands take over.
        width: labels kept per thought by a narrow sweep.
        band: labels that a sweep of a band may keep before the band is split.
        total: labels that all sweeps of bands may keep together.
    """

    plain: int = 12_000
    width: int = 4
    band: int = 4_000
    total: int = 150_000

    def __post_init__(self) -> None:
        if min(self.plain, self.band, self.total) < 0 or self.width < 1:
            raise ValueError(f"Limits must be >= 0, and width >= 1: {self}.")


DEFAULT_LIMITS = Limits()
_NARROW = 1e-3


def track(
    graph: ThoughtGraph,
    budget: float,
    *,
    aggregator: SafetyAggregator = SafetyAggregator.MIN,
    economy: Economy = Economy.RATIO,
    price: float = 0.0,
    any_end: bool = False,
    alternatives: int = 8,
    epsilon: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> Frontier:
    """The best path of a graph and the next best ones.

    Ties are broken by greater value, greater S, lower C, greater U, fewer steps, and then the
    lexicographically smaller ids: the result does not depend on the order of the edges.

    Args:
        graph: the thoughts; pruned and merged ones are in no path.
        budget: B for C[P], >= 0, in the unit of the costs; may be infinite.
        aggregator: how S[P] follows from the s of the thoughts.
        economy: the objective: S*U/C, S*U, or S*U - price*C.
        price: lambda of `surplus`, utility per unit of cost, >= 0.
        any_end: let any thought but the root end a path, because the answer is still to be written;
            otherwise an answer or a refusal must.
        alternatives: how many paths to return at most, the best included, >= 1.
        epsilon: a gap that is good enough, in [0, 1): stop early at value >= (1-epsilon)*optimum.
        limits: how much work to do before settling for a proven gap.

    Raises:
        ValueError: a number is out of its range.
    """
    thoughts = graph.topological()
    ends = {t.id for t in thoughts[1:]} if any_end else graph.ends
    objective = Objective(economy, aggregator, price)
    return track_thoughts(
        thoughts,
        ends,
        budget,
        objective,
        alternatives=alternatives,
        epsilon=epsilon,
        limits=limits,
    )


def track_thoughts(
    thoughts: Sequence[Thought],
    ends: Collection[ThoughtId],
    budget: float,
    objective: Objective,
    *,
    alternatives: int = 8,
    epsilon: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> Frontier:
    """`track` for thoughts in topological order, the root first; none but the root with s < 0."""
    if not budget >= 0.0:
        raise ValueError(f"budget must be >= 0, not {budget}.")
    if not 0.0 <= objective.price < math.inf:
        raise ValueError(f"price must be finite and >= 0, not {objective.price}.")
    if alternatives < 1:
        raise ValueError(f"alternatives must be >= 1, not {alternatives}.")
    if not 0.0 <= epsilon < 1.0:
        raise ValueError(f"epsilon must be in [0, 1), not {epsilon}.")
    net = build_net(thoughts, ends, budget)
    tracker = _Tracker(net, budget, objective, epsilon, limits)
    return tracker.run(alternatives)


class _Tracker:
    """One extraction: the best label so far, and what may still beat it."""

    def __init__(
        self, net: Net, budget: float, objective: Objective, epsilon: float, limits: Limits
    ) -> None:
        self.net = net
        self.budget = budget
        self.objective = objective
        self.epsilon = epsilon
        self.limits = limits
        self.sweeper = Sweeper(net, budget, objective)
        self.best: Label | None = None
        self.value = -math.inf

    def run(self, alternatives: int) -> Frontier:
        plain = self.sweeper.sweep(width=math.inf, allowance=self.limits.plain)
        found, whole = plain.ends, plain.complete
        if not whole:
            found = self.sweeper.sweep(width=self.limits.width, allowance=math.inf).ends
        self._offer(found)
        if self.best is None:
            return Frontier((), exact=True, epsilon=0.0, bound=-math.inf, whole=True)
        bound = self.value if whole else self._bands()
        exact = bound <= self.value
        epsilon = 0.0 if exact else math.inf
        if not exact and self.value > 0.0 and bound < math.inf:
            epsilon = 1.0 - self.value / bound
        labels = {label[4]: label for label in (self.best, *found)}.values()
        ranked = heapq.nsmallest(alternatives, labels, key=self.objective.rank)
        return Frontier(tuple(map(self._path, ranked)), exact, epsilon, bound, whole)

    def _path(self, label: Label) -> RankedPath:
        cost, utility, negated, steps, ids = label
        safety = self.objective.safety(negated, steps)
        gamma = self.objective.value(safety, -utility, cost)
        return RankedPath(ids, -utility, cost, safety, gamma)

    def _offer(self, labels: Iterable[Label]) -> None:
        """Take note of whole paths within the budget; the best one is kept."""
        rank = self.objective.rank
        for label in labels:
            if label[0] <= self.budget and (self.best is None or rank(label) < rank(self.best)):
                self.best = label
                self.value = -rank(label)[0]

    @property
    def _safety(self) -> float:
        return self.objective.safety(self.best[2], self.best[3]) if self.best else 0.0

    @property
    def _aim(self) -> float:
        """What a path must beat to matter."""
        return self.value / (1.0 - self.epsilon) if self.value > 0.0 else self.value

    def _bands(self) -> float:
        """Search the bands of S for something better; returns a bound that no path exceeds."""
        if self.net.rest[0] == 0.0 and self._free():
            return self.value
        relaxation = Relaxation(self.net, self.budget, self.objective)
        levels = self._levels()
        todo = [(-math.inf, levels[0], levels[-1])]
        left = float(self.limits.total)
        bounds: list[float] = []
        while todo:
            _, low, high = heapq.heappop(todo)
            band = Band(low, high)
            tight = self._relax(relaxation, band)
            if tight is None:
                continue
            value = self._aim
            # A visit costs a few longest paths: charged as labels, so that the work is bounded.
            left -= self.net.edges / 4.0
            halves = self._split(levels, band)
            allowance = max(0.0, min(left, self.limits.band) if halves else left)
            sweep = self._sweeper(band).sweep(width=math.inf, allowance=allowance, cut=tight.cut)
            left -= sweep.kept
            self._offer(sweep.ends)
            if sweep.complete:
                continue
            if halves and left > 0.0:
                for half in halves:
                    heapq.heappush(todo, (-tight.excess, half.low, half.high))
                continue
            narrow = self.sweeper.sweep(width=self.limits.width, allowance=math.inf, cut=tight.cut)
            self._offer(narrow.ends)
            excess = min(tight.excess + tight.slack, narrow.excess)
            bounds.append(relaxation.bound(band, value, excess))
        return max([self._aim, *bounds])

    def _free(self) -> bool:
        """Try the paths that cost nothing. True if one is worth infinitely much: nothing beats it.

        Between those only the ties decide.
        """
        free = [cost == 0.0 for cost in self.net.cost]
        ends = [end and f for end, f in zip(self.net.is_end, free, strict=True)]
        cut = Cut(0.0, 0.0, 0.0, 0.0, [0.0 if f else -math.inf for f in free], ends)
        sweep = self.sweeper.sweep(width=math.inf, allowance=self.limits.total, cut=cut)
        self._offer(sweep.ends)
        return self.value == math.inf

    def _relax(self, relaxation: Relaxation, band: Band) -> Relaxed | None:
        """The relaxed problem of a band at the value to beat, or None if the band is closed."""
        # S = 0 is worth nothing at best; it can only break a tie with another S = 0.
        zero = band.high == 0.0 and self.best is not None
        if zero and (self.value > 0.0 or (self.value == 0.0 and self._safety > 0.0)):
            return None
        while True:
            aim = self._aim
            relaxed = relaxation.relax(band, aim)
            if not relaxed:
                return None
            self._offer(relaxation.label(r.path) for r in relaxed)
            tight = relaxed[-1]
            if tight.excess < -tight.slack:
                return None
            if self._aim <= aim:
                return tight

    def _sweeper(self, band: Band) -> Sweeper:
        if band.high == 0.0 and self.best is not None and self._safety == 0.0:
            # Between paths of S = 0 the cheaper one wins, whatever its utility.
            return Sweeper(self.net, self.best[0], self.objective)
        return self.sweeper

    def _levels(self) -> list[float]:
        """Where S can lie: every value that it can take, or under `mean` the two extremes."""
        last = self.objective.aggregator is SafetyAggregator.LAST
        values = sorted(
            {
                safety
                for v, safety in enumerate(self.net.safety)
                if v and (self.net.is_end[v] or not last)
            }
        )
        if self.objective.aggregator is SafetyAggregator.MEAN:
            return [values[0], values[-1]]
        return values

    def _split(self, levels: list[float], band: Band) -> tuple[Band, Band] | None:
        """Two halves of a band, or None if it is too narrow."""
        if self.objective.aggregator is SafetyAggregator.MEAN:
            middle = (band.low + band.high) / 2.0
            if band.high - band.low < _NARROW:
                return None
            return Band(band.low, middle), Band(middle, band.high)
        first, end = bisect_left(levels, band.low), bisect_left(levels, band.high)
        if first == end:
            return None
        middle_index = (first + end) // 2
        return Band(band.low, levels[middle_index]), Band(levels[middle_index + 1], band.high)
