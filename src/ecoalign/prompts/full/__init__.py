"""The `full` dialect: prompts for real LVLMs, one file a stage.

Grades travel as single digits 0 to 9, regions as whole thousandths, forecasts as short lists:
tokens are money.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ecoalign.errors import SettingsError
from ecoalign.prompts.full import _execute as execute
from ecoalign.prompts.full import _propose as propose
from ecoalign.prompts.full import _scan as scan
from ecoalign.prompts.full import _score as score
from ecoalign.prompts.full import _write as write
from ecoalign.prompts.full._common import TokenLimits
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

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion

__all__ = ["FullDialect", "TokenLimits"]


class FullDialect:
    """Prompts and parsers for models that follow instructions in plain language.

    Args:
        limits: the output tokens that each stage may use.
        temperature: of the execute stage; all others are greedy. 0 or more.
        top_logprobs: alternatives per token to ask for when scoring, 0 to 20; 0 for servers that
            refuse the parameter. 10 cover every grade.

    Raises:
        SettingsError: a value is out of its range.
    """

    name = "full"

    def __init__(
        self,
        limits: TokenLimits | None = None,
        *,
        temperature: float = 0.0,
        top_logprobs: int = 10,
    ) -> None:
        if not 0 <= temperature <= 2:
            raise SettingsError(f"temperature is {temperature}: it must be in 0..2")
        if not 0 <= top_logprobs <= 20:
            raise SettingsError(f"top_logprobs is {top_logprobs}: it must be in 0..20")
        self.limits = limits or TokenLimits()
        self.temperature = temperature
        self.top_logprobs = top_logprobs

    def render(self, request: StageRequest) -> ChatRequest:
        """The call for `request`.

        Raises:
            ValueError: the fence of a `ScoreRequest` cannot serve as one.
        """
        match request:
            case ScanRequest():
                return scan.render(request, self.limits)
            case ProposeRequest():
                return propose.render(request, self.limits)
            case ExecuteRequest():
                return execute.render(request, self.limits, self.temperature)
            case WriteRequest():
                return write.render(request, self.limits)
            case ScoreRequest():
                return score.render(request, self.limits, self.top_logprobs)
            case _:
                assert_never(request)

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        """See `Dialect.parse_scan`."""
        return scan.parse(request, completion)

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """See `Dialect.parse_propose`."""
        return propose.parse(request, completion)

    def parse_execute(
        self, request: ExecuteRequest | WriteRequest, completion: Completion
    ) -> ExecuteResult:
        """See `Dialect.parse_execute`."""
        return execute.parse(request, completion)

    def parse_score(self, request: ScoreRequest, completion: Completion) -> ScoreResult:
        """See `Dialect.parse_score`."""
        return score.parse(request, completion)
