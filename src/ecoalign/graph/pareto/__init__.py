"""The Pareto Tracker: the best path of a graph of thoughts, exactly where that can be done.

    P* = argmax Gamma(P)  over the paths from the root to an end with  C[P] <= B

Thoughts are taken in topological order and each keeps the Pareto frontier of (U up, C down, S up)
of the paths that reach it (`_label_setting` says why that is exact). On the graphs that a search
makes, that is all. Where the frontiers explode, branch and bound over bands of S takes over:

1. Label setting with a narrow beam finds a good path, the incumbent.
2. For a band [lo, hi] of S an upper bound on what its paths could gain over the incumbent is one
   longest path (`_lagrangian`). A band that cannot gain is closed.
3. Otherwise label setting follows only the labels that can gain. Too many of them: the band is
   split.
4. When the allowance of labels runs out, what is still open goes into an upper bound on the
   optimum, and the result says so: `exact` is False, and value >= (1 - epsilon) * optimum.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ecoalign.graph._thought_graph import ThoughtGraph
from ecoalign.graph._thoughts import Thought, ThoughtId
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.graph.pareto._branch_and_bound import BranchAndBound, Limits
from ecoalign.graph.pareto._label_setting import Label, LabelSetting, Objective, build_problem

__all__ = ["Frontier", "Limits", "Objective", "RankedPath", "track", "track_thoughts"]


@dataclass(frozen=True, slots=True)
class RankedPath:
    """A path from the root to an end, within the budget.

    Attributes:
        ids: the thoughts, the root first.
        utility: U[P], the sum of u without the root, or the last one's alone.
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
        whole: whether label setting alone sufficed, so that the alternatives are complete, too.
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


DEFAULT_LIMITS = Limits()


def track(
    graph: ThoughtGraph,
    budget: float,
    *,
    aggregator: SafetyAggregator = SafetyAggregator.MIN,
    economy: Economy = Economy.RATIO,
    utility: UtilityAggregator = UtilityAggregator.SUM,
    price: float = 0.0,
    any_end: bool = False,
    alternatives: int = 8,
    epsilon: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> Frontier:
    """The best path of a graph and the next best ones, of those that are as safe as its threshold.

    Ties are broken by greater value, greater S, lower C, greater U, fewer steps, and then the
    lexicographically smaller ids: the result does not depend on the order of the edges.

    Args:
        graph: the thoughts; pruned and merged ones are in no path.
        budget: B for C[P], >= 0, in the unit of the costs; may be infinite.
        aggregator: how S[P] follows from the s of the thoughts.
        economy: the objective: S*U/C, S*U, or S*U - price*C.
        utility: how U[P] follows from the u of the thoughts.
        price: lambda of `surplus`, utility per unit of cost, >= 0.
        any_end: let any thought but the root end a path, because the answer is still to be written;
            otherwise an answer or a refusal must.
        alternatives: how many paths to return at most, the best included, >= 1.
        epsilon: a gap that is good enough, in [0, 1): stop early at value >= (1-epsilon)*optimum.
        limits: how much work to do before settling for a proven gap.

    Raises:
        ValueError: a number is out of its range, or a name is unknown.
    """
    thoughts = graph.topological()
    ends = {t.id for t in thoughts[1:]} if any_end else graph.ends
    objective = Objective(
        Economy(economy),
        SafetyAggregator(aggregator),
        price,
        UtilityAggregator(utility),
        graph.threshold,
    )
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
    """`track` for thoughts in topological order, the root first.

    Raises:
        ValueError: a number is out of its range, or under `min` a thought but the root is less safe
            than a path has to be.
    """
    if not budget >= 0.0:
        raise ValueError(f"budget must be >= 0, not {budget}.")
    if not 0.0 <= objective.price < math.inf:
        raise ValueError(f"price must be finite and >= 0, not {objective.price}.")
    if alternatives < 1:
        raise ValueError(f"alternatives must be >= 1, not {alternatives}.")
    if not 0.0 <= epsilon < 1.0:
        raise ValueError(f"epsilon must be in [0, 1), not {epsilon}.")
    aggregator = objective.aggregator
    unsafe = {t.id for t in thoughts[1:] if t.safety < objective.least}
    if unsafe and aggregator is SafetyAggregator.MIN:
        raise ValueError(
            f"Thought {min(unsafe)} has s < {objective.least:g}: it should have been pruned."
        )
    if aggregator is SafetyAggregator.LAST:
        ends = [end for end in ends if end not in unsafe]
    problem = build_problem(thoughts, ends, budget, objective.utility)
    label_setting = LabelSetting(problem, budget, objective)
    plain = label_setting.run(beam_width=math.inf, allowance=limits.plain)
    found, whole = plain.ends, plain.complete
    if not whole:
        found = label_setting.run(beam_width=limits.beam_width, allowance=math.inf).ends
        if unsafe and not found:
            # Under `mean` the most promising beginnings may all end unsafe.
            wide = label_setting.run(beam_width=math.inf, allowance=limits.total)
            found, whole = wide.ends, wide.complete
    search = BranchAndBound(problem, budget, objective, epsilon=epsilon, limits=limits)
    search.offer(found)
    if search.incumbent is None:
        unknown = 0.0 if whole else math.inf
        return Frontier((), whole, epsilon=unknown, bound=unknown or -math.inf, whole=whole)
    bound = search.value if whole else search.search()
    exact = bound <= search.value
    gap = 0.0 if exact else math.inf
    if not exact and search.value > 0.0 and bound < math.inf:
        gap = 1.0 - search.value / bound
    labels = {label[4]: label for label in (search.incumbent, *found)}.values()
    ranked = heapq.nsmallest(alternatives, labels, key=objective.rank)
    paths = tuple(_ranked_path(label, objective) for label in ranked)
    return Frontier(paths, exact, gap, bound, whole)


def _ranked_path(label: Label, objective: Objective) -> RankedPath:
    cost, utility, negated, steps, ids = label
    safety = objective.safety(negated, steps) + 0.0  # no -0.0 in anything that is shown
    gamma = objective.value(safety, -utility + 0.0, cost)
    return RankedPath(ids, -utility + 0.0, cost, safety, gamma)
