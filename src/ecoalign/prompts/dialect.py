"""A dialect: how typed stage requests become messages, and completions typed results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ecoalign.errors import SettingsError

if TYPE_CHECKING:
    from ecoalign.models.base import ChatRequest, Completion
    from ecoalign.prompts.requests import (
        ExecuteRequest,
        ExecuteResult,
        ProposeRequest,
        ProposeResult,
        ScanRequest,
        ScanResult,
        ScoreRequest,
        ScoreResult,
        StageRequest,
        WriteRequest,
    )

__all__ = ["DIALECTS", "Dialect", "dialect_named"]

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
        from ecoalign.prompts.compact import CompactDialect

        return CompactDialect()
    raise SettingsError(f"unknown dialect {name!r}: use one of {', '.join(DIALECTS)}")
