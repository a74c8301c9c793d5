"""The methods that ask once and pass on what comes back: base, cot, cod and safety-prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import BudgetExceeded
from ecoalign.methods._context import Room
from ecoalign.prompts.requests import AnswerRequest
from ecoalign.trace import chain

if TYPE_CHECKING:
    from ecoalign.budget import Ledger
    from ecoalign.methods._base import Answer
    from ecoalign.models import ChatModel
    from ecoalign.prompts.requests import AnswerStyle
    from ecoalign.query import Query
    from ecoalign.settings import Settings

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

    @property
    def label(self) -> str:
        """For people."""
        return DIRECT[self.name][1]

    async def answer(self, query: Query, model: ChatModel, ledger: Ledger) -> Answer:
        """See `Method.answer`."""
        async with Room.opened(query, model, ledger, self.settings) as room:
            style = DIRECT[self.name][0]
            request = AnswerRequest(query.question, room.views, style, query.context)
            room.require(room.bounds(request))
            try:
                result = await room.answer(request)
            except BudgetExceeded as short:
                raise room.too_small(short) from short
            detail = {} if result.whole == result.text else {"whole": result.whole}
            return room.finish(
                result.text,
                chain(room.log),
                stop_reason=result.note,
                detail=detail,
                reply=result.reply,
            )

    async def aclose(self) -> None:
        """Nothing to close."""
