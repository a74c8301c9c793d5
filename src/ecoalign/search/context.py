"""What every stage of one run shares: the model, its dialect, the evaluator, the money, the tape.

The stages ask through the desk and never touch a network or a clock themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ecoalign.errors import ModelError
from ecoalign.graph import ActionKind
from ecoalign.models import attribute_error
from ecoalign.prompts.requests import ExecuteRequest, ScoreRequest, WriteRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ecoalign.budget import Called, Ledger
    from ecoalign.evaluators import Completer, Evaluator
    from ecoalign.graph import Region
    from ecoalign.graph._thoughts import Thought
    from ecoalign.models import ChatModel, ChatRequest, Completion, ImagePart
    from ecoalign.prompts.dialect import Dialect
    from ecoalign.prompts.requests import ScoreResult, StageRequest
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Recorder

__all__ = [
    "ANSWER",
    "CallLog",
    "RunContext",
    "logging_calls",
    "note_calls",
    "record_call",
    "recording_calls",
    "tokens_of",
]

ANSWER = "answer"
"""The fund that is reserved for writing and scoring the answer."""

CallLog = list["Called"]

_log: ContextVar[CallLog | None] = ContextVar("ecoalign_call_log", default=None)


def record_call(record: Called) -> None:
    """Note an attempt in the log of the task that made it (the caller's `on_call`)."""
    log = _log.get()
    if log is not None:
        log.append(record)


@contextmanager
def logging_calls(log: CallLog) -> Iterator[None]:
    """Collect the attempts made in this block, its child tasks included, in `log`.

    Each concurrent action has a log of its own, so that the trace is in the order of the actions
    and not of their luck with the network.
    """
    token = _log.set(log)
    try:
        yield
    finally:
        _log.reset(token)


@contextmanager
def recording_calls(recorder: Recorder, log: CallLog) -> Iterator[None]:
    """Collect the calls of this block in `log`, and record them however it ends."""
    try:
        with logging_calls(log):
            yield
    finally:
        recorder.calls(log)


def note_calls(records: CallLog) -> None:
    """Add attempts that a task of its own made to the log of this block."""
    log = _log.get()
    if log is not None:
        log.extend(records)


def tokens_of(log: CallLog) -> int:
    """Tokens charged for the attempts of a log: the cost c of what they made."""
    return sum(record.charged.total for record in log)


@dataclass(frozen=True, slots=True)
class Staged:
    """A completer whose calls are booked under another stage."""

    metered: Completer
    stage: str

    async def complete(
        self, model: ChatModel, request: ChatRequest, *, fund: str | None = None
    ) -> Completion:
        """See `MeteredClient.complete`."""
        booked = replace(request, stage=self.stage)
        return await self.metered.complete(model, booked, fund=fund)


@dataclass(frozen=True, slots=True)
class RunContext:
    """The shared means of one run."""

    query: Query
    model: ChatModel
    dialect: Dialect
    evaluator: Evaluator
    ledger: Ledger
    metered: Completer
    settings: Settings
    nonce: str
    _views: list[tuple[ImagePart, ...]] = field(default_factory=list)

    @property
    def views(self) -> tuple[ImagePart, ...]:
        """The low-resolution views of the query's pictures, one each."""
        if not self._views:
            side = self.settings.view_pixels
            self._views.append(tuple(picture.view(side) for picture in self.query.pictures))
        return self._views[0]

    async def prepare(self, regions: Iterable[Region] = ()) -> None:
        """Encode the views, or some regions, beforehand and aside: it takes long enough to keep
        other runs waiting."""
        crops = [region for region in regions if region.image < len(self.query.pictures)]
        if crops:
            await asyncio.to_thread(lambda: [self.crop(region) for region in crops])
        elif self.query.pictures and not self._views:
            await asyncio.to_thread(lambda: self.views)

    def booked_as(self, stage: str) -> RunContext:
        """The same desk with every call booked under `stage`."""
        return replace(self, metered=Staged(self.metered, stage))

    def crop(self, region: Region) -> ImagePart:
        """A region at full resolution. Raises IndexError if there is no such picture."""
        return self.query.pictures[region.image].crop(region, self.settings.crop_pixels)

    async def ask(self, request: StageRequest, *, fund: str | None = None) -> Completion:
        """One stage request, rendered, paid and answered.

        Raises:
            BudgetExceeded, ModelError: see `MeteredClient.complete`.
        """
        try:
            return await self.metered.complete(self.model, self.render(request), fund=fund)
        except ModelError as error:
            error.role = "model"
            if _answers(request):
                attribute_error(error, self.query.sampling)
            raise

    def render(self, request: StageRequest) -> ChatRequest:
        """The call for `request` under the settings; one that writes an answer as its client wants
        it. What it reserves is its bound."""
        call = self.dialect.render(request)
        # A server's own sampling applies to what is thought, never to a verdict.
        warmth = call.temperature if call.stage == "score" else self.settings.temperature
        call = replace(call, temperature=warmth or call.temperature, seed=self.settings.seed)
        if not _answers(request):
            return call
        return self.query.sampling.apply(call, self.ledger.budget.answer_cap(call.max_tokens))

    def score_request(
        self, path: tuple[Thought, ...], kind: str, text: str, views: tuple[ImagePart, ...]
    ) -> ScoreRequest:
        """The scoring of one text. Its fence follows from the run's secret nonce and the text, so
        that a text cannot know its own fence and a replay asks the same again."""
        seed = f"{self.nonce}\0{len(path)}\0{kind}\0{text}"
        fence = hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]
        return ScoreRequest(self.query.question, views, path, kind, text, fence, self.query.context)

    async def score(self, request: ScoreRequest, *, fund: str | None = None) -> ScoreResult:
        """Score a text.

        Raises:
            VerdictError, ModelError, BudgetExceeded: it has no score, so it is unsafe.
        """
        try:
            return await self.evaluator.score(request, self.metered, fund=fund)
        except ModelError as error:
            error.role = "evaluator"
            raise


def _answers(request: StageRequest) -> bool:
    """Whether its text may be shown, so that it is the client's to say how it is written."""
    if isinstance(request, ExecuteRequest):
        return request.action.kind in (ActionKind.ANSWER, ActionKind.REFUSE)
    return isinstance(request, WriteRequest)
