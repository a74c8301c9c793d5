"""The `full` dialect: prompts for real LVLMs.

Grades travel as single digits 0 to 9, regions as whole thousandths, forecasts as short lists:
every token costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from ecoalign.models import ChatRequest, Completion, Profile
from ecoalign.prompts._limits import DEFAULT_POLICY, TokenLimits
from ecoalign.prompts.full import _answers as answers
from ecoalign.prompts.full import _judging as judging
from ecoalign.prompts.full import _search as search
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
    ScoreResult,
    WriteRequest,
)

__all__ = ["FullDialect"]


class FullDialect:
    """Prompts and parsers for models that follow instructions in plain language; see `Dialect`.

    Args:
        limits: the output tokens that each call may use.
        profile: of the model that is spoken to.
        policy: what counts as harm, in words.
    """

    name = "full"
    has_gate = True

    def __init__(
        self,
        limits: TokenLimits | None = None,
        *,
        profile: Profile | None = None,
        policy: str = DEFAULT_POLICY,
    ) -> None:
        self.profile = profile or Profile()
        self.limits = limits or TokenLimits(thinking=self.profile.thinking)
        self.policy = policy
        # As many as there are grades.
        self.top_logprobs = min(10, self.profile.logprobs)

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
                return self.score_calls(request)[0]
            case AnswerRequest():
                return answers.render_answer(request, limits)
            case CaptionRequest():
                return answers.render_caption(request, limits)
            case GateRequest() | CheckRequest():
                return judging.render_verdict(request, limits)
            case _:
                assert_never(request)

    def score_calls(self, request: ScoreRequest) -> tuple[ChatRequest, ...]:
        """See `Dialect.score_calls`."""
        return (judging.render_score(request, self.limits, self.top_logprobs),)

    def read_score(self, request: ScoreRequest, completions: Sequence[Completion]) -> ScoreResult:
        """See `Dialect.read_score`."""
        (completion,) = completions
        return judging.parse_score(request, completion)

    parse_scan = staticmethod(search.parse_scan)
    parse_propose = staticmethod(search.parse_propose)
    parse_execute = staticmethod(search.parse_execute)
    parse_answer = staticmethod(answers.parse_answer)
    parse_caption = staticmethod(answers.parse_caption)
    parse_verdict = staticmethod(judging.parse_verdict)
