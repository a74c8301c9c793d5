"""The labels of the Pareto Tracker: (U, C, S) of the paths that reach each thought.

A `PathProblem` is what extraction needs of a graph, as flat lists in topological order.
`LabelSetting` moves labels through it and keeps the undominated ones. Why dropping a dominated
label is exact:

- Every path that may win has S >= 0, so every objective (S*U/C, S*U, S*U - lambda*C) is monotone:
  up in U and S, down in C. For a negative S it would not be. Under `min` no thought has s < 0, as
  one that does is pruned at once; under `last` and `mean` one may lead to a path that is safe, and
  a path that is not is left out at its end.
- Extending two labels at one thought by the same steps keeps the order of U, of C, of S under `min`
  and, under `mean`, of the sum of s as long as the number of steps is no greater: those are the
  coordinates (a label with the greater sum and no more steps has the greater average as long as
  that is >= 0, and else neither may win). Under `last`, S is that of the end alone, the same for
  all labels of a thought.
- Ties are broken by greater value, greater S, lower C, greater U, fewer steps, smaller ids in
  lexicographic order. Where C or U differ, the dominating label wins every later tie. Where both
  are equal, an advantage in S may still vanish under a later minimum, so there the dominating label
  must also be no worse in steps and ids.

Floating-point sums and products are monotone as well, so all this holds for the numbers as
computed, except that two different sums may round to one: then an exact tie may be broken
otherwise, between paths of equal value.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from ecoalign.graph._thoughts import Thought, ThoughtId
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator, worth

Label = tuple[float, float, float, int, "tuple[ThoughtId, ...]"]
"""(C, -U, -A, steps, ids): all coordinates to be minimised. A is what the aggregator carries: the
least safety, the last one, or the sum; ids run from the root to the thought itself."""

_SLACK = 1.0 + 1e-12
"""Partial sums may round up; only the whole path is held to the exact budget."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is maximised: the worth of a path in an economy, its S and U by an aggregator each.

    A path with S below `least`, >= 0, may not win.
    """

    economy: Economy = Economy.RATIO
    aggregator: SafetyAggregator = SafetyAggregator.MIN
    price: float = 0.0
    utility: UtilityAggregator = UtilityAggregator.SUM
    least: float = 0.0

    def value(self, safety: float, utility: float, cost: float) -> float:
        """Worth of a path with these totals."""
        return worth(self.economy, safety, utility, cost, self.price)

    def carry(self, negated: float, safety: float) -> float:
        """-A of a path extended by a thought of the given safety."""
        if self.aggregator is SafetyAggregator.MIN:
            return max(negated, -safety)
        return -safety if self.aggregator is SafetyAggregator.LAST else negated - safety

    def safety(self, negated: float, steps: int) -> float:
        """S of a whole path from -A and its number of steps."""
        return -negated / steps if self.aggregator is SafetyAggregator.MEAN else -negated

    def may_win(self, label: Label) -> bool:
        """Whether a whole path is safe enough."""
        return self.safety(label[2], label[3]) >= self.least

    def rank(self, label: Label) -> tuple[float, float, float, float, int, tuple[ThoughtId, ...]]:
        """Sort key of a whole path: the best first, ties as the module says."""
        cost, utility, negated, steps, ids = label
        safety = self.safety(negated, steps)
        return (-self.value(safety, -utility, cost), -safety, cost, utility, steps, ids)


@dataclass(frozen=True, slots=True)
class PathProblem:
    """The thoughts that lie on some path from the root (index 0) to an end, parents first.

    Where only the last thought of a path earns, one that may end a path and lead on is here twice:
    to pass through, with no utility, and to stop at. So U is a sum in every case.
    """

    ids: list[ThoughtId]
    safety: list[float]
    utility: list[float]
    cost: list[float]
    parents: list[list[int]]
    is_end: list[bool]
    cost_to_go: list[float]
    """The least cost from a thought to an end, its own excluded."""

    @property
    def edges(self) -> int:
        """How many edges it has."""
        return sum(map(len, self.parents))


def build_problem(
    thoughts: Sequence[Thought],
    ends: Collection[ThoughtId],
    budget: float,
    utility: UtilityAggregator = UtilityAggregator.SUM,
) -> PathProblem:
    """The part of a graph that matters: reachable, leading to an end, and within the budget.

    Args:
        thoughts: in topological order, the root first; parents that are not among them are ignored.
        ends: ids that may end a path.
        budget: B, >= 0; may be infinite.
        utility: how U[P] follows from the u of the thoughts.
    """
    place = {t.id: i for i, t in enumerate(thoughts)}
    above = [[place[p] for p in t.parents if p in place] for t in thoughts]
    on = [math.inf] * len(thoughts)  # the least cost after a thought, if it does not end the path
    stop = [0.0 if t.id in ends else math.inf for t in thoughts]
    for i in range(len(thoughts) - 1, 0, -1):
        through = min(on[i], stop[i]) + thoughts[i].cost
        for p in above[i]:
            on[p] = min(on[p], through)
    problem = PathProblem([], [], [], [], [], [], [])
    index: dict[int, int] = {}
    reach = [math.inf] * len(thoughts)
    summed = utility is UtilityAggregator.SUM
    for i, thought in enumerate(thoughts):
        least = min((reach[p] for p in above[i]), default=math.inf) if i else 0.0
        here = least + (thought.cost if i else 0.0)
        parents = [index[p] for p in above[i] if p in index]
        is_end = thought.id in ends and i > 0
        both = min(on[i], stop[i]), thought.utility if summed else 0.0, is_end
        split = (0.0, thought.utility, True), (on[i], 0.0, False)
        for cost_to_go, earned, end in split if is_end and not summed else (both,):
            total = here + cost_to_go
            if total == math.inf or total > budget * _SLACK:
                continue
            if summed or not end:
                index[i] = len(problem.ids)
                reach[i] = here
            problem.ids.append(thought.id)
            problem.safety.append(thought.safety)
            problem.utility.append(earned)
            problem.cost.append(thought.cost)
            problem.parents.append(parents)
            problem.is_end.append(end)
            problem.cost_to_go.append(cost_to_go)
    return problem


@dataclass(slots=True)
class Labelling:
    """What one run of `LabelSetting` found.

    Attributes:
        ends: the undominated labels of whole paths within the budget.
        complete: no label was given up, so the best of `ends` is the best there is among the
            paths that it was asked about.
        excess: greatest upper bound (see `PruningBound`) of a label that was given up, or -inf.
        work: how many labels were compared.
    """

    ends: list[Label] = field(default_factory=list)
    complete: bool = True
    excess: float = -math.inf
    work: int = 0


@dataclass(frozen=True, slots=True)
class PruningBound:
    """A linear upper bound that shows which labels cannot lead to a better path.

    A label at thought v is worth following only if
    gain*U - price*C + bonus*(A - floor*steps) + completion[v] >= 0.
    """

    gain: float
    price: float
    bonus: float
    floor: float
    completion: list[float]
    ends: list[bool]


class LabelSetting:
    """The label-setting algorithm for one problem.

    Args:
        problem: the paths.
        budget: B.
        objective: what is maximised.
    """

    def __init__(self, problem: PathProblem, budget: float, objective: Objective) -> None:
        self.problem = problem
        self.budget = budget
        self.objective = objective
        mean = objective.aggregator is SafetyAggregator.MEAN
        self._front: Callable[[list[Label]], list[Label]] = _front_mean if mean else _front

    def run(
        self, *, beam_width: float, allowance: float, pruning: PruningBound | None = None
    ) -> Labelling:
        """Label every thought once, in topological order.

        Args:
            beam_width: labels kept per thought; the most promising ones where there are more.
            allowance: labels compared in all; beyond it the run stops and is not complete.
            pruning: which labels, ends and thoughts to leave out.
        """
        problem, result = self.problem, Labelling()
        labels: list[list[Label]] = [[] for _ in problem.ids]
        if not problem.ids:
            return result
        labels[0] = [(0.0, 0.0, -1.0 if self._starts_high else 0.0, 0, (problem.ids[0],))]
        is_end = pruning.ends if pruning else problem.is_end
        for v in range(1, len(problem.ids)):
            if pruning and pruning.completion[v] == -math.inf:
                continue
            arrivals = self._arrivals(v, labels, pruning)
            result.work += len(arrivals)
            if result.work > allowance:
                result.complete = False
                return result
            front = self._front(arrivals)
            if len(front) > beam_width:
                front, dropped = self._truncate(front, int(beam_width), v, pruning)
                result.complete = False
                result.excess = max(result.excess, dropped)
            own = problem.ids[v]
            labels[v] = [(c, u, a, k, (*ids, own)) for c, u, a, k, ids in front]
            if is_end[v]:
                result.ends += [
                    label
                    for label in labels[v]
                    if label[0] <= self.budget and self.objective.may_win(label)
                ]
        return result

    @property
    def _starts_high(self) -> bool:
        return self.objective.aggregator is not SafetyAggregator.MEAN

    def _arrivals(
        self, v: int, labels: list[list[Label]], pruning: PruningBound | None
    ) -> list[Label]:
        """The labels of v's parents extended by v, as far as worth following, sorted."""
        problem = self.problem
        least, utility, cost = -problem.safety[v], problem.utility[v], problem.cost[v]
        room = self.budget * _SLACK - problem.cost_to_go[v]
        # The innermost loop of all: what `Objective.carry` and `_excess` say, written out.
        weakest = self.objective.aggregator is SafetyAggregator.MIN
        mean = self.objective.aggregator is SafetyAggregator.MEAN
        gain, price, completion = (
            (pruning.gain, pruning.price, pruning.completion[v]) if pruning else (0.0, 0.0, 0.0)
        )
        found: list[Label] = []
        for p in problem.parents[v]:
            for c, u, a, k, ids in labels[p]:
                total = c + cost
                if total > room:
                    break  # the labels of a thought are in the order of their cost
                got = u - utility
                excess = completion - gain * got - price * total
                carried = (a if a > least else least) if weakest else a + least if mean else least
                if mean and pruning:
                    excess -= pruning.bonus * (carried + pruning.floor * (k + 1))
                if excess >= 0.0:
                    found.append((total, got, carried, k + 1, ids))
        found.sort()
        return found

    def _truncate(
        self, front: list[Label], beam_width: int, v: int, pruning: PruningBound | None
    ) -> tuple[list[Label], float]:
        """The most promising labels in the order of their cost; the best bound of the others."""
        if pruning is None:
            best = sorted(front, key=self.objective.rank)
            return sorted(best[:beam_width]), math.inf
        best = sorted(front, key=lambda label: (-_excess(pruning, v, label), label))
        return sorted(best[:beam_width]), _excess(pruning, v, best[beam_width])


def _excess(pruning: PruningBound, v: int, label: Label) -> float:
    value = pruning.completion[v] - pruning.gain * label[1] - pruning.price * label[0]
    return value - pruning.bonus * (label[2] + pruning.floor * label[3]) if pruning.bonus else value


def _front(labels: list[Label]) -> list[Label]:
    """The undominated of sorted labels under `min` and `last`, in the same order."""
    kept: list[Label] = []
    # A staircase over (-U, -S) of the labels of lower (C, -U): -U rises, -S falls.
    us: list[float] = []
    ss: list[float] = []
    group: Label | None = None  # the first kept label of the current (C, -U)
    last: Label | None = None  # the one of the lowest (steps, ids) in it
    for label in labels:
        u, s = label[1], label[2]
        if group is None or u != group[1] or label[0] != group[0]:
            if group is not None:
                _insert(us, ss, group[1], group[2])
            group = last = None
        at = bisect_right(us, u)
        if at and ss[at - 1] <= s:
            continue
        if last is not None and last[3:] <= label[3:]:
            continue
        if group is None:
            group = label
        last = label
        kept.append(label)
    return kept


def _front_mean(labels: list[Label]) -> list[Label]:
    """The undominated of sorted labels under `mean`: fewer steps are a coordinate of their own."""
    kept: list[Label] = []
    stairs: dict[int, tuple[list[float], list[float]]] = {}
    for label in labels:
        u, s, steps = label[1], label[2], label[3]
        for k, (us, ss) in stairs.items():
            if k <= steps:
                at = bisect_right(us, u)
                if at and ss[at - 1] <= s:
                    break
        else:
            _insert(*stairs.setdefault(steps, ([], [])), u, s)
            kept.append(label)
    return kept


def _insert(us: list[float], ss: list[float], u: float, s: float) -> None:
    """Add a point that no point of the staircase dominates; drop those that it dominates."""
    start = end = bisect_left(us, u)
    while end < len(us) and ss[end] >= s:
        end += 1
    us[start:end] = [u]
    ss[start:end] = [s]
