"""Align a model while it answers: the engine behind one call."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.graph import Similarity, text_similarity
from ecoalign.models import checked, open_model
from ecoalign.prompts.dialect import dialect_named
from ecoalign.query import Query
from ecoalign.search.context import RunContext, record_call
from ecoalign.search.loop import Search
from ecoalign.settings import SERVER_BUDGET, Settings
from ecoalign.trace import Alignment, Recorder, Trace
from ecoalign.trace.events import Event, Finished, ImageInfo, RunFailed, RunStarted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from ecoalign.budget import Pricing
    from ecoalign.evaluators import Evaluator
    from ecoalign.models import ChatModel
    from ecoalign.query import ImageSource

__all__ = ["Aligner", "align"]

T = TypeVar("T")

_ONE_PURSE = "give a budget or a ledger, not both: a ledger has its own budget"


@dataclass(slots=True)
class _Run:
    """One run under way: its desk, its search and what it has recorded."""

    ctx: RunContext
    search: Search
    recorder: Recorder
    events: list[Event]


class Aligner:
    """Answers queries with one model under one set of settings. Reusable, also concurrently.

    Args:
        model: "embedded", "openai:NAME", a bare NAME with `settings.base_url`, or a ChatModel;
            the settings' model if None.
        settings: see `Settings.load`; the defaults, files and environment if None.
        evaluator: who scores; the model itself (the paper's self-evaluation) if None.
        similarity: compares the texts of thoughts before a merge; see `text_similarity`.
        price: dollars of a call; the settings' price book if None.
        clock: seconds, never running backwards.

    Raises:
        InputError: there is no such model, or a setting is wrong (SettingsError).
    """

    def __init__(
        self,
        model: str | ChatModel | None = None,
        settings: Settings | None = None,
        *,
        evaluator: Evaluator | None = None,
        similarity: Similarity = text_similarity,
        price: Pricing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        named = model if isinstance(model, str) else None
        self.settings = Settings.load(model=named) if settings is None else settings
        self._judge: ChatModel | None = None
        spec = self.settings.model if model is None else model
        remote = isinstance(spec, str) and spec != "embedded"
        base_url = self.settings.base_url if remote else None
        self.model = open_model(spec, base_url, self.settings.timeout)
        if self.settings.origin("budget") == "default" and self.model.name != "embedded":
            self.settings = self.settings.replace(budget=SERVER_BUDGET)
        if evaluator is None and self.settings.evaluator != "self":
            self._judge = open_model(self.settings.evaluator, None, self.settings.timeout)
            evaluator = SelfEvaluator(self._judge)
        self.evaluator: Evaluator = evaluator or SelfEvaluator(self.model)
        self._similarity = similarity
        self._price: Pricing = price or self.settings.price_book()
        self._clock = clock

    async def align(
        self, query: Query, budget: Budget | None = None, *, ledger: Ledger | None = None
    ) -> Alignment:
        """Answer `query` within `budget` (the settings' if None).

        Args:
            query: the question.
            budget: what the run may spend.
            ledger: pays instead of one of the run's own, with its own budget, prices and clock.
                For one run: the spending that is reported is all that was paid from it.

        Raises:
            ValueError: both a budget and a ledger are given.
            BudgetTooSmall: the budget allows no scored answer.
            ModelError: the model failed.
            InputError: the model cannot read the question.

        The events so far are kept in the error's `trace` (a `Trace`).
        """
        if budget is not None and ledger is not None:
            raise ValueError(_ONE_PURSE)
        run = self._start(query, budget, lambda event: None, ledger=ledger)
        await self._drive(run)
        return Alignment.from_events(run.events)

    async def stream(
        self, query: Query, budget: Budget | None = None, *, ledger: Ledger | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of a run as they happen; the last one is `Finished`.

        The arguments are those of `align`.

        Closing the iterator early cancels the run and its calls. Cancelling the task that reads it
        does, too; the events that are left, `RunFailed` the last, come before the cancellation.

        Raises:
            ValueError: both a budget and a ledger are given.
            EcoAlignError: as `align`, after a `RunFailed` event.
        """
        if budget is not None and ledger is not None:
            raise ValueError(_ONE_PURSE)
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        run = self._start(query, budget, queue.put_nowait, ledger=ledger)
        task = asyncio.create_task(self._drive(run))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            await task
        except asyncio.CancelledError:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            while not queue.empty():
                if (event := queue.get_nowait()) is not None:
                    yield event
            raise
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            if not task.cancelled():
                # A reader who left early has no use for it; unread, asyncio would complain.
                task.exception()

    async def rerun(
        self, query: Query, budget: Budget, tape: Sequence[Event], nonce: str
    ) -> tuple[Event, ...]:
        """The events of a run whose times are read from `tape`; see `ecoalign.replay`.

        Raises:
            InputError: the run went another way than the one on the tape.
        """
        run = self._start(query, budget, lambda event: None, tape=tape, nonce=nonce)
        try:
            await self._drive(run)
        except EcoAlignError as error:
            last = tape[-1] if tape else None
            failed = isinstance(last, RunFailed) and last.error == type(error).__name__
            if isinstance(error, InputError) and not failed:
                raise
            # The recorded run failed, too: its last event says so.
            return tuple(run.events)
        return tuple(run.events)

    async def aclose(self) -> None:
        """Close the connections of the model, and of the evaluator named in the settings."""
        await self.model.aclose()
        if self._judge is not None:
            await self._judge.aclose()

    def _start(
        self,
        query: Query,
        budget: Budget | None,
        sink: Callable[[Event], None],
        *,
        tape: Sequence[Event] = (),
        nonce: str | None = None,
        ledger: Ledger | None = None,
    ) -> _Run:
        settings = self.settings
        events: list[Event] = []

        def keep(event: Event) -> None:
            events.append(event)
            sink(event)

        if ledger is None:
            ledger = Ledger(budget or settings.budget, self._price, self._clock)
        metered = MeteredClient(
            ledger,
            settings.retries,
            # A replay has nobody to wait for.
            sleep=_at_once if tape else asyncio.sleep,
            on_call=record_call,
            max_concurrency=settings.max_concurrency,
        )
        checked(self.model, query.sampling)
        nonce = nonce or secrets.token_hex(8)
        dialect = dialect_named(self.model.dialect)
        ctx = RunContext(
            query, self.model, dialect, self.evaluator, ledger, metered, settings, nonce
        )
        recorder = Recorder(self._clock, keep, tape)
        return _Run(ctx, Search(ctx, recorder, self._similarity), recorder, events)

    async def _drive(self, run: _Run) -> Finished:
        ctx = run.ctx
        run.recorder.emit(self._started(ctx))
        try:
            await ctx.prepare()
            return await run.search.run()
        except EcoAlignError as error:
            spent = ctx.ledger.spent.to_json()
            run.recorder.emit(RunFailed(type(error).__name__, str(error), spent))
            error.trace = Trace(tuple(run.events))
            raise
        except asyncio.CancelledError:
            spent = ctx.ledger.spent.to_json()
            run.recorder.emit(RunFailed("Cancelled", "the run was cancelled", spent))
            raise
        except Exception as error:
            # A mistake in a model or an evaluator of the user's own: the trace is kept here, too.
            spent = ctx.ledger.spent.to_json()
            run.recorder.emit(RunFailed(type(error).__name__, "an unexpected error", spent))
            raise

    def _started(self, ctx: RunContext) -> RunStarted:
        from ecoalign._version import __version__

        images = tuple(ImageInfo(p.sha256, p.width, p.height, p.notes) for p in ctx.query.pictures)
        return RunStarted(
            version=__version__,
            question=ctx.query.question,
            context=ctx.query.context,
            images=images,
            model=self.model.name,
            evaluator=self.evaluator.name,
            preset=self.settings.preset,
            settings=self.settings.to_json(),
            budget=str(ctx.ledger.budget),
            nonce=ctx.nonce,
            sampling=ctx.query.sampling.to_json(),
        )


async def _at_once(seconds: float) -> None:
    """A sleep of no length that still lets the other tasks run."""
    await asyncio.sleep(0)


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


def align(
    image: ImageSource | Sequence[ImageSource] | None,
    question: str,
    *,
    model: str | ChatModel | None = None,
    budget: Budget | str | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Alignment:
    """Answer one question about an image, within a budget: the synchronous front door.

        result = align("photo.png", "What does the sign say?", model="openai:gpt-4o")

    Args:
        image: path, bytes, `data:` URI, PIL image, several of them, or None.
        question: what to answer.
        model: see `Aligner`.
        budget: a Budget or its text ("8000", "$0.02", "5s"); the settings' if None.
        settings: ready settings; else they are loaded with `options` as keywords.
        options: settings by name, `preset` included.

    Raises:
        InputError, BudgetTooSmall, ModelError: see `Aligner.align`.
    """
    if settings is None:
        settings = Settings.load(**options)
    elif options:
        settings = settings.replace(**options)
    query = Query.of(image, question)
    allowed = Budget.parse(budget) if isinstance(budget, str) else budget

    async def once() -> Alignment:
        aligner = Aligner(model, settings)
        try:
            return await aligner.align(query, allowed)
        finally:
            await aligner.aclose()

    return run_blocking(once())
