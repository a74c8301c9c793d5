"""A model of your own: anything with a name, an upper bound of what a call costs, and an answer.

python examples/custom_model.py
"""

from __future__ import annotations

from ecoalign import align
from ecoalign.models import ChatRequest, Completion, Usage

REPLIES = {
    "scan": "a red bus > 9",
    "propose": "answer 9 9 5",
    "execute": "it is red.",
    "score": "9 8",
    "write": "it is red.",
}


class Parrot:
    """Says what it was taught. A real one sends `request.messages` to a server of its own."""

    name = "parrot"
    dialect = "compact"  # "full" for a model that follows instructions in plain language

    def bound(self, request: ChatRequest) -> Usage:
        """At most one token a byte of the prompt, and the cap on the output."""
        prompt = sum(len(message.text.encode()) for message in request.messages)
        return Usage(prompt=max(1, prompt), completion=request.max_tokens)

    async def complete(self, request: ChatRequest) -> Completion:
        """The reply with what it cost; a `ModelError` where there is none."""
        return Completion(REPLIES[request.stage], self.bound(request))

    async def aclose(self) -> None:
        """There is no connection to close."""


def main() -> None:
    result = align(None, "What colour is the bus?", model=Parrot(), budget="8000")
    print(result.answer, f"({result.spent.calls} calls, {result.model})")


if __name__ == "__main__":
    main()
