"""Exact extraction where the frontiers explode: branch and bound over bands of S.

Every path's S lies in some band [low, high]. For a band, an upper bound on what its paths could
gain over the best path so far, the incumbent, is one longest path (`_lagrangian`); the paths that
attain the bounds are tried as well, which is how the incumbent improves. A band that cannot gain
is closed; one that may is searched for the labels that can gain, and split where those are too
many. The work is bounded.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from ecoalign.graph.economics import SafetyAggregator
from ecoalign.graph.pareto._label_setting import (
    Label,
    LabelSetting,
    Objective,
    PathProblem,
    PruningBound,
)
from ecoalign.graph.pareto._lagrangian import Band, Relaxation, RelaxedSolution

_NARROW = 1e-3
"""The beam_width at which a band of averages is not split any more."""

_EDGES_PER_LABEL = 8.0
"""How many edges of a longest path cost about as much as comparing one label (measured)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work the tracker may do. The defaults take about a second at most.

    Attributes:
        plain: labels that label setting alone may compare before the bands take over.
        beam_width: labels kept per thought where not all are.
        band: labels that may be compared in a band before it is split.
        total: labels that may be compared in all bands together.
    """

    plain: int = 20_000
    beam_width: int = 4
    band: int = 8_000
    total: int = 400_000

    def __post_init__(self) -> None:
        if min(self.plain, self.band, self.total) < 0 or self.beam_width < 1:
            raise ValueError(f"Limits must be >= 0, and beam_width >= 1: {self}.")


class BranchAndBound:
    """One extraction: the incumbent, and what may still beat it.

    Attributes:
        incumbent: the best whole path so far, None before any was offered.
        value: its value, -inf before.
    """

    def __init__(
        self,
        problem: PathProblem,
        budget: float,
        objective: Objective,
        *,
        epsilon: float,
        limits: Limits,
    ) -> None:
        self.problem = problem
        self.budget = budget
        self.objective = objective
        self.epsilon = epsilon
        self.limits = limits
        self.label_setting = LabelSetting(problem, budget, objective)
        self.incumbent: Label | None = None
        self.value = -math.inf

    def offer(self, labels: Iterable[Label]) -> None:
        """Take note of whole paths within the budget; the best one is kept."""
        rank, may_win = self.objective.rank, self.objective.may_win
        for label in labels:
            if (
                label[0] <= self.budget
                and may_win(label)
                and (self.incumbent is None or rank(label) < rank(self.incumbent))
            ):
                self.incumbent = label
                self.value = 0.0 - rank(label)[0]

    @property
    def _safety(self) -> float:
        return (
            self.objective.safety(self.incumbent[2], self.incumbent[3]) if self.incumbent else 0.0
        )

    @property
    def _target(self) -> float:
        """What a path must beat to matter."""
        return self.value / (1.0 - self.epsilon) if self.value > 0.0 else self.value

    def search(self) -> float:
        """Look for something better than the incumbent; returns a value that no path exceeds.

        Equal to `value` if the incumbent is proven to be the best. A path must have been offered.
        """
        if self.problem.cost_to_go[0] == 0.0 and self._free():
            return self.value
        relaxation = Relaxation(self.problem, self.budget, self.objective)
        levels = self._levels()
        todo = [(-math.inf, levels[0], levels[-1])]
        left = float(self.limits.total)
        bounds: list[float] = []
        while todo:
            _, low, high = heapq.heappop(todo)
            band = Band(low, high)
            before = relaxation.solved
            tight = self._relax(relaxation, band)
            # Longest paths are charged as labels, so that all of the work is bounded.
            left -= (relaxation.solved - before) * self.problem.edges / _EDGES_PER_LABEL
            if tight is None:
                continue
            value = self._target
            if left <= 0.0 and bounds:
                bounds.append(relaxation.bound(band, value, tight.excess + tight.slack))
                continue
            halves = self._split(levels, band)
            allowance = max(0.0, min(left, self.limits.band) if halves else left)
            labelling = self._label_setting_for(band).run(
                beam_width=math.inf, allowance=allowance, pruning=tight.pruning
            )
            left -= labelling.work
            self.offer(labelling.ends)
            if labelling.complete:
                continue
            if halves and left > 0.0:
                for half in halves:
                    heapq.heappush(todo, (-tight.excess, half.low, half.high))
                continue
            beam = self.label_setting.run(
                beam_width=self.limits.beam_width, allowance=math.inf, pruning=tight.pruning
            )
            self.offer(beam.ends)
            excess = min(tight.excess + tight.slack, beam.excess)
            bounds.append(relaxation.bound(band, value, excess))
        return max([self._target, *bounds])

    def _free(self) -> bool:
        """Try the paths that cost nothing. True if one is worth infinitely much: nothing beats it.

        Between those only the ties decide.
        """
        free = [cost == 0.0 for cost in self.problem.cost]
        ends = [end and f for end, f in zip(self.problem.is_end, free, strict=True)]
        pruning = PruningBound(0.0, 0.0, 0.0, 0.0, [0.0 if f else -math.inf for f in free], ends)
        labelling = self.label_setting.run(
            beam_width=math.inf, allowance=self.limits.total, pruning=pruning
        )
        self.offer(labelling.ends)
        return self.value == math.inf

    def _relax(self, relaxation: Relaxation, band: Band) -> RelaxedSolution | None:
        """The relaxed problem of a band at the value to beat, or None if the band is closed."""
        # S = 0 is worth nothing at best; it can only break a tie with another S = 0.
        zero = band.high == 0.0 and self.incumbent is not None
        if zero and (self.value > 0.0 or (self.value == 0.0 and self._safety > 0.0)):
            return None
        while True:
            target = self._target
            relaxed = relaxation.relax(band, target)
            if not relaxed:
                return None
            self.offer(relaxation.label(r.path) for r in relaxed)
            tight = relaxed[-1]
            if tight.excess < -tight.slack:
                return None
            if self._target <= target:
                return tight

    def _label_setting_for(self, band: Band) -> LabelSetting:
        if band.high == 0.0 and self.incumbent is not None and self._safety == 0.0:
            # Between paths of S = 0 the cheaper one wins, whatever its utility.
            return LabelSetting(self.problem, self.incumbent[0], self.objective)
        return self.label_setting

    def _levels(self) -> list[float]:
        """Where the S of a path that may win can lie: every value that it can take, or under `mean`
        the two extremes."""
        last = self.objective.aggregator is SafetyAggregator.LAST
        values = sorted(
            {
                max(self.objective.least, safety)
                for v, safety in enumerate(self.problem.safety)
                if v and (self.problem.is_end[v] or not last)
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
