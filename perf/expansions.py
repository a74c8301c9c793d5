"""What the engine itself costs: microseconds per expansion with a model that answers at once.

    python perf/expansions.py [--expansions 1000 10000] [--repeats 3] [--preset default]

An expansion is one executed action: a thought that was generated, scored and added to the graph.
Its price here is all that the engine does for it, proposals and valuations included: prompts are
rendered, calls reserved, settled and recorded, events made. The fake model takes no time to speak
of, so what is left is the engine's own. The extraction at the end is part of it. Processor time of
one thread; the median of the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace.events import PathChosen, ThoughtAdded

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.models import ChatRequest

PROPOSAL = "think 9 6 2 > 9 7 2; think 8 6 3 > 9 8 2; think 9 5 2; think 7 4 2"
BUDGET = 10**12


def instant_model() -> FakeModel:
    """A model of the compact dialect whose every thought is new, safe and of middling use."""
    numbers = count()

    def reply(request: ChatRequest) -> str:
        if request.stage == "scan":
            return "a red circle > 9"
        if request.stage == "propose":
            return PROPOSAL
        if request.stage == "score":
            return "9 5"
        return f"thought {next(numbers)}"

    return FakeModel(reply, dialect="compact")


@dataclass(frozen=True, slots=True)
class Timing:
    """One run.

    Attributes:
        expansions: how many actions were executed.
        whole: seconds of processor time of all of it.
        extract: seconds from the last expansion to the choice of the path.
    """

    expansions: int
    whole: float
    extract: float

    @property
    def per_expansion(self) -> float:
        """Microseconds per expansion."""
        return 1e6 * self.whole / self.expansions


async def run(expansions: int, preset: str) -> Timing:
    """One run of `expansions` executed actions."""
    settings = Settings.load(
        preset=preset,
        max_thoughts=expansions + 1,
        lambda0=0.0,
        batch=4,
        candidates=4,
        budget=BUDGET,
        draft=False,
        temperature=1.0,  # equal proposals count as different ones
        env={},
    )
    aligner = Aligner(instant_model(), settings)
    query = Query.of(None, "what is here")
    begun = time.process_time()
    events = (await aligner.align(query)).trace
    whole = time.process_time() - begun
    made, last = 0, 0.0
    for event in events:
        if isinstance(event, ThoughtAdded) and event.action >= 0:
            made, last = made + 1, event.at
        elif isinstance(event, PathChosen):
            return Timing(made, whole, event.at - last)
    raise RuntimeError("the run chose no path")


def measure(
    expansions: int, repeats: int, preset: str, say: Callable[[str], None] = print
) -> Timing:
    """The median run, printed as one line."""
    runs = [asyncio.run(run(expansions, preset)) for _ in range(repeats)]
    middle = Timing(
        runs[0].expansions,
        statistics.median(one.whole for one in runs),
        statistics.median(one.extract for one in runs),
    )
    say(
        f"{middle.expansions:>7} expansions  {middle.per_expansion:>8.0f} us each  "
        f"extraction {1e3 * middle.extract:>8.1f} ms"
    )
    return middle


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--expansions", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preset", default="default")
    given = parser.parse_args()
    timings = [measure(n, given.repeats, given.preset) for n in given.expansions]
    if len(timings) > 1:
        growth = timings[-1].per_expansion / timings[0].per_expansion
        print(f"the last costs {growth:.2f} times the first, per expansion")


if __name__ == "__main__":
    main()
