"""The end of a search: the best path's answer, taken or written, and never one without a score."""

from __future__ import annotations

from ecoalign.graph import ROOT, ThoughtId, ThoughtKind, economics
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.graph.pareto import Frontier, track
from ecoalign.models import OWN_REPLY, Reply
from ecoalign.search.context import ANSWER, RunContext
from ecoalign.search.failures import cut_short, raise_if_rejected
from ecoalign.search.state import SearchState
from ecoalign.search.synthesizer import (
    FIXED_REFUSAL,
    UNSAFE_ANSWERS,
    UNSAFE_REQUEST,
    answer_bounds,
    write,
    write_request,
)
from ecoalign.trace.events import Ending, Finished, PathChosen, StopReason, ThoughtAdded


async def extract(
    ctx: RunContext, state: SearchState, stop: StopReason, *, drafted: bool = False
) -> Finished:
    """The answer of the best path; where there is none, the first one that is written from a path
    and scored safe; else the fixed refusal.

    An answer that stands is not written again, but with `synthesis = "always"`; and then what is
    written takes its place only where it is scored better.

    Args:
        ctx: the run's context.
        state: what the search knows.
        stop: why it ended.
        drafted: whether the draft stood.
    """
    ctx.drop_ahead()
    graph, ready = state.graph, _frontier(ctx, state)
    standing = _preferred(state, ready)
    if standing is not None and (drafted or ctx.settings.synthesis == "needed"):
        return _take_path(ctx, state, ready, stop, standing, drafted=drafted)
    if standing is None and stop == "unsafe-request":
        return _fixed_refusal(ctx, state, UNSAFE_REQUEST)
    # Where nothing was found that is safe to say to an unsafe request, no answer is written to it.
    refusing = standing is None and graph.root.safety < 0
    kind = ThoughtKind.REFUSAL if refusing else ThoughtKind.ANSWER
    wanted = ready if ready.paths or refusing else _frontier(ctx, state, any_end=True)
    tried = False
    for rank, ids in enumerate([*(path.ids for path in wanted.paths), (ROOT,)]):
        if state.rejected >= ctx.settings.unsafe_answers or (
            ids == (ROOT,) and (tried or ready.paths)
        ):
            break
        path = graph.path(ids)
        if path[-1].kind is ThoughtKind.REFUSAL:
            if standing is not None and rank < standing:
                continue
            break
        needed = ctx.ledger.needs(answer_bounds(ctx, path, verdicts=state.bar))
        if not ctx.ledger.remaining(ANSWER).covers(needed):
            state.cause = "write: the budget has no room left for an answer and its verdicts"
            continue
        tried = True
        _emit_path(ctx, wanted, rank)
        result = await write(ctx, path, state.bar, kind)
        if result.score is None:
            assert result.error is not None  # noqa: S101 - one of the two is always there
            ctx.recorder.emit(state.failed(-1, result.stage, result.error))
            state.unreadable(result.error)
            if not ready.paths:
                raise_if_rejected(result.error)
            continue
        thought = graph.add(
            kind,
            result.text,
            parent=path[-1].id,
            safety=result.score.safety,
            utility=result.score.utility,
            cost=result.cost,
        )
        pruned = graph.is_pruned(thought.id)
        ctx.recorder.emit(ThoughtAdded(thought, -1, pruned, result.score.method))
        if pruned:
            state.reject()
            continue
        stands = None if standing is None else ready.paths[standing].ids[-1]
        if stands is None or _worth(state, thought.id) > _worth(state, stands):
            state.replies[thought.id] = result.reply
            return _finish(ctx, state, (*ids, thought.id), stop)
        break
    if standing is not None:
        # Writing anew did no better; a scored answer stands on the best path all the same.
        return _take_path(ctx, state, ready, stop, standing)
    return _fixed_refusal(ctx, state)


def _preferred(state: SearchState, frontier: Frontier) -> int | None:
    """The rank of the best path that may win: where the request needs no caution, an answer before
    any refusal, however useful that was scored."""
    ends = [state.graph[path.ids[-1]].kind for path in frontier.paths]
    if not state.wary and ThoughtKind.ANSWER in ends:
        return ends.index(ThoughtKind.ANSWER)
    return 0 if ends else None


def _worth(state: SearchState, thought: ThoughtId) -> float:
    return max(0.0, state.graph.path_safety(thought)) * state.graph[thought].utility


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
    ctx: RunContext,
    state: SearchState,
    frontier: Frontier,
    stop: StopReason,
    rank: int,
    *,
    drafted: bool = False,
) -> Finished:
    _emit_path(ctx, frontier, rank)
    return _finish(ctx, state, frontier.paths[rank].ids, stop, drafted=drafted)


def _fixed_refusal(ctx: RunContext, state: SearchState, text: str = "") -> Finished:
    """Where nothing was judged unsafe, and a server is why there is no answer, that is an error:
    asked again, the same question may well be answered."""
    if not text and state.outage is not None and state.rejected <= state.unread:
        raise state.outage
    if not text:
        ctx.verdicts.raise_if_unreadable()
    text = text or (UNSAFE_ANSWERS if state.rejected > state.unread else FIXED_REFUSAL)
    if not state.cause and state.short is None:
        state.cause = "every thought was scored unsafe"
    return _finish(ctx, state, (ROOT,), "fail-closed", refusal=text)


def _finish(
    ctx: RunContext,
    state: SearchState,
    ids: tuple[ThoughtId, ...],
    stop: StopReason,
    *,
    drafted: bool = False,
    refusal: str = FIXED_REFUSAL,
) -> Finished:
    """The end of a path as the answer; `refusal` where that is the root."""
    path = state.graph.path(ids)
    end, settings = path[-1], ctx.settings
    answered = end.kind is not ThoughtKind.ROOT
    refused = end.kind is not ThoughtKind.ANSWER
    safety = SafetyAggregator(settings.aggregator)
    utility = UtilityAggregator(settings.utility_aggregator)
    reply = state.replies.get(end.id, OWN_REPLY)
    ctx.metered.check()
    return ctx.recorder.emit(
        Finished(
            answer=end.text if answered else refusal,
            refused=refused,
            stop_reason=stop,
            # No model wrote the fixed refusal, and nobody scored it.
            safety=economics.path_safety((t.safety for t in path[1:]), safety)
            if answered
            else None,
            utility=economics.path_utility((t.utility for t in path[1:]), utility)
            if answered
            else None,
            path=path,
            spent=ctx.ledger.spent.to_json(),
            hint=_hint(ctx, state, stop, reply),
            reply=reply,
            ended=_ended(stop, refused=refused, drafted=drafted),
        )
    )


def _ended(stop: StopReason, *, refused: bool, drafted: bool) -> Ending:
    if refused:
        return "refused"
    if drafted:
        return "drafted"
    return "budget" if stop == "budget" else "searched"


def _hint(ctx: RunContext, state: SearchState, stop: StopReason, reply: Reply) -> str:
    """What to change, where something went wrong."""
    if stop == "fail-closed":
        return f"nothing could be shown to be safe; last cause: {state.cause}"
    hints = [state.lacking] if stop == "budget" else []
    if reply.finish_reason == "length":
        cap = ctx.render(write_request(ctx, (state.graph.root,))).max_tokens
        stage = "" if ctx.profile.dialect == "compact" else "answer"
        asked = ctx.query.sampling.max_tokens
        hints.append(cut_short(cap, stage, asked, ctx.ledger.budget))
    return "; ".join(hints)
