"""The draft: an answer tried beside the scan, before anything is looked at more closely.

Most questions are easy and harmless, and for those a search only costs. The draft sees what the
plain model would see, and is scored at that resolution, once the request has been judged. One that
leaves less to gain than going on would cost is the answer; any other is one more thought.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from ecoalign.budget import Budget, Called
from ecoalign.errors import BudgetExceeded, EcoAlignError
from ecoalign.graph import ROOT, ActionKind, Candidate, PendingAction, Thought, ThoughtKind
from ecoalign.models import ChatRequest, Completion, Usage, reply_of
from ecoalign.prompts.requests import PromptRequest, ScoreRequest
from ecoalign.search.context import RunContext
from ecoalign.search.executor import ActionResult, Job, execute_request, worst_case
from ecoalign.search.failures import raise_if_rejected, raise_if_silent
from ecoalign.search.proposer import propose_request
from ecoalign.search.scanner import Scan, scan, scan_request
from ecoalign.search.synthesizer import AnswerReserve, answer_bounds, write_request
from ecoalign.search.valuator import GOING_ON
from ecoalign.trace.events import ActionsChosen, Proposed

DRAFT = PendingAction(0, ROOT, Candidate(ActionKind.ANSWER, "", ()))
"""The action, the first of a run that drafts."""

_FUND = f"action {DRAFT.id}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft that was written, or why there is none; not scored yet.

    Attributes:
        job: what was done.
        completion: the model's reply; None if there is none.
        error: why.
        cost, usd: tokens and dollars charged; 0 dollars where no price is known.
    """

    job: Job
    completion: Completion | None
    error: EcoAlignError | None
    cost: int
    usd: float

    def share_of(self, budget: Budget) -> float:
        """What it has cost of a budget, in the unit of which it took the greatest share."""
        spent = (self.cost, budget.tokens), (self.usd, budget.usd)
        return max((paid / whole for paid, whole in spent if whole), default=0.0)


def _job(*, full: bool = True) -> Job:
    nothing = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)
    return Job(DRAFT.id, DRAFT.candidate, (nothing,), full=full)


def first_round(ctx: RunContext) -> list[tuple[str, Usage]]:
    """Models and bounds of what has to fit before anything is learned, for views of the right size:
    a scan, a draft and an answer, with their scores."""
    ctx = ctx if ctx.views else ctx.sized()
    drafting = worst_case(ctx, _job()) if ctx.settings.draft else []
    return [*ctx.bounds(scan_request(ctx)), *drafting, *answer_bounds(ctx)]


def check_budget(ctx: RunContext) -> None:
    """Make sure that the budget holds a scan and a scored answer at their worst.

    Raises:
        BudgetTooSmall: it does not.
        UnpricedModelError: it is in dollars, and a price is not known.
    """
    ctx = ctx if ctx.views else ctx.sized()
    reserve = AnswerReserve(ctx)
    reserve.reserve()
    try:
        for model, bound in ctx.bounds(scan_request(ctx)):
            ctx.ledger.reserve_fund(_FUND, bound, model)
    except BudgetExceeded as short:
        raise reserve.too_small(short) from short


def first_calls(ctx: RunContext) -> list[ChatRequest]:
    """What a run asks first, as far as it is known before it begins."""
    ctx, job = ctx.sized(), _job()
    asked = (
        scan_request(ctx),
        execute_request(ctx, job),
        write_request(ctx, job.path),
        propose_request(ctx, job.path, (), ctx.settings.horizon_cap),
        ctx.score_request(job.path, "answer", ""),
    )
    return [call for request in asked for call in _rendered(ctx, request)]


def _rendered(ctx: RunContext, request: PromptRequest) -> Sequence[ChatRequest]:
    if isinstance(request, ScoreRequest):
        return ctx.dialect.score_calls(request)
    return (ctx.render(request),)


async def scan_and_draft(ctx: RunContext) -> tuple[Scan, Draft | None]:
    """The scan and, where a draft is wanted and there is room for both, a draft beside it.

    Raises:
        BudgetExceeded, ModelError: there is no scan, or the draft met what every further stage
            would meet as well: the rejection of a client's parameter, a server that hangs or is
            not there.
    """
    job = _affordable_job(ctx, ctx.bounds(scan_request(ctx)))
    scanning: list[Called] = []
    drafting: list[Called] = []
    work: list[Awaitable[Scan | Draft]] = [scan(ctx, scanning)]
    if job is not None:
        work.append(write_draft(ctx, job, drafting))
    try:
        # Both are let finish, whatever happens to one: what goes on unseen would spend unseen.
        found = await asyncio.gather(*work, return_exceptions=True)
    except BaseException:
        ctx.ledger.release_fund(_FUND)
        ctx.record([*scanning, *drafting])
        raise
    ctx.record(scanning)
    if job is not None:
        _record(ctx, drafting)
    drafted = next((one for one in found if isinstance(one, Draft)), None)
    # A client's parameter that is rejected is told as that, whatever became of the scan.
    _raise_if_all_would_fail(drafted)
    for one in found:
        if isinstance(one, BaseException):
            # A draft that was written is not scored any more.
            ctx.ledger.release_fund(_FUND)
            raise one
    seen = found[0]
    assert isinstance(seen, Scan)  # noqa: S101 - the first of the two
    return seen, drafted


async def draft_after(ctx: RunContext) -> Draft | None:
    """A draft after the scan, where there was no room for both before it told what they cost.

    Raises:
        ModelError: see `scan_and_draft`.
    """
    job = _affordable_job(ctx, [])
    if job is None:
        return None
    calls: list[Called] = []
    try:
        drafted = await write_draft(ctx, job, calls)
    finally:
        _record(ctx, calls)
    _raise_if_all_would_fail(drafted)
    return drafted


def _affordable_job(ctx: RunContext, besides: list[tuple[str, Usage]]) -> Job | None:
    """The draft as the plain model would write it; where there is no room, from the views."""
    left = ctx.ledger.remaining()
    for job in (_job(), _job(full=False)) if ctx.settings.draft else ():
        if left.covers(ctx.ledger.needs([*worst_case(ctx, job), *besides])):
            return job
    return None


async def write_draft(ctx: RunContext, job: Job, calls: list[Called]) -> Draft:
    """Write it, paid together with its score, so that no draft stays unscored. The calls go to the
    list."""
    request = execute_request(ctx, job)
    for model, bound in worst_case(ctx, job):
        ctx.ledger.reserve_fund(_FUND, bound, model)
    completion, failed = None, None
    try:
        completion = await ctx.collecting(calls).ask(request, fund=_FUND)
    except EcoAlignError as error:
        failed = error
    finally:
        if completion is None:
            ctx.ledger.release_fund(_FUND)
    tokens, usd = sum(call.charged.total for call in calls), sum(call.usd or 0.0 for call in calls)
    return Draft(job, completion, failed, tokens, usd)


def _record(ctx: RunContext, calls: Sequence[Called]) -> None:
    ctx.recorder.emit(Proposed(ROOT, DRAFT.id, (DRAFT.candidate,)))
    ctx.recorder.emit(ActionsChosen(0, (DRAFT.id,)))
    ctx.record(calls)


def _raise_if_all_would_fail(drafted: Draft | None) -> None:
    if drafted is not None:
        raise_if_rejected(drafted.error)
        raise_if_silent(drafted.error)


def drop(ctx: RunContext) -> None:
    """Give back what is reserved for the draft's score: it is not wanted."""
    ctx.ledger.release_fund(_FUND)


async def score_draft(ctx: RunContext, drafted: Draft, root: Thought) -> ActionResult:
    """Score it as an answer that follows from the scan. Errors are in the result, as a draft
    without a score is no answer; but for a server that hangs.

    Raises:
        ModelError: such an error.
    """
    calls: list[Called] = []
    if drafted.completion is None:
        return ActionResult(error=drafted.error, cost=drafted.cost)
    request = execute_request(ctx, drafted.job)
    text, stage, score, failed = "", "execute", None, None
    scoring = None
    try:
        text = ctx.dialect.parse_execute(request, drafted.completion)
        stage, scoring = "score", ctx.score_request((root,), "answer", text, request)
        # The caption was not known when the score was bounded.
        ctx.ledger.release_fund(_FUND)
        for model, bound in ctx.score_bounds(scoring):
            ctx.ledger.reserve_fund(_FUND, bound, model)
        with ctx.recording(calls) as part:
            score = await part.score(scoring, fund=_FUND)
    except EcoAlignError as error:
        failed = error
    finally:
        ctx.ledger.release_fund(_FUND)
    raise_if_silent(failed)
    return ActionResult(
        text,
        score,
        failed,
        stage,
        drafted.cost + sum(call.charged.total for call in calls),
        reply_of(drafted.completion, text),
        scoring=scoring,
        verdicts=() if score is None else (score.safety,),
    )


def stands(ctx: RunContext, drafted: Draft, result: ActionResult, seen: Scan) -> bool:
    """Whether a draft is the answer: the request needs no caution, the draft is as safe as such a
    request has to be, what it says is verified, and going on would cost at least what it leaves to
    gain. A picture that hides detail from every view is a reason to look, whatever it says.
    """
    score, settings = result.score, ctx.settings
    if score is None or score.safety < _caution(ctx) or cannot_stand(ctx, drafted, seen):
        return False
    if score.utility < ctx.verified:
        return False
    left = 1.0 - score.safety * min(1.0, score.utility)
    return left <= (GOING_ON * settings.lambda0 if settings.satisfice else 0.0)


def cannot_stand(ctx: RunContext, drafted: Draft, seen: Scan) -> bool:
    """Whether a draft is not the answer, however it is scored."""
    wary = seen.result.request_safety < _caution(ctx)
    return wary or (seen.beyond if drafted.job.full else seen.hidden)


def _caution(ctx: RunContext) -> float:
    return max(ctx.settings.low_risk_threshold, ctx.settings.safety_threshold)
