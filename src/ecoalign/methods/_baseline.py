"""What the methods that EcoAlign is compared with have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecoalign.budget import Ledger
from ecoalign.errors import BudgetExceeded, BudgetTooSmall, EcoAlignError
from ecoalign.evaluators import Evaluator
from ecoalign.methods._refusals import WITHHELD, is_refusal
from ecoalign.models import OWN_REPLY, ChatModel, Completion, Reply, Usage, finish_reason, reply_of
from ecoalign.prompts.requests import (
    AnswerRequest,
    AnswerResult,
    AnswerStyle,
    CheckRequest,
    VerdictRequest,
)
from ecoalign.query import FULL_PIXELS, Query
from ecoalign.search.context import RunContext, record_run
from ecoalign.search.failures import budget_too_small, cause_of, is_outage
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event, Finished

FUND = "method"
"""What a method reserves before it begins."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a check.

    Attributes:
        safety: s in [-1, 1]; None if there is no readable verdict, which counts as unsafe.
        cause: why there is none, without any text of a model.
        outage: the error, where a server was to blame: nobody has refused anything.
    """

    safety: float | None
    cause: str = ""
    outage: EcoAlignError | None = None

    def passes(self, threshold: float) -> bool:
        """Whether it is a verdict of safe."""
        return self.safety is not None and self.safety >= threshold


class Baseline(ABC):
    """A method beside EcoAlign; see `Method`.

    Args:
        name: as on the command line.
        settings: sampling, retries, thresholds and the like.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price_factor: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """See `Method.answer`."""
        ctx = RunContext.of(
            query,
            model,
            self.evaluator(model),
            ledger,
            self.settings,
            on_event=on_event,
            view_pixels=FULL_PIXELS,
            max_concurrency=self.max_concurrency(),
        )
        return await self.run(ctx)

    async def run(self, ctx: RunContext) -> Alignment:
        """One recorded answer in this context.

        Raises:
            EcoAlignError: see `Method.answer`.
        """
        try:
            return await record_run(ctx, self.name, self.respond)
        finally:
            ctx.ledger.release_fund(FUND)

    @abstractmethod
    async def respond(self, ctx: RunContext) -> Finished:
        """Answer; the last thing is to `finish`. What is reserved as `FUND` is given back."""

    def evaluator(self, model: ChatModel) -> Evaluator | None:
        """The evaluator of this method; None if it scores nothing."""
        return None

    def max_concurrency(self) -> int:
        """Calls under way at once."""
        return self.settings.max_concurrency

    async def aclose(self) -> None:  # noqa: B027 - most have nothing
        """Close what the method opened itself."""

    # Asking ---------------------------------------------------------------------------------------

    def request(self, ctx: RunContext, style: AnswerStyle = "plain") -> AnswerRequest:
        """The question, asked in one call."""
        query = ctx.query
        return AnswerRequest(
            query.question,
            ctx.views,
            style,
            query.context,
            instructions=query.instructions,
        )

    async def ask(self, ctx: RunContext, request: AnswerRequest) -> AnswerResult:
        """Ask for an answer and read it.

        Raises:
            BudgetExceeded, ModelError, InputError: see `RunContext.ask`.
        """
        return self.read(ctx, request, await ctx.ask(request, fund=FUND))

    def read(self, ctx: RunContext, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """The answer; in place of one that the server withheld, words that say so."""
        result = ctx.dialect.parse_answer(request, completion)
        if result.note == "withheld":
            return replace(result, text=WITHHELD, reply=Reply("content_filter"))
        if result.note == "empty":
            return replace(result, reply=Reply(finish_reason(completion.finish_reason)))
        return replace(result, reply=reply_of(completion, result.text))

    async def judge(self, ctx: RunContext, request: VerdictRequest) -> Verdict:
        """Ask for a verdict. Fails closed: whatever goes wrong, there is none."""
        try:
            completion = await ctx.ask(request, fund=FUND)
            return Verdict(ctx.dialect.parse_verdict(request, completion))
        except EcoAlignError as error:
            return Verdict(None, cause_of(error), error if is_outage(error) else None)

    def check(self, ctx: RunContext, text: str) -> CheckRequest:
        """The check of an answer."""
        query, fence = ctx.query, ctx.fence("check", text)
        return CheckRequest(
            query.question, ctx.views, text, fence, query.context, query.instructions
        )

    # Money ----------------------------------------------------------------------------------------

    def reserve(
        self, ctx: RunContext, calls: Sequence[tuple[str, Usage]], fund: str = FUND
    ) -> None:
        """Reserve the worst case of these calls, all of it or nothing, in place of what `fund` held
        before.

        Raises:
            BudgetExceeded: it does not fit.
            UnpricedModelError: see `Ledger.reserve_fund`.
        """
        ctx.ledger.release_fund(fund)
        try:
            for model, bound in calls:
                ctx.ledger.reserve_fund(fund, bound, model)
        except BudgetExceeded:
            ctx.ledger.release_fund(fund)
            raise

    def require(self, ctx: RunContext, calls: Sequence[tuple[str, Usage]]) -> None:
        """As `reserve`, for the calls without which there is no answer at all.

        Raises:
            BudgetTooSmall: it does not fit.
        """
        try:
            self.reserve(ctx, calls)
        except BudgetExceeded as short:
            raise self.too_small(ctx, short, calls) from short

    def too_small(
        self, ctx: RunContext, short: BudgetExceeded, calls: Sequence[tuple[str, Usage]] = ()
    ) -> BudgetTooSmall:
        """The error for a budget that has no room for `calls`, or no time for an answer."""
        what = f"an answer by {self.name}"
        return budget_too_small(ctx.ledger, short, calls, what, ctx.usual_budget)

    def finish(
        self,
        ctx: RunContext,
        text: str,
        stop_reason: str = "",
        detail: Mapping[str, Any] | None = None,
        *,
        safety: float | None = None,
        utility: float | None = None,
        reply: Reply = OWN_REPLY,
        hint: str = "",
    ) -> Finished:
        """Record the answer; `reply` is that of `text`, where a model wrote it."""
        ctx.metered.check()
        return ctx.recorder.emit(
            Finished(
                answer=text,
                refused=is_refusal(text),
                stop_reason=stop_reason,
                safety=safety,
                utility=utility,
                path=(),
                spent=ctx.ledger.spent.to_json(),
                hint=hint,
                reply=reply,
                detail=detail or {},
            )
        )
