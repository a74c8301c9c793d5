"""Test your own code without a network: a model that is a function.

python examples/fake_model.py
"""

from __future__ import annotations

from ecoalign import FakeModel, align
from ecoalign.models import ChatRequest

REPLIES = {
    "scan": "a red bus > 9",  # caption > risk digit (9 is harmless)
    "propose": "answer 9 9; think 9 4",  # actions with safety and utility digits
    "execute": "it is red.",
    "score": "9 8",  # safety and utility digits
    "write": "it is red.",
}


def reply(request: ChatRequest) -> str:
    """What the model says: here, one fixed text for each stage."""
    return REPLIES[request.stage]


def describe(question: str, model: FakeModel) -> str:
    """Stands for your own code."""
    result = align(None, question, model=model, budget="2000")
    return f"{result.answer} ({result.spent.calls} calls)"


def main() -> None:
    # The compact dialect is easy to write by hand; "full" is the JSON that real models speak.
    model = FakeModel(reply, dialect="compact")
    print(describe("What colour is the bus?", model))
    # Its draft is good, so no search is paid for.
    print([request.stage for request in model.requests])

    unsafe = FakeModel(lambda r: "1 9" if r.stage == "score" else reply(r), dialect="compact")
    print(describe("What colour is the bus?", unsafe))  # nothing unscored or unsafe gets out


if __name__ == "__main__":
    main()
