"""The Global Scanner: one cheap look at the whole image, and how safe the request is."""

from __future__ import annotations

from dataclasses import dataclass

from ecoalign.errors import ModelError
from ecoalign.graph import economics
from ecoalign.prompts.requests import ScanRequest, ScanResult
from ecoalign.search.context import RunContext

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
    """

    result: ScanResult
    share: float
    plan: str | None
    note: str
    cost: int


def scan_request(ctx: RunContext) -> ScanRequest:
    """What is asked."""
    return ScanRequest(ctx.query.question, ctx.views, ctx.query.context, ctx.query.instructions)


async def scan(ctx: RunContext) -> Scan:
    """Caption the views and judge the request; set the budget by its safety.

    An answer that cannot be read is not fatal: every thought is scored anyway, so the run goes on
    with an empty caption and with caution.

    Raises:
        BudgetExceeded, ModelError: the model could not be asked.
    """
    settings, before, note = ctx.settings, ctx.tokens_spent, ""
    request = scan_request(ctx)
    completion = await ctx.ask(request)
    try:
        result = ctx.dialect.parse_scan(request, completion)
    except ModelError as error:
        result, note = ScanResult("", UNREAD_SAFETY), str(error)
    share = economics.risk_budget(1.0, result.request_safety, settings.risk_floor)
    cautious = settings.strategy and 0.0 <= result.request_safety < settings.low_risk_threshold
    plan = result.strategy if cautious else None
    return Scan(result, max(share, 0.01), plan, note, ctx.tokens_spent - before)
