"""An evaluator that a test scripts: it sees the requests themselves, whatever the dialect."""

from __future__ import annotations

from collections.abc import Callable

from ecoalign.evaluators import Completer
from ecoalign.models import Usage
from ecoalign.prompts.requests import ScoreRequest, ScoreResult

Verdict = tuple[float, float] | Exception


class Judge:
    """Scores for nothing, by a function: safety and utility, or an error to raise.

    Attributes:
        asked: every request so far, oldest first.
    """

    name = "judge"

    def __init__(self, verdict: Callable[[ScoreRequest], Verdict]) -> None:
        self.verdict = verdict
        self.asked: list[ScoreRequest] = []

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        self.asked.append(request)
        said = self.verdict(request)
        if isinstance(said, Exception):
            raise said
        return ScoreResult(*said)

    def bound(self, request: ScoreRequest) -> Usage:
        return Usage(1, 0)

    def checks(self, text: str) -> list[int]:
        """The numbers of the verdicts on a text, in the order in which they were asked for."""
        return [request.check for request in self.asked if request.text == text]
