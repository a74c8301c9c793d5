"""Exact extraction where the frontiers explode: a search over bands of S, bounded in its work.

Every path's S lies in some band [low, high]. For a band, an upper bound on what its paths could
gain over the best path so far is one longest path (`_lagrangian`); the paths that attain
the bounds are tried as well, which is how the best path improves. A band that cannot gain is
closed, one that may is swept for the labels that can gain, and split where those are too many.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.graph.economics import SafetyAggregator
from ecoalign.graph.pareto._label_setting import (
    Label,
    LabelSetting,
    Objective,
    PathProblem,
    PruningBound,
)
from ecoalign.graph.pareto._lagrangian import Band, Relaxation, Relaxed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BandSearch", "Limits"]

_NARROW = 1e-3
"""The width at which a band of averages is not split any more."""

_EDGES_PER_LABEL = 8.0
"""How many edges of a longest path cost about as much as comparing one label (measured)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work the tracker may do. The defaults take about a second at most.

    Attributes:
        plain: labels that the plain sweep may compare before the bands take over.
        width: labels kept per thought by a narrow sweep.
        band: labels that a sweep of a band may compare before the band is split.
        total: labels that all sweeps of bands may compare together.
    """

    plain: int = 20_000
    width: int = 4
    band: int = 8_000
    total: int = 400_000

    def __post_init__(self) -> None:
        if min(self.plain, self.band, self.total) < 0 or self.width < 1:
            raise ValueError(f"Limits must be >= 0, and width >= 1: {self}.")


class BandSearch:
    """One extraction: the best label so far, and what may still beat it.

    Attributes:
        best: the best whole path so far, None before any was offered.
        value: its value, -inf before.
    """

    def __init__(
        self,
        net: PathProblem,
        budget: float,
        objective: Objective,
        *,
        epsilon: float,
        limits: Limits,
    ) -> None:
        self.net = net
        self.budget = budget
        self.objective = objective
        self.epsilon = epsilon
        self.limits = limits
        self.sweeper = LabelSetting(net, budget, objective)
        self.best: Label | None = None
        self.value = -math.inf

    def offer(self, labels: Iterable[Label]) -> None:
        """Take note of whole paths within the budget; the best one is kept."""
        rank = self.objective.rank
        for label in labels:
            if label[0] <= self.budget and (self.best is None or rank(label) < rank(self.best)):
                self.best = label
                self.value = 0.0 - rank(label)[0]

    @property
    def _safety(self) -> float:
        return self.objective.safety(self.best[2], self.best[3]) if self.best else 0.0

    @property
    def _aim(self) -> float:
        """What a path must beat to matter."""
        return self.value / (1.0 - self.epsilon) if self.value > 0.0 else self.value

    def search(self) -> float:
        """Look for something better than `best`; returns a value that no path exceeds.

        Equal to `value` if `best` is proven to be the best. A path must have been offered.
        """
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
            before = relaxation.solved
            tight = self._relax(relaxation, band)
            # Longest paths are charged as labels, so that all of the work is bounded.
            left -= (relaxation.solved - before) * self.net.edges / _EDGES_PER_LABEL
            if tight is None:
                continue
            value = self._aim
            if left <= 0.0 and bounds:
                bounds.append(relaxation.bound(band, value, tight.excess + tight.slack))
                continue
            halves = self._split(levels, band)
            allowance = max(0.0, min(left, self.limits.band) if halves else left)
            sweep = self._sweeper(band).sweep(width=math.inf, allowance=allowance, cut=tight.cut)
            left -= sweep.work
            self.offer(sweep.ends)
            if sweep.complete:
                continue
            if halves and left > 0.0:
                for half in halves:
                    heapq.heappush(todo, (-tight.excess, half.low, half.high))
                continue
            narrow = self.sweeper.sweep(width=self.limits.width, allowance=math.inf, cut=tight.cut)
            self.offer(narrow.ends)
            excess = min(tight.excess + tight.slack, narrow.excess)
            bounds.append(relaxation.bound(band, value, excess))
        return max([self._aim, *bounds])

    def _free(self) -> bool:
        """Try the paths that cost nothing. True if one is worth infinitely much: nothing beats it.

        Between those only the ties decide.
        """
        free = [cost == 0.0 for cost in self.net.cost]
        ends = [end and f for end, f in zip(self.net.is_end, free, strict=True)]
        cut = PruningBound(0.0, 0.0, 0.0, 0.0, [0.0 if f else -math.inf for f in free], ends)
        sweep = self.sweeper.sweep(width=math.inf, allowance=self.limits.total, cut=cut)
        self.offer(sweep.ends)
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
            self.offer(relaxation.label(r.path) for r in relaxed)
            tight = relaxed[-1]
            if tight.excess < -tight.slack:
                return None
            if self._aim <= aim:
                return tight

    def _sweeper(self, band: Band) -> LabelSetting:
        if band.high == 0.0 and self.best is not None and self._safety == 0.0:
            # Between paths of S = 0 the cheaper one wins, whatever its utility.
            return LabelSetting(self.net, self.best[0], self.objective)
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
