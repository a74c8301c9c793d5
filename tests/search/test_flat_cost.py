"""The engine's own work for one expansion does not grow with the search."""

from __future__ import annotations

import asyncio
import cProfile
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from ecoalign.graph import (
    ROOT,
    ActionKind,
    ActionQueue,
    BestAnswer,
    Candidate,
    ExpansionQueue,
    Forecast,
    PendingAction,
    ThoughtGraph,
    ValuedAction,
)
from ecoalign.graph._thoughts import ThoughtId, ThoughtKind


def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "perf" / "expansions.py"
    spec = importlib.util.spec_from_file_location("expansions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["expansions"] = module
    spec.loader.exec_module(module)
    return module


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called while `work` runs: a clock that no other process can slow."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def test_an_expansion_costs_the_same_late_in_a_search_as_early() -> None:
    run = benchmark().run
    asyncio.run(run(20, "default"))  # imports and caches
    small, large = 100, 300
    few = calls_of(lambda: asyncio.run(run(small, "default")))
    many = calls_of(lambda: asyncio.run(run(large, "default")))
    # The later 200 expansions against the first 100; a pass over the pool or the graph at every
    # step would make this ratio 2 and more.
    later = (many - few) / (large - small)
    assert later / (few / small) < 1.5


def pending(number: int) -> PendingAction:
    forecast = (Forecast(1.0, 0.5, 10.0),)
    return PendingAction(number, ROOT, Candidate(ActionKind.THINK, "", forecast))


def ranked(pool: ActionQueue, worth: Callable[[int], float]) -> list[ValuedAction]:
    actions = [
        ValuedAction(a.id, a.parent, a.candidate.kind, worth(a.id), affordable=True) for a in pool
    ]
    return sorted(actions, key=lambda a: (-a.value, a.action))


def test_the_pool_lets_the_most_valuable_compete_and_loses_none() -> None:
    pool = ActionQueue(size=3)
    for number in range(10):
        pool.add(pending(number))
    pool.settle(ranked(pool, lambda n: n % 5))
    assert {a.id for a in pool} == {4, 9, 3}
    assert (len(pool), pool.waiting) == (10, 7)
    pool.refill()
    assert {a.id for a in pool} == {4, 9, 3}
    pool.remove(9)
    pool.remove(4)
    pool.refill()
    # The best of those that wait come in, of equals the older first.
    assert {a.id for a in pool} == {3, 8, 2}
    assert pool.call_all()
    assert {a.id for a in pool} == set(range(10)) - {4, 9}
    assert not pool.call_all()
    pool.keep([pending(1)])
    assert [a.id for a in pool] == [1]


def test_openings_give_the_most_promising_open_thought_and_of_equals_the_newest() -> None:
    graph = ThoughtGraph("root")
    openings = ExpansionQueue(deepest=2)
    graph.expanded(ROOT)

    def grow(parent: ThoughtId, promise: float, safety: float = 1.0) -> ThoughtId:
        new = graph.add(
            ThoughtKind.THINK, "x", parent=parent, safety=safety, utility=0.5, cost=1.0
        ).id
        openings.add(new, promise)
        return new

    one, two = grow(ROOT, 0.5), grow(ROOT, 0.5)
    low = grow(ROOT, 0.1)
    assert openings.first(graph) == (two, 0.5)
    assert openings.first(graph) == (two, 0.5)  # until it is expanded
    graph.expanded(two)
    assert openings.first(graph) == (one, 0.5)
    deep = grow(grow(one, 0.9), 1.0)
    assert len(graph.path_to(deep)) - 1 == 3
    graph.expanded(one)
    # What is two steps deep may not be expanded, however promising.
    assert openings.first(graph) == (low, 0.1)
    graph.prune(low)
    assert openings.first(graph) == (None, 0.0)


def test_the_best_answer_follows_merges_up_and_down() -> None:
    graph, best = ThoughtGraph("root"), BestAnswer()

    def answer(safety: float, utility: float) -> ThoughtId:
        new = graph.add(
            ThoughtKind.ANSWER, "x", parent=ROOT, safety=safety, utility=utility, cost=1.0
        ).id
        best.note(graph, new)
        return new

    assert best.value(graph) == 0.0
    good, poor = answer(1.0, 0.9), answer(0.5, 0.2)
    assert best.value(graph) == 0.9
    third = answer(1.0, 0.6)
    # The least safety and the greatest utility: 0.5 * 0.9, which is less than the third's.
    assert graph.merge(good, poor)
    best.note(graph, good)
    assert best.value(graph) == 0.6
    graph.prune(third)
    assert best.value(graph) == 0.45
    assert answer(1.0, 7.0) is not None
    assert best.value(graph) == 1.0
