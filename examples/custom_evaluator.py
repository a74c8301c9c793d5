"""An evaluator of your own beside the model's self-evaluation: the more careful one decides.

python examples/custom_evaluator.py
"""

from __future__ import annotations

from pathlib import Path

from ecoalign import align
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


def main() -> None:
    model = open_model("embedded")
    for words in ((), ("green",)):
        careful = Ensemble([SelfEvaluator(model), Unspoken(*words)])
        result = align(
            SHAPES, "What colour is the square?", model=model, evaluator=careful, budget=4000
        )
        print(f"unspoken {words}: {result.answer} (refused: {result.refused})")


if __name__ == "__main__":
    main()
