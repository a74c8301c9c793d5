"""Speculation: calls that are likely to be needed start before it is known that they are.

While the thoughts of a batch are scored, the proposal from the one that is likely to be expanded
next is asked for; while the draft is scored, the proposal from the root. It is paid from a fund of
its own, and asked for only where the budget has room for it beside what is decided. The search
takes it if it then asks the very same; so nothing is decided by what was faster, and what was asked
in vain has cost tokens and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from ecoalign.graph import ActionKind, Candidate, PendingAction, Thought, ThoughtId
from ecoalign.models import Usage
from ecoalign.prompts.requests import PromptRequest
from ecoalign.search.context import RunContext
from ecoalign.search.drafter import Draft, cannot_stand, score_draft
from ecoalign.search.executor import KIND_OF, ActionResult, Ahead, Job, Plan, execute_request
from ecoalign.search.proposer import OTHERS_SEARCHED, fusable_with, propose_request
from ecoalign.search.scanner import Scan
from ecoalign.search.state import SearchState, promise
from ecoalign.search.valuator import Terms

_FUND = "ahead"

_ANSWER = Candidate(ActionKind.ANSWER, "", ())

_ANSWER_NEXT = 2
"""Steps of a forecast that sees an answer after the action."""

_ANSWERS_LEFT = 16
"""Answers that the rest of the budget has room for where one is asked ahead: where images are dear,
one in vain would cost the search an action."""

_GROWS = (ActionKind.THINK, ActionKind.LOOK, ActionKind.FUSE)


@contextmanager
def proposal_ahead(
    ctx: RunContext, state: SearchState, batch: Sequence[PendingAction], now: Terms
) -> Iterator[Ahead | None]:
    """What to ask for while the thoughts of a batch are scored, and its fund; None for nothing.

    Args:
        ctx: the run's context.
        state: before the batch is begun.
        batch: what is executed, its needs known.
        now: the terms of the step.
    """
    jobs = [state.job(action) for action in batch]
    chosen = _next(state, jobs, now)
    if chosen is None:
        yield None
        return

    def requests(texts: Sequence[str | None]) -> list[PromptRequest]:
        return _requests(ctx, state, jobs, chosen, texts, now.horizon)

    bounds = ctx.bounds(*requests([(job.plan or Plan.of(ctx, job)).scoring.text for job in jobs]))
    ledger, left = ctx.ledger, ctx.ledger.remaining()
    if not left.covers(*[ledger.needs(bounds[1:])] * _ANSWERS_LEFT):
        bounds = bounds[:1]
    needs = (state.needs[action.id] for action in batch)
    if not left.covers(*needs, ledger.needs(bounds)):
        yield None
        return
    with _fund(ctx, bounds):
        yield Ahead(_FUND, lambda texts: requests(texts)[: len(bounds)])


async def with_root_ahead(
    ctx: RunContext, state: SearchState, seen: Scan, drafted: Draft
) -> ActionResult:
    """The scored draft; meanwhile the proposal from the root is asked for.

    With `speculate = "likely"` only where the draft cannot stand, however it is scored.

    Raises:
        ModelError: see `score_draft`.
    """
    root, settings = state.graph.root, ctx.settings
    wanted = settings.speculate == "all" or (
        settings.speculate == "likely" and cannot_stand(ctx, drafted, seen)
    )
    if not wanted or drafted.completion is None:
        return await score_draft(ctx, drafted, root)
    fixed = settings.horizon_unit == "fixed"
    # While there is budget enough the horizon is at its cap.
    steps = settings.fixed_horizon if fixed else settings.horizon_cap
    request = propose_request(ctx, (root,), (), steps)
    bounds = ctx.bounds(request)
    if not ctx.ledger.remaining().covers(ctx.ledger.needs(bounds)):
        return await score_draft(ctx, drafted, root)
    with _fund(ctx, bounds):
        # Both are let finish, whatever happens to one: what goes on unseen would spend unseen.
        asked, result = await asyncio.gather(
            ctx.ask_ahead(request, _FUND), score_draft(ctx, drafted, root), return_exceptions=True
        )
    if isinstance(result, BaseException):
        raise result
    if asked is not None:
        raise asked
    return result


@contextmanager
def _fund(ctx: RunContext, bounds: Iterable[tuple[str, Usage]]) -> Iterator[None]:
    try:
        for model, bound in bounds:
            ctx.ledger.reserve_fund(_FUND, bound, model)
        yield
    finally:
        ctx.ledger.release_fund(_FUND)


def _next(state: SearchState, jobs: Sequence[Job], now: Terms) -> int | None:
    """The place of the job whose thought will be expanded next if all turns out as forecast."""
    settings = state.settings
    if settings.speculate == "off" or any(job.id in state.simulator.ready for job in jobs):
        return None
    hopes = [
        (promise(job.candidate, job.candidate.forecast[0].utility), place)
        for place, job in enumerate(jobs)
        if job.candidate.kind in _GROWS and len(job.path) < settings.max_depth
    ]
    if not hopes or len(state.graph) + len(jobs) >= settings.max_thoughts:
        return None
    hope, place = max(hopes)
    waiting, other = state.next_open()
    if waiting is not None and other > hope:
        return None
    price = now.price * (state.executed.mean + state.proposals.mean)
    if settings.satisfice and hope * now.headroom < price:
        return None
    return place


def _requests(
    ctx: RunContext,
    state: SearchState,
    jobs: Sequence[Job],
    chosen: int,
    texts: Sequence[str | None],
    steps: int,
) -> list[PromptRequest]:
    """The proposal from the thought of one job if all of them are scored safe; and where one step
    was forecast to follow, the answer from it."""
    made: list[Thought] = []
    path: tuple[Thought, ...] = ()
    for place, (job, text) in enumerate(zip(jobs, texts, strict=True)):
        if text is None:
            continue
        candidate, graph = job.candidate, state.graph
        parents = (job.path[-1].id, *candidate.partners)
        number, kind = ThoughtId(len(graph) + len(made)), KIND_OF[candidate.kind]
        made.append(Thought(number, kind, text, 1.0, 0.0, 0.0, parents, candidate.region))
        if place == chosen:
            path = (*graph.path_to(max(parents, key=graph.floor)), made[-1])
    if not path:
        return []
    newest = chain(reversed(made), state.graph.newest(OTHERS_SEARCHED - len(made)))
    others = fusable_with(newest, path) if ctx.settings.fuse else ()
    asked: list[PromptRequest] = [propose_request(ctx, path, others, steps)]
    # What was found together is to be put together first.
    if len(jobs) == 1 and len(jobs[chosen].candidate.forecast) == _ANSWER_NEXT:
        asked.append(execute_request(ctx, Job(-1, _ANSWER, path)))
    return asked
