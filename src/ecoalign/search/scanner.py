"""The Global Scanner: one cheap look at the whole image, and the risk of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import ModelError
from ecoalign.graph import economics
from ecoalign.prompts.requests import ScanRequest, ScanResult

if TYPE_CHECKING:
    from ecoalign.models import Usage
    from ecoalign.search.context import RunContext

__all__ = ["Scan", "reserve_scan", "scan"]

UNREAD_RISK = 0.0
"""The risk assumed when the scan cannot be read: low but not negative, so caution is on."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The scan and what follows from it.

    Attributes:
        result: caption, risk (s of v0, 1 is harmless) and a cautious plan, if given.
        share: the share of the budget that the risk leaves, in (0, 1].
        cautious: whether the plan is to be followed: risk low but not negative.
        note: what went wrong with reading the scan, empty if nothing.
    """

    result: ScanResult
    share: float
    cautious: bool
    note: str = ""


def _request(ctx: RunContext) -> ScanRequest:
    return ScanRequest(ctx.query.question, ctx.views, ctx.query.context)


def reserve_scan(ctx: RunContext) -> Usage:
    """Bound of one scan."""
    return ctx.model.bound(ctx.dialect.render(_request(ctx)))


async def scan(ctx: RunContext) -> Scan:
    """Caption the views and judge the request; set the budget by the risk.

    An answer that cannot be read is not fatal: every thought is scored anyway, so the run goes on
    with an empty caption and with caution.

    Raises:
        BudgetExceeded, ModelError: the model could not be asked.
    """
    settings = ctx.settings
    request = _request(ctx)
    completion = await ctx.ask(request)
    note = ""
    try:
        result = ctx.dialect.parse_scan(request, completion)
    except ModelError as error:
        result, note = ScanResult("", UNREAD_RISK), str(error)
    share = economics.risk_budget(1.0, result.request_safety, settings.risk_floor)
    cautious = settings.strategy and 0.0 <= result.request_safety < settings.low_risk_threshold
    return Scan(result, max(share, 0.01), cautious, note)
