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
    Candidate,
    Forecast,
    PendingAction,
    ValuedAction,
)


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
