"""What the engine itself costs: microseconds per expansion with a model that answers at once, and
bytes per thought.

    python perf/expansions.py [--expansions 1000 10000] [--repeats 3] [--preset default] [--memory]

An expansion is one executed action: a thought that was generated, scored and added to the graph.
Its price here is all that the engine does for it, proposals and valuations included: prompts are
rendered, calls reserved, settled and recorded, events made. The fake model takes no time to speak
of, so what is left is the engine's own. The extraction at the end is part of it. Processor time of
one thread; the median of the repeats.

Memory is what a run of its own has allocated when the search is over, without the trace and all
that is in it (texts, forecasts, calls), and without the requests that the fake model keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from itertools import count
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace.events import Event, PathChosen, ThoughtAdded

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.models import ChatRequest

PROPOSAL = "think 9 6 2 > 9 7 2; think 8 6 3 > 9 8 2; think 9 5 2; think 7 4 2"
BUDGET = 10**12
QUERY = Query.of(None, "what is here")


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


def aligner_of(expansions: int, preset: str) -> Aligner:
    """One that executes so many actions."""
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
    return Aligner(instant_model(), settings)


async def run(expansions: int, preset: str) -> Timing:
    """One run of `expansions` executed actions."""
    aligner = aligner_of(expansions, preset)
    begun = time.process_time()
    events = (await aligner.align(QUERY)).trace
    whole = time.process_time() - begun
    made, last = 0, 0.0
    for event in events:
        if isinstance(event, ThoughtAdded) and event.action >= 0:
            made, last = made + 1, event.at
        elif isinstance(event, PathChosen):
            return Timing(made, whole, event.at - last)
    raise RuntimeError("the run chose no path")


async def memory(expansions: int, preset: str) -> float:
    """Bytes per thought at the end of such a run; see above."""
    aligner, events, held = aligner_of(expansions, preset), list[Event](), 0

    def note(event: Event) -> None:
        nonlocal held
        if isinstance(event, PathChosen) and not held:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - size_of(events, aligner.model)
        events.append(event)

    await aligner_of(4, preset).align(QUERY)  # imports and caches
    tracemalloc.start()
    await aligner.align(QUERY, on_event=note)
    tracemalloc.stop()
    return held / expansions


def size_of(*roots: object) -> int:
    """Bytes of all objects that can be reached, but for code."""
    todo, total = list(roots), 0
    seen = set(map(id, todo))
    while todo:
        one = todo.pop()
        total += sys.getsizeof(one)
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, type | ModuleType | FunctionType):
                seen.add(id(other))
                todo.append(other)
    return total


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
    parser.add_argument("--memory", action="store_true", help="bytes per thought, too")
    given = parser.parse_args()
    timings = [measure(n, given.repeats, given.preset) for n in given.expansions]
    if len(timings) > 1:
        growth = timings[-1].per_expansion / timings[0].per_expansion
        print(f"the last costs {growth:.2f} times the first, per expansion")
    for n in given.expansions if given.memory else ():
        print(f"{n:>7} thoughts  {asyncio.run(memory(n, given.preset)):>8.0f} bytes each")


if __name__ == "__main__":
    main()
