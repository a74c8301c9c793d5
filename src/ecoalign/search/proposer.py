"""The Graph Engine's proposals: which actions could grow from a thought."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ecoalign.graph import (
    ActionKind,
    Candidate,
    Region,
    Thought,
    ThoughtGraph,
    ThoughtId,
    ThoughtKind,
)
from ecoalign.prompts.requests import ProposeRequest
from ecoalign.search.context import RunContext

OTHERS_SHOWN = 8

OTHERS_SEARCHED = 64

_FUSABLE = (ThoughtKind.THINK, ThoughtKind.LOOK, ThoughtKind.FUSE)

LEAST_GAIN = 1.5
"""A look has to show its region at least so many times as large as it was seen before: where it
would not, as much of it has been seen, and looking again would only cost."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What may be done next.

    Attributes:
        candidates: the actions that are worth a thought.
        dropped: how many were left out: malformed, ruled out, seen already or twice.
        seen: how many of them were looks at what was seen already.
    """

    candidates: tuple[Candidate, ...]
    dropped: int = 0
    seen: int = 0


def fusable_with(newest: Iterable[Thought], path: Sequence[Thought]) -> tuple[Thought, ...]:
    """Of some thoughts, the newest first, those that could be fused with the last one of `path`."""
    node = path[-1]
    # A thought that `node` was fused from, or that grew from it, would add nothing.
    known = {*(thought.id for thought in path), *node.parents}
    found: list[Thought] = []
    for one in newest:
        if one.kind in _FUSABLE and one.id not in known and node.id not in one.parents:
            found.append(one)
            if len(found) == OTHERS_SHOWN:
                break
    return tuple(reversed(found))


def propose_request(
    ctx: RunContext, path: tuple[Thought, ...], others: tuple[Thought, ...], steps: int
) -> ProposeRequest:
    """What is asked."""
    return ProposeRequest(
        question=ctx.query.question,
        views=ctx.views,
        path=path,
        others=others,
        limit=ctx.settings.candidates,
        steps=steps,
        context=ctx.query.context,
        instructions=ctx.query.instructions,
        utility=ctx.settings.utility_aggregator,
    )


async def propose(ctx: RunContext, graph: ThoughtGraph, node: ThoughtId, steps: int) -> Proposal:
    """Ask for the next actions from `node`, each with a forecast of `steps` steps beyond it.

    Actions that the settings or the query rule out (a look without an image, a fusion where
    fusing is off) are dropped and counted. So is a look at what the view or, where sampling is
    greedy, the path shows nearly as large already (`LEAST_GAIN`), and then also what is proposed
    twice.

    Raises:
        BudgetExceeded, ModelError: there is no proposal.
    """
    settings = ctx.settings
    path = graph.path_to(node)
    fusable = settings.fuse and path[-1].kind not in (ThoughtKind.ROOT, ThoughtKind.STRATEGY)
    others = fusable_with(graph.newest(OTHERS_SEARCHED), path) if fusable else ()
    request = _as_asked(ctx, propose_request(ctx, path, others, steps))
    result = ctx.dialect.parse_propose(request, await ctx.ask(request))
    allowed = [c for c in result.candidates if _allowed(ctx, c, fusable=fusable)]
    greedy = settings.temperature == 0
    had = path if greedy else ()
    fresh = [c for c in allowed if c.region is None or _is_news(ctx, c.region, had)]
    seen = len(allowed) - len(fresh)
    if greedy:
        fresh = _different(fresh)
    return Proposal(tuple(fresh), result.dropped + len(result.candidates) - len(fresh), seen)


def _as_asked(ctx: RunContext, request: ProposeRequest) -> ProposeRequest:
    """The same with the steps that it was asked ahead with, if it was and these are more."""
    asked = (made.request for made in ctx.ahead.values())
    steps = {one.steps for one in asked if isinstance(one, ProposeRequest)}
    found = (replace(request, steps=n) for n in sorted(steps) if n >= request.steps)
    return next(filter(ctx.is_ahead, found), request)


def _is_news(ctx: RunContext, region: Region, path: tuple[Thought, ...]) -> bool:
    if any(thought.region == region for thought in path):
        return False
    return ctx.gain(region, path) >= LEAST_GAIN


def _different(candidates: list[Candidate]) -> list[Candidate]:
    """The first of equal actions."""
    fresh: dict[object, Candidate] = {}
    for one in candidates:
        fresh.setdefault((one.kind, one.text, one.region, frozenset(one.partners)), one)
    return list(fresh.values())


def _allowed(ctx: RunContext, candidate: Candidate, *, fusable: bool) -> bool:
    if candidate.kind is ActionKind.LOOK:
        region = candidate.region
        here = region is not None and region.image < len(ctx.query.pictures)
        return ctx.settings.look and here
    return fusable or candidate.kind is not ActionKind.FUSE
