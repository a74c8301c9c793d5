"""The end of a search: the best path's answer, taken or written, and never one without a score."""

from __future__ import annotations

from ecoalign.graph import ROOT, ThoughtId, ThoughtKind, economics
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.graph.pareto import Frontier, track
from ecoalign.models import OWN_REPLY
from ecoalign.search.context import ANSWER, RunContext
from ecoalign.search.failures import raise_if_rejected
from ecoalign.search.state import SearchState
from ecoalign.search.synthesizer import FIXED_REFUSAL, answer_bounds, write
from ecoalign.trace.events import Finished, PathChosen, StopReason, ThoughtAdded


async def extract(ctx: RunContext, state: SearchState, stop: StopReason) -> Finished:
    """The first path of the frontier whose answer is scored safe; else the fixed refusal."""
    graph, ready = state.graph, _frontier(ctx, state)
    if ready.paths and ctx.settings.synthesis == "needed":
        return _take_path(ctx, state, ready, stop)
    if not ready.paths and stop == "unsafe-request":
        return _fixed_refusal(ctx, state)
    wanted = ready if ready.paths else _frontier(ctx, state, any_end=True)
    tried = False
    for rank, ids in enumerate([*(path.ids for path in wanted.paths), (ROOT,)]):
        if ids == (ROOT,) and (tried or ready.paths):
            break
        path = graph.path(ids)
        if path[-1].kind is ThoughtKind.REFUSAL:
            return _take_path(ctx, state, wanted, stop, rank)
        if not ctx.ledger.remaining(ANSWER).covers(ctx.ledger.needs(answer_bounds(ctx, path))):
            state.cause = "write: the budget has no room left for an answer and its score"
            continue
        tried = True
        _emit_path(ctx, wanted, rank)
        result = await write(ctx, path)
        if result.score is None:
            assert result.error is not None  # noqa: S101 - one of the two is always there
            ctx.recorder.emit(state.failed(-1, result.stage, result.error))
            if not ready.paths:
                raise_if_rejected(result.error)
            continue
        thought = graph.add(
            ThoughtKind.ANSWER,
            result.text,
            parent=path[-1].id,
            safety=result.score.safety,
            utility=result.score.utility,
            cost=result.cost,
        )
        pruned = graph.is_pruned(thought.id)
        ctx.recorder.emit(ThoughtAdded(thought, -1, pruned, result.score.method))
        if not pruned:
            state.replies[thought.id] = result.reply
            return _finish(ctx, state, (*ids, thought.id), stop)
    if ready.paths:
        # Writing anew did not work out; a scored answer stands on the best path all the same.
        return _take_path(ctx, state, ready, stop)
    return _fixed_refusal(ctx, state)


def _frontier(ctx: RunContext, state: SearchState, *, any_end: bool = False) -> Frontier:
    """The Pareto Tracker's ranking of the paths so far.

    In the economy `surplus` the price is 0 here: what a path has cost is spent whichever path is
    taken, so it only breaks ties.
    """
    return track(
        state.graph,
        float(ctx.ledger.budget.tokens or "inf"),
        aggregator=SafetyAggregator(ctx.settings.aggregator),
        economy=Economy(ctx.settings.economy),
        utility=UtilityAggregator(ctx.settings.utility_aggregator),
        any_end=any_end,
    )


def _emit_path(ctx: RunContext, frontier: Frontier, rank: int) -> None:
    if rank < len(frontier.paths):
        best, exact = frontier.paths[rank], frontier.exact
        ctx.recorder.emit(
            PathChosen(rank, best.ids, best.safety, best.utility, best.cost, best.gamma, exact)
        )


def _take_path(
    ctx: RunContext, state: SearchState, frontier: Frontier, stop: StopReason, rank: int = 0
) -> Finished:
    _emit_path(ctx, frontier, rank)
    return _finish(ctx, state, frontier.paths[rank].ids, stop)


def _fixed_refusal(ctx: RunContext, state: SearchState) -> Finished:
    if not state.cause and state.short is None:
        state.cause = "every thought was scored unsafe"
    return _finish(ctx, state, (ROOT,), "fail-closed")


def _finish(
    ctx: RunContext, state: SearchState, ids: tuple[ThoughtId, ...], stop: StopReason
) -> Finished:
    """The end of a path as the answer; the fixed refusal where that is the root."""
    path = state.graph.path(ids)
    end, settings = path[-1], ctx.settings
    answered = end.kind is not ThoughtKind.ROOT
    safety = SafetyAggregator(settings.aggregator)
    utility = UtilityAggregator(settings.utility_aggregator)
    return ctx.recorder.emit(
        Finished(
            answer=end.text if answered else FIXED_REFUSAL,
            refused=end.kind is not ThoughtKind.ANSWER,
            stop_reason=stop,
            safety=economics.path_safety((t.safety for t in path[1:]), safety),
            utility=economics.path_utility((t.utility for t in path[1:]), utility),
            path=path,
            spent=ctx.ledger.spent.to_json(),
            hint=_hint(ctx, state, stop),
            reply=state.replies.get(end.id, OWN_REPLY),
        )
    )


def _hint(ctx: RunContext, state: SearchState, stop: StopReason) -> str:
    """What to change, where something went wrong."""
    if stop == "fail-closed":
        return f"nothing could be shown to be safe; last cause: {state.cause}"
    if stop == "budget":
        spent = ctx.ledger.spent
        dearest = max(spent.by_stage, key=lambda name: spent.by_stage[name].tokens)
        return (
            f"the budget of {ctx.ledger.budget} ran out; most of it went to {dearest} "
            f"({spent.by_stage[dearest].tokens} of {spent.tokens.total} tokens)"
        )
    return ""
