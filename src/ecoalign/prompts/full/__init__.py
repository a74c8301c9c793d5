"""The `full` dialect: prompts for real LVLMs.

Grades travel as single digits 0 to 9, regions in the model's own convention, forecasts as short
lists: every token costs. All calls of a run share one prefix (see `_common`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from ecoalign.models import ChatRequest, Completion, Profile
from ecoalign.prompts._limits import DEFAULT_POLICY, TokenLimits
from ecoalign.prompts._scoring import form_of, of_samples, read_words, sampled, word_calls
from ecoalign.prompts.full import _answers as answers
from ecoalign.prompts.full import _judging as judging
from ecoalign.prompts.full import _search as search
from ecoalign.prompts.full._common import Prefix
from ecoalign.prompts.requests import (
    VERIFIED,
    AnswerRequest,
    CaptionRequest,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    PromptRequest,
    ProposeRequest,
    ProposeResult,
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
    verified = VERIFIED

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
        self.form = form_of(self.profile)
        # As many as there are grades.
        self.top_logprobs = min(10, self.profile.logprobs)

    def render(self, request: PromptRequest) -> ChatRequest:
        """See `Dialect.render`."""
        if isinstance(request, ScoreRequest):
            return self.score_calls(request)[0]
        return self._capped(self._rendered(request))

    def _capped(self, call: ChatRequest) -> ChatRequest:
        """With room for hidden reasoning."""
        return replace(call, max_tokens=call.max_tokens + self.limits.thinking)

    def prefix(self, request: PromptRequest) -> Prefix:
        """What the call for `request` begins with, as does every other with the same request and
        views."""
        views = () if isinstance(request, GateRequest) else request.views
        crop = request.crop if isinstance(request, ExecuteRequest | ScoreRequest) else None
        return Prefix.of(request, self.policy, views, crop)

    def _rendered(self, request: PromptRequest) -> ChatRequest:
        limits = self.limits
        if isinstance(request, AnswerRequest):
            return answers.render_answer(request, limits)
        prefix = self.prefix(request)
        match request:
            case ScanRequest():
                return search.render_scan(prefix, limits)
            case ProposeRequest():
                return search.render_propose(prefix, request, limits, self.profile.boxes)
            case ExecuteRequest():
                return search.render_execute(prefix, request, limits)
            case WriteRequest():
                return search.render_write(prefix, request, limits)
            case ScoreRequest():
                return judging.render_score(prefix, request, limits, self.top_logprobs)
            case CaptionRequest():
                return answers.render_caption(prefix, limits)
            case GateRequest() | CheckRequest():
                return judging.render_verdict(prefix, request, limits)
            case _:
                assert_never(request)

    def score_calls(self, request: ScoreRequest) -> tuple[ChatRequest, ...]:
        """See `Dialect.score_calls`."""
        if self.form == "word":
            openings = judging.word_openings(self.prefix(request), request)
            return word_calls(
                openings,
                request,
                together=True,
                max_tokens=1 + self.limits.thinking,
                top_logprobs=self.profile.logprobs,
            )
        strict = self._capped(self._rendered(request))
        return sampled((strict,), request) if self.form == "samples" else (strict,)

    def read_score(self, request: ScoreRequest, completions: Sequence[Completion]) -> ScoreResult:
        """See `Dialect.read_score`."""
        if self.form == "word":
            return read_words(request, completions, self.profile.safe_threshold, together=True)
        if self.form == "samples":
            return of_samples([judging.sample(request, one) for one in completions])
        (completion,) = completions
        return judging.parse_score(request, completion)

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """See `Dialect.parse_propose`."""
        return search.parse_propose(request, completion, self.profile.boxes)

    def parse_execute(self, request: ExecuteRequest | WriteRequest, completion: Completion) -> str:
        """See `Dialect.parse_execute`."""
        return search.parse_execute(request, completion, self.prefix(request).word)

    parse_scan = staticmethod(search.parse_scan)
    parse_answer = staticmethod(answers.parse_answer)
    parse_caption = staticmethod(answers.parse_caption)
    parse_verdict = staticmethod(judging.parse_verdict)
