"""The engine's own work for one expansion does not grow with the search."""

from __future__ import annotations

import asyncio
import cProfile
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


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
