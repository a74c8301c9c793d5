"""How far answers cost more than the least that `ecoalign ask --estimate` tells.

    python perf/estimates.py [--count 14] [--limit 200] [--preset paper]

The mean tokens of EcoAlign in those of the least estimate, on the test split of the embedded
model's world and on the simulated models of the population; and how near the least is to what
runs take whose draft stands.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from statistics import fmean

from ecoalign.bench.suites._lvlm import lvlms
from ecoalign.bench.suites.population import KINDS, PopulationSuite, ProfiledQuery, _scene_asked
from ecoalign.bench.suites.world import WorldSuite
from ecoalign.budget import Ledger
from ecoalign.methods import estimate, open_method
from ecoalign.models import ChatModel
from ecoalign.query import Query
from ecoalign.settings import Settings


async def _measure(pairs: Sequence[tuple[Query, ChatModel]], settings: Settings) -> str:
    method = open_method("ecoalign", settings)
    times, drafted = [], []
    for query, model in pairs:
        budget = settings.budget_for(model, len(query.pictures))
        least = estimate(query, model, settings, budget).least.tokens or 1
        result = await method.answer(query, model, Ledger(budget))
        times.append(result.spent.tokens.total / least)
        if result.ended == "drafted":
            drafted.append(times[-1])
    shown = f"mean {fmean(times):.2f} times the least (n={len(times)})"
    return f"{shown}; drafted {fmean(drafted):.2f} (n={len(drafted)})" if drafted else shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=len(KINDS), help="questions to each profile")
    parser.add_argument("--limit", type=int, default=1300, help="samples of the world")
    parser.add_argument("--preset", default="default")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.preset, env={})
    embedded = settings.open_model()
    world = [(sample.query(), embedded) for sample in WorldSuite("test").samples()[: options.limit]]
    print("embedded:", asyncio.run(_measure(world, settings)), flush=True)
    profiles = {lvlm.name: lvlm for lvlm in lvlms()}
    asked = []
    for sample in PopulationSuite("all", options.count).samples():
        query = sample.query()
        if isinstance(query, ProfiledQuery):
            asked.append((query, profiles[query.lvlm].model(_scene_asked)))
    print("simulated:", asyncio.run(_measure(asked, settings)), flush=True)


if __name__ == "__main__":
    main()
