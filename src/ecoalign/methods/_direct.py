"""The methods that ask once and pass on what comes back: base, cot, cod and safety-prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import BudgetExceeded
from ecoalign.methods._context import Room
from ecoalign.prompts.requests import AnswerRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel
    from ecoalign.prompts.requests import AnswerStyle
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event, Finished

__all__ = ["DIRECT", "Direct"]

DIRECT: dict[str, tuple[AnswerStyle, str]] = {
    "base": ("plain", "Base: the plain model, asked as it is"),
    "cot": ("cot", "CoT: chain of thought, then the answer"),
    "cod": ("cod", "CoD: Chain of Draft, a few words a step (arXiv 2502.18600)"),
    "safety-prompt": ("careful", "Safety prompt: a system prompt that leans to refusing"),
}
"""By name: how it is asked, and the label."""


@dataclass(frozen=True, slots=True)
class Direct:
    """One call, and its answer as it is: nothing is checked, whatever it says gets out.

    Of cot and cod the user sees what follows the mark of the final answer; all that was said is
    in `detail["whole"]`. An answer without its mark is seen whole. `stop_reason` is "" for an
    answer that ended by itself, else "length", "withheld" or "empty"; see `AnswerResult`.

    Attributes:
        name: one of `DIRECT`.
        settings: sampling, retries and the like.
    """

    name: str
    settings: Settings

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
        return await Room.run(
            self.name, query, model, ledger, self.settings, self._answer, on_event=on_event
        )

    async def _answer(self, room: Room) -> Finished:
        query = room.query
        request = AnswerRequest(query.question, room.views, DIRECT[self.name][0], query.context)
        room.require(room.bounds(request))
        try:
            result = await room.answer(request)
        except BudgetExceeded as short:
            raise room.too_small(short) from short
        detail = {} if result.whole == result.text else {"whole": result.whole}
        return room.finish(
            result.text,
            stop_reason=result.note,
            detail=detail,
            reply=result.reply,
        )

    async def aclose(self) -> None:
        """Nothing to close."""
