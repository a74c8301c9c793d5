"""Ask one question about an image, watch the search as it goes, and ask several at once.

python examples/python_api.py [IMAGE] [QUESTION]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ecoalign import Aligner, align, stream
from ecoalign.trace.events import ActionsChosen, Finished, ThoughtAdded

SIGNS = str(Path(__file__).parent / "signs.png")


def ask(image: str, question: str) -> None:
    """The short way: one call, and the result with its evidence."""
    result = align(image, question, budget=4000)
    print(result.answer)
    print(f"refused {result.refused}, safety {result.safety:.2f}, utility {result.utility:.2f}")
    for thought in result.path:
        print(f"  {thought.kind}: {thought.text}")
    print(f"{result.spent.tokens.total} of {result.budget}: stopped by {result.stop_reason}")


def watch(image: str, question: str) -> None:
    """The events of the same run, one by one."""
    for event in stream(image, question, budget=4000):
        match event:
            case ActionsChosen(step=step, actions=actions):
                print(f"step {step}: {len(actions)} action(s)")
            case ThoughtAdded(thought=thought, pruned=pruned):
                mark = "pruned" if pruned else "kept"
                print(f"  {thought.kind} {mark}, s = {thought.safety:.2f}: {thought.text}")
            case Finished(answer=answer):
                print(f"answer: {answer}")


async def several(image: str, *questions: str) -> None:
    """Many questions at once, with one model, each within a budget of its own."""
    async with Aligner("embedded", batch=2) as aligner:
        runs = (aligner.align(image, question, budget=4000) for question in questions)
        for result in await asyncio.gather(*runs):
            print(result)


if __name__ == "__main__":
    picture = sys.argv[1] if len(sys.argv) > 1 else SIGNS
    asked = sys.argv[2] if len(sys.argv) > 2 else "What is the sum of the two numbers?"
    ask(picture, asked)
    watch(picture, asked)
    asyncio.run(several(picture, asked, asked))
