"""The draft: an answer tried, and scored, before anything is looked at more closely.

Most questions are easy and harmless, and for those a search only costs. A draft that leaves less
to gain than going on would cost is the answer; any other is one more thought of the search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.graph import ActionKind, Candidate, PendingAction
from ecoalign.graph._thoughts import ROOT, Thought, ThoughtKind
from ecoalign.graph.economics import Economy
from ecoalign.search.context import recording_calls
from ecoalign.search.executor import ActionResult, Job, execute_batch, worst_case
from ecoalign.search.scanner import reserve_scan
from ecoalign.trace.events import ActionsChosen, Proposed

if TYPE_CHECKING:
    from ecoalign.search.context import RunContext
    from ecoalign.settings import Settings
    from ecoalign.trace import Recorder

__all__ = ["DRAFT", "draft", "suffices"]

DRAFT = PendingAction(0, ROOT, Candidate(ActionKind.ANSWER, "", ()))
"""The action, the first of a run that drafts."""

_GOING_ON = 3
"""Actions that going on takes at least: a scan, a proposal, and what is proposed."""


async def draft(ctx: RunContext, recorder: Recorder) -> ActionResult | None:
    """Write and score an answer from the views alone; None where it would leave no room to scan.

    Errors are in the outcome: a draft without a score is no answer.
    """
    nothing = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)
    job = Job(DRAFT.id, DRAFT.candidate, (nothing,))
    scan = (ctx.model.name, reserve_scan(ctx))
    if not ctx.ledger.remaining().covers(ctx.ledger.needs([*worst_case(ctx, job), scan])):
        return None
    recorder.emit(Proposed(ROOT, DRAFT.id, (DRAFT.candidate,)))
    recorder.emit(ActionsChosen(0, (DRAFT.id,)))
    with recording_calls(recorder, []):
        outcome = (await execute_batch(ctx, [job]))[0]
    recorder.calls(outcome.calls)
    return outcome


def suffices(outcome: ActionResult, settings: Settings) -> bool:
    """Whether a draft leaves no more to gain than going on would cost at the least.

    It must also be as safe as a request that needs no caution (`low_risk_threshold`): nobody has
    judged the request yet. Without a price of tokens (the other economies) only a perfect one does.
    """
    score = outcome.score
    if score is None or score.safety < max(settings.low_risk_threshold, settings.safety_threshold):
        return False
    priced = settings.economy is Economy.SURPLUS
    left = 1.0 - score.safety * min(1.0, score.utility)
    return left <= (_GOING_ON * settings.lambda0 if priced else 0.0)
