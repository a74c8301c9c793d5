"""What every method but EcoAlign itself works with: one question, one model, one ledger."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ecoalign.budget import MeteredClient
from ecoalign.errors import BudgetExceeded, BudgetTooSmall, EcoAlignError, ModelError, VerdictError
from ecoalign.models import OWN_REPLY, Reply, attribute_error, checked, finish_reason, reply_of
from ecoalign.prompts.dialect import dialect_named
from ecoalign.prompts.requests import AnswerRequest, CheckRequest
from ecoalign.search.context import CallLog, record_call, recording_calls
from ecoalign.search.failures import budget_too_small
from ecoalign.search.refusals import WITHHELD, is_refusal
from ecoalign.search.run import record_run, run_started
from ecoalign.trace import Recorder
from ecoalign.trace.events import Finished

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel, ChatRequest, Completion, ImagePart, Usage
    from ecoalign.prompts.dialect import Dialect
    from ecoalign.prompts.requests import AnswerResult, MethodRequest, VerdictRequest
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

__all__ = ["FULL_PIXELS", "PURSE", "Room", "Verdict", "cause_of"]

FULL_PIXELS = 2048
"""Longest side of the images that the methods send: as a user would send them, within what
servers take. (EcoAlign sends a low-resolution view and pays for closer looks.)"""

PURSE = "method"
"""The earmark of what a method sets aside before it begins."""

_VERDICTS = ("gate", "check")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a check.

    Attributes:
        safety: s in [-1, 1]; None if there is no readable verdict, which counts as unsafe.
        cause: why there is none, without any text of a model.
    """

    safety: float | None
    cause: str = ""

    def passes(self, threshold: float) -> bool:
        """Whether it is a verdict of safe."""
        return self.safety is not None and self.safety >= threshold


@dataclass(frozen=True, slots=True)
class Room:
    """The means of one answer.

    Attributes:
        log: every attempt to call a model so far.
        views: the query's images.
    """

    query: Query
    model: ChatModel
    ledger: Ledger
    settings: Settings
    dialect: Dialect
    metered: MeteredClient
    nonce: str
    views: tuple[ImagePart, ...]
    recorder: Recorder
    log: CallLog = field(default_factory=list)

    @classmethod
    async def run(
        cls,
        method: str,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        settings: Settings,
        work: Callable[[Room], Awaitable[Finished]],
        *,
        at_once: int = 1,
        evaluator: str = "",
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """One recorded answer; what it set aside is given back at the end.

        Args:
            method: its name.
            query, model, ledger, settings, on_event: see `Method.answer`.
            work: what the method does.
            at_once: calls that the method would make together, for which the setting
                `max_concurrency` makes room unless somebody has set it.
            evaluator: who scores, if anybody does.
        """
        most = settings.max_concurrency
        if settings.origin("max_concurrency") == "default":
            most = max(most, at_once)
        metered = MeteredClient(
            ledger,
            settings.retries,
            sleep=asyncio.sleep,
            on_call=record_call,
            max_concurrency=most,
        )
        checked(model, query.sampling)
        dialect = dialect_named(model.dialect)
        nonce = secrets.token_hex(8)
        recorder = Recorder(time.monotonic, on_event)

        async def recorded() -> Finished:
            # Encoding takes long enough to keep other answers waiting.
            views = await asyncio.to_thread(_views, query) if query.pictures else ()
            room = cls(query, model, ledger, settings, dialect, metered, nonce, views, recorder)
            try:
                with recording_calls(recorder, room.log):
                    return await work(room)
            finally:
                ledger.release_fund(PURSE)

        started = run_started(
            query, settings, ledger, nonce, model=model.name, evaluator=evaluator, method=method
        )
        return await record_run(recorder, started, ledger, recorded)

    # Asking -----------------------------------------------------------------------------------

    async def ask(
        self,
        request: MethodRequest,
        *,
        stage: str | None = None,
        fund: str = PURSE,
        temperature: float | None = None,
        variant: int = 0,
    ) -> Completion:
        """One request, rendered, paid and answered.

        Args:
            request: what is asked.
            stage: to be booked under another name than the dialect's.
            earmark: what pays; `secure` it first.
            temperature: in place of the settings'; the client's comes before it. A verdict is
                always greedy.
            variant: of several answers to one question, which; added to the seed, whoever set it.

        Raises:
            BudgetExceeded, ModelError, InputError: see `MeteredClient.complete`.
        """
        call = self.render(request, temperature=temperature, variant=variant)
        judging = call.stage in _VERDICTS
        try:
            return await self.metered.complete(
                self.model, replace(call, stage=stage or call.stage), fund=fund
            )
        except ModelError as error:
            error.role = "evaluator" if judging else "model"
            if isinstance(request, AnswerRequest):
                attribute_error(error, self.query.sampling)
            raise

    def render(
        self, request: MethodRequest, *, temperature: float | None = None, variant: int = 0
    ) -> ChatRequest:
        """The call for `request` under the settings, one that answers as its client wants it."""
        call = self.dialect.render(request)
        seed = None if self.settings.seed is None else self.settings.seed + variant
        if call.stage in _VERDICTS:
            return replace(call, seed=seed)
        warmth = self.settings.temperature if temperature is None else temperature
        call = replace(call, temperature=warmth, seed=seed)
        if not isinstance(request, AnswerRequest):
            return call
        sampling = self.query.sampling if not variant else self.query.sampling.varied(variant)
        return sampling.apply(call, self.ledger.budget.answer_cap(call.max_tokens))

    async def answer(self, request: AnswerRequest) -> AnswerResult:
        """Ask for an answer and `read` it.

        Raises:
            BudgetExceeded, ModelError, InputError: see `ask`.
        """
        return self.read(request, await self.ask(request))

    def read(self, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """The answer; what the server withheld becomes the house's words for that."""
        result = self.dialect.parse_answer(request, completion)
        if result.note == "withheld":
            return replace(result, text=WITHHELD, reply=Reply("content_filter"))
        if result.note == "empty":
            return replace(result, reply=Reply(finish_reason(completion.finish_reason)))
        return replace(result, reply=reply_of(completion, result.text))

    async def judge(self, request: VerdictRequest) -> Verdict:
        """Ask for a verdict. Fails closed: whatever goes wrong, there is none."""
        try:
            return Verdict(self.dialect.parse_verdict(request, await self.ask(request)))
        except EcoAlignError as error:
            return Verdict(None, cause_of(error))

    def check_of(self, text: str) -> CheckRequest:
        """The check of an answer."""
        query = self.query
        return CheckRequest(
            query.question, self.views, text, self.fence("check", text), query.context
        )

    def fence(self, *parts: str) -> str:
        """A code word that follows from a secret and the parts, so that no text knows its own."""
        seed = "\0".join((self.nonce, *parts))
        return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]

    # Money ------------------------------------------------------------------------------------

    def bounds(self, *requests: MethodRequest) -> list[tuple[str, Usage]]:
        """Model and worst case of each of these calls."""
        return [(self.model.name, self.model.bound(self.render(r))) for r in requests]

    def longest(self, request: MethodRequest) -> str:
        """A text as long as what `request` may bring, to bound a call that quotes it."""
        return self.query.sampling.stand_in(self.render(request).max_tokens)

    def secure(self, calls: Sequence[tuple[str, Usage]], fund: str = PURSE) -> None:
        """Set the worst case of these calls aside, all of it or nothing, in place of what was
        set aside as `fund` before.

        Raises:
            BudgetExceeded: it does not fit.
            UnpricedModelError: see `Ledger.reserve_fund`.
        """
        self.ledger.release_fund(fund)
        try:
            for model, bound in calls:
                self.ledger.reserve_fund(fund, bound, model)
        except BudgetExceeded:
            self.ledger.release_fund(fund)
            raise

    def require(self, calls: Sequence[tuple[str, Usage]], fund: str = PURSE) -> None:
        """As `secure`, for the calls without which there is no answer at all.

        Raises:
            BudgetTooSmall: it does not fit.
        """
        try:
            self.secure(calls, fund)
        except BudgetExceeded as short:
            raise self.too_small(short, calls) from short

    def too_small(
        self, short: BudgetExceeded, calls: Sequence[tuple[str, Usage]] = ()
    ) -> BudgetTooSmall:
        """The error for a budget that has no room for `calls`, or no time for an answer."""
        return budget_too_small(self.ledger, short, calls, "this method")

    # The end ----------------------------------------------------------------------------------

    def finish(
        self,
        text: str,
        *,
        safety: float | None = None,
        utility: float | None = None,
        stop_reason: str = "",
        detail: dict[str, Any] | None = None,
        reply: Reply = OWN_REPLY,
    ) -> Finished:
        """The answer with its accounts; `reply` is that of `text`, where a model wrote it."""
        self.recorder.calls(self.log)
        self.log.clear()
        return self.recorder.emit(
            Finished(
                answer=text,
                refused=is_refusal(text),
                stop_reason=stop_reason,
                safety=safety,
                utility=utility,
                path=(),
                spent=self.ledger.spent.to_json(),
                reply=reply,
                detail=detail or {},
            )
        )


def _views(query: Query) -> tuple[ImagePart, ...]:
    return tuple(p.view(min(FULL_PIXELS, max(p.width, p.height))) for p in query.pictures)


def cause_of(error: EcoAlignError) -> str:
    """What went wrong, in words that no model wrote."""
    if isinstance(error, ModelError):
        return f"the {error.role or 'model'} failed ({error.fault})"
    if isinstance(error, VerdictError):
        return "no well-formed verdict"
    if isinstance(error, BudgetExceeded):
        return f"the budget in {error.unit} ran out"
    return type(error).__name__
