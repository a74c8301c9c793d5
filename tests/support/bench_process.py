"""A run of the bench in a process of its own, which can be killed at a known place.

    python bench_process.py FOLDER PAID FREE

Asks 20 numbered questions, three at once. Each question that is begun is noted in the file PAID.
Those from number FREE on are never answered, which is told on standard output, as is every row.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench_doubles import Numbers, Simple, plan

from ecoalign.bench._rows import Store
from ecoalign.bench._runner import run
from ecoalign.budget import Ledger
from ecoalign.models import ChatModel
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query

COUNT = 20


async def main(folder: Path, paid: Path, free: int) -> None:
    async def does(query: Query, model: ChatModel, ledger: Ledger) -> str:
        number = int(query.question.split()[1])
        with paid.open("a") as file:
            file.write(f"{number}\n")
        if number >= free:
            print(f"under way: {number}", flush=True)
            await asyncio.Event().wait()
        return f"it is {number}"

    with Store(folder) as store:
        await run(
            plan(Numbers(COUNT)),
            FakeModel(lambda asked: ""),
            store,
            lambda variant, settings: Simple(does),
            concurrency=3,
            watch=lambda row: print(row.key.sample, flush=True),
        )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
