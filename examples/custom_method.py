"""A method of your own: three answers, and the one given most often (self-consistency).

python examples/custom_method.py
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from ecoalign import Budget, Query, Settings
from ecoalign.budget import Ledger
from ecoalign.methods import FUND, Baseline
from ecoalign.models import open_model
from ecoalign.search import RunContext
from ecoalign.trace.events import Finished

SHAPES = Path(__file__).parent / "shapes.png"


class Majority(Baseline):
    """Asks `n` times at once; nothing is scored, so whatever it says gets out."""

    n = 3

    async def respond(self, ctx: RunContext) -> Finished:
        """All calls are paid from one fund, reserved before the first of them is made."""
        request = self.request(ctx)
        self.require(ctx, ctx.bounds(request) * self.n)
        calls = (ctx.ask(request, fund=FUND, temperature=0.8, variant=i) for i in range(self.n))
        texts = [self.read(ctx, request, done).text for done in await asyncio.gather(*calls)]
        votes = Counter(texts)
        return self.finish(ctx, votes.most_common(1)[0][0], "", {"votes": dict(votes)})


async def main() -> None:
    method, query = Majority("majority", Settings()), Query.of(SHAPES, "What colour is the square?")
    result = await method.answer(query, open_model("embedded"), Ledger(Budget(tokens=8000)))
    print(result.answer, result.detail["votes"], f"{result.spent.tokens.total} tokens")


if __name__ == "__main__":
    asyncio.run(main())
