"""What every method of answering has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ecoalign.models import OWN_REPLY, FinishReason, Reply

if TYPE_CHECKING:
    from ecoalign.budget import Ledger, Spending
    from ecoalign.models import ChatModel, ToolCall
    from ecoalign.query import Query

__all__ = ["Answer", "Method"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method answered, and what it took.

    Attributes:
        text: the answer as a user would see it.
        refused: whether it is a refusal.
        spent: the ledger's account of every call that was made for it.
        safety: S in [-1, 1] by the method's own evaluator; None if it scores nothing.
        utility: U >= 0 likewise.
        stop_reason: why the method stopped, in its own words; "" if it has but one way.
        critical_path: the most calls that had to wait for each other.
        detail: what else is worth recording, as plain JSON.
        reply: the answer's finish reason, tool calls and log-probabilities; see `Reply`.
    """

    text: str
    refused: bool
    spent: Spending
    safety: float | None = None
    utility: float | None = None
    stop_reason: str = ""
    critical_path: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)
    reply: Reply = OWN_REPLY

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ends where it does: "stop", "length", "content_filter", "tool_calls"."""
        return self.reply.finish_reason

    @property
    def content(self) -> str | None:
        """The answer less its tool calls; None if it is nothing but tool calls."""
        return self.reply.content(self.text)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the client's tools that the answer asks for; scored with it."""
        return self.reply.tool_calls

    @property
    def logprobs(self) -> Mapping[str, object] | None:
        """The answer's `logprobs` as its server gave them, where the client asked for them."""
        return self.reply.logprobs


class Method(Protocol):
    """A way to answer a question about images within a budget.

    Attributes:
        name: as on the command line, unique.
    """

    @property
    def name(self) -> str: ...

    async def answer(self, query: Query, model: ChatModel, ledger: Ledger) -> Answer:
        """Answer `query` with `model`; `ledger` pays and keeps every bound.

        Raises:
            BudgetTooSmall: the budget allows no answer that the method may give.
            ModelError: the model failed.
            InputError: the model cannot read the question.
        """
        ...
