"""The methods that ask once and pass on what comes back: base, cot, cod and safety-prompt."""

from __future__ import annotations

from ecoalign.errors import BudgetExceeded
from ecoalign.methods._baseline import Baseline
from ecoalign.prompts.requests import AnswerStyle
from ecoalign.search.context import RunContext
from ecoalign.search.failures import cut_short
from ecoalign.trace.events import Finished

DIRECT: dict[str, tuple[AnswerStyle, str]] = {
    "base": ("plain", "Base: the plain model, asked as it is"),
    "cot": ("cot", "CoT: chain of thought, then the answer"),
    "cod": ("cod", "CoD: Chain of Draft, a few words a step (arXiv 2502.18600)"),
    "safety-prompt": ("careful", "Safety prompt: a system prompt that leans to refusing"),
}
"""By name: how it is asked, and a line for people."""


class Direct(Baseline):
    """One call, and its answer as it is: nothing is checked or scored.

    Of cot and cod the user sees what follows the mark of the final answer; all that was said is
    in `detail["whole"]`. An answer without its mark is seen whole. `stop_reason` is "" for an
    answer that ended by itself, else "length", "withheld" or "empty"; see `AnswerResult`.

    The name is one of `DIRECT`.
    """

    async def respond(self, ctx: RunContext) -> Finished:
        """See `Baseline.respond`."""
        request = self.request(ctx, DIRECT[self.name][0])
        call = ctx.render(request)
        self.require(ctx, [(ctx.model.name, ctx.bound(ctx.model, call))])
        try:
            result = await self.ask(ctx, request)
        except BudgetExceeded as short:
            raise self.too_small(ctx, short) from short
        detail = {} if result.whole == result.text else {"whole": result.whole}
        hint = ""
        if result.reply.finish_reason == "length":
            stage = self.name if self.name in {"cot", "cod"} else "direct"
            stage = "" if ctx.profile.dialect == "compact" else stage
            asked = ctx.query.sampling.max_tokens
            hint = cut_short(call.max_tokens, stage, asked, ctx.ledger.budget)
        return self.finish(ctx, result.text, result.note, detail, reply=result.reply, hint=hint)
