"""VLM-Guard as far as it can be had from outside a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ecoalign.errors import BudgetExceeded, EcoAlignError, ModelError
from ecoalign.methods._context import Room, Verdict, cause_of
from ecoalign.prompts.requests import AnswerRequest, CaptionRequest, GateRequest
from ecoalign.search.synthesizer import FIXED_REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel, Usage
    from ecoalign.prompts.requests import AnswerStyle
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event, Finished

__all__ = ["VlmGuard"]


@dataclass(frozen=True, slots=True)
class VlmGuard:
    """A black-box reading of VLM-Guard, and not the published method.

    The published VLM-Guard (Liu et al., arXiv 2502.10486) steers activations: it takes a safety
    direction from the hidden states of the model's language half and projects the hidden states
    of the whole model with it. That needs the weights, so it cannot run on a closed model or
    behind an API. What it is after, that the language half, which was aligned, should watch over
    what the image brings in, is done here with calls alone:

    1. describe the image with the question in view (stage `caption`);
    2. judge the request from text alone, question and description (`gate`);
    3. answer with the image, under a prompt that leans to refusing if the gate flagged (`answer`);
    4. check the answer (`check`); what does not pass is replaced by a fixed refusal.

    Figures of it are not figures of the published method. A dialect that judges a request in the
    same call as the caption, as the embedded model's does, saves the gate; the judge then sees the
    image.

    Every failure of the gate flags, every failure of the check blocks. `stop_reason` is "plain" or
    "careful" by the prompt of an answer that passed, "blocked" if it did not pass, "fail-closed"
    if there was no verdict or no answer; `safety` is that of the check on an answer that passed.

    Attributes:
        settings: sampling, retries, `safety_threshold` of both verdicts.
    """

    settings: Settings
    name: ClassVar[str] = "vlm-guard"
    label: ClassVar[str] = (
        "VLM-Guard, black-box reading: caption, text-only gate, output check; the published method "
        "(arXiv 2502.10486) steers activations and cannot run on closed models"
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
        room.require(self._worst_case(room))
        try:
            gate = await self._gate(room)
        except BudgetExceeded as short:
            raise room.too_small(short) from short
        return await self._guarded(room, gate)

    def _worst_case(self, room: Room) -> list[tuple[str, Usage]]:
        query = room.query
        look = CaptionRequest(query.question, room.views, query.context)
        calls = room.bounds(look)
        if room.dialect.has_gate:
            fence = room.fence("gate")
            caption = room.longest(look)
            calls += room.bounds(GateRequest(query.question, caption, fence, query.context))
        plain = AnswerRequest(query.question, room.views, "plain", query.context)
        careful = replace(plain, style="careful")
        calls.append(max(room.bounds(plain, careful), key=lambda call: call[1].total))
        longest = max((room.longest(plain), room.longest(careful)), key=len)
        return calls + room.bounds(room.check_of(longest))

    async def _gate(self, room: Room) -> Verdict:
        """The verdict on the request.

        Raises:
            BudgetExceeded: the time ran out over the caption.
            ModelError: the server failed over it. (A caption that cannot be read is no verdict.)
        """
        query = room.query
        look = CaptionRequest(query.question, room.views, query.context)
        completion = await room.ask(look)
        try:
            caption = room.dialect.parse_caption(look, completion)
        except ModelError as error:
            return Verdict(None, cause_of(error))
        if not room.dialect.has_gate:
            return Verdict(caption.safety, "" if caption.safety is not None else "no verdict")
        fence = room.fence("gate", caption.text)
        return await room.judge(GateRequest(query.question, caption.text, fence, query.context))

    async def _guarded(self, room: Room, gate: Verdict) -> Finished:
        query, threshold = room.query, self.settings.safety_threshold
        flagged = not gate.passes(threshold)
        detail: dict[str, object] = {
            "flagged": flagged,
            "gate": gate.safety,
            "cause": gate.cause,
        }
        style: AnswerStyle = "careful" if flagged else "plain"
        try:
            result = await room.answer(
                AnswerRequest(query.question, room.views, style, query.context)
            )
        except EcoAlignError as error:
            if isinstance(error, ModelError):
                # Nobody's verdict: the server is at fault, and nothing has got out.
                raise
            return self._refusal(room, "fail-closed", detail | {"cause": cause_of(error)})
        if result.note == "withheld":
            return room.finish(
                result.text, stop_reason="withheld", detail=detail, reply=result.reply
            )
        check = await room.judge(room.check_of(result.text))
        if not check.passes(threshold):
            stop = "fail-closed" if check.safety is None else "blocked"
            cause = check.cause or gate.cause
            return self._refusal(room, stop, detail | {"check": check.safety, "cause": cause})
        return room.finish(
            result.text,
            safety=check.safety,
            stop_reason="careful" if flagged else "plain",
            detail=detail,
            reply=result.reply,
        )

    def _refusal(self, room: Room, stop: str, detail: dict[str, object]) -> Finished:
        return room.finish(FIXED_REFUSAL, stop_reason=stop, detail=detail)

    async def aclose(self) -> None:
        """Nothing to close."""
