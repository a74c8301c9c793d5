"""The written answer: taken or written from a path, scored like any other thought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.errors import EcoAlignError
from ecoalign.evaluators import bounds_by_model
from ecoalign.graph import ENDS, ActionKind, Candidate
from ecoalign.graph._thoughts import Thought, ThoughtId, ThoughtKind
from ecoalign.models import reply_of
from ecoalign.prompts.requests import WriteRequest
from ecoalign.search.context import ANSWER, CallLog, RunContext, logging_calls, note_calls
from ecoalign.search.executor import ActionResult, Job

if TYPE_CHECKING:
    from ecoalign.models import Usage

__all__ = ["FIXED_REFUSAL", "reserve_answer", "write"]

FIXED_REFUSAL = (
    "I can't answer this: nothing I could write could be shown to be safe within the limits of "
    "this request. You can rephrase it, ask about something else in the image, or allow a larger "
    "budget."
)
"""The fixed text of last resort. It is the house's own and says nothing of the request."""

_STAND_IN = Candidate(ActionKind.ANSWER, "", ())


def _write_request(ctx: RunContext, path: tuple[Thought, ...]) -> WriteRequest:
    query = ctx.query
    return WriteRequest(query.question, ctx.views, path, query.context)


def reserve_answer(
    ctx: RunContext, path: tuple[Thought, ...] = (), *, caption: int = 40
) -> list[tuple[str, Usage]]:
    """Models and bounds of writing and scoring one answer from `path`.

    Args:
        desk: the means.
        path: root first; empty before there is one.
        caption: words of the root that stands in for an empty path.
    """
    if not path:
        path = (Thought(ThoughtId(0), ThoughtKind.ROOT, "the " * caption, 1.0, 0.0, 0.0),)
    call = ctx.render(_write_request(ctx, path))
    text = ctx.query.sampling.stand_in(call.max_tokens)
    score = ctx.score_request(path, "answer", text, ctx.views)
    bounds = bounds_by_model(ctx.evaluator, score, ctx.model.name)
    return [(ctx.model.name, ctx.model.bound(call)), *bounds]


async def write(ctx: RunContext, path: tuple[Thought, ...]) -> ActionResult:
    """Write the answer from `path` (root first) and score it, paid from what was set aside.

    Errors are in the outcome: an answer without a score is no answer.
    """
    log: CallLog = []
    try:
        return await _write(ctx, path, log)
    except BaseException:
        note_calls(log)
        raise


async def _write(ctx: RunContext, path: tuple[Thought, ...], log: CallLog) -> ActionResult:
    job = Job(-1, _STAND_IN, path)
    text, stage = "", "write"
    with logging_calls(log):
        try:
            request = _write_request(ctx, path)
            completion = await ctx.ask(request, fund=ANSWER)
            text = ctx.dialect.parse_execute(request, completion).text
            stage = "score"
            # What is scored is the text against what led to it, not against a draft of itself.
            grounds = path if path[-1].kind not in ENDS else path[:-1]
            scoring = ctx.score_request(grounds, "answer", text, ctx.views)
            score = await ctx.score(scoring, fund=ANSWER)
        except EcoAlignError as error:
            return ActionResult(job, text, None, error, stage, log)
    return ActionResult(job, text, score, None, stage, log, reply_of(completion, text))
