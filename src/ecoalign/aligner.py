"""Align a model while it answers: the engine behind one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ecoalign.budget import Budget, Ledger, Pricing
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.evaluators import Evaluator
from ecoalign.graph import Similarity, text_similarity
from ecoalign.models import ChatModel, Usage
from ecoalign.query import ImageSource, Query
from ecoalign.search.context import RunContext, named_evaluator, record_run
from ecoalign.search.drafter import first_calls, first_round
from ecoalign.search.loop import search
from ecoalign.settings import MOST_DEFAULT, Settings
from ecoalign.trace import Alignment, stream_events
from ecoalign.trace.events import Event, Finished, RunFailed

__all__ = ["Aligner", "align"]

T = TypeVar("T")


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
        spec = self.settings.model if model is None else model
        self.model = self.settings.open_model(spec)
        self._named = named_evaluator(self.settings)
        self.evaluator: Evaluator = evaluator or self._named.of(self.model)
        self._similarity = similarity
        self._price = price
        self._clock = clock

    def budget_for(self, query: Query) -> Budget:
        """What answering `query` may spend where nobody says: the settings' budget, or the default.

        The default fits the model and the images, and holds the first round of a longer question.
        """
        settings = self.settings
        budget = settings.budget_for(self.model, len(query.pictures))
        if settings.origin("budget") != "default" or self.model.name == "embedded":
            return budget
        first = sum(bound.total for _, bound in self.first_round(query))
        tokens = max(budget.tokens or 0, min(MOST_DEFAULT, -(-first // 1000) * 1000))
        return Budget(tokens=tokens)

    def first_round(self, query: Query) -> list[tuple[str, Usage]]:
        """Models and worst cases of the calls that have to fit a budget before anything is learned:
        scan, draft and answer, with their scores.

        Raises:
            InputError: the model cannot honour what the client asked of the answer.
        """
        ctx = self._context(query, Budget(tokens=10**15), None)
        return first_round(ctx)

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
        ctx = self._context(query, budget, ledger, on_event=on_event)
        return await record_run(ctx, method, self._search, first_calls)

    def stream(
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
        return stream_events(
            lambda on_event: self.align(query, budget, ledger=ledger, on_event=on_event)
        )

    async def rerun(
        self, query: Query, budget: Budget, recorded: Sequence[Event], nonce: str, method: str
    ) -> tuple[Event, ...]:
        """The events of a run whose times are read from `recorded`; see `ecoalign.replay`.

        Raises:
            InputError: the run went another way than the recorded one.
        """
        ctx = self._context(query, budget, None, recorded=recorded, nonce=nonce)
        try:
            await record_run(ctx, method, self._search)
        except EcoAlignError as error:
            last = recorded[-1] if recorded else None
            failed = isinstance(last, RunFailed) and last.error == type(error).__name__
            if isinstance(error, InputError) and not failed:
                raise
            # The recorded run failed, too: its last event says so.
        return tuple(ctx.recorder.events)

    async def aclose(self) -> None:
        """Close the connections of the model, and of the evaluator named in the settings."""
        await self.model.aclose()
        await self._named.aclose()

    def _context(
        self,
        query: Query,
        budget: Budget | None,
        ledger: Ledger | None,
        *,
        on_event: Callable[[Event], None] | None = None,
        recorded: Sequence[Event] = (),
        nonce: str = "",
    ) -> RunContext:
        settings = self.settings
        if budget is not None and ledger is not None:
            raise ValueError("give a budget or a ledger, not both: a ledger has its own budget")
        if ledger is None:
            price = self._price or settings.price_book()
            ledger = Ledger(budget or self.budget_for(query), price, self._clock)
        return RunContext.of(
            query,
            self.model,
            self.evaluator,
            ledger,
            settings,
            on_event=on_event,
            clock=self._clock,
            # A replay does not wait between retries.
            sleep=_at_once if recorded else asyncio.sleep,
            recorded=recorded,
            nonce=nonce,
        )

    async def _search(self, ctx: RunContext) -> Finished:
        return await search(ctx, self._similarity)


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
