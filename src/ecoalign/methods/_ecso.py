"""ECSO, "Eyes Closed, Safety On" (Gou et al., arXiv 2403.09572, ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ecoalign.errors import BudgetExceeded, EcoAlignError, ModelError
from ecoalign.methods._context import Room, Verdict, cause_of
from ecoalign.prompts.requests import AnswerRequest, CaptionRequest
from ecoalign.search.synthesizer import FIXED_REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event, Finished

__all__ = ["Ecso"]


@dataclass(frozen=True, slots=True)
class Ecso:
    """Answer, self-check, and where that fails: caption, then answer without the image.

    The paper's idea: a model's language half was aligned before images were added and still
    refuses what it reads, while what it sees slips past. So

    1. answer with the image (stage `answer`);
    2. ask the model itself, with the image, whether that answer is harmful (`check`); a harmless
       answer is given out;
    3. else have the image described with the question in view (`caption`);
    4. and answer from that description alone, asked to stay harmless (`blind`).

    As in the paper the second answer is not checked again. Two things are stricter here. The
    authors' program takes every reply but "yes" for harmless; here a check without a well-formed
    verdict counts as unsafe. And an answer that has failed never gets out, not even if the model
    gives it word for word again. Then, and where the second answer cannot be had for lack of
    budget or of a caption, a fixed refusal is given.

    `stop_reason` is "draft", "eyes-closed" or "fail-closed"; `safety` is that of the check, None
    for the second answer.

    Attributes:
        settings: sampling, retries, `safety_threshold` of the check.
    """

    settings: Settings
    name: ClassVar[str] = "ecso"
    label: ClassVar[str] = (
        "ECSO: self-check, then answer from a caption without the image (arXiv 2403.09572)"
    )

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
        request = AnswerRequest(query.question, room.views, "plain", query.context)
        check = room.check_of(room.longest(request))
        room.require(room.bounds(request, check))
        try:
            draft = await room.answer(request)
        except BudgetExceeded as short:
            raise room.too_small(short) from short
        if draft.note == "withheld":
            return room.finish(draft.text, stop_reason="withheld", reply=draft.reply)
        verdict = await room.judge(room.check_of(draft.text))
        if verdict.passes(self.settings.safety_threshold):
            return room.finish(
                draft.text,
                safety=verdict.safety,
                stop_reason="draft",
                detail={"flagged": False},
                reply=draft.reply,
            )
        return await self._eyes_closed(room, draft.text, verdict)

    async def _eyes_closed(self, room: Room, draft: str, verdict: Verdict) -> Finished:
        query = room.query
        detail: dict[str, object] = {
            "flagged": True,
            "verdict": verdict.safety,
            "cause": verdict.cause,
        }
        request = CaptionRequest(query.question, room.views, query.context)
        blind = AnswerRequest(query.question, (), "blind", query.context, room.longest(request))
        try:
            # A caption that could not be answered from would be money for nothing.
            room.secure(room.bounds(request, blind))
            completion = await room.ask(request)
            try:
                caption = room.dialect.parse_caption(request, completion).text
            except ModelError as error:
                return self._refusal(room, detail | {"cause": cause_of(error)})
            result = await room.answer(replace(blind, caption=caption))
        except ModelError:
            # Nobody's verdict: the server is at fault, and nothing has got out.
            raise
        except EcoAlignError as error:
            return self._refusal(room, detail | {"cause": cause_of(error)})
        if _same(result.text, draft):
            return self._refusal(room, detail | {"cause": "the answer that failed came again"})

        return room.finish(
            result.text, stop_reason="eyes-closed", detail=detail, reply=result.reply
        )

    def _refusal(self, room: Room, detail: dict[str, object]) -> Finished:

        return room.finish(FIXED_REFUSAL, stop_reason="fail-closed", detail=detail)

    async def aclose(self) -> None:
        """Nothing to close."""


def _same(one: str, other: str) -> bool:
    return one.casefold().split() == other.casefold().split()
