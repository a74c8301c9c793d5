"""A dialect: how typed stage requests become messages, and completions typed results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ecoalign.errors import SettingsError

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion
    from ecoalign.prompts.requests import (
        AnswerRequest,
        AnswerResult,
        CaptionRequest,
        CaptionResult,
        ExecuteRequest,
        ExecuteResult,
        MethodRequest,
        ProposeRequest,
        ProposeResult,
        ScanRequest,
        ScanResult,
        ScoreRequest,
        ScoreResult,
        StageRequest,
        VerdictRequest,
        WriteRequest,
    )

__all__ = ["DIALECTS", "Dialect", "MethodDialect", "dialect_named", "method_dialect_named"]

DIALECTS = ("full", "compact")


class Dialect(Protocol):
    """Renders the requests of all stages for one family of models, and parses their answers.

    Rendering is pure: the same request gives the same messages. Parsing never invents: what is
    missing is an error, never a default.
    """

    @property
    def name(self) -> str:
        """The name that `ChatModel.dialect` refers to."""
        ...

    def render(self, request: StageRequest) -> ChatRequest:
        """The call for `request`; its `stage` is scan, propose, execute, write or score."""
        ...

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        """Raises ModelError (fault "bad-response") if caption or risk cannot be read."""
        ...

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """Raises ModelError (fault "bad-response") if there is no list of candidates at all."""
        ...

    def parse_execute(
        self, request: ExecuteRequest | WriteRequest, completion: Completion
    ) -> ExecuteResult:
        """Raises ModelError (fault "bad-response") if there is no text."""
        ...

    def parse_score(self, request: ScoreRequest, completion: Completion) -> ScoreResult:
        """Raises VerdictError unless the answer is exactly one well-formed verdict."""
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
        from ecoalign.prompts.compact._dialect import CompactDialect

        return CompactDialect()
    raise SettingsError(f"unknown dialect {name!r}: use one of {', '.join(DIALECTS)}")


class MethodDialect(Protocol):
    """Renders the requests of the methods for one family of models, and parses their answers.

    The same rules as for `Dialect`: rendering is pure, parsing never invents, a verdict that is
    not exactly one well-formed verdict is an error.
    """

    @property
    def name(self) -> str:
        """The name that `ChatModel.dialect` refers to."""
        ...

    @property
    def gates_apart(self) -> bool:
        """Whether judging a request is a call of its own. If not, a caption comes with the
        verdict, and a `GateRequest` cannot be rendered."""
        ...

    def render(self, request: MethodRequest) -> ChatRequest:
        """The call for `request`; its `stage` is answer, blind, caption, gate or check.

        Raises:
            ValueError: a fence cannot serve as one, or the dialect has no such call.
        """
        ...

    def parse_answer(self, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """What the user would see. Never fails: an answer without a text is one, too."""
        ...

    def parse_caption(self, request: CaptionRequest, completion: Completion) -> CaptionResult:
        """Raises ModelError (fault "bad-response") if there is no caption."""
        ...

    def parse_verdict(self, request: VerdictRequest, completion: Completion) -> float:
        """Safety s in [-1, 1]. Raises VerdictError unless it is exactly one verdict."""
        ...


def method_dialect_named(name: str) -> MethodDialect:
    """The dialect called `name`; only the one asked for is imported.

    Raises:
        SettingsError: there is none of that name.
    """
    if name == "full":
        from ecoalign.prompts.full._methods import FullMethods

        return FullMethods()
    if name == "compact":
        from ecoalign.prompts.compact._dialect import CompactMethods

        return CompactMethods()
    raise SettingsError(f"unknown dialect {name!r}: use one of {', '.join(DIALECTS)}")
