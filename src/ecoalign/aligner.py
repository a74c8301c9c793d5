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
from ecoalign.search.run import record_run, run_started
from ecoalign.settings import SERVER_BUDGET, Settings
from ecoalign.trace import Alignment, Recorder
from ecoalign.trace.events import Event, Finished, RunFailed, RunStarted

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
    method: str


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
        self,
        query: Query,
        budget: Budget | None = None,
        *,
        ledger: Ledger | None = None,
        on_event: Callable[[Event], None] | None = None,
        method: str = "ecoalign",
    ) -> Alignment:
        """Answer `query` within `budget` (the settings' if None).

        Args:
            query: the question.
            budget: what the run may spend.
            ledger: pays instead of one of the run's own, with its own budget, prices and clock.
                For one run: the spending that is reported is all that was paid from it.
            on_event: told of every event as it is recorded, in the order of the trace. It must not
                raise.
            method: the name of the run in its trace.

        Raises:
            ValueError: both a budget and a ledger are given.
            BudgetTooSmall: the budget allows no scored answer.
            ModelError: the model failed.
            InputError: the model cannot read the question.

        The events so far are kept in the error's `trace` (a `Trace`).
        """
        if budget is not None and ledger is not None:
            raise ValueError(_ONE_PURSE)
        run = self._start(query, budget, on_event, ledger=ledger, method=method)
        return await self._drive(run)

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
        started = tape[0] if tape else None
        method = started.method if isinstance(started, RunStarted) else "ecoalign"
        run = self._start(query, budget, None, tape=tape, nonce=nonce, method=method)
        try:
            await self._drive(run)
        except EcoAlignError as error:
            last = tape[-1] if tape else None
            failed = isinstance(last, RunFailed) and last.error == type(error).__name__
            if isinstance(error, InputError) and not failed:
                raise
            # The recorded run failed, too: its last event says so.
            return tuple(run.recorder.events)
        return tuple(run.recorder.events)

    async def aclose(self) -> None:
        """Close the connections of the model, and of the evaluator named in the settings."""
        await self.model.aclose()
        if self._judge is not None:
            await self._judge.aclose()

    def _start(
        self,
        query: Query,
        budget: Budget | None,
        on_event: Callable[[Event], None] | None,
        *,
        tape: Sequence[Event] = (),
        nonce: str | None = None,
        ledger: Ledger | None = None,
        method: str = "ecoalign",
    ) -> _Run:
        settings = self.settings
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
        recorder = Recorder(self._clock, on_event, tape)
        return _Run(ctx, Search(ctx, recorder, self._similarity), recorder, method)

    async def _drive(self, run: _Run) -> Alignment:
        ctx = run.ctx
        started = run_started(
            ctx.query,
            self.settings,
            ctx.ledger,
            ctx.nonce,
            model=self.model.name,
            evaluator=self.evaluator.name,
            method=run.method,
        )

        async def work() -> Finished:
            await ctx.prepare()
            return await run.search.run()

        return await record_run(run.recorder, started, ctx.ledger, work)


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
