"""EcoAlign itself behind the interface of the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.budget import Ledger
    from ecoalign.methods._registry import Judge
    from ecoalign.models import ChatModel
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

__all__ = ["Aligned"]

_HIGHEST_PRICE = 1000.0
"""The largest value of the setting `lambda0`."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """The engine under one set of settings.

    `refused` says whether the path ended in a refusal.

    Attributes:
        name: "ecoalign", or "ecoalign:PRESET".
        settings: of the engine; its `model` and `budget` are not looked at, as both are handed in.
        judge: who scores.
    """

    name: str
    settings: Settings
    judge: Judge

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """See `Method.answer`."""
        settings = self.settings
        if price != 1.0:
            settings = settings.replace(lambda0=min(_HIGHEST_PRICE, settings.lambda0 * price))
        aligner = Aligner(model, settings, evaluator=self.judge.evaluator())
        return await aligner.align(query, ledger=ledger, on_event=on_event, method=self.name)

    async def aclose(self) -> None:
        """Close the connections of the evaluator that the settings name."""
        await self.judge.aclose()
