"""Whether a run takes as long as its calls in line: the embedded model behind a server's latency.

    python perf/latency.py [--samples 26] [--seconds 0.2] [--speculate off likely all]

Every call takes `--seconds`, or what the embedded model needs where that is more. A run cannot be
faster than its calls in line; what it takes beyond them is waiting that nothing asked for. For each
value of the setting `speculate`: mean calls in line, tokens and seconds of a run, and the
wall-clock as a multiple of calls in line times seconds, mean and worst.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import fmean
from typing import NamedTuple

from ecoalign.aligner import Aligner
from ecoalign.bench.suites.world import WorldSuite
from ecoalign.models import ChatRequest, Completion
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.settings import Settings


class Paced(EmbeddedModel):
    """The embedded model, each of whose calls takes so many seconds at least."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def complete(self, request: ChatRequest) -> Completion:
        """See `EmbeddedModel.complete`."""
        completion, _ = await asyncio.gather(
            super().complete(request), asyncio.sleep(self._seconds)
        )
        return completion


class Run(NamedTuple):
    """One run: its calls in line, its tokens, its seconds, and these by those of the line."""

    line: int
    tokens: int
    seconds: float
    times: float


async def measure(samples: int, seconds: float, speculate: str) -> list[Run]:
    """The runs of the first samples of the world's dev split."""
    aligner = Aligner(Paced(seconds), Settings.load(env={}, speculate=speculate))
    runs = []
    for sample in WorldSuite("dev").samples()[:samples]:
        query = sample.query()
        begun = time.perf_counter()
        result = await aligner.align(query)
        took = time.perf_counter() - begun
        line = result.critical_path
        runs.append(Run(line, result.spent.tokens.total, took, took / (line * seconds)))
    return runs


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=26)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--speculate", nargs="+", default=["off", "likely", "all"])
    given = parser.parse_args()
    print("speculate  calls in line  tokens  seconds  times the line, mean and worst")
    for speculate in given.speculate:
        runs = asyncio.run(measure(given.samples, given.seconds, speculate))
        line, tokens, seconds, times = map(fmean, zip(*runs, strict=True))
        worst = max(run.times for run in runs)
        print(
            f"{speculate:9}  {line:13.2f}  {tokens:6.0f}  {seconds:7.2f}  {times:.3f} {worst:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
