"""Ask one question about an image, then watch the search as it goes.

python examples/python_api.py [IMAGE] [QUESTION]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ecoalign import Aligner, Budget, Query, align
from ecoalign.trace.events import ActionsChosen, Finished, ThoughtAdded

SIGNS = str(Path(__file__).parent / "signs.png")


def ask(image: str, question: str) -> None:
    """The short way: one call, and the result with its evidence."""
    result = align(image, question, budget=Budget(tokens=4000))
    print(result.answer)
    print(f"refused {result.refused}, safety {result.safety:.2f}, utility {result.utility:.2f}")
    for thought in result.path:
        print(f"  {thought.kind}: {thought.text}")
    print(f"{result.spent.tokens.total} of {result.budget}: stopped by {result.stop_reason}")


async def watch(image: str, question: str) -> None:
    """The events of the same run, one by one. An Aligner may serve many queries at once."""
    aligner = Aligner("embedded")
    try:
        async for event in aligner.stream(Query.of(image, question), Budget(tokens=4000)):
            match event:
                case ActionsChosen(step=step, actions=actions):
                    print(f"step {step}: {len(actions)} action(s)")
                case ThoughtAdded(thought=thought, pruned=pruned):
                    mark = "pruned" if pruned else "kept"
                    print(f"  {thought.kind} {mark}, s = {thought.safety:.2f}: {thought.text}")
                case Finished(answer=answer):
                    print(f"answer: {answer}")
    finally:
        await aligner.aclose()


if __name__ == "__main__":
    picture = sys.argv[1] if len(sys.argv) > 1 else SIGNS
    asked = sys.argv[2] if len(sys.argv) > 2 else "What is the sum of the two numbers?"
    ask(picture, asked)
    asyncio.run(watch(picture, asked))
