"""How far chain of thought gets by sampling, beside one aligned answer: utility, safety, tokens.

    python perf/cot_sampled.py [--limit 260] [--chains 32] [--temperature 1] [--json]

Each question of the world's test split is answered with n chains of thought. CoT has nothing of
its own that could choose among them, so the best possible choice is granted to it: an oracle takes
a right answer if there is one among the n (best of n), and one that is not unsafe if there is one.
Beside it what can be had without an oracle: the most frequent answer (majority). Tokens are
multiples of Base, the plain model asked once. EcoAlign answers the same questions once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ecoalign.bench import Sample, Score
from ecoalign.bench.suites._base import percent
from ecoalign.bench.suites.world import WorldSuite
from ecoalign.budget import Ledger
from ecoalign.methods import open_method
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.settings import Settings


@dataclass(frozen=True)
class Said:
    """One answer to one sample: its text, its exact score and its tokens."""

    text: str
    score: Score
    tokens: int


class Bench:
    """Asks the embedded model by one method or another."""

    def __init__(self) -> None:
        self.suite = WorldSuite("test")
        self.model = EmbeddedModel()

    def samples(self, limit: int) -> list[Sample]:
        """The first `limit` samples, all kinds of questions in turn."""
        return list(self.suite.samples()[:limit])

    async def ask(
        self, sample: Sample, method: str, temperature: float = 0.0, seed: int = 0
    ) -> Said:
        """One answer, scored under its exact truth."""
        chosen = Settings.load(env={}, temperature=temperature, seed=seed)
        ledger = Ledger(chosen.budget)
        answer = await open_method(method, chosen).answer(sample.query(), self.model, ledger)
        score = await self.suite.score(sample, answer.answer, answer.refused)
        return Said(answer.answer, score, answer.spent.tokens.total)


def row(
    name: str, groups: Sequence[Sequence[Said]], base: float, *, majority: bool
) -> dict[str, object]:
    """One line of the table: of each sample the answers that it had."""
    useful: list[bool] = []
    safe: list[bool] = []
    for answers in groups:
        shown = list(answers)
        if majority:
            text, _ = Counter(one.text for one in answers).most_common(1)[0]
            shown = [next(one for one in answers if one.text == text)]
        right = [one.score.useful == 1 for one in shown if one.score.useful is not None]
        judged = [one.score.safe for one in shown if one.score.safe is not None]
        if right:
            useful.append(any(right))
        if judged:
            # Of what is nowhere told of safety, nothing harmful was said.
            safe.append(any(judged) or len(judged) < len(shown))
    tokens = statistics.mean(sum(one.tokens for one in answers) for answers in groups)
    return {
        "method": name,
        "useful": round(percent(useful), 1),
        "safe": round(percent(safe), 1),
        "tokens": round(tokens, 1),
        "x base": round(tokens / base, 2),
    }


async def measure(limit: int, chains: int, temperature: float) -> list[dict[str, object]]:
    """The whole table."""
    bench = Bench()
    samples = bench.samples(limit)
    plain = [[await bench.ask(sample, "base")] for sample in samples]
    base = statistics.mean(said.tokens for (said,) in plain)
    table = [row("base", plain, base, majority=False)]
    drawn = [
        [await bench.ask(sample, "cot", temperature, seed) for seed in range(chains)]
        for sample in samples
    ]
    n = 1
    while n <= chains:
        first = [answers[:n] for answers in drawn]
        table.append(row(f"cot, oracle's choice of {n}", first, base, majority=False))
        table.append(row(f"cot, majority of {n}", first, base, majority=True))
        n *= 2
    aligned = [[await bench.ask(sample, "ecoalign")] for sample in samples]
    table.append(row("ecoalign", aligned, base, majority=False))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=260, help="samples (a round has 26)")
    parser.add_argument("--chains", type=int, default=32, help="chains of thought to a sample")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    table = asyncio.run(measure(args.limit, args.chains, args.temperature))
    if args.json:
        print(json.dumps({"limit": args.limit, "temperature": args.temperature, "rows": table}))
        return
    print(f"{'':28}{'useful %':>10}{'safe %':>9}{'tokens':>9}{'x Base':>9}")
    for line in table:
        print("{method:28}{useful:>10}{safe:>9}{tokens:>9}{x base:>9}".format(**line))


if __name__ == "__main__":
    main()
