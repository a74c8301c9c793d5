"""The answer in the API's words: a completion, or the chunks of one."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.budget import Budget, Spending
    from ecoalign.gateway._service import Outcome, Plan

__all__ = ["DONE", "Envelope", "data", "dumped", "usage_of"]

DONE = b"data: [DONE]\n\n"

_PIECE = 64
"""Characters of a chunk, about; a piece ends at a blank where there is one."""


def dumped(value: object) -> bytes:
    """JSON on one line, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def data(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + dumped(value) + b"\n\n"


def usage_of(spent: Spending) -> dict[str, object]:
    """All tokens that were spent for the answer: the search, the judge and failed tries, too."""
    tokens = spent.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.total,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "image_tokens": tokens.image},
    }


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer have in common.

    Attributes:
        model: as the client asked for it.
        plan: how it was answered.
        budget: what it was allowed to spend.
        id, created: of the completion.
    """

    model: str
    plan: Plan
    budget: Budget
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, outcome: Outcome, trace: str | None) -> dict[str, object]:
        """The whole answer."""
        message: dict[str, object] = {
            "role": "assistant",
            "content": outcome.content,
            "refusal": None,
        }
        if outcome.tool_calls:
            message["tool_calls"] = [call.to_json() for call in outcome.tool_calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": outcome.logprobs,
            "finish_reason": outcome.finish_reason,
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_of(outcome.spent),
            "ecoalign": self._evidence(outcome, trace),
        }

    def chunks(
        self, outcome: Outcome, trace: str | None, *, include_usage: bool
    ) -> Iterator[dict[str, object]]:
        """The answer in chunks; the last but the usage has the finish reason and the evidence."""
        extra: Mapping[str, object] = {"usage": None} if include_usage else {}
        head = self._head("chat.completion.chunk")

        def chunk(
            delta: Mapping[str, object],
            reason: str | None = None,
            logprobs: Mapping[str, object] | None = None,
        ) -> dict[str, object]:
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
            return {**head, "choices": [choice], **extra}

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        text = outcome.content or ""
        # Log-probabilities go with the text that they spell, so it is not cut up.
        for piece in [text] if outcome.logprobs and text else _pieces(text):
            yield chunk({"content": piece}, logprobs=outcome.logprobs)
        for index, call in enumerate(outcome.tool_calls):
            yield chunk({"tool_calls": [{"index": index, **call.to_json()}]})
        last = chunk({}, outcome.finish_reason)
        yield {**last, "ecoalign": self._evidence(outcome, trace)}
        if include_usage:
            yield {**head, "choices": [], "usage": usage_of(outcome.spent)}

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _evidence(self, outcome: Outcome, trace: str | None) -> dict[str, object]:
        budget = self.budget
        return {
            "method": self.plan.method,
            "preset": self.plan.settings.preset if self.plan.searches else None,
            "refused": outcome.refused,
            "safety": outcome.safety,
            "utility": outcome.utility,
            "stop_reason": outcome.stop_reason,
            "hint": outcome.hint,
            "spent": outcome.spent.to_json(),
            "budget": {"tokens": budget.tokens, "usd": budget.usd, "seconds": budget.seconds},
            "trace": trace,
        }


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + _PIECE)
        end = len(text) if end < 0 else min(end + 1, start + 4 * _PIECE)
        yield text[start:end]
        start = end
