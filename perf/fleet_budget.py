"""One window, many questions: the fleet's shadow price against other ways of sharing it out.

    python perf/fleet_budget.py [--rounds 2] [--orders 3] [--share 0.6,0.8] [--json]

The questions are those of the synthetic world (split dev, 26 a round: easy and hard, harmless and
forbidden), the model is the embedded one, and the money goes through a real store of keys. Every
way gets the same window, `share` of what all questions cost together when nobody is short:

    fleet     the window's shadow price, which learns the number of requests as they come
    split     an equal part of the window for each request, as its hard budget
    carry     the same, but what one leaves is shared by those after it
    fcfs      first come, first served, at the price of a single request, until nothing is left

Split and carry are told the number of requests; the others are not. A request that gets no money,
or too little to answer with, has utility 0. Questions arrive evenly over the window in a random
order; the intervals (95 %) are from resampling the questions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ecoalign.bench.suites._base import Sample
from ecoalign.bench.suites.world import WorldSuite
from ecoalign.budget import Budget, Ledger, Spending
from ecoalign.errors import BudgetTooSmall
from ecoalign.gateway.keys import KeyPolicy, WindowExhausted
from ecoalign.gateway.keys._sqlite import SqliteStore
from ecoalign.methods import open_method
from ecoalign.models import ChatModel, open_model
from ecoalign.settings import Settings

WAYS = ("fleet", "split", "carry", "fcfs")
WINDOW = 3600
WANT = 8000
LEAST = 700
"""About the smallest budget that answers a question of this world."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to; `safe` is None where nothing could go wrong."""

    utility: float | None
    safe: bool | None
    spent: Spending
    served: bool = True


@dataclass
class World:
    """Questions and a model. The model is deterministic, so nothing is asked twice."""

    suite: WorldSuite
    model: ChatModel
    settings: Settings
    known: dict[tuple[str, int, float], Outcome] = field(default_factory=dict)

    async def ask(self, sample: Sample, budget: int, price: float) -> Outcome:
        """Answer one question."""
        place = (sample.id, budget, price)
        if place not in self.known:
            self.known[place] = await self._ask(sample, budget, price)
        return self.known[place]

    async def _ask(self, sample: Sample, budget: int, price: float) -> Outcome:
        priced = self.settings.replace(lambda0=self.settings.lambda0 * price)
        method = open_method("ecoalign", priced)
        ledger = Ledger(Budget(tokens=budget))
        try:
            answer = await method.answer(sample.query(), self.model, ledger)
        except BudgetTooSmall:
            return unserved(sample, ledger.spent)
        finally:
            await method.aclose()
        score = await self.suite.score(sample, answer.answer, answer.refused)
        return Outcome(score.useful, score.safe, answer.spent)


def unserved(sample: Sample, spent: Spending) -> Outcome:
    """Nothing was answered: no use, no harm."""
    forbidden = bool(sample.facts["forbidden"])
    return Outcome(None if forbidden else 0.0, True if forbidden else None, spent, served=False)


async def share_out(
    world: World, samples: Sequence[Sample], window: int, way: str
) -> Mapping[str, Outcome]:
    """One window with these questions in this order."""
    now = 0.0
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "keys.sqlite3", lambda: now)
        policy = KeyPolicy(
            window_tokens=window, window_seconds=WINDOW, fleet=way == "fleet", most=None
        )
        key = (await store.create(way, policy)).record
        left = window
        for place, sample in enumerate(samples):
            now = WINDOW * place / len(samples)
            want, least = WANT, LEAST
            if way == "split":
                want = least = window // len(samples)
            if way == "carry":
                want = least = max(1, left // (len(samples) - place))
            try:
                grant = await store.grant(key, Budget(want), Budget(min(want, least)))
            except WindowExhausted:
                outcomes[sample.id] = unserved(sample, Spending())
                continue
            # Two digits: prices that are nearly the same need not be computed anew.
            price = float(f"{grant.price:.2g}")
            outcome = await world.ask(sample, grant.budget.tokens or 0, price)
            await store.settle(grant, outcome.spent)
            left -= outcome.spent.tokens.total
            outcomes[sample.id] = outcome
        (usage,) = await store.usage(key.id)
        assert usage.tokens + usage.held_tokens <= window  # noqa: S101 - the whole point
        await store.aclose()
    return outcomes


def interval(values: Sequence[float], rng: random.Random) -> tuple[float, float]:
    """The 95 % percentile bootstrap of a mean."""
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def by_question(runs: Sequence[Mapping[str, Outcome]]) -> dict[str, float]:
    """Mean utility of each harmless question over the orders."""
    return {
        name: fmean(run[name].utility or 0.0 for run in runs)
        for name, first in runs[0].items()
        if first.utility is not None
    }


def summary(
    runs: Mapping[str, Sequence[Mapping[str, Outcome]]], rng: random.Random
) -> dict[str, dict[str, object]]:
    """The figures of every way; `gain` is what the fleet's price is ahead of it, in points."""
    fleet = by_question(runs["fleet"])
    table: dict[str, dict[str, object]] = {}
    for way, orders in runs.items():
        own = by_question(orders)
        every = [outcome for run in orders for outcome in run.values()]
        gains = [100 * (fleet[name] - own[name]) for name in own]
        safe = [outcome.safe for outcome in every if outcome.safe is not None]
        table[way] = {
            "utility": round(100 * fmean(own.values()), 2),
            "utility_95": [round(100 * edge, 2) for edge in interval([*own.values()], rng)],
            "fleet_gain": round(fmean(gains), 2),
            "fleet_gain_95": [round(edge, 2) for edge in interval(gains, rng)],
            "safe": round(100 * fmean(safe), 2),
            "served": round(100 * fmean(outcome.served for outcome in every), 2),
            "tokens": round(sum(outcome.spent.tokens.total for outcome in every) / len(orders)),
        }
    return table


async def measure(
    rounds: int, orders: int, shares: Sequence[float], seed: int
) -> dict[str, object]:
    """All ways at all shares."""
    suite = WorldSuite("dev", rounds)
    world = World(suite, open_model("embedded", None, 60.0), Settings.load())
    samples = list(suite.samples())
    free = [await world.ask(sample, WANT, 1.0) for sample in samples]
    whole = sum(outcome.spent.tokens.total for outcome in free)
    useful = [outcome.utility for outcome in free if outcome.utility is not None]
    found: dict[str, object] = {
        "questions": len(samples),
        "harmless": len(useful),
        "orders": orders,
        "unlimited": {"tokens": whole, "utility": round(100 * fmean(useful), 2)},
    }
    results: list[dict[str, object]] = []
    for share in shares:
        window = round(share * whole)
        runs: dict[str, list[Mapping[str, Outcome]]] = {way: [] for way in WAYS}
        for order in range(orders):
            shuffled = list(samples)
            random.Random(seed + order).shuffle(shuffled)
            for way in WAYS:
                runs[way].append(await share_out(world, shuffled, window, way))
        ways = summary(runs, random.Random(seed))
        results.append({"share": share, "window": window, "ways": ways})
    await world.model.aclose()
    return {**found, "shares": results}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="26 questions each")
    parser.add_argument("--orders", type=int, default=3, help="orders of arrival")
    parser.add_argument("--share", default="0.6,0.8", help="windows, as shares of what is wanted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    shares = [float(part) for part in given.share.split(",")]
    found = asyncio.run(measure(given.rounds, given.orders, shares, given.seed))
    if given.json:
        print(json.dumps(found, indent=2))
        return
    shown = {name: value for name, value in found.items() if name != "shares"}
    print(", ".join(f"{name}: {value}" for name, value in shown.items()))
    results = found["shares"]
    assert isinstance(results, list)  # noqa: S101 - made above
    for one in results:
        print(f"\nwindow {one['window']} tokens ({one['share']:.0%} of what is wanted)")
        for way, row in one["ways"].items():
            facts = ", ".join(f"{name} {value}" for name, value in row.items())
            print(f"  {way:6} {facts}")


if __name__ == "__main__":
    main()
