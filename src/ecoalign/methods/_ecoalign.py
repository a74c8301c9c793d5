"""EcoAlign itself behind the interface of the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner
from ecoalign.methods._base import Answer
from ecoalign.search.refusals import is_refusal
from ecoalign.trace import critical_path

if TYPE_CHECKING:
    from ecoalign.budget import Ledger
    from ecoalign.methods._registry import Judge
    from ecoalign.models import ChatModel
    from ecoalign.query import Query
    from ecoalign.settings import Settings

__all__ = ["Aligned"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """The engine under one set of settings.

    `refused` is decided by the text, as for every other method; whether the path ended in a
    refusal by the engine's own account is `detail["ended_in_refusal"]`.

    Attributes:
        name: "ecoalign", or "ecoalign:PRESET".
        settings: of the engine; its `model` and `budget` are not looked at, as both are handed in.
        judge: who scores.
    """

    name: str
    settings: Settings
    judge: Judge

    @property
    def label(self) -> str:
        """For people."""
        return f"EcoAlign, preset {self.settings.preset}"

    async def answer(self, query: Query, model: ChatModel, ledger: Ledger) -> Answer:
        """See `Method.answer`."""
        aligner = Aligner(model, self.settings, evaluator=self.judge.evaluator())
        result = await aligner.align(query, ledger=ledger)
        return Answer(
            text=result.answer,
            refused=is_refusal(result.answer),
            spent=result.spent,
            safety=result.safety,
            utility=result.utility,
            stop_reason=result.stop_reason,
            critical_path=critical_path(result.trace.events),
            detail={
                "preset": result.preset,
                "hint": result.hint,
                "path": [thought.kind.value for thought in result.path],
                "ended_in_refusal": result.refused,
            },
            reply=result.reply,
        )

    async def aclose(self) -> None:
        """Close the connections of the evaluator that the settings name."""
        await self.judge.aclose()
