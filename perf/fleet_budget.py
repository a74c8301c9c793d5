"""One window, many questions: the fleet's shadow price against other ways of sharing it out.

    python perf/fleet_budget.py [--rounds 2] [--orders 3] [--share 0.6,0.8] [--json]

The questions are those of the synthetic world (split dev, 26 a round: easy and hard, harmless and
forbidden), the model is the embedded one, and the tokens go through a real store of keys. Every
way gets the same window, `share` of what all questions cost together without a limit:

    fleet     the window's shadow price, which learns the number of requests as they come
    split     an equal part of the window for each request, as its hard budget
    carry     the same, but what one leaves is shared by those after it
    fcfs      first come, first served, at the price of a single request, until nothing is left

Split and carry are told the number of requests; the others are not. A request that gets no tokens,
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

from ecoalign.bench import Sample
from ecoalign.bench._metrics import Estimate, difference, mean
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


@dataclass(frozen=True, slots=True)
class RequestResult:
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
    known: dict[tuple[str, int, float], RequestResult] = field(default_factory=dict)

    async def ask(self, sample: Sample, budget: int, price: float) -> RequestResult:
        """Answer one question."""
        place = (sample.id, budget, price)
        if place not in self.known:
            self.known[place] = await self._ask(sample, budget, price)
        return self.known[place]

    async def _ask(self, sample: Sample, budget: int, price: float) -> RequestResult:
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
        return RequestResult(score.useful, score.safe, answer.spent)


def unserved(sample: Sample, spent: Spending) -> RequestResult:
    """Nothing was answered: no use, no harm."""
    forbidden = bool(sample.facts["forbidden"])
    return RequestResult(
        None if forbidden else 0.0, True if forbidden else None, spent, served=False
    )


async def share_out(
    world: World, samples: Sequence[Sample], window: int, way: str
) -> Mapping[str, RequestResult]:
    """One window with these questions in this order."""
    now = 0.0
    answers: dict[str, RequestResult] = {}
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
                answers[sample.id] = unserved(sample, Spending())
                continue
            # Two digits: prices that are nearly the same need not be computed anew.
            price = float(f"{grant.price_factor:.2g}")
            answer = await world.ask(sample, grant.budget.tokens or 0, price)
            await store.settle(grant, answer.spent)
            left -= answer.spent.tokens.total
            answers[sample.id] = answer
        (usage,) = await store.usage(key.id)
        assert usage.tokens + usage.held_tokens <= window  # noqa: S101 - the whole point
        await store.aclose()
    return answers


def by_question(runs: Sequence[Mapping[str, RequestResult]]) -> dict[str, float]:
    """Mean utility of each harmless question over the orders."""
    return {
        name: fmean(run[name].utility or 0.0 for run in runs)
        for name, first in runs[0].items()
        if first.utility is not None
    }


def points(estimate: Estimate | None) -> tuple[float, list[float]]:
    """An estimate and its interval in per cent, two decimals."""
    assert estimate is not None  # noqa: S101 - there are harmless questions
    value, low, high = (round(100 * v, 2) for v in (estimate.value, estimate.low, estimate.high))
    return value, [low, high]


def summary(
    runs: Mapping[str, Sequence[Mapping[str, RequestResult]]],
) -> dict[str, dict[str, object]]:
    """The figures of every way; `gain` is what the fleet's price is ahead of it, in points."""
    fleet = by_question(runs["fleet"])
    table: dict[str, dict[str, object]] = {}
    for way, orders in runs.items():
        own = by_question(orders)
        every = [answer for run in orders for answer in run.values()]
        utility, utility_95 = points(mean([*own.values()]))
        gain, gain_95 = points(difference(fleet, own))
        safe = [answer.safe for answer in every if answer.safe is not None]
        table[way] = {
            "utility": utility,
            "utility_95": utility_95,
            "fleet_gain": gain,
            "fleet_gain_95": gain_95,
            "safe": round(100 * fmean(safe), 2),
            "served": round(100 * fmean(answer.served for answer in every), 2),
            "tokens": round(sum(answer.spent.tokens.total for answer in every) / len(orders)),
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
    whole = sum(answer.spent.tokens.total for answer in free)
    useful = [answer.utility for answer in free if answer.utility is not None]
    found: dict[str, object] = {
        "questions": len(samples),
        "harmless": len(useful),
        "orders": orders,
        "unlimited": {"tokens": whole, "utility": round(100 * fmean(useful), 2)},
    }
    results: list[dict[str, object]] = []
    for share in shares:
        window = round(share * whole)
        runs: dict[str, list[Mapping[str, RequestResult]]] = {way: [] for way in WAYS}
        for order in range(orders):
            shuffled = list(samples)
            random.Random(seed + order).shuffle(shuffled)
            for way in WAYS:
                runs[way].append(await share_out(world, shuffled, window, way))
        ways = summary(runs)
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
