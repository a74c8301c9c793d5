"""The Global Scanner: one cheap look at the whole image, and how safe the request is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ecoalign.budget import Called
from ecoalign.errors import ModelError
from ecoalign.graph import Region, economics
from ecoalign.models import ImagePart
from ecoalign.prompts.requests import ScanRequest, ScanResult
from ecoalign.search.context import RunContext

DENSE = 20
"""Grey levels by which a cell of a picture differs from its view, on average; see
`Picture.hidden_detail`."""

LEGIBLE = 0.75
"""Pixels of a crop for each of the picture; below it the grid is of 3 x 3 cells, not of 2 x 2."""

MOST_CELLS = 9

UNREAD_SAFETY = 0.0
"""The safety of a request whose scan cannot be read: low but not negative, so caution is on."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan and what follows from it.

    Attributes:
        result: caption, safety of the request (s of v0, 1 is harmless) and a cautious plan, if
            given.
        share: the share of the budget that the safety of the request leaves, in (0, 1].
        plan: what is to be followed where the request's safety is low but not negative; or None.
        note: what went wrong with reading the scan, empty if nothing.
        cost: tokens charged.
        grid: regions to look at of pictures that are too dense for their views.
        hidden: whether some part of a picture is finer than its view: what matters may be seen only
            by looking.
        beyond: whether it is finer than what the plain model gets, too.
    """

    result: ScanResult
    share: float
    plan: str | None
    note: str
    cost: int
    grid: tuple[Region, ...] = ()
    hidden: bool = False
    beyond: bool = False


def scan_request(ctx: RunContext) -> ScanRequest:
    """What is asked."""
    return ScanRequest(ctx.query.question, ctx.views, ctx.query.context, ctx.query.instructions)


async def scan(ctx: RunContext, calls: list[Called]) -> Scan:
    """Caption the views and judge the request; set the budget by its safety.

    An answer that cannot be read is not fatal: every thought is scored anyway, so the run goes on
    with an empty caption and with caution. The calls go to the list.

    Raises:
        BudgetExceeded, ModelError: the model could not be asked.
    """
    settings, note, request = ctx.settings, "", scan_request(ctx)
    completion = await ctx.collecting(calls).ask(request)
    try:
        result = ctx.dialect.parse_scan(request, completion)
    except ModelError as error:
        result, note = ScanResult("", UNREAD_SAFETY), str(error)
    share = economics.risk_budget(1.0, result.request_safety, settings.risk_floor)
    cautious = settings.strategy and 0.0 <= result.request_safety < settings.low_risk_threshold
    plan = result.strategy if cautious else None
    pictures = zip(ctx.query.pictures, ctx.views, strict=True)
    if any(view.width < picture.width for picture, view in pictures):
        # It takes long enough to keep other runs waiting.
        regions, hidden, beyond = await asyncio.to_thread(_looked_over, ctx)
    else:
        regions, hidden, beyond = (), False, False
    cost = sum(one.charged.total for one in calls)
    return Scan(result, max(share, 0.01), plan, note, cost, regions, hidden, beyond)


def _looked_over(ctx: RunContext) -> tuple[tuple[Region, ...], bool, bool]:
    """The grid, and whether detail is hidden: from the views, and from those of the plain model."""
    beyond = ctx.settings.draft and _hides_detail(ctx, ctx.full_views, ctx.full_pixels)
    return grid(ctx), _hides_detail(ctx, ctx.views, ctx.view_pixels), beyond


def grid(ctx: RunContext) -> tuple[Region, ...]:
    """Regions that cover the pictures of which the view hides the most: pages of text, dense plans.

    Found from the pixels, at no cost in tokens: where a view is at most half as large as its
    picture and more than half of a 3 x 3 grid differs from it by `DENSE` grey levels and more. The
    embedded model knows its own grid.
    """
    regions: list[Region] = []
    if not ctx.settings.look or ctx.profile.dialect == "compact":
        return ()
    for image, (picture, view) in enumerate(zip(ctx.query.pictures, ctx.views, strict=True)):
        if 2 * view.width > picture.width:
            continue
        hidden = picture.hidden_detail(ctx.view_pixels)
        if 2 * sum(cell >= DENSE for cell in hidden) <= len(hidden):
            continue
        halves, thirds = (_cells(image, side) for side in (2, 3))
        regions += halves if ctx.magnification(halves[0]) >= LEGIBLE else thirds
    return tuple(regions[:MOST_CELLS])


def _hides_detail(ctx: RunContext, views: Sequence[ImagePart], side: int) -> bool:
    """Whether some part of a picture is finer than its view, of `side` px: where what matters may
    be seen only by looking."""
    if not ctx.settings.look or ctx.profile.dialect == "compact":
        return False
    return any(
        view.width < picture.width and max(picture.hidden_detail(side)) >= DENSE
        for picture, view in zip(ctx.query.pictures, views, strict=True)
    )


def _cells(image: int, side: int) -> list[Region]:
    return [
        Region(column / side, row / side, (column + 1) / side, (row + 1) / side, image)
        for row in range(side)
        for column in range(side)
    ]
