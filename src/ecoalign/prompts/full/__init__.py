"""The `full` dialect: prompts for real LVLMs.

Grades travel as single digits 0 to 9, regions as whole thousandths, forecasts as short lists:
every token costs.
"""

from __future__ import annotations

from typing import assert_never

from ecoalign.errors import SettingsError
from ecoalign.models import ChatRequest
from ecoalign.prompts.full import _answers as answers
from ecoalign.prompts.full import _judging as judging
from ecoalign.prompts.full import _search as search
from ecoalign.prompts.full._common import TokenLimits
from ecoalign.prompts.requests import (
    AnswerRequest,
    CaptionRequest,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    PromptRequest,
    ProposeRequest,
    ScanRequest,
    ScoreRequest,
    WriteRequest,
)

__all__ = ["FullDialect", "TokenLimits"]


class FullDialect:
    """Prompts and parsers for models that follow instructions in plain language; see `Dialect`.

    Args:
        limits: the output tokens that each call may use.
        top_logprobs: alternatives per token to ask for when scoring, 0 to 20; 0 for servers that
            refuse the parameter. 10 cover every grade.

    Raises:
        SettingsError: `top_logprobs` is out of its range.
    """

    name = "full"
    has_gate = True

    def __init__(self, limits: TokenLimits | None = None, *, top_logprobs: int = 10) -> None:
        if not 0 <= top_logprobs <= 20:
            raise SettingsError(f"top_logprobs is {top_logprobs}: it must be in 0..20")
        self.limits = limits or TokenLimits()
        self.top_logprobs = top_logprobs

    def render(self, request: PromptRequest) -> ChatRequest:
        """See `Dialect.render`."""
        limits = self.limits
        match request:
            case ScanRequest():
                return search.render_scan(request, limits)
            case ProposeRequest():
                return search.render_propose(request, limits)
            case ExecuteRequest():
                return search.render_execute(request, limits)
            case WriteRequest():
                return search.render_write(request, limits)
            case ScoreRequest():
                return judging.render_score(request, limits, self.top_logprobs)
            case AnswerRequest():
                return answers.render_answer(request, limits)
            case CaptionRequest():
                return answers.render_caption(request, limits)
            case GateRequest() | CheckRequest():
                return judging.render_verdict(request, limits)
            case _:
                assert_never(request)

    parse_scan = staticmethod(search.parse_scan)
    parse_propose = staticmethod(search.parse_propose)
    parse_execute = staticmethod(search.parse_execute)
    parse_score = staticmethod(judging.parse_score)
    parse_answer = staticmethod(answers.parse_answer)
    parse_caption = staticmethod(answers.parse_caption)
    parse_verdict = staticmethod(judging.parse_verdict)
