"""One search: scan and draft, then propose -> simulate -> value -> execute until it no longer pays.

(arXiv 2511.11301: Global Scanner, Graph Engine, Valuator, Executor, Pareto Tracker.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ecoalign.budget import Amount, Called
from ecoalign.errors import BudgetExceeded, EcoAlignError
from ecoalign.graph import (
    ENDS,
    ROOT,
    ActionKind,
    Candidate,
    Forecast,
    PendingAction,
    Region,
    Similarity,
    ThoughtId,
    ValuedAction,
    text_similarity,
)
from ecoalign.search.context import RunContext
from ecoalign.search.drafter import (
    DRAFT,
    Draft,
    draft_after,
    drop,
    scan_and_draft,
    stands,
)
from ecoalign.search.executor import (
    KIND_OF,
    ActionResult,
    Ahead,
    Job,
    Plan,
    confirmed,
    execute,
    worst_case,
)
from ecoalign.search.extractor import extract
from ecoalign.search.failures import needed_by, not_paid_for, raise_if_rejected
from ecoalign.search.proposer import propose
from ecoalign.search.scanner import Scan
from ecoalign.search.speculator import proposal_ahead, with_root_ahead
from ecoalign.search.state import SearchState
from ecoalign.search.synthesizer import AnswerReserve
from ecoalign.search.valuator import GOING_ON, Ceiling, Terms, ranked, select, share_left, terms
from ecoalign.trace.events import (
    DROPPED,
    ActionFailed,
    ActionsChosen,
    Finished,
    RootScanned,
    StepStarted,
    StopReason,
    ThoughtAdded,
    Valued,
)


async def search(ctx: RunContext, similarity: Similarity = text_similarity) -> Finished:
    """Search, extract, answer.

    Args:
        ctx: the run's context.
        similarity: compares the texts of two thoughts before a merge; see `text_similarity`.

    Raises:
        BudgetTooSmall: the budget allows no scored answer.
        ModelError: the model could not be asked at all.
    """
    reserve = AnswerReserve(ctx)
    reserve.reserve()
    try:
        seen, drafted = await scan_and_draft(ctx)
    except BudgetExceeded as short:
        raise reserve.too_small(short) from short
    state = SearchState.new(ctx.settings, similarity, seen)
    if reserve.learn() and drafted is None:
        # There was no room for both before the scan told what they really cost.
        drafted = await draft_after(ctx)
    reserve.cover((state.graph.root,))
    ctx.recorder.emit(RootScanned(state.graph.root, seen.plan, seen.share, seen.note))
    stood = False
    if drafted is not None:
        stood = await _use_draft(ctx, state, reserve, seen, drafted)
    if stood:
        return await extract(ctx, state, "satisfied", drafted=True)
    # What the draft has cost was spent before the risk was known.
    before = 0.0 if drafted is None else drafted.share_of(ctx.ledger.budget)
    ctx.ledger.tighten(min(1.0, seen.share + before))
    if seen.plan:
        await _add_plan(ctx, state, seen.plan)
    elif seen.grid:
        await ctx.encode_crops(seen.grid)
        ctx.recorder.emit(state.enqueue(ROOT, [_cell_look(region) for region in seen.grid]))
    stop = await _grow(ctx, state, reserve)
    reserve.learn()
    return await extract(ctx, state, stop)


async def _grow(ctx: RunContext, state: SearchState, reserve: AnswerReserve) -> StopReason:
    """The loop: until the budget is exhausted or no safe action has positive value."""
    settings = ctx.settings
    if state.graph.root.safety < 0 and settings.unsafe_root == "refuse":
        await _refuse(ctx, state, reserve, ROOT)
        return "unsafe-request"
    while (room := settings.max_thoughts - len(state.graph)) > 0:
        if state.rejected >= settings.unsafe_answers:
            if not state.unread:
                state.cause = f"score: {state.rejected} answers were judged unsafe"
            return "limits"
        now = _start_step(ctx, state, reserve)
        if _satisfied(ctx, state, now):
            return "satisfied"
        proposed = await _expand(ctx, state, now)
        batch, considered = await _choose(ctx, state, now, min(settings.batch, room))
        if batch:
            with proposal_ahead(ctx, state, batch, now) as ahead:
                await _carry_out(ctx, state, reserve, batch, ahead)
        elif proposed and not any(one.value > 0 for one in considered):
            # If something is worth doing and cannot be paid for, proposals would only cost.
            continue
        elif not await _answer_after_all(ctx, state, reserve, now):
            stop = _why_stopped(ctx, state, considered)
            if state.unsafe_end is not None and not state.graph.ends:
                # Where every answer was unsafe, one more would be, too: refuse and say why.
                parent = state.unsafe_end
                gone = state.graph.is_pruned(parent)
                await _refuse(ctx, state, reserve, ROOT if gone else parent)
            return stop
    return "limits"


# Before the loop ------------------------------------------------------------------------------


async def _use_draft(
    ctx: RunContext, state: SearchState, reserve: AnswerReserve, seen: Scan, drafted: Draft
) -> bool:
    """Score the draft and make it a thought; whether it stands as the answer.

    Where the request itself is unsafe, or a plan governs what is written, a draft that knew nothing
    of that is not wanted.
    """
    state.next_action = DRAFT.id + 1
    if state.graph.root.safety < 0 or seen.plan:
        drop(ctx)
        why = "the request is unsafe" if not seen.plan else "a plan governs what is written"
        ctx.recorder.emit(ActionFailed(DRAFT.id, "score", DROPPED, why))
        return False
    result = await with_root_ahead(ctx, state, seen, drafted)
    reserve.learn()
    _tell(ctx, state, reserve, DRAFT, result)
    state.drafted = result.score is not None
    return stands(ctx, drafted, result, seen)


async def _add_plan(ctx: RunContext, state: SearchState, plan: str) -> None:
    """Put the cautious plan under the root, scored."""
    before = ctx.tokens_spent
    try:
        score = await ctx.score(ctx.score_request((state.graph.root,), "strategy", plan))
    except EcoAlignError as error:
        ctx.recorder.emit(state.failed(-1, "score", error))
    else:
        ctx.recorder.emit(state.add_strategy(plan, score, ctx.tokens_spent - before))


def _cell_look(region: Region) -> Candidate:
    """A look at a cell of a dense picture: nobody has forecast what is there, so it comes after
    what the model forecasts to be better."""
    steps = (Forecast(1.0, 0.3), Forecast(1.0, 0.6))
    return Candidate(ActionKind.LOOK, "everything that is written or drawn here", steps, region)


# The terms of a step --------------------------------------------------------------------------


def _start_step(ctx: RunContext, state: SearchState, reserve: AnswerReserve) -> Terms:
    """What is left, how far to look ahead and what a token is worth in this step."""
    if reserve.learn():
        state.needs.clear()
        state.jobs.clear()
    state.step += 1
    ledger, tokens = ctx.ledger, state.mean_cost
    remaining, spent = ledger.remaining(), ledger.spent
    calls = max(1, spent.calls)
    per_call = tokens * calls / max(1, spent.tokens.total)
    usd = None if spent.usd is None else spent.usd / calls * per_call
    means = (tokens, usd, spent.seconds / calls * per_call)
    now = terms(ctx.settings, ledger, remaining, means, state.headroom)
    share = share_left(remaining, ledger.limit)
    started = ctx.recorder.emit(
        StepStarted(state.step, remaining, share, now.horizon, now.price, tokens, now.headroom)
    )
    if (now.horizon, now.price) == (started.horizon, started.price):
        return now
    # What was recorded is what counts: a replay has its times from the trace.
    return replace(now, horizon=started.horizon, price=started.price)


def _satisfied(ctx: RunContext, state: SearchState, now: Terms) -> bool:
    """Whether an answer exists that no further action can improve by more than its price, or that
    is verified and cannot be improved by more than going on costs, as a draft that stands."""
    if not ctx.settings.satisfice or not state.graph.ends:
        return False
    best, price = state.best.thought(state.graph), now.price * state.mean_cost
    verified = best is not None and state.graph[best].utility >= ctx.verified
    return now.headroom <= price * (GOING_ON if verified else 1)


def _why_stopped(
    ctx: RunContext, state: SearchState, considered: Sequence[ValuedAction]
) -> StopReason:
    wanted = next((one for one in considered if one.value > 0), None)
    if wanted is not None:
        needs, what = _needs(ctx, state, state.queue[wanted.action]), _STEPS[wanted.kind]
        state.lacking = not_paid_for(ctx.ledger, what, needs, ctx.usual_budget)
        return "budget"
    if state.short is not None:
        needs = needed_by(state.short)
        state.lacking = not_paid_for(ctx.ledger, "a further call", needs, ctx.usual_budget)
        return "budget"
    too_deep = state.graph.open and state.next_open()[0] is None
    return "limits" if too_deep and not considered else "no-positive-action"


_STEPS = {
    ActionKind.THINK: "the next thought",
    ActionKind.LOOK: "a look",
    ActionKind.FUSE: "a fusion of thoughts",
    ActionKind.ANSWER: "another answer",
    ActionKind.REFUSE: "a refusal",
}


# Choose ---------------------------------------------------------------------------------------


async def _choose(
    ctx: RunContext, state: SearchState, now: Terms, most: int
) -> tuple[list[PendingAction], list[ValuedAction]]:
    """The actions to execute, at most so many, and those that were considered."""
    queue, simulator, prices = state.queue, state.simulator, state.prices
    jobs = (state.job(action) for action in queue if state.possible(action))
    news = await simulator.prepare(ctx, jobs, now.horizon)
    state.count_simulated()
    if news or state.ceiling is None or not state.ceiling.holds(now, prices):
        state.ceiling = Ceiling.over(now, prices)
        queue.forget_bounds()
    top, left = state.ceiling, ctx.ledger.remaining()

    def affordable(actions: Sequence[PendingAction]) -> bool:
        return left.covers(*(_needs(ctx, state, action) for action in actions))

    found = queue.best_first(
        lambda action: state.worth(
            action, now, prices, lambda one: state.price(_needs(ctx, state, one))
        ),
        lambda action: state.worth(action, top.terms, top.prices, lambda one: 0.0),
    )
    valued, margin = ranked(found, affordable), ctx.settings.batch_margin
    batch, considered = select(valued, queue.__getitem__, affordable, most, margin)
    ctx.recorder.emit(Valued(state.step, tuple(considered)))
    return batch, considered


def _affordable(ctx: RunContext, state: SearchState, actions: Sequence[PendingAction]) -> bool:
    """Whether the worst case of all of them together fits what is left."""
    needs = [_needs(ctx, state, action) for action in actions]
    return ctx.ledger.remaining().covers(*needs)


def _needs(ctx: RunContext, state: SearchState, action: PendingAction) -> Amount:
    """The worst case of an action, with all the verdicts that an answer needs by now."""
    needs = state.needs.get(action.id)
    if needs is None:
        job = state.job(action)
        if job.plan is None:
            plan = Plan.of(ctx, job)
            job = Job(job.id, job.candidate, job.path, job.partners, job.full, plan)
            state.jobs[action.id] = job
        needs = ctx.ledger.needs(worst_case(ctx, job, state.bar))
        state.needs[action.id] = needs
    return needs


# Propose --------------------------------------------------------------------------------------


async def _expand(ctx: RunContext, state: SearchState, now: Terms) -> bool:
    """Expand the most promising open thought; returns whether one was worth it."""
    node, promise = state.next_open()
    # It must pay for the proposal and for an action after it.
    price = now.price * (state.mean_cost + state.proposals.mean)
    if node is None or (ctx.settings.satisfice and promise * now.headroom < price):
        return False
    graph = state.graph
    graph.expanded(node)
    calls: list[Called] = []
    try:
        with ctx.recording(calls) as part:
            result = await propose(part, graph, node, now.horizon)
    except EcoAlignError as error:
        ctx.recorder.emit(state.failed(-1, "propose", error))
        return True
    finally:
        state.proposals.add(sum(call.charged.total for call in calls))
    await ctx.encode_crops(c.region for c in result.candidates if c.region is not None)
    # From the root an answer would only be the draft again.
    redrafts = state.drafted and node == ROOT
    fresh = [c for c in result.candidates if not (redrafts and c.kind is ActionKind.ANSWER)]
    dropped = result.dropped + len(result.candidates) - len(fresh)
    ctx.recorder.emit(state.enqueue(node, fresh, dropped, result.seen))
    earned = graph.path_safety(node) * graph[node].utility
    if not (fresh or dropped) and earned <= now.price * graph[node].cost:
        ctx.recorder.emit_all(state.drop_dead_ends(node, worthless=True))
    return True


# Execute --------------------------------------------------------------------------------------


def _tell(
    ctx: RunContext,
    state: SearchState,
    reserve: AnswerReserve,
    action: PendingAction,
    result: ActionResult,
) -> None:
    """Record what came of an action, and keep enough back for an answer that is written from it."""
    for event in state.tell(action, result):
        ctx.recorder.emit(event)
        rewritten = ctx.settings.synthesis == "always" or not state.graph.ends
        if isinstance(event, ThoughtAdded) and not event.pruned and rewritten:
            reserve.cover(state.graph.path_to(event.thought.id))


async def _carry_out(
    ctx: RunContext,
    state: SearchState,
    reserve: AnswerReserve,
    batch: Sequence[PendingAction],
    ahead: Ahead | None = None,
) -> None:
    """Execute a batch, but for what a rollout has executed already, and tell what came of it."""
    ctx.recorder.emit(ActionsChosen(state.step, tuple(action.id for action in batch)))
    jobs = [state.begin(action) for action in batch]
    ready = state.simulator.ready
    fresh = [job for job in jobs if job.id not in ready]
    # An answer that needs several verdicts is given all of them at once.
    verdicts = 1 if ctx.settings.speculate == "off" else state.bar
    outcomes = await execute(ctx, fresh, ahead, verdicts)
    made = dict(zip((job.id for job in fresh), outcomes, strict=True))
    results = [ready.pop(job.id) if job.id in ready else made[job.id] for job in jobs]
    unrecorded = deque(results)
    try:
        for action in batch:
            result = unrecorded.popleft()
            ctx.record(result.calls)
            if KIND_OF[action.candidate.kind] in ENDS:
                result = await confirmed(ctx, action.id, result, state.bar)
            state.charge(action, result.cost)
            _tell(ctx, state, reserve, action, result)
    finally:
        for result in unrecorded:
            ctx.record(result.calls)
    if not state.graph.ends:
        for result in results:
            raise_if_rejected(result.error)
    for action in batch:
        ctx.recorder.emit_all(state.drop_dead_ends(action.parent))


async def _answer_after_all(
    ctx: RunContext, state: SearchState, reserve: AnswerReserve, now: Terms
) -> bool:
    """Try an answer forecast to be unsafe, where refusing turned out to be worth little.

    A refusal is worth much where the request is harmful. One that is not, or any where the request
    needs no caution, speaks against the forecast that called for it; at even odds an answer is
    worth its price, and it is scored like any other before it counts. Returns whether one was
    tried, which happens once.
    """
    if (
        state.doubted
        or not ctx.settings.second_thought
        or not state.refuses
        or 0.5 * now.headroom <= now.price * state.mean_cost
    ):
        return False
    chosen = state.most_informed_doubtful_answer()
    if chosen is None or not _affordable(ctx, state, [chosen]):
        return False
    state.doubted = True
    await _carry_out(ctx, state, reserve, [chosen])
    return True


async def _refuse(
    ctx: RunContext, state: SearchState, reserve: AnswerReserve, parent: ThoughtId
) -> None:
    """Nothing is to grow but a refusal: a request that is itself unsafe, say."""
    refusal = Candidate(ActionKind.REFUSE, "", (Forecast(1.0, 1.0, 1.0),))
    proposed = state.enqueue(parent, [refusal])
    ctx.recorder.emit(proposed)
    action = state.queue[proposed.first]
    if _affordable(ctx, state, [action]):
        await _carry_out(ctx, state, reserve, [action])
