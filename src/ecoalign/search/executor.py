"""The Executor: carries out a batch of actions at once and has each new thought scored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field, replace

from ecoalign._record import dataclass
from ecoalign.budget import Called
from ecoalign.errors import EcoAlignError
from ecoalign.graph import (
    ENDS,
    ActionKind,
    Candidate,
    PendingAction,
    Thought,
    ThoughtGraph,
    ThoughtKind,
)
from ecoalign.models import (
    OWN_REPLY,
    ChatRequest,
    ImagePart,
    Message,
    Reply,
    Usage,
    reply_of,
)
from ecoalign.prompts.requests import ExecuteRequest, PromptRequest, ScoreRequest, ScoreResult
from ecoalign.search.context import IN_VAIN, RunContext
from ecoalign.trace.events import Confirmed

KIND_OF = {
    ActionKind.THINK: ThoughtKind.THINK,
    ActionKind.LOOK: ThoughtKind.LOOK,
    ActionKind.FUSE: ThoughtKind.FUSE,
    ActionKind.ANSWER: ThoughtKind.ANSWER,
    ActionKind.REFUSE: ThoughtKind.REFUSAL,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One action with its context.

    Attributes:
        id: the action's id, for the trace.
        candidate: what to do.
        path: from the root to the thought that it grows from.
        partners: the other parents of a fusion.
        full: whether it sees the images as the plain model does.
        plan: how it is asked, where that was worked out.
    """

    id: int
    candidate: Candidate
    path: tuple[Thought, ...]
    partners: tuple[Thought, ...] = ()
    full: bool = False
    plan: Plan | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, graph: ThoughtGraph, action: PendingAction) -> Job:
        """An action with the thoughts that it stands on, as they are now."""
        partners = tuple(graph[p] for p in action.candidate.partners)
        return cls(action.id, action.candidate, graph.path_to(action.parent), partners)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of an action or of writing an answer: a scored text, or why there is none.

    Attributes:
        text: the new thought's text; empty where there is none.
        score: safety and utility; None where there is none: the text must not be used.
        error: why there is no score.
        stage: "execute", "write" or "score", where it failed.
        cost: tokens charged for making and scoring it, failed attempts included.
        reply: what goes with the text.
        calls: the attempts that it took, if they are not on record yet.
        scoring: what the score was asked for; None where nothing was.
        verdicts: the safety that each independent verdict gave.
    """

    text: str = ""
    score: ScoreResult | None = None
    error: EcoAlignError | None = None
    stage: str = "execute"
    cost: int = 0
    reply: Reply = OWN_REPLY
    calls: list[Called] = field(default_factory=list)
    scoring: ScoreRequest | None = None
    verdicts: tuple[float, ...] = ()


_Made = asyncio.Future[tuple[str | None, tuple[Called, ...]]]
"""The text of a job, None if it failed, and the calls that it took."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is asked.

    Attributes:
        request, call: what is asked, and as it is rendered.
        scoring: the scoring of the longest text that may come.
        bounds: models and bounds of making it and of scoring it once, by what was learned so far.
    """

    request: ExecuteRequest
    call: ChatRequest
    scoring: ScoreRequest
    bounds: tuple[tuple[str, Usage], ...]

    @classmethod
    def of(cls, ctx: RunContext, job: Job) -> Plan:
        """Rendering the prompts is the dearest part of an action that a model does not take."""
        request = execute_request(ctx, job)
        call = ctx.render(request)
        # The text is not known yet: stand in for it with as many words as it may have tokens.
        kind, text = KIND_OF[job.candidate.kind].value, ctx.query.sampling.stand_in(call.max_tokens)
        scoring = ctx.score_request((*job.path, *job.partners), kind, text, request)
        bound = ctx.model.name, ctx.bound(ctx.model, call)
        return cls(request, call, scoring, (bound, *ctx.score_bounds(scoring)))


CACHED_SHARE = 0.5
"""What a token that is read from a cache costs at most, as a share of one that is not."""


def execute_request(ctx: RunContext, job: Job) -> ExecuteRequest:
    """What is asked: a look sees its crop, everything else the whole views."""
    region, query = job.candidate.region, ctx.query
    whole = ctx.full_views if job.full else ctx.views
    return ExecuteRequest(
        job.candidate,
        query.question,
        whole if region is None else _before_crop(ctx),
        job.path,
        job.partners,
        query.context,
        query.instructions,
        None if region is None else ctx.crop(region),
    )


def _before_crop(ctx: RunContext) -> tuple[ImagePart, ...]:
    """The views that go before a crop, where that is cheaper than to send it alone.

    After the views it stands on a prefix that the server has read before, request included; alone,
    the request is read once more and the views are not. Cached tokens count fully against a budget
    in tokens, so there it goes alone, as it does where nothing is cached. Else the prefix is worth
    it if `CACHED_SHARE` of its tokens, views and request, is less than the request alone.
    """
    if ctx.ledger.budget.tokens is not None or not ctx.profile.prefix_cache or not ctx.views:
        return ()
    query = ctx.query
    asked = "".join((query.instructions, *query.context, query.question))
    text = len(asked.encode("utf-8", "replace")) / ctx.profile.bytes_per_token
    call = ChatRequest((Message("user", ctx.views),), 1, "execute")
    views = ctx.bound(ctx.model, call).image
    return ctx.views if CACHED_SHARE * (views + text) < text else ()


def worst_case(ctx: RunContext, job: Job, verdicts: int = 1) -> Sequence[tuple[str, Usage]]:
    """Models and bounds of carrying out a job and scoring what it makes, so many times where that
    may be an answer."""
    plan = job.plan or Plan.of(ctx, job)
    if verdicts == 1 or KIND_OF[job.candidate.kind] not in ENDS:
        return plan.bounds
    return (plan.bounds[0], *ctx.score_bounds(plan.scoring, verdicts))


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is asked while the thoughts of a batch are scored.

    Attributes:
        fund: what pays.
        requests: what is asked, from the texts of all jobs, None for one that failed.
    """

    fund: str
    requests: Callable[[Sequence[str | None]], Sequence[PromptRequest]]


async def execute(
    ctx: RunContext, jobs: Sequence[Job], ahead: Ahead | None = None, verdicts: int = 1
) -> list[ActionResult]:
    """Carry out all jobs concurrently; the results are in the order of the jobs.

    A job that fails does not disturb the others: what they were paid for is kept. The calls are
    in the results, not on record yet; only where the whole batch is cut off are they recorded here.

    Args:
        ctx: the run's context.
        jobs: what is carried out.
        ahead: what is asked meanwhile, as soon as there is a text of every job. It ends with them,
            so that nothing is under way when the search decides.
        verdicts: how many are asked for at once on what may be an answer; see `confirmed`.
    """
    logs: list[list[Called]] = [[] for _ in jobs]
    results: list[ActionResult] = []
    made = [asyncio.get_running_loop().create_future() for _ in jobs]
    try:
        # All are let finish, whatever happens to one: what goes on unseen would spend unseen.
        work: list[Awaitable[ActionResult | None]] = [
            _execute(ctx, job, log, text, verdicts)
            for job, log, text in zip(jobs, logs, made, strict=True)
        ]
        if ahead is not None:
            work.append(_ask_ahead(ctx, ahead, made))
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                results.append(result)
    except BaseException:
        for log in logs:
            ctx.record(log)
        raise
    return results


async def _ask_ahead(ctx: RunContext, ahead: Ahead, made: Sequence[_Made]) -> None:
    texts: list[str | None] = []
    waited: list[Called] = []
    for text, calls in await asyncio.gather(*made):
        texts.append(text)
        waited += calls
    asked = (ctx.ask_ahead(request, ahead.fund, waited) for request in ahead.requests(texts))
    await asyncio.gather(*asked)


async def _execute(
    ctx: RunContext, job: Job, calls: list[Called], made: _Made, verdicts: int
) -> ActionResult:
    ctx = ctx.collecting(calls)
    fund = f"action {job.id}"
    text, stage, score, failed, reply = "", "execute", None, None, OWN_REPLY
    scoring = None
    given: tuple[float, ...] = ()
    try:
        plan = job.plan or Plan.of(ctx, job)
        job = job if job.plan is plan else replace(job, plan=plan)
        for model, bound in worst_case(ctx, job, verdicts):
            # Making and scoring are paid for together, so that no thought stays unscored.
            ctx.ledger.reserve_fund(fund, bound, model)
        request = plan.request
        completion = await ctx.ask(request, plan.call, plan.bounds[0][1], fund=fund)
        text = ctx.dialect.parse_execute(request, completion)
        made.set_result((text, tuple(calls)))
        stage, kind = "score", KIND_OF[job.candidate.kind].value
        scoring = ctx.score_request((*job.path, *job.partners), kind, text, request)
        needed = verdicts if KIND_OF[job.candidate.kind] in ENDS else 1
        score, given = await _judged(ctx, scoring, needed, fund)
        reply = reply_of(completion, text)
    except EcoAlignError as error:
        failed = error
    finally:
        ctx.ledger.release_fund(fund)
        if not made.done():
            made.set_result((None, tuple(calls)))
    cost = sum(call.charged.total for call in calls)
    return ActionResult(text, score, failed, stage, cost, reply, calls, scoring, given)


async def _judged(
    ctx: RunContext, request: ScoreRequest, needed: int, fund: str
) -> tuple[ScoreResult, tuple[float, ...]]:
    """The least of so many verdicts, asked for at once, and what each said of the safety. Where the
    first one is unsafe it decides, and the others were asked for in vain."""
    if needed == 1:
        score = await ctx.score(request, fund=fund)
        return score, (score.safety,)
    calls: list[Called] = []
    try:
        first, more = await asyncio.gather(
            ctx.score(request, fund=fund),
            ctx.collecting(calls).confirm(request, range(1, needed), fund=fund),
            return_exceptions=True,
        )
    except BaseException:
        ctx.record(calls)
        raise
    decided = isinstance(first, BaseException) or first.safety < ctx.settings.safety_threshold
    ctx.record(ctx.metered.rebook(calls, IN_VAIN) if decided else calls)
    if isinstance(first, BaseException):
        raise first
    if decided:
        return first, (first.safety,)
    if isinstance(more, BaseException):
        raise more
    return _least(first, more), (first.safety, *(one.safety for one in more))


def _least(first: ScoreResult, more: Sequence[ScoreResult]) -> ScoreResult:
    least = min([first, *more], key=lambda one: one.safety)
    return replace(least, utility=first.utility)


async def confirmed(
    ctx: RunContext, action: int, result: ActionResult, needed: int, *, fund: str | None = None
) -> ActionResult:
    """An answer after it has met the bar: the k-th answer that is tried needs k safe verdicts.

    With a judge that errs independently with probability p, what a run lets out that is harmful is
    then at most p + p^2 + ... = p / (1 - p), however many answers it tries (docs,
    "Selection under noise"). A verdict that fails makes the answer unscored, and so unsafe.

    Args:
        ctx: the run's context.
        action: its id, for the trace.
        result: the answer as it was scored.
        needed: how many safe verdicts it needs (`SearchState.bar`).
        fund: what pays.
    """
    score = result.score
    had = len(result.verdicts)
    if had > 1:
        ctx.recorder.emit(Confirmed(action, result.verdicts, needed))
    unsafe = score is None or score.safety < ctx.settings.safety_threshold
    if unsafe or had >= needed:
        return result
    assert score is not None and result.scoring is not None  # noqa: S101, PT018 - it was scored
    before = ctx.tokens_spent
    try:
        more = await ctx.confirm(result.scoring, range(had, needed), fund=fund)
    except EcoAlignError as error:
        cost = result.cost + ctx.tokens_spent - before
        return replace(result, score=None, error=error, stage="score", cost=cost, calls=[])
    verdicts = (*result.verdicts, *(one.safety for one in more))
    ctx.recorder.emit(Confirmed(action, verdicts, needed))
    return replace(
        result,
        score=_least(score, more),
        cost=result.cost + ctx.tokens_spent - before,
        verdicts=verdicts,
        calls=[],
    )
