"""The money that is kept back for the answer: set aside first, so that no search can spend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.errors import BudgetExceeded
from ecoalign.models import Usage
from ecoalign.search.context import ANSWER
from ecoalign.search.failures import budget_too_small
from ecoalign.search.scanner import reserve_scan
from ecoalign.search.synthesizer import reserve_answer

if TYPE_CHECKING:
    from ecoalign.errors import BudgetTooSmall
    from ecoalign.graph._thoughts import Thought
    from ecoalign.search.context import RunContext

__all__ = ["AnswerReserve"]

_LONG_CAPTION = 100
"""Words of a caption that is longer than the scan is asked for."""

_ANSWER_SECONDS = 0.2
"""Share of a budget in seconds that is kept back for writing and scoring the answer."""


@dataclass
class AnswerReserve:
    """What writing and scoring one answer costs at worst, held in the fund `ANSWER`.

    Attributes:
        desk: the means.
    """

    ctx: RunContext
    _secured: list[Usage] = field(default_factory=list)
    _longest: int = 0

    def reserve_fund(self) -> None:
        """Set the money for one answer aside, before anything else is paid for.

        Raises:
            BudgetTooSmall: the budget does not even hold that.
        """
        needed = reserve_answer(self.ctx)
        seconds = self.ctx.ledger.budget.seconds
        try:
            for i, (model, bound) in enumerate(needed):
                aside = _ANSWER_SECONDS * seconds if seconds and i == 0 else 0.0
                self.ctx.ledger.reserve_fund(ANSWER, bound, model, seconds=aside)
        except BudgetExceeded as short:
            raise self.too_small(short) from short
        self._secured = [bound for _, bound in needed]

    def secure(self, path: tuple[Thought, ...]) -> None:
        """Set more aside where an answer written from `path` would need it.

        If there is no more, the answer will be written from a shorter path.
        """
        length = sum(len(thought.text) for thought in path)
        if length <= self._longest:
            return
        self._longest = length
        needed = reserve_answer(self.ctx, path)
        for i, ((model, bound), old) in enumerate(zip(needed, self._secured, strict=True)):
            more = Usage(
                max(0, bound.prompt - old.prompt), max(0, bound.completion - old.completion)
            )
            try:
                self.ctx.ledger.reserve_fund(ANSWER, more, model)
            except BudgetExceeded:
                return
            self._secured[i] = old + more

    def too_small(self, short: BudgetExceeded) -> BudgetTooSmall:
        """The error, with what a scan and an answer from a long caption need at worst."""
        look = reserve_scan(self.ctx)
        answer = reserve_answer(self.ctx, caption=min(look.completion, _LONG_CAPTION))
        calls = [(self.ctx.model.name, look), *answer]
        return budget_too_small(self.ctx.ledger, short, calls, "any scored answer")
