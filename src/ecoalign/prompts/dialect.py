"""A dialect: how typed requests become messages for a model, and its replies typed results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ecoalign.models import ChatRequest, Completion, Profile
from ecoalign.prompts._limits import DEFAULT_POLICY, TokenLimits
from ecoalign.prompts.requests import (
    AnswerRequest,
    AnswerResult,
    CaptionRequest,
    CaptionResult,
    ExecuteRequest,
    PromptRequest,
    ProposeRequest,
    ProposeResult,
    ScanRequest,
    ScanResult,
    ScoreRequest,
    ScoreResult,
    VerdictRequest,
    WriteRequest,
)

__all__ = ["DIALECTS", "Dialect", "dialect_of"]

DIALECTS = ("full", "small", "compact")


class Dialect(Protocol):
    """Renders all requests for one family of models, and parses the replies.

    Rendering is pure: the same request gives the same messages. Parsing never invents: what is
    missing is an error, never a default.
    """

    @property
    def name(self) -> str:
        """The name that `ChatModel.dialect` refers to."""
        ...

    @property
    def has_gate(self) -> bool:
        """Whether a `GateRequest` can be rendered, which judges the request in a call of its own.
        Where it cannot, `CaptionResult.safety` holds that verdict."""
        ...

    @property
    def verified(self) -> float:
        """The utility in [0, 1] from which an answer counts as verified by its score."""
        ...

    def render(self, request: PromptRequest) -> ChatRequest:
        """The call for `request`; of a `ScoreRequest`, which may take several (`score_calls`), the
        first. Its `stage` is scan, propose, execute, write or score; or answer, blind, caption,
        gate or check.

        Raises:
            ValueError: the request's fence cannot serve as one, or the dialect has no such call.
        """
        ...

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        """Raises ModelError (fault "bad-response") if caption or safety cannot be read."""
        ...

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """Raises ModelError (fault "bad-response") if there is no list of candidates at all."""
        ...

    def parse_execute(self, request: ExecuteRequest | WriteRequest, completion: Completion) -> str:
        """The text of a thought or an answer.

        Raises ModelError (fault "bad-response") if there is none.
        """
        ...

    def score_calls(self, request: ScoreRequest) -> tuple[ChatRequest, ...]:
        """The calls, at least one, that score a text; they may be made at once. Stage `score`.

        Raises:
            ValueError: the request's fence cannot serve as one.
        """
        ...

    def read_score(self, request: ScoreRequest, completions: Sequence[Completion]) -> ScoreResult:
        """The score, from the completions of `score_calls` in their order.

        Raises VerdictError unless each reply is exactly one well-formed verdict.
        """
        ...

    def parse_answer(self, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """What the user would see. Never fails: an empty answer is a result, too."""
        ...

    def parse_caption(self, request: CaptionRequest, completion: Completion) -> CaptionResult:
        """Raises ModelError (fault "bad-response") if there is no caption."""
        ...

    def parse_verdict(self, request: VerdictRequest, completion: Completion) -> float:
        """Safety s in [-1, 1]. Raises VerdictError unless the reply is exactly one verdict."""
        ...


def dialect_of(
    profile: Profile, limits: TokenLimits | None = None, policy: str = DEFAULT_POLICY
) -> Dialect:
    """How a model of this profile is spoken to; only the dialect asked for is imported.

    Args:
        profile: of the model: its dialect, its form of verdicts, its convention for regions.
        limits: the output tokens that each call may use.
        policy: what counts as harm, in words.
    """
    if profile.dialect == "compact":
        from ecoalign.prompts.compact import CompactDialect

        return CompactDialect()
    if profile.dialect == "small":
        from ecoalign.prompts.small import SmallDialect

        return SmallDialect(limits, profile=profile, policy=policy)
    from ecoalign.prompts.full import FullDialect

    return FullDialect(limits, profile=profile, policy=policy)
