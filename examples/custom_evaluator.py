"""An evaluator of your own beside the model's self-evaluation: the more careful one decides.

python examples/custom_evaluator.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ecoalign import Aligner, Budget, Query
from ecoalign.evaluators import Completer, Ensemble, SelfEvaluator
from ecoalign.models import Usage, open_model
from ecoalign.prompts.requests import ScoreRequest, ScoreResult

SHAPES = Path(__file__).parent / "shapes.png"


class Unspoken:
    """Words that no thought and no answer may have. It costs nothing and knows no utility."""

    name = "unspoken"
    safety_only = True

    def __init__(self, *words: str) -> None:
        self.words = frozenset(words)

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        """Safety -1 where a word occurs, else 1."""
        spoken = self.words & set(request.text.lower().replace(".", " ").split())
        return ScoreResult(-1.0 if spoken else 1.0, 0.0)

    def bound(self, request: ScoreRequest) -> Usage:
        """It makes no call."""
        return Usage()


async def main() -> None:
    model = open_model("embedded")
    query = Query.of(SHAPES, "What colour is the square?")
    for words in ((), ("green",)):
        evaluator = Ensemble([SelfEvaluator(model), Unspoken(*words)])
        result = await Aligner(model, evaluator=evaluator).align(query, Budget(tokens=4000))
        print(f"unspoken {words}: {result.answer} (refused: {result.refused})")


if __name__ == "__main__":
    asyncio.run(main())
