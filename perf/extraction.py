"""How long the Pareto Tracker takes: exact extraction, and the proven gap where that is too dear.

    python perf/extraction.py [--graphs 5] [--nodes 100 500 1000]

Three kinds of graph: `search`, as an alignment grows it (mostly a tree, a tenth of the thoughts
fused, whole-token costs); `fused`, the same with a third of them fused; and `dense`, a random
directed acyclic graph with ten parents a thought on average and real-valued scores, on which the
frontiers explode. Half of the budgets are infinite, half are tight (eight mean costs). Times are
for one extraction as a whole; `work` is how many labels the bands may compare before the tracker
settles for a proven gap `epsilon`. Milliseconds are of processor time: one thread, no waiting.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable

from ecoalign.graph import ROOT, Thought, ThoughtGraph, ThoughtId, ThoughtKind
from ecoalign.graph.economics import Economy, SafetyAggregator
from ecoalign.graph.pareto import Frontier, Limits, track, track_thoughts
from ecoalign.graph.pareto._label_setting import Objective

Maker = Callable[[random.Random, int], ThoughtGraph | list[Thought]]


def search_like(share: float) -> Maker:
    """A maker of trees, at most 12 deep, with a given share of fused thoughts."""

    def make(rng: random.Random, nodes: int) -> ThoughtGraph:
        graph = ThoughtGraph("root")
        depth = {ROOT: 0}
        inner = [ROOT]
        while len(graph) < nodes:
            pool = [t for t in inner[-40:] if depth[t] < 12]
            safety, utility = rng.betavariate(5, 1.5), rng.random()
            cost = float(rng.randint(50, 600))
            if rng.random() < share and len(pool) > 4:
                parents = [p for p in rng.sample(pool, 3) if p != ROOT]
                new = graph.fuse(parents, "", safety=safety, utility=utility, cost=cost)
            else:
                kind = rng.choices([ThoughtKind.THINK, ThoughtKind.ANSWER], [3, 1])[0]
                parents = [rng.choice(pool or [ROOT])]
                new = graph.add(
                    kind, "", parent=parents[0], safety=safety, utility=utility, cost=cost
                )
            depth[new.id] = 1 + max(depth[p] for p in parents)
            if new.kind is not ThoughtKind.ANSWER:
                inner.append(new.id)
        return graph

    return make


def dense(rng: random.Random, nodes: int) -> list[Thought]:
    """A random graph with one to twenty parents a thought, any of which a path may take."""
    thoughts = [Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)]
    for i in range(1, nodes):
        kind = ThoughtKind.ANSWER if rng.random() < 0.2 else ThoughtKind.THINK
        above = rng.sample(range(i), min(i, rng.randint(1, 20)))
        safety, utility, cost = rng.random(), rng.random(), rng.uniform(1, 100)
        parents = tuple(ThoughtId(p) for p in above)
        thoughts.append(Thought(ThoughtId(i), kind, "", safety, utility, cost, parents))
    return thoughts


def extract(
    made: ThoughtGraph | list[Thought], objective: Objective, budget: float, limits: Limits
) -> Frontier:
    """`track` for a graph of either form."""
    if isinstance(made, list):
        ends = {t.id for t in made if t.kind is ThoughtKind.ANSWER}
        return track_thoughts(made, ends, budget, objective, limits=limits)
    return track(
        made,
        budget,
        aggregator=objective.aggregator,
        economy=objective.economy,
        price=objective.price,
        limits=limits,
    )


def measure(
    name: str, maker: Maker, nodes: int, objective: Objective, *, graphs: int, limits: Limits
) -> None:
    """Print one row: median and worst milliseconds, how many were exact, the worst gap."""
    millis: list[float] = []
    exact, gap = 0, 0.0
    for seed, tight in itertools.product(range(graphs), (False, True)):
        made = maker(random.Random(seed), nodes)
        mean = statistics.fmean(t.cost for t in made)
        budget = 8 * mean if tight else math.inf
        begin = time.process_time()
        frontier = extract(made, objective, budget, limits)
        millis.append(1000 * (time.process_time() - begin))
        exact += frontier.exact
        gap = max(gap, frontier.epsilon)
    print(
        f"{name:<8}{nodes:>6}  {objective.aggregator:<5}{objective.economy:<8}"
        f"{limits.total:>8}{statistics.median(millis):>9.1f}{max(millis):>9.1f}"
        f"{exact:>7}/{len(millis)}{gap:>9.4f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--graphs", type=int, default=5, help="graphs per row, two budgets each")
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 500, 1000])
    options = parser.parse_args()
    print(
        f"{'graph':<8}{'nodes':>6}  {'objective':<13}{'work':>8}{'median':>9}{'worst ms':>9}",
        end="",
    )
    print(f"{'exact':>9}{'epsilon':>9}")
    makers: dict[str, Maker] = {
        "search": search_like(0.1),
        "fused": search_like(0.33),
        "dense": dense,
    }
    for (name, maker), nodes in itertools.product(makers.items(), options.nodes):
        for aggregator, economy in itertools.product(SafetyAggregator, Economy):
            objective = Objective(economy, aggregator, 0.0005)
            measure(name, maker, nodes, objective, graphs=options.graphs, limits=Limits())
    for nodes, total in itertools.product(options.nodes, (0, 20_000, 100_000)):
        few = Limits(plain=2000, total=total)
        for aggregator in (SafetyAggregator.MIN, SafetyAggregator.MEAN):
            objective = Objective(Economy.NO_COST, aggregator)
            measure("dense", dense, nodes, objective, graphs=options.graphs, limits=few)


if __name__ == "__main__":
    main()
