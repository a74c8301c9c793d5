"""The written answer: what is set aside for it, and how it is written and scored."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecoalign.errors import BudgetExceeded, BudgetTooSmall, EcoAlignError
from ecoalign.graph import ENDS, ROOT, ActionKind, Candidate, Thought, ThoughtKind
from ecoalign.models import OWN_REPLY, Usage, reply_of
from ecoalign.prompts.requests import ExecuteRequest, WriteRequest
from ecoalign.search.context import ANSWER, RunContext
from ecoalign.search.executor import ActionResult, Job, confirmed, execute_request
from ecoalign.search.failures import budget_too_small
from ecoalign.search.scanner import scan_request

FIXED_REFUSAL = (
    "I can't answer this: nothing I could write could be shown to be safe within the limits of "
    "this request. You can rephrase it, ask about something else, or allow a larger budget."
)
"""The fixed text of last resort. No model wrote it, and it says nothing of the request."""

UNSAFE_ANSWERS = (
    "I can't answer this: what I could have said was judged unsafe. You can rephrase it, or ask "
    "about something else."
)
"""The same, where answers were written and judged."""

UNSAFE_REQUEST = "I can't answer this: the request was judged unsafe. You can ask something else."
"""The same, where no answer was tried."""

FIXED_REFUSALS = (FIXED_REFUSAL, UNSAFE_ANSWERS, UNSAFE_REQUEST)

_LONG_CAPTION = 100
"""Words of a caption that is longer than the scan is asked for."""

_ANSWER_SECONDS = 0.2
"""Share of a budget in seconds that is kept back for writing and scoring the answer."""


def write_request(ctx: RunContext, path: tuple[Thought, ...]) -> WriteRequest:
    """What is asked for the answer from a path."""
    query = ctx.query
    return WriteRequest(query.question, ctx.views, path, query.context, query.instructions)


def answer_bounds(
    ctx: RunContext, path: tuple[Thought, ...] = (), *, caption: int = 40, verdicts: int = 1
) -> list[tuple[str, Usage]]:
    """Models and bounds of writing and scoring one answer from `path`.

    Args:
        ctx: the run's context.
        path: root first; empty before there is one.
        caption: words of the root that stands in for an empty path.
        verdicts: how many it needs.
    """
    path = path or (Thought(ROOT, ThoughtKind.ROOT, "the " * caption, 1.0, 0.0, 0.0),)
    request = write_request(ctx, path)
    scoring = ctx.score_request(path, "answer", ctx.longest(request))
    return [*ctx.bounds(request), *ctx.score_bounds(scoring, verdicts)]


@dataclass(slots=True)
class AnswerReserve:
    """What writing and scoring one answer costs at worst, held in the fund `ANSWER`: reserved
    first, so that no search can spend it. It shrinks as bounds are learned."""

    ctx: RunContext
    _path: tuple[Thought, ...] = ()
    _covered: int = 0
    _reserved: list[tuple[str, Usage]] = field(default_factory=list)

    def reserve(self) -> None:
        """Reserve what one answer takes, before anything else is paid for.

        Raises:
            BudgetTooSmall: the budget does not even hold that.
        """
        ledger, needed = self.ctx.ledger, answer_bounds(self.ctx)
        try:
            for i, (model, bound) in enumerate(needed):
                seconds = _ANSWER_SECONDS * (ledger.budget.seconds or 0.0) if i == 0 else 0.0
                ledger.reserve_fund(ANSWER, bound, model, seconds=seconds)
        except BudgetExceeded as short:
            raise self.too_small(short) from short
        self._reserved = needed

    def cover(self, path: tuple[Thought, ...]) -> None:
        """Reserve more where an answer written from `path` would need it.

        If there is no more, the answer will be written from a shorter path.
        """
        if (length := _length(path)) > self._covered:
            self._path, self._covered = path, length
            self._raise_to(answer_bounds(self.ctx, path))

    def learn(self) -> bool:
        """Take over what settled calls have told, and give back what is reserved beyond it.

        Returns:
            Whether there was anything new.
        """
        if not self.ctx.learn():
            return False
        needed = answer_bounds(self.ctx, self._path)
        self._reserved = [
            (model, Usage(min(old.prompt, new.prompt), min(old.completion, new.completion)))
            for (model, old), (_, new) in zip(self._reserved, needed, strict=True)
        ]
        self.ctx.ledger.trim_fund(ANSWER, self._reserved)
        self._raise_to(needed)
        return True

    def _raise_to(self, needed: list[tuple[str, Usage]]) -> None:
        for i, ((model, bound), (_, old)) in enumerate(zip(needed, self._reserved, strict=True)):
            more = Usage(
                max(0, bound.prompt - old.prompt), max(0, bound.completion - old.completion)
            )
            if more.total:
                try:
                    self.ctx.ledger.reserve_fund(ANSWER, more, model)
                except BudgetExceeded:
                    return
                self._reserved[i] = model, old + more

    def too_small(self, short: BudgetExceeded) -> BudgetTooSmall:
        """The error, with what a scan and an answer from a long caption need at worst."""
        scan = self.ctx.bounds(scan_request(self.ctx))
        answer = answer_bounds(self.ctx, caption=min(scan[0][1].completion, _LONG_CAPTION))
        calls, usual = [*scan, *answer], self.ctx.usual_budget
        return budget_too_small(self.ctx.ledger, short, calls, "any scored answer", usual)


def _length(path: tuple[Thought, ...]) -> int:
    return sum([len(thought.text) for thought in path])


async def write(
    ctx: RunContext,
    path: tuple[Thought, ...],
    verdicts: int,
    kind: ThoughtKind = ThoughtKind.ANSWER,
) -> ActionResult:
    """Write the answer, or a refusal, from `path` (root first) and score it, paid from what was
    reserved; so many `verdicts` have to be safe.

    Errors are in the result: an answer without a score is no answer.
    """
    before = ctx.tokens_spent
    text, stage, score, failed, reply = "", "write", None, None, OWN_REPLY
    scoring = None
    try:
        request: WriteRequest | ExecuteRequest = write_request(ctx, path)
        if kind is ThoughtKind.REFUSAL:
            request = execute_request(ctx, Job(-1, Candidate(ActionKind.REFUSE, "", ()), path))
        completion = await ctx.ask(request, fund=ANSWER)
        text = ctx.dialect.parse_execute(request, completion)
        stage = "score"
        # What is scored is the text against what led to it, not against a draft of itself.
        grounds = path if path[-1].kind not in ENDS else path[:-1]
        scoring = ctx.score_request(grounds, kind.value, text)
        score, reply = await ctx.score(scoring, fund=ANSWER), reply_of(completion, text)
    except EcoAlignError as error:
        failed = error
    cost, given = ctx.tokens_spent - before, () if score is None else (score.safety,)
    made = ActionResult(text, score, failed, stage, cost, reply, scoring=scoring, verdicts=given)
    return await confirmed(ctx, -1, made, verdicts, fund=ANSWER)
