"""Synthesizer: write the final answer from the winning path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.prompts._quoting import DATA_RULE
from ecoalign.prompts.full._common import Sections, TokenLimits, chat
from ecoalign.prompts.full._execute import ANSWER_TASK

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest
    from ecoalign.prompts.requests import WriteRequest

__all__ = ["render"]

_SYSTEM = (
    "You write the final answer to a request about images from thoughts that were checked for "
    "safety. Add nothing that they and the images do not support. "
    + DATA_RULE
    + " You may do what REQUEST asks as far as the task below says so."
)

_ENDING = " If the last thought is an answer, keep its substance; if it is a refusal, refuse."


def render(request: WriteRequest, limits: TokenLimits) -> ChatRequest:
    """The writing call."""
    quoted = (
        Sections()
        .add_context(request.context)
        .add("REQUEST", request.question)
        .add_thoughts("THOUGHTS", request.path)
        .render()
    )
    task = f"{quoted}\n{ANSWER_TASK}{_ENDING}"
    return chat("write", _SYSTEM, request.views, task, max_tokens=limits.answer)
