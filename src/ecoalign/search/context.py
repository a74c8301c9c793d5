"""What every stage and every method of one run shares, and the record of the run.

The stages ask through the context and never touch a network or a clock themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from ecoalign._version import __version__
from ecoalign.budget import PATIENCE, Budget, Called, Ledger, MeteredClient
from ecoalign.errors import EcoAlignError, InputError, ModelError, VerdictError
from ecoalign.evaluators import Evaluator, NamedEvaluator, bounds_by_model, scored
from ecoalign.graph import ActionKind, Region, Thought
from ecoalign.models import (
    ChatModel,
    ChatRequest,
    Completion,
    CountsLines,
    ImagePart,
    Profile,
    Usage,
    attribute_error,
    check_domain,
    checked,
    profile_of,
    request_key,
)
from ecoalign.prompts import TokenLimits, turn
from ecoalign.prompts.dialect import Dialect, dialect_of
from ecoalign.prompts.requests import (
    AnswerRequest,
    ExecuteRequest,
    PromptRequest,
    ScoreRequest,
    ScoreResult,
    WriteRequest,
)
from ecoalign.query import FULL_PIXELS, Picture, Query
from ecoalign.search.failures import Verdicts
from ecoalign.settings import Role, Settings, default_budget
from ecoalign.trace import Alignment, Recorder, Trace
from ecoalign.trace.events import Event, Finished, ImageInfo, RunFailed, RunStarted

IN_VAIN = "speculate"
"""The stage of calls that were made before they were known to be needed, and were not."""

ANSWER = "answer"
"""The fund that is reserved for writing and scoring the answer."""

_COUNTING = 0.1
"""Of the seconds of a run, how much a server's token counter may take."""

_VERDICTS = ("score", "gate", "check")


@dataclass(slots=True)
class AskedAhead:
    """A call that was made before it was known to be needed.

    Attributes:
        request: what was asked.
        said: what came of it; None until it ends.
        calls: its attempts, not on record yet.
    """

    request: PromptRequest
    said: Completion | EcoAlignError | None = None
    calls: list[Called] = field(default_factory=list)


@dataclass
class RunContext:
    """What the stages of one run share. Build it with `RunContext.of`.

    Attributes:
        query, model, settings: what is asked, of whom, under which settings.
        dialect: how the model is spoken to.
        evaluator: who scores; None for methods that score nothing.
        ledger, metered: what pays, and the client that calls on its account.
        recorder: told of everything; of the calls by `metered`.
        nonce: the secret that the fences follow from.
        profile: what is known of the model, settings included.
        view_pixels: longest side of the views.
        views: the query's pictures, one view each; there once the run has begun.
        full_views: the same at the resolution that the plain model gets, likewise.
        ahead: calls that were made before they were known to be needed, by `request_key`.
        verdicts: what became of those that were asked for.
    """

    query: Query
    model: ChatModel
    settings: Settings
    dialect: Dialect
    evaluator: Evaluator | None
    ledger: Ledger
    metered: MeteredClient
    recorder: Recorder
    nonce: str
    profile: Profile
    view_pixels: int
    views: tuple[ImagePart, ...] = ()
    full_views: tuple[ImagePart, ...] = ()
    ahead: dict[str, AskedAhead] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)

    @classmethod
    def of(
        cls,
        query: Query,
        model: ChatModel,
        evaluator: Evaluator | None,
        ledger: Ledger,
        settings: Settings,
        *,
        on_event: Callable[[Event], None] | None = None,
        view_pixels: int | None = None,
        max_concurrency: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        recorded: Sequence[Event] = (),
        nonce: str = "",
    ) -> RunContext:
        """The context of a new run.

        Args:
            query, model, evaluator, ledger, settings: see the attributes.
            on_event: told of every event, in the order of the trace.
            view_pixels, max_concurrency: in place of the settings'.
            clock: seconds, for the times of the events.
            sleep: waits between the attempts of a call.
            recorded: the run that is replayed; see `Recorder`.
            nonce: a new one if empty.

        Raises:
            InputError: the model cannot honour what the client asked of the answer, or does not
                see images, and there are some; an OutOfDomainError where it knows one domain
                only.
        """
        checked(model, query.sampling)
        check_domain(model, query.question, [picture.image for picture in query.pictures])
        profile = settings.tuned(profile_of(model))
        if query.pictures and not profile.images:
            known = profile.sources.get("images", "its profile")
            raise InputError(
                f"{model.name} does not see images ({known}): leave them out, name a model that "
                "does, or probe it again"
            )
        recorder = Recorder(clock, on_event, recorded)
        metered = MeteredClient(
            ledger,
            settings.retries,
            sleep=sleep,
            on_call=recorder.emit,
            max_concurrency=max_concurrency or settings.max_concurrency,
            # A replay is told by its trace which calls were not made.
            patience=None if recorded else PATIENCE,
        )
        return cls(
            query=query,
            model=model,
            settings=settings,
            dialect=spoken_to(model, settings),
            evaluator=evaluator,
            ledger=ledger,
            metered=metered,
            recorder=recorder,
            nonce=nonce or secrets.token_hex(8),
            profile=profile,
            view_pixels=view_pixels or profile.view_pixels,
        )

    def collecting(self, calls: list[Called], after: Iterable[Called] = ()) -> RunContext:
        """The same context, whose calls go to `calls` and are recorded by who made the list
        (`record`).

        Each concurrent action has a list of its own, so that the trace is in the order of the
        actions, whatever order their calls end in.

        Args:
            calls: where they go.
            after: calls that they waited for and that are not on record yet.
        """
        timed, part = self.recorder.timed, object.__new__(RunContext)
        metered = self.metered.scoped(on_call=lambda call: calls.append(timed(call)), after=after)
        vars(part).update(vars(self), metered=metered)
        return part

    def record(self, calls: Iterable[Called]) -> None:
        """Record collected calls, now that they have been waited for."""
        self.metered.join(calls)

    @contextmanager
    def recording(self, calls: list[Called]) -> Iterator[RunContext]:
        """The same context, whose calls are in `calls` and on record when it ends."""
        try:
            yield self.collecting(calls)
        finally:
            self.record(calls)

    def booked_as(self, stage: str) -> RunContext:
        """The same context with every call recorded under `stage`."""
        return replace(self, metered=self.metered.scoped(stage=stage))

    @property
    def verified(self) -> float:
        """The utility from which an answer counts as verified."""
        least = self.settings.verified_utility
        return self.dialect.verified if least is None else least

    @property
    def tokens_spent(self) -> int:
        """Tokens that all calls so far were charged."""
        return self.ledger.spent_tokens

    # Pictures ---------------------------------------------------------------------------------

    async def encode_views(self) -> None:
        """Make the views, in a thread: it takes long enough to keep other runs waiting."""
        if self.query.pictures:
            self.views = await self._encoded(self.view_pixels)
            if self.settings.draft:
                self.full_views = await self._encoded(self.full_pixels)

    async def _encoded(self, side: int) -> tuple[ImagePart, ...]:
        pictures, least = self.query.pictures, self.profile.smallest_image
        return await asyncio.to_thread(
            lambda: tuple(picture.view(side, least) for picture in pictures)
        )

    @property
    def full_pixels(self) -> int:
        """Longest side of the images that the plain model gets."""
        return max(self.view_pixels, FULL_PIXELS)

    def sized(self) -> RunContext:
        """The same context with views that have no pixels yet: to bound calls beforehand."""
        pictures, least = self.query.pictures, self.profile.smallest_image
        views, full = (
            tuple(picture.sized_view(side, least) for picture in pictures)
            for side in (self.view_pixels, self.full_pixels)
        )
        return replace(self, views=views, full_views=full)

    async def encode_crops(self, regions: Iterable[Region]) -> None:
        """Make some regions beforehand, likewise; pictures keep what was made of them."""
        crops = [region for region in regions if region.image < len(self.query.pictures)]
        if crops:
            await asyncio.to_thread(lambda: [self.crop(region) for region in crops])

    def crop(self, region: Region) -> ImagePart:
        """A region at full resolution, with some context around it; of the embedded model the
        region alone, as it was trained. Raises IndexError if there is no such picture.

        All crops of a picture are of one size, so that what one of them costs bounds the next.
        """
        picture, profile = self.query.pictures[region.image], self.profile
        if profile.dialect == "compact":
            return picture.crop(region, profile.crop_pixels)
        part = picture.close_up(region, self._crop_size(picture))
        if self._crops_as_views:
            part = replace(part, detail=picture.sized_view(self.view_pixels).detail)
        return part

    def magnification(self, region: Region) -> float:
        """Pixels of a crop for each pixel of the picture, along its width."""
        picture = self.query.pictures[region.image]
        return picture.magnification(region, self._crop_size(picture))

    def gain(self, region: Region, path: Iterable[Thought]) -> float:
        """How many times as large a look would show a region as the view does, or an earlier look
        on the path that has all of it.

        The embedded model sees every image at one size, so for it every look may be news.
        """
        picture = self.query.pictures[region.image]
        if self.profile.dialect == "compact":
            return math.inf
        size = self._crop_size(picture)
        view = picture.sized_view(self.view_pixels, self.profile.smallest_image)
        seen = [view.width / picture.width]
        for thought in path:
            had = thought.region
            if had is not None and had.image == region.image and picture.shows(had, region, size):
                seen.append(picture.magnification(had, size))
        return picture.magnification(region, size) / max(seen)

    @property
    def _crops_as_views(self) -> bool:
        """Whether crops are as large as views: what an unknown model takes for an image of another
        size cannot be known before it is paid."""
        profile = self.profile
        return profile.family == "unknown" and profile.crop_pixels == profile.view_pixels

    def _crop_size(self, picture: Picture) -> tuple[int, int]:
        least = self.profile.smallest_image
        if self._crops_as_views:
            view = picture.sized_view(self.view_pixels, least)
            return view.width, view.height
        return picture.close_up_size(self.profile.crop_pixels, least)

    # Asking -----------------------------------------------------------------------------------

    def render(
        self, request: PromptRequest, *, temperature: float | None = None, variant: int = 0
    ) -> ChatRequest:
        """The call for `request` under the settings; one whose text may be shown, as its client
        wants it. What it reserves is its bound.

        Args:
            request: what is asked.
            temperature: in place of the settings'; the client's comes before it. A verdict is
                always greedy.
            variant: of several answers to one question, which; added to the seed, whoever set it.
        """
        call, settings, sampling = self.dialect.render(request), self.settings, self.query.sampling
        seed = None if settings.seed is None else settings.seed + variant
        if call.stage in _VERDICTS:
            return call if call.seed == seed else replace(call, seed=seed)
        chosen = settings.temperature if temperature is None else temperature
        if chosen or call.seed != seed:
            call = ChatRequest(
                call.messages,
                call.max_tokens,
                call.stage,
                chosen or call.temperature,
                call.schema,
                call.top_logprobs,
                seed,
                call.extra,
                call.client,
                call.timeout,
            )
        if not _answers(request):
            return call
        sampling = sampling.varied(variant) if variant else sampling
        return sampling.apply(call, self.ledger.budget.answer_cap(call.max_tokens))

    async def ask(
        self,
        request: PromptRequest,
        call: ChatRequest | None = None,
        bound: Usage | None = None,
        *,
        fund: str | None = None,
        stage: str = "",
        temperature: float | None = None,
        variant: int = 0,
    ) -> Completion:
        """One request, rendered, paid and answered.

        Args:
            request, temperature, variant: see `render`.
            call, bound: `request` as rendered, and the worst case of that, where they are known.
            fund: what pays, if it was reserved before.
            stage: to be booked under another name than the dialect's.

        Returns:
            The completion; where the server's content filter refused the request, an empty one that
            ended so: that is an answer of the server, and no failure.

        Raises:
            BudgetExceeded, ModelError, InputError: see `MeteredClient.complete`.
        """
        await turn(self.query.length)
        call = call or self.render(request, temperature=temperature, variant=variant)
        judging = call.stage in _VERDICTS
        if stage:
            call = replace(call, stage=stage)
        made = self.ahead.pop(request_key(call), None) if self.ahead else None
        if made is None:
            return await self._complete(
                request, call, fund, bound, "evaluator" if judging else "model"
            )
        self.record(made.calls)
        if isinstance(made.said, Completion):
            return made.said
        raise made.said or AssertionError("it was cut off, and so was the run")

    async def _complete(
        self,
        request: PromptRequest,
        call: ChatRequest,
        fund: str | None,
        bound: Usage | None = None,
        role: Literal["model", "evaluator"] = "model",
    ) -> Completion:
        try:
            return await self.metered.complete(self.model, call, fund=fund, bound=bound)
        except ModelError as error:
            if error.fault == "filtered":
                return Completion("", error.usage or Usage(), "content_filter")
            error.role = role
            if _answers(request):
                attribute_error(error, self.query.sampling)
            raise

    async def ask_ahead(
        self, request: PromptRequest, fund: str, after: Iterable[Called] = ()
    ) -> None:
        """Ask before it is known to be needed. `ask` takes what came of it, failures included, if
        it ever asks the very same; `drop_ahead` records what nobody asked for.

        Args:
            request: what is asked.
            fund: what pays.
            after: calls that it waited for and that are not on record yet.
        """
        call = self.render(request)
        key = request_key(call)
        if key in self.ahead:
            return
        # It has its place from the start: what ends first does not matter.
        made = self.ahead[key] = AskedAhead(request)
        try:
            made.said = await self.collecting(made.calls, after)._complete(request, call, fund)
        except EcoAlignError as error:
            made.said = error
        if not made.calls:
            del self.ahead[key]

    def is_ahead(self, request: PromptRequest) -> bool:
        """Whether this was asked before it was known to be needed."""
        return request_key(self.render(request)) in self.ahead

    def drop_ahead(self) -> None:
        """Record the calls that turned out not to be needed, under a stage of their own."""
        for made in self.ahead.values():
            self.record(self.metered.rebook(made.calls, IN_VAIN))
        self.ahead.clear()

    def bounds(self, *requests: PromptRequest) -> list[tuple[str, Usage]]:
        """Model and worst case of each of these calls."""
        return [(self.model.name, self.bound(self.model, self.render(r))) for r in requests]

    def bound(self, model: ChatModel, call: ChatRequest) -> Usage:
        """The worst case of one call."""
        return self.metered.bound(model, call)

    def learn(self) -> bool:
        """Take over what settled calls have told of the cost of later ones; whether they did.

        Only where no call is under way: then a replay has the same bounds.
        """
        return self.metered.learned.take()

    @property
    def usual_budget(self) -> Budget:
        """What such a run gets where nobody says."""
        return default_budget(self.model.name, len(self.query.pictures), self.profile)

    def longest(self, request: PromptRequest) -> str:
        """A text as long as what `request` may bring, to bound a call that quotes it."""
        return self.query.sampling.stand_in(self.render(request).max_tokens)

    # Scoring ----------------------------------------------------------------------------------

    def fence(self, *parts: str) -> str:
        """A code word that follows from the run's secret nonce and the parts, so that no text
        knows its own, and a replay asks the same again."""
        seed = "\0".join((self.nonce, *parts))
        return hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]

    def score_request(
        self,
        path: tuple[Thought, ...],
        kind: str,
        text: str,
        made_by: ExecuteRequest | None = None,
    ) -> ScoreRequest:
        """The scoring of one text, with the images that it was made from; the query's views where
        no action made it."""
        query, fence = self.query, self.fence(str(len(path)), kind, text)
        return ScoreRequest(
            query.question,
            self.views if made_by is None else made_by.views,
            path,
            kind,
            text,
            fence,
            query.context,
            query.instructions,
            None if made_by is None else made_by.crop,
            None if made_by is None else made_by.action.region,
            utility=self.settings.utility_aggregator,
        )

    async def score(self, request: ScoreRequest, *, fund: str | None = None) -> ScoreResult:
        """Score a text.

        Raises:
            VerdictError, ModelError, BudgetExceeded: it has no score, so it is unsafe.
        """
        assert self.evaluator is not None  # noqa: S101 - who scores has one
        await turn(self.query.length)
        try:
            result = await scored(self.evaluator, request, self.metered, fund=fund)
        except (ModelError, VerdictError) as error:
            if isinstance(error, ModelError):
                error.role = "evaluator"
            self.verdicts.lost(error)
            raise
        self.verdicts.read += 1
        return result

    def score_bounds(self, request: ScoreRequest, verdicts: int = 1) -> list[tuple[str, Usage]]:
        """Models and worst cases of so many independent scorings."""
        assert self.evaluator is not None  # noqa: S101 - who scores has one
        bounds = list(bounds_by_model(self.evaluator, request, self.model.name, self.bound))
        for number in range(1, verdicts):
            again = self._again(request, number)
            bounds += bounds_by_model(self.evaluator, again, self.model.name, self.bound)
        return bounds

    async def confirm(
        self, request: ScoreRequest, verdicts: Iterable[int], *, fund: str | None = None
    ) -> list[ScoreResult]:
        """Further verdicts on a text that was scored, at once, each as independent of the others as
        can be: a fresh fence, another order, images at another scale.

        Args:
            request: the first scoring.
            verdicts: their numbers; the first one was 0.
            fund: what pays.

        Raises:
            VerdictError, ModelError, BudgetExceeded: one of them failed, so the text is unsafe.
        """
        asked = [self._again(request, n) for n in verdicts]
        if request.views and self.profile.dialect != "compact":
            await self._encoded(self._other_side(request))
        logs: list[list[Called]] = [[] for _ in asked]
        try:
            parts = zip(asked, map(self.collecting, logs), strict=True)
            results = await asyncio.gather(
                *(part.score(one, fund=fund) for one, part in parts), return_exceptions=True
            )
        finally:
            # In the order in which they were asked for, whichever ended first.
            self.record(chain.from_iterable(logs))
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, ScoreResult)]

    def _again(self, request: ScoreRequest, number: int) -> ScoreRequest:
        views = request.views
        if views and self.profile.dialect != "compact":
            side, least = self._other_side(request), self.profile.smallest_image
            unsized = not views[0].data
            views = tuple(
                picture.sized_view(side, least) if unsized else picture.view(side, least)
                for picture in self.query.pictures
            )
        fence = self.fence("check", str(number), request.kind, request.text)
        return replace(request, views=views, fence=fence, check=number)

    def _other_side(self, request: ScoreRequest) -> int:
        """The side of views at another scale than those of `request`: those of the plain model, or
        where the picture has no more pixels than that, three quarters."""
        side = max(max(view.width, view.height) for view in request.views)
        longest = max(max(p.width, p.height) for p in self.query.pictures)
        if min(longest, self.full_pixels) > side:
            return self.full_pixels
        # Of a picture that the client wants seen in high detail a view is twice as large.
        twice = any(picture.detail == "high" for picture in self.query.pictures)
        return max(32, 3 * side // (8 if twice else 4))


def spoken_to(model: ChatModel, settings: Settings, role: Role = "model") -> Dialect:
    """The dialect of a model under the settings, by what it is for."""
    profile = settings.tuned(profile_of(model), role)
    limits = TokenLimits.of(settings.caps, profile.thinking)
    return dialect_of(profile, limits, settings.policy)


def named_evaluator(settings: Settings) -> NamedEvaluator:
    """The evaluator that the settings name."""
    role: Role = "model" if settings.evaluator == "self" else "evaluator"
    return NamedEvaluator(
        settings.evaluator,
        lambda name: settings.open_model(name, role="evaluator"),
        lambda model: spoken_to(model, settings, role),
    )


def _answers(request: PromptRequest) -> bool:
    """Whether its text may be shown, so that it is the client's to say how it is written."""
    if isinstance(request, ExecuteRequest):
        return request.action.kind in (ActionKind.ANSWER, ActionKind.REFUSE)
    return isinstance(request, WriteRequest | AnswerRequest)


def _counting_seconds(ledger: Ledger) -> float | None:
    """How long counting may take: it is no call, but its time is the run's."""
    left = ledger.seconds_left()
    return None if left is None else _COUNTING * left


async def record_run(
    ctx: RunContext,
    method: str,
    work: Callable[[RunContext], Awaitable[Finished]],
    opening: Callable[[RunContext], Sequence[ChatRequest]] = lambda ctx: (),
) -> Alignment:
    """Do `work` between `RunStarted` and `RunFailed`; a run that succeeds ends in `Finished`.

    Args:
        ctx: the run's context.
        method: its name, for the trace.
        work: what is done.
        opening: the calls that it begins with, whose text is worth counting.

    Raises:
        EcoAlignError: that of `work`, with the events in its `trace`.
    """
    recorder, query, settings = ctx.recorder, ctx.query, ctx.settings
    if ctx.profile.tokenize and isinstance(ctx.model, CountsLines):
        # What is known as a run begins is known to its replay, too.
        texts = (message.text for call in opening(ctx) for message in call.messages)
        lines = [line for text in texts for line in text.split("\n")]
        with suppress(TimeoutError):
            async with asyncio.timeout(_counting_seconds(ctx.ledger)):
                await ctx.model.count_lines(lines)

    def failed(error: str, message: str) -> None:
        ctx.drop_ahead()
        recorder.emit(RunFailed(error, message, ctx.ledger.spent.to_json()))

    recorder.emit(
        RunStarted(
            version=__version__,
            question=query.question,
            context=query.context,
            images=tuple(
                ImageInfo(p.sha256, p.width, p.height, p.notes, p.detail) for p in query.pictures
            ),
            model=ctx.model.name,
            evaluator="" if ctx.evaluator is None else ctx.evaluator.name,
            preset=settings.preset,
            settings=settings.to_json(),
            budget=str(ctx.ledger.budget),
            nonce=ctx.nonce,
            sampling=query.sampling.to_json(),
            method=method,
            instructions=query.instructions,
            profile=ctx.profile.to_json(),
            profile_hash=ctx.profile.hash,
            known=ctx.metered.learned.snapshot(ctx.model),
        )
    )
    try:
        with ctx.metered.until_caught():
            await ctx.encode_views()
            await work(ctx)
        ctx.metered.learned.keep()
    except EcoAlignError as error:
        failed(type(error).__name__, str(error))
        error.trace = Trace(tuple(recorder.events))
        raise
    except asyncio.CancelledError:
        failed("Cancelled", "the run was cancelled")
        raise
    except Exception as error:
        # A mistake in a model or an evaluator of the user's own: the trace is kept here, too.
        failed(type(error).__name__, "an unexpected error")
        raise
    return Alignment.from_events(recorder.events)
