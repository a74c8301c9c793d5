"""The Executor: carries out a batch of actions at once and has each new thought scored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.errors import EcoAlignError
from ecoalign.evaluators import bounds_by_model
from ecoalign.graph import ActionKind
from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.models import OWN_REPLY, Reply, reply_of
from ecoalign.prompts.requests import ExecuteRequest
from ecoalign.search.context import CallLog, RunContext, logging_calls, note_calls, tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecoalign.graph import Candidate
    from ecoalign.graph._thoughts import Thought
    from ecoalign.models import ImagePart, Usage
    from ecoalign.prompts.requests import ScoreResult

__all__ = ["KIND_OF", "ActionResult", "Job", "execute_batch", "worst_case"]

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
    """

    id: int
    candidate: Candidate
    path: tuple[Thought, ...]
    partners: tuple[Thought, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of a job: a scored text, or the error that left it without a score.

    Attributes:
        job: the job.
        text: the new thought's text; empty where there is none.
        score: safety and utility; None where there is none: the text must not be used.
        error: why there is no score.
        stage: "execute" or "score", where it failed.
        calls: the attempts it took, failed ones included.
        reply: what goes with the text.
    """

    job: Job
    text: str = ""
    score: ScoreResult | None = None
    error: EcoAlignError | None = None
    stage: str = "execute"
    calls: CallLog = field(default_factory=list)
    reply: Reply = OWN_REPLY

    @property
    def cost(self) -> int:
        """Tokens charged for making and scoring it."""
        return tokens_of(self.calls)


def request_for(ctx: RunContext, job: Job) -> ExecuteRequest:
    """The stage request of a job: a look sees its crop, everything else the whole views."""
    region = job.candidate.region
    views = (ctx.crop(region),) if region is not None else ctx.views
    query = ctx.query
    return ExecuteRequest(
        job.candidate, query.question, views, job.path, job.partners, query.context
    )


def worst_case(ctx: RunContext, job: Job) -> list[tuple[str, Usage]]:
    """Models and bounds of carrying out a job and scoring what it makes."""
    request = request_for(ctx, job)
    call = ctx.render(request)
    return [(ctx.model.name, ctx.model.bound(call)), *_scoring(ctx, job, call.max_tokens)]


def _scoring(ctx: RunContext, job: Job, longest: int) -> list[tuple[str, Usage]]:
    # The text is not known yet: stand in for it with as many words as it may have tokens.
    kind = KIND_OF[job.candidate.kind].value
    views = request_for(ctx, job).views
    text = ctx.query.sampling.stand_in(longest)
    request = ctx.score_request((*job.path, *job.partners), kind, text, views)
    return list(bounds_by_model(ctx.evaluator, request, ctx.model.name))


async def execute_batch(ctx: RunContext, jobs: Sequence[Job]) -> list[ActionResult]:
    """Carry out all jobs concurrently; the outcomes are in the order of the jobs.

    A job that fails does not disturb the others: what they were paid for is kept.
    """
    outcomes: list[ActionResult] = []
    # All are let finish, whatever happens to one: what goes on unseen would spend unseen.
    work = (_execute(ctx, job) for job in jobs)
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        outcomes.append(outcome)
    return outcomes


async def _execute(ctx: RunContext, job: Job) -> ActionResult:
    log: CallLog = []
    try:
        return await _carry_out(ctx, job, log)
    except BaseException:
        # Cut off: what was called until then is on record all the same.
        note_calls(log)
        raise


async def _carry_out(ctx: RunContext, job: Job, log: CallLog) -> ActionResult:
    fund = f"action {job.id}"
    text, stage = "", "execute"
    with logging_calls(log):
        try:
            for model, bound in worst_case(ctx, job):
                # Making and scoring are paid for together, so that no thought stays unscored.
                ctx.ledger.reserve_fund(fund, bound, model)
            request = request_for(ctx, job)
            completion = await ctx.ask(request, fund=fund)
            text = ctx.dialect.parse_execute(request, completion).text
            stage = "score"
            score = await _score(ctx, job, text, request.views, fund)
        except EcoAlignError as error:
            return ActionResult(job, text, None, error, stage, log)
        finally:
            ctx.ledger.release_fund(fund)
    return ActionResult(job, text, score, None, stage, log, reply_of(completion, text))


async def _score(
    ctx: RunContext, job: Job, text: str, views: tuple[ImagePart, ...], fund: str
) -> ScoreResult:
    kind = KIND_OF[job.candidate.kind].value
    request = ctx.score_request((*job.path, *job.partners), kind, text, views)
    return await ctx.score(request, fund=fund)
