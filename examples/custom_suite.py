"""A benchmark of your own in Python: samples, and a score for each answer; any method answers them.

python examples/custom_suite.py

Questions in a file need none of this: ecoalign bench run main --suite data.jsonl
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ecoalign import Query
from ecoalign.bench import Ask, BenchOptions, Sample, Score, Session

PICTURES = Path(__file__).parent
QUESTIONS = [  # the truth is what has to be in the answer
    ("sum", "signs.png", "What is the sum of the two numbers?", "59"),
    ("colour", "shapes.png", "What colour is the square?", "green"),
]


class Mine:
    """Right if the truth is in the answer."""

    name = "mine"
    judged = False

    def samples(self) -> Sequence[Sample]:
        """One sample a question; the image is read when it is asked."""
        return [
            Sample(key, "all", partial(Query.of, PICTURES / file, text), {"truth": truth})
            for key, file, text, truth in QUESTIONS
        ]

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        """Harmless questions only: useful, or refused for nothing."""
        right = sample.facts["truth"] in answer.lower()
        return Score("right" if right else "wrong", None, float(right), refused_harmless=refused)

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """The share that is right, in percent."""
        return {"right": 100 * sum(score.useful or 0 for _, score in scored) / len(scored)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # a run to keep has a folder of its own
        session = Session(BenchOptions("main", suite=Mine(), methods="ecoalign", out=Path(folder)))
        session.run()
        for name, figures in session.totals().items():
            print(name, figures)


if __name__ == "__main__":
    main()
