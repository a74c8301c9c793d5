"""Align a model while it answers: the engine behind one call."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Self, TypeAlias, TypeVar, Unpack, cast, overload

from ecoalign.budget import Budget, BudgetLike, Ledger, Pricing
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.evaluators import Evaluator
from ecoalign.graph import Similarity, text_similarity
from ecoalign.models import ChatModel, Usage
from ecoalign.query import AllowUrls, Images, Query
from ecoalign.search.context import RunContext, named_evaluator, record_run
from ecoalign.search.drafter import first_calls, first_round
from ecoalign.search.loop import search
from ecoalign.settings import MOST_DEFAULT, Options, Settings
from ecoalign.trace import Alignment, stream_events
from ecoalign.trace.events import Event, Finished, RunFailed

__all__ = ["Aligner", "align", "stream"]

OnEvent: TypeAlias = Callable[[Event], None]
"""Told of every event of a run, in the order of the trace."""

T = TypeVar("T")


class Aligner:
    """Answers questions with one model under one set of settings. Reusable, also concurrently.

        async with Aligner("openai:gpt-4o", preset="paper") as aligner:
            result = await aligner.align("photo.jpg", "What does the sign say?", budget=40_000)

    Args:
        model: "embedded", "openai:NAME", a bare NAME with `base_url`, or a ChatModel, which is left
            open; the settings' model if None.
        settings: ready ones; else they are loaded (`Settings.load`: keywords, environment, files,
            preset) with `options` as keywords.
        evaluator: who scores, or its name; the model itself (the paper's self-evaluation) if None.
        similarity: compares the texts of thoughts before a merge; see `text_similarity`.
        price: dollars of a call; the settings' price book if None.
        clock: seconds, never running backwards.
        options: single settings by name (`Options`), `preset` included.

    Raises:
        InputError: there is no such model, or a setting is wrong (SettingsError).
    """

    def __init__(
        self,
        model: str | ChatModel | None = None,
        settings: Settings | None = None,
        *,
        evaluator: str | Evaluator | None = None,
        similarity: Similarity = text_similarity,
        price: Pricing | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Unpack[Options],
    ) -> None:
        self.settings = settings_for(model, settings, evaluator, options)
        self._given = model is not None and not isinstance(model, str)
        self.model = self.settings.open_model(self.settings.model if model is None else model)
        self._named = named_evaluator(self.settings)
        own = None if isinstance(evaluator, str) else evaluator
        self.evaluator: Evaluator = self._named.of(self.model) if own is None else own
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

    @overload
    async def align(
        self,
        query: Query,
        budget: BudgetLike | None = None,
        /,
        *,
        ledger: Ledger | None = None,
        on_event: OnEvent | None = None,
        method: str = "ecoalign",
    ) -> Alignment: ...

    @overload
    async def align(
        self,
        image: Images,
        question: str,
        budget: BudgetLike | None = None,
        *,
        instructions: str = "",
        context: Sequence[str] = (),
        allow_urls: AllowUrls = False,
        ledger: Ledger | None = None,
        on_event: OnEvent | None = None,
        method: str = "ecoalign",
    ) -> Alignment: ...

    async def align(
        self,
        image: Query | Images,
        question: str | BudgetLike | None = None,
        budget: BudgetLike | None = None,
        *,
        ledger: Ledger | None = None,
        on_event: OnEvent | None = None,
        method: str = "ecoalign",
        **asked: Any,
    ) -> Alignment:
        """Answer a question within a budget: `align(image, question)`, or `align(query)`.

            result = await aligner.align("photo.jpg", "What does the sign say?", budget="$0.02")
            result = await aligner.align(Query.of("photo.jpg", "What does it say?"), "$0.02")

        Args:
            image: the image, several in a list, or None; see `Picture.load` for what an image may
                be. Or a `Query`, with the budget after it and no question.
            question: what to answer.
            budget: what the run may spend, as `Budget.of` reads it; `budget_for` if None.
            instructions: a system prompt: how to answer. Only with a question.
            context: earlier turns, oldest first. Only with a question.
            allow_urls: whether images are fetched from http and https addresses. Only with a
                question.
            ledger: pays instead of one of the run's own, with its own budget, prices and clock.
                For one run: the spending that is reported is all that was paid from it.
            on_event: told of every event as it is recorded, in the order of the trace. It must not
                raise.
            method: the name of the run in its trace.

        Raises:
            ValueError: both a budget and a ledger are given.
            BudgetTooSmall: the budget allows no scored answer.
            ModelError: the model failed.
            InputError: an image, the question or the budget cannot be used, or the model cannot
                read the question.

        The events so far are kept in the error's `trace` (a `Trace`).
        """
        if isinstance(image, Query):
            if asked or (question is not None and budget is not None):
                raise InputError("a Query is the whole question: give nothing but a budget with it")
            query, budget = image, question if budget is None else budget
        else:
            # Images are read and decoded off the loop.
            query = await asyncio.to_thread(Query.of, image, cast(str, question), **asked)
        allowed = None if budget is None else Budget.of(budget)
        ctx = self._context(query, allowed, ledger, on_event=on_event)
        return await record_run(ctx, method, self._search, first_calls)

    @overload
    def stream(
        self, query: Query, budget: BudgetLike | None = None, /, *, ledger: Ledger | None = None
    ) -> AsyncGenerator[Event, None]: ...

    @overload
    def stream(
        self,
        image: Images,
        question: str,
        budget: BudgetLike | None = None,
        *,
        instructions: str = "",
        context: Sequence[str] = (),
        allow_urls: AllowUrls = False,
        ledger: Ledger | None = None,
    ) -> AsyncGenerator[Event, None]: ...

    def stream(
        self, image: Any, question: Any = None, budget: BudgetLike | None = None, **asked: Any
    ) -> AsyncGenerator[Event, None]:
        """The events of a run as they happen; the last one is `Finished`.

            async for event in aligner.stream("photo.jpg", "What does the sign say?"):
                print(event)

        The arguments are those of `align`.

        Closing the iterator early cancels the run and its calls. Cancelling the task that reads it
        does, too; the events that are left, `RunFailed` the last, come before the cancellation.

        Raises:
            ValueError: both a budget and a ledger are given.
            EcoAlignError: as `align`, after a `RunFailed` event.
        """
        return stream_events(
            lambda on_event: self.align(image, question, budget, on_event=on_event, **asked)
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
        """Close what was opened here: the model, unless it was handed in, and the evaluator that
        the settings name. Safe to call twice; `async with` does it."""
        if not self._given:
            await self.model.aclose()
        await self._named.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _context(
        self,
        query: Query,
        budget: Budget | None,
        ledger: Ledger | None,
        *,
        on_event: OnEvent | None = None,
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


def settings_for(
    model: str | ChatModel | None,
    settings: Settings | None,
    evaluator: object,
    options: Options,
) -> Settings:
    """The settings in force: the ready ones with `options` on top, or else those that are loaded.

    Raises:
        InputError: a setting is wrong (SettingsError), or a preset is given with ready settings.
    """
    given: dict[str, Any] = dict(options)
    if isinstance(evaluator, str):
        given["evaluator"] = evaluator
    elif evaluator is not None and not hasattr(evaluator, "score"):
        raise InputError(
            f"an evaluator is the name of a model or has a method `score`, and a "
            f"{type(evaluator).__name__} is neither: see ecoalign.evaluators.Evaluator"
        )
    if settings is None:
        named = model if isinstance(model, str) else None
        return Settings.load(model=named, **given)
    if "preset" in given:
        raise InputError("give a preset or ready settings, not both: Settings.load takes a preset")
    return settings.replace(**given) if given else settings


@contextmanager
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own. When the block is left, its tasks are cancelled and
    have ended, and its connections are closed."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def wait() -> None:
        stop = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    def run() -> None:
        try:
            asyncio.run(wait())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    # A daemon: a stream that nobody reads to its end must not keep the interpreter alive.
    thread = threading.Thread(target=run, name="ecoalign", daemon=True)
    thread.start()
    loop, stop = ready.result()

    def close() -> None:
        atexit.unregister(close)
        # Whoever collects a stream that was dropped may be the loop's own thread.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        if thread is not threading.current_thread():
            thread.join()

    atexit.register(close)
    try:
        yield loop
    finally:
        close()


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop is already running. An
    interrupt cancels it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with loop_in_thread() as loop:
        return asyncio.run_coroutine_threadsafe(work, loop).result()


def align(
    image: Images,
    question: str,
    *,
    model: str | ChatModel | None = None,
    budget: BudgetLike | None = None,
    evaluator: str | Evaluator | None = None,
    settings: Settings | None = None,
    instructions: str = "",
    context: Sequence[str] = (),
    allow_urls: AllowUrls = False,
    on_event: OnEvent | None = None,
    **options: Unpack[Options],
) -> Alignment:
    """Answer a question about an image: within a budget, and with no text that was not scored.

        from ecoalign import align

        result = align("photo.jpg", "What does the sign say?", model="openai:gpt-4o", budget=40_000)
        result.answer, result.refused      # the text, and whether it is a refusal
        result.safety, result.utility      # the scores of its path, -1 to 1 and 0 or more
        result.spent.tokens.total          # what it cost; usd, seconds, calls and by_stage as well
        result.trace.save("run.jsonl")     # the whole search, for `ecoalign view run.jsonl`

    In a notebook the result shows itself with a picture of its search. It blocks, also where an
    event loop runs already; for many questions at once there is `Aligner`, to watch a run `stream`,
    and to see several methods side by side `compare`. May be called from several threads.

    Args:
        image: a path, encoded bytes, a binary file object, a `data:` URI, a PIL image, a numpy
            array (height x width, with 3 or 4 channels or none; uint8, or floats from 0 to 1),
            several of them in a list, or None for a question without an image.
        question: what to answer.
        model: "embedded" (the default: a tiny model of one synthetic world), "PROVIDER:NAME" as in
            "openai:gpt-4o" or "hf:Qwen/Qwen3-VL-2B-Instruct", a NAME with `base_url`, or a
            ChatModel, which is shared and never closed. Keys are read from the environment.
        budget: a hard bound: 8000 (tokens), "$0.02", "5s", "8000,$0.02,5s", {"tokens": 8000,
            "usd": 0.02}, or a Budget. Where none is set, one that fits the model and the images.
        evaluator: who scores: the name of another model, or an Evaluator of your own; by default
            the model itself.
        settings: ready settings; else they are loaded from the environment and ecoalign.toml.
        instructions: a system prompt: role, style, format and language of the answer.
        context: earlier turns of the conversation, oldest first.
        allow_urls: whether images may be fetched from http and https addresses, of public hosts
            only; off by default.
        on_event: called with every event as it happens, from the thread that runs the search.
        options: any setting by its name, such as preset="paper", batch=2, safety_threshold=0.5 or
            seed=7; `ecoalign doctor --all` lists them with their ranges.

    Returns:
        The answer with its scores, spending and trace. A refusal is an answer.

    Raises:
        InputError: an image, the question, the budget or a setting cannot be used.
        BudgetTooSmall: the budget allows no scored answer; the message says what would do.
        ModelError: the model or its server failed.

    Each is an EcoAlignError, and has the events up to then in its `trace`.
    """
    return run_blocking(
        _prepared(
            settings_for(model, settings, evaluator, options),
            model,
            evaluator,
            Query.of(image, question, context, None, instructions, allow_urls=allow_urls),
            budget,
        )(on_event)
    )


def stream(
    image: Images,
    question: str,
    *,
    model: str | ChatModel | None = None,
    budget: BudgetLike | None = None,
    evaluator: str | Evaluator | None = None,
    settings: Settings | None = None,
    instructions: str = "",
    context: Sequence[str] = (),
    allow_urls: AllowUrls = False,
    **options: Unpack[Options],
) -> Generator[Event, None, Alignment]:
    """The events of `align` as they happen, without async; the last one is `Finished`.

        from ecoalign import stream
        from ecoalign.trace.events import Finished, ThoughtAdded

        for event in stream("photo.jpg", "What does the sign say?"):
            match event:
                case ThoughtAdded(thought=thought):
                    print(thought.kind, thought.safety, thought.utility)
                case Finished(answer=answer):
                    print(answer)

    The search runs in a thread of its own, and starts with the first event that is asked for. To
    close the generator early, or to leave it to be collected, cancels the run and its calls. The
    texts of thoughts are not released: only the answer is. What the generator returns, to `yield
    from`, is the Alignment.

    Args and errors are those of `align`; what is wrong with the arguments is raised at once, and an
    error of the run after its last event, `RunFailed`.
    """
    return events_of(
        _prepared(
            settings_for(model, settings, evaluator, options),
            model,
            evaluator,
            Query.of(image, question, context, None, instructions, allow_urls=allow_urls),
            budget,
        )
    )


def _prepared(
    settings: Settings,
    model: str | ChatModel | None,
    evaluator: str | Evaluator | None,
    query: Query,
    budget: BudgetLike | None,
) -> Callable[[OnEvent | None], Coroutine[Any, Any, Alignment]]:
    """A run of its own aligner; what is wrong with the arguments is raised now."""
    allowed = None if budget is None else Budget.of(budget)
    own = None if isinstance(evaluator, str) else evaluator  # a name is in the settings

    async def run(on_event: OnEvent | None) -> Alignment:
        async with Aligner(model, settings, evaluator=own) as aligner:
            return await aligner.align(query, allowed, on_event=on_event)

    return run


def events_of(
    run: Callable[[OnEvent], Coroutine[Any, Any, T]],
) -> Generator[Event, None, T]:
    """The events of a run in a thread of its own, and then its result; see `stream`."""
    told: SimpleQueue[Event | None] = SimpleQueue()
    with loop_in_thread() as loop:
        result = asyncio.run_coroutine_threadsafe(run(told.put), loop)
        result.add_done_callback(lambda _: told.put(None))
        while (event := told.get()) is not None:
            yield event
        return result.result()
