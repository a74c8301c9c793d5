"""A dialect: how typed requests become messages for a model, and its replies typed results."""

from __future__ import annotations

from typing import Protocol

from ecoalign.errors import SettingsError
from ecoalign.models import ChatRequest, Completion
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

__all__ = ["DIALECTS", "Dialect", "dialect_named"]

DIALECTS = ("full", "compact")


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

    def render(self, request: PromptRequest) -> ChatRequest:
        """The call for `request`. Its `stage` is scan, propose, execute, write or score; or answer,
        blind, caption, gate or check.

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

    def parse_score(self, request: ScoreRequest, completion: Completion) -> ScoreResult:
        """Raises VerdictError unless the reply is exactly one well-formed verdict."""
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


def dialect_named(name: str) -> Dialect:
    """The dialect called `name`, with its defaults; only the one asked for is imported.

    Raises:
        SettingsError: there is none of that name.
    """
    if name == "full":
        from ecoalign.prompts.full import FullDialect

        return FullDialect()
    if name == "compact":
        from ecoalign.prompts.compact import CompactDialect

        return CompactDialect()
    raise SettingsError(f"unknown dialect {name!r}: use one of {', '.join(DIALECTS)}")
