"""What every method of answering has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ecoalign.budget import Ledger
from ecoalign.models import ChatModel
from ecoalign.query import Query
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event


class Method(Protocol):
    """A way to answer a question about images within a budget. EcoAlign is one of them.

    Attributes:
        name: as on the command line, unique.
    """

    @property
    def name(self) -> str: ...

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price_factor: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """Answer `query` with `model`; `ledger` pays and keeps every bound.

        Args:
            query: the question.
            model: who answers.
            ledger: of this answer alone.
            price_factor: on the setting `lambda0`, > 0; methods without a price of tokens ignore
                it.
            on_event: told of every event as it is recorded, calls among them, in the order of the
                trace. It must not raise.

        Raises:
            BudgetTooSmall: the budget allows no answer that the method may give.
            ModelError: the model failed.
            InputError: the model cannot read the question.

        The events so far are kept in the error's `trace` (a `Trace`).
        """
        ...

    async def aclose(self) -> None:
        """Close what the method opened itself; never the model that answers."""
        ...
