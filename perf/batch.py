"""What a row of a batch costs beside its answer: journal, grant, settlement, output.

    python perf/batch.py [--rows 500]

Processor time a row, in milliseconds, with a model that takes none: plain answers by Base through
a `Batch` and without one. The disk is left out, as it works beside the event loop: what it takes
is printed apart.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ecoalign.batch import Batch
from ecoalign.methods import Answerer
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings


async def _plain(questions: Sequence[str], settings: Settings) -> None:
    answerer = Answerer(settings, FakeModel(lambda request: "it is 7"))
    for question in questions:
        await answerer.answer(Query.of(None, question), "base")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500)
    count: int = parser.parse_args(arguments).rows
    settings = Settings.load(env={})
    questions = [f"What is number {n}?" for n in range(count)]
    asyncio.run(_plain(questions[:20], settings))
    begun = time.process_time()
    asyncio.run(_plain(questions, settings))
    plain = time.process_time() - begun
    print(f"without a batch: {1000 * plain / count:.2f} ms a row")
    with tempfile.TemporaryDirectory() as folder:
        model = FakeModel(lambda request: "it is 7")
        batch = Batch(
            [{"question": one} for one in questions],
            Path(folder) / "out.jsonl",
            settings,
            method="base",
            total_budget=10**12,
            model=model,
        )
        begun, wall = time.process_time(), time.perf_counter()
        batch.run()
        whole, passed = time.process_time() - begun, time.perf_counter() - wall
    print(f"in a batch: {1000 * whole / count:.2f} ms a row, {1000 * passed / count:.2f} with disk")


if __name__ == "__main__":
    main()
