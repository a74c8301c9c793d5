"""EcoAlign itself behind the interface of the methods."""

from __future__ import annotations

from collections.abc import Callable

from ecoalign.aligner import Aligner
from ecoalign.budget import Ledger
from ecoalign.models import ChatModel
from ecoalign.query import Query
from ecoalign.search.context import named_evaluator
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event

_HIGHEST_PRICE = 1000.0
"""The largest value of the setting `lambda0`."""


class EcoAlign:
    """The engine under one set of settings; see `Method`. `refused` says how the path ended.

    Args:
        name: "ecoalign", or "ecoalign:PRESET".
        settings: of the engine; `model` and `budget` are not looked at, as both are handed in.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self._named = named_evaluator(settings)

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price_factor: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """See `Method.answer`."""
        settings = self.settings
        if price_factor != 1.0:
            lambda0 = min(_HIGHEST_PRICE, settings.lambda0 * price_factor)
            settings = settings.replace(lambda0=lambda0)
        aligner = Aligner(model, settings, evaluator=self._named.of(model))
        return await aligner.align(query, ledger=ledger, on_event=on_event, method=self.name)

    async def aclose(self) -> None:
        """Close the connections of the evaluator that the settings name."""
        await self._named.aclose()
