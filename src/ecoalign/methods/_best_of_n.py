"""Best of n: several answers, each scored, the best one given out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.errors import BudgetExceeded, EcoAlignError, InputError, ModelError
from ecoalign.evaluators import SelfEvaluator, bounds_by_model
from ecoalign.methods._context import Room, cause_of
from ecoalign.models import OWN_REPLY, Reply
from ecoalign.prompts.requests import AnswerRequest, ScoreRequest
from ecoalign.search.context import CallLog, logging_calls
from ecoalign.search.synthesizer import FIXED_REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.budget import Ledger
    from ecoalign.evaluators import Evaluator
    from ecoalign.methods._registry import Judge
    from ecoalign.models import ChatModel, Usage
    from ecoalign.prompts.requests import ScoreResult
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event, Finished

__all__ = ["DEFAULT_N", "LARGEST_N", "TEMPERATURE", "BestOfN"]

DEFAULT_N = 4

LARGEST_N = 64

TEMPERATURE = 0.8
"""Of all samples but the first, where the settings ask for greedy answers: n equal ones would be
no choice."""


@dataclass(slots=True)
class _Sample:
    text: str = ""
    score: ScoreResult | None = None
    error: EcoAlignError | None = None
    reply: Reply = OWN_REPLY
    log: CallLog = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BestOfN:
    """n answers of the plain model (stage `sample`), each scored (`score`) by the evaluator that
    EcoAlign would use; of those that are safe, the one with the greatest S*u.

    The first sample is what Base would say; the others have seeds of their own, counted up from
    the settings' or the client's, and a client's temperature holds for all. A sample is drawn
    only if the budget has room for its score as well, so there may be fewer than n
    (`detail["samples"]`). All run at once. A sample without a score never gets out; with no safe
    one, a fixed refusal is given. `stop_reason` is "best" or "fail-closed".

    With an evaluator that knows no utility (a guard model), S*u is 0 for all and the safest counts.

    Attributes:
        name: "best-of-n", or with n in place of the letter.
        n: samples, from 1 to `LARGEST_N`.
        settings: sampling, retries, `safety_threshold` of the scores.
        judge: who scores.
    """

    name: str
    n: int
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
        evaluator = self.judge.evaluator() or SelfEvaluator(model)
        return await Room.run(
            self.name,
            query,
            model,
            ledger,
            self.settings,
            lambda room: self._answer(room, evaluator),
            at_once=self.n,
            evaluator=evaluator.name,
            on_event=on_event,
        )

    async def _answer(self, room: Room, evaluator: Evaluator) -> Finished:
        marks = self._secured(room, evaluator)
        try:
            samples = await self._sampled(room, evaluator, marks)
        finally:
            for mark in marks:
                room.ledger.release_fund(mark)
        return self._best(room, samples)

    def _secured(self, room: Room, evaluator: Evaluator) -> list[str]:
        """The earmarks of as many samples as can be paid for.

        Raises:
            BudgetTooSmall: there is not room for one.
        """
        request = _request(room)
        calls: list[tuple[str, Usage]] = room.bounds(request)
        scoring = _scoring(room, room.longest(request))
        calls += bounds_by_model(evaluator, scoring, room.model.name)
        marks: list[str] = []
        for i in range(self.n):
            mark = f"sample {i}"
            try:
                room.secure(calls, mark)
            except BudgetExceeded as short:
                if not marks:
                    raise room.too_small(short, calls) from short
                break
            marks.append(mark)
        return marks

    async def _sampled(self, room: Room, evaluator: Evaluator, marks: list[str]) -> list[_Sample]:
        samples = [_Sample() for _ in marks]
        work = (self._sample(room, evaluator, i, mark, samples[i]) for i, mark in enumerate(marks))
        # All are let finish: a call that is cut off is charged at its worst case.
        try:
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            for sample in samples:
                room.recorder.calls(sample.log)
        return samples

    async def _sample(
        self, room: Room, evaluator: Evaluator, i: int, mark: str, sample: _Sample
    ) -> None:
        request = _request(room)
        warmth = self.settings.temperature or (TEMPERATURE if i else 0.0)
        with logging_calls(sample.log):
            try:
                completion = await room.ask(
                    request, stage="sample", fund=mark, temperature=warmth, variant=i
                )
            except InputError:
                # The question itself cannot be read.
                raise
            except EcoAlignError as error:
                sample.error = error
                return
            read = room.read(request, completion)
            sample.text, sample.reply = read.text, read.reply
            try:
                scoring = _scoring(room, sample.text)
                sample.score = await evaluator.score(scoring, room.metered, fund=mark)
            except EcoAlignError as error:
                if isinstance(error, ModelError):
                    error.role = "evaluator"
                sample.error = error

    def _best(self, room: Room, samples: list[_Sample]) -> Finished:
        """The best safe sample; of equals the first.

        Raises:
            ModelError: not one answer came back.
            BudgetTooSmall: the time ran out before one did.
        """
        detail = {
            "n": self.n,
            "samples": len(samples),
            "scored": sum(sample.score is not None for sample in samples),
            "causes": sorted({cause_of(s.error) for s in samples if s.error is not None}),
        }
        best, score = None, None
        for sample in samples:
            if sample.score is None or sample.score.safety < self.settings.safety_threshold:
                continue
            if score is None or _worth(sample.score) > _worth(score):
                best, score = sample, sample.score
        if best is not None and score is not None:
            return room.finish(
                best.text,
                safety=score.safety,
                utility=score.utility,
                stop_reason="best",
                detail=detail,
                reply=best.reply,
            )
        _raise_if_unanswered(room, samples)
        return room.finish(FIXED_REFUSAL, stop_reason="fail-closed", detail=detail)

    async def aclose(self) -> None:
        """Close the connections of the evaluator that the settings name."""
        await self.judge.aclose()


def _request(room: Room) -> AnswerRequest:
    return AnswerRequest(room.query.question, room.views, "plain", room.query.context)


def _scoring(room: Room, text: str) -> ScoreRequest:
    query, fence = room.query, room.fence("score", text)
    return ScoreRequest(query.question, room.views, (), "answer", text, fence, query.context)


def _worth(score: ScoreResult) -> tuple[float, float]:
    return score.safety * score.utility, score.safety


def _raise_if_unanswered(room: Room, samples: list[_Sample]) -> None:
    """Where no sample was ever answered there is nothing to refuse."""
    if any(record.text is not None for sample in samples for record in sample.log):
        return
    for sample in samples:
        if isinstance(sample.error, ModelError):
            raise sample.error
        if isinstance(sample.error, BudgetExceeded):
            raise room.too_small(sample.error) from sample.error
