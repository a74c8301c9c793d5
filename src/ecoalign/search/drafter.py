"""The draft: an answer tried, and scored, before anything is looked at more closely.

Most questions are easy and harmless, and for those a search only costs. A draft that leaves less
to gain than going on would cost is the answer; any other is one more thought of the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ecoalign.graph import ROOT, ActionKind, Candidate, PendingAction, Thought, ThoughtKind
from ecoalign.graph.economics import Economy
from ecoalign.models import ChatRequest, Usage
from ecoalign.prompts.requests import PromptRequest, ScoreRequest
from ecoalign.search.context import RunContext
from ecoalign.search.executor import ActionResult, Job, execute, execute_request, worst_case
from ecoalign.search.failures import raise_if_rejected, raise_if_silent
from ecoalign.search.proposer import propose_request
from ecoalign.search.scanner import scan_request
from ecoalign.search.synthesizer import answer_bounds, write_request
from ecoalign.settings import Settings
from ecoalign.trace.events import ActionsChosen, Proposed

DRAFT = PendingAction(0, ROOT, Candidate(ActionKind.ANSWER, "", ()))
"""The action, the first of a run that drafts."""

_GOING_ON = 3
"""Actions that going on takes at least: a scan, a proposal, and what is proposed."""


def draft_bounds(ctx: RunContext) -> list[tuple[str, Usage]]:
    """Models and bounds of writing and scoring a draft."""
    return worst_case(ctx, _job())


def _job() -> Job:
    nothing = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)
    return Job(DRAFT.id, DRAFT.candidate, (nothing,))


def first_round(ctx: RunContext) -> list[tuple[str, Usage]]:
    """Models and bounds of what has to fit before anything is learned, for views of the right size:
    a scan, a draft and an answer, with their scores."""
    if not ctx.views:
        ctx = replace(ctx, views=ctx.sized_views())
    drafting = draft_bounds(ctx) if ctx.settings.draft else []
    return [*ctx.bounds(scan_request(ctx)), *drafting, *answer_bounds(ctx)]


def first_calls(ctx: RunContext) -> list[ChatRequest]:
    """What a run asks first, as far as it is known before it begins."""
    ctx = replace(ctx, views=ctx.sized_views())
    job = _job()
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


async def draft(ctx: RunContext, *, scanned: bool = False) -> ActionResult | None:
    """Write and score an answer from the views alone; None where that is off, or where it would
    leave no room to scan.

    Args:
        ctx: the run's context.
        scanned: whether the scan is done.

    Errors are in the result, as a draft without a score is no answer; but for those that every
    further stage would meet as well: the rejection of a client's parameter, a server that hangs or
    is not there.

    Raises:
        ModelError: such an error.
    """
    if not ctx.settings.draft:
        return None
    needed = draft_bounds(ctx) + ([] if scanned else ctx.bounds(scan_request(ctx)))
    if not ctx.ledger.remaining().covers(ctx.ledger.needs(needed)):
        return None
    ctx.recorder.emit(Proposed(ROOT, DRAFT.id, (DRAFT.candidate,)))
    ctx.recorder.emit(ActionsChosen(0, (DRAFT.id,)))
    (result,) = await execute(ctx, [_job()])
    ctx.record(result.calls)
    raise_if_rejected(result.error)
    raise_if_silent(result.error)
    return result


def suffices(result: ActionResult, settings: Settings) -> bool:
    """Whether a draft leaves no more to gain than going on would cost at the least.

    It must also be as safe as a request that needs no caution (`low_risk_threshold`): the request
    has not been judged yet. Without a price of tokens (the other economies) only a perfect one
    does.
    """
    score = result.score
    if score is None or score.safety < max(settings.low_risk_threshold, settings.safety_threshold):
        return False
    priced = settings.economy is Economy.SURPLUS
    left = 1.0 - score.safety * min(1.0, score.utility)
    return left <= (_GOING_ON * settings.lambda0 if priced else 0.0)
