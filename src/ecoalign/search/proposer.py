"""The Graph Engine's proposals: which actions could grow from a thought."""

from __future__ import annotations

from itertools import islice

from ecoalign.graph import ActionKind, Candidate, Thought, ThoughtGraph, ThoughtId, ThoughtKind
from ecoalign.prompts.requests import ProposeRequest, ProposeResult
from ecoalign.search.context import RunContext

OTHERS_SHOWN = 8

OTHERS_SEARCHED = 64


def may_be_fused(graph: ThoughtGraph, node: ThoughtId) -> tuple[Thought, ...]:
    """The thoughts that could be fused with `node`: contentful, not on its path, newest last."""
    path = {thought.id for thought in graph.path_to(node)}
    kinds = {ThoughtKind.THINK, ThoughtKind.LOOK, ThoughtKind.FUSE}
    # A thought that `node` was fused from, or that grew from it, would add nothing.
    path.update(graph.parents(node))
    found = (
        t
        for t in graph.newest(OTHERS_SEARCHED)
        if t.kind in kinds and t.id not in path and node not in t.parents
    )
    return tuple(islice(found, OTHERS_SHOWN))[::-1]


async def propose(
    ctx: RunContext, graph: ThoughtGraph, node: ThoughtId, steps: int
) -> ProposeResult:
    """Ask for the next actions from `node`, each with a forecast of `steps` steps beyond it.

    Actions that the settings or the query rule out (a look without an image, a fusion where
    fusing is off) are dropped and counted. So is, where sampling is greedy, what is proposed twice:
    the same action, or a look at a region that the path has seen already.

    Raises:
        BudgetExceeded, ModelError: there is no proposal.
    """
    settings = ctx.settings
    path = graph.path_to(node)
    fusable = settings.fuse and path[-1].kind not in (ThoughtKind.ROOT, ThoughtKind.STRATEGY)
    request = ProposeRequest(
        question=ctx.query.question,
        views=ctx.views,
        path=path,
        others=may_be_fused(graph, node) if fusable else (),
        limit=settings.candidates,
        steps=steps,
        context=ctx.query.context,
        instructions=ctx.query.instructions,
    )
    result = ctx.dialect.parse_propose(request, await ctx.ask(request))
    allowed = [c for c in result.candidates if _allowed(ctx, c, fusable=fusable)]
    if settings.temperature == 0:
        allowed = _unseen(allowed, path)
    dropped = result.dropped + len(result.candidates) - len(allowed)
    return ProposeResult(tuple(allowed), dropped)


def _unseen(candidates: list[Candidate], path: tuple[Thought, ...]) -> list[Candidate]:
    """The first of equal actions, and no look that the path has had."""
    seen = {thought.region for thought in path if thought.region is not None}
    fresh: dict[object, Candidate] = {}
    for one in candidates:
        if one.region not in seen:
            fresh.setdefault((one.kind, one.text, one.region, frozenset(one.partners)), one)
    return list(fresh.values())


def _allowed(ctx: RunContext, candidate: Candidate, *, fusable: bool) -> bool:
    if candidate.kind is ActionKind.LOOK:
        region = candidate.region
        here = region is not None and region.image < len(ctx.query.pictures)
        return ctx.settings.look and here
    return fusable or candidate.kind is not ActionKind.FUSE
