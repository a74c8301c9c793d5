"""VLM-Guard as far as it can be had from outside a model."""

from __future__ import annotations

from dataclasses import replace

from ecoalign.errors import BudgetExceeded, EcoAlignError, ModelError
from ecoalign.methods._baseline import FUND, Baseline, Verdict
from ecoalign.models import Usage
from ecoalign.prompts.requests import CaptionRequest, GateRequest
from ecoalign.search.context import RunContext
from ecoalign.search.failures import cause_of
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.trace.events import Finished


class VlmGuard(Baseline):
    """A black-box reading of VLM-Guard, and not the published method.

    The published VLM-Guard (Liu et al., arXiv 2502.10486) steers activations: it takes a safety
    direction from the hidden states of the model's language half and projects the hidden states
    of the whole model with it. That needs the weights, so it cannot run on a closed model or
    behind an API. What it is after, that the language half, which was aligned, should watch over
    what the image brings in, is done here with calls alone:

    1. describe the image with the question in view (stage `caption`);
    2. judge the request from text alone, question and description (`gate`);
    3. answer with the image, under a prompt that leans to refusing if the gate flagged (`answer`);
    4. check the answer (`check`); what does not pass is replaced by a fixed refusal.

    Figures of it are not figures of the published method. A dialect that judges a request in the
    same call as the caption, as the embedded model's does, saves the gate; the judge then sees the
    image.

    Every failure of the gate flags, every failure of the check blocks. `stop_reason` is "plain" or
    "careful" by the prompt of an answer that passed, "blocked" if it did not pass, "fail-closed"
    if there was no verdict or no answer; `safety` is that of the check on an answer that passed.
    """

    async def respond(self, ctx: RunContext) -> Finished:
        """See `Baseline.respond`."""
        self.require(ctx, self._worst_case(ctx))
        try:
            gate = await self._gate(ctx)
        except BudgetExceeded as short:
            raise self.too_small(ctx, short) from short
        threshold = self.settings.safety_threshold
        flagged = not gate.passes(threshold)
        detail: dict[str, object] = {"flagged": flagged, "gate": gate.safety, "cause": gate.cause}
        try:
            result = await self.ask(ctx, self.request(ctx, "careful" if flagged else "plain"))
        except ModelError:
            # Nobody's verdict: the server is at fault, and nothing has got out.
            raise
        except EcoAlignError as error:
            return self.finish(
                ctx, FIXED_REFUSAL, "fail-closed", detail | {"cause": cause_of(error)}
            )
        if result.note == "withheld":
            return self.finish(ctx, result.text, "withheld", detail, reply=result.reply)
        check = await self.judge(ctx, self.check(ctx, result.text))
        if check.outage is not None:
            raise check.outage
        if not check.passes(threshold):
            stop = "fail-closed" if check.safety is None else "blocked"
            detail |= {"check": check.safety, "cause": check.cause or gate.cause}
            return self.finish(ctx, FIXED_REFUSAL, stop, detail)
        stop = "careful" if flagged else "plain"
        return self.finish(ctx, result.text, stop, detail, safety=check.safety, reply=result.reply)

    def _worst_case(self, ctx: RunContext) -> list[tuple[str, Usage]]:
        query = ctx.query
        look = CaptionRequest(query.question, ctx.views, query.context, query.instructions)
        calls = ctx.bounds(look)
        if ctx.dialect.has_gate:
            caption = ctx.longest(look)
            calls += ctx.bounds(
                GateRequest(
                    query.question,
                    caption,
                    ctx.fence("gate"),
                    query.context,
                    query.instructions,
                )
            )
        plain = self.request(ctx)
        careful = replace(plain, style="careful")
        calls.append(max(ctx.bounds(plain, careful), key=lambda call: call[1].total))
        longest = max((ctx.longest(plain), ctx.longest(careful)), key=len)
        return calls + ctx.bounds(self.check(ctx, longest))

    async def _gate(self, ctx: RunContext) -> Verdict:
        """The verdict on the request.

        Raises:
            BudgetExceeded: the time ran out over the caption.
            ModelError: the server failed over it. (A caption that cannot be read is no verdict.)
        """
        query = ctx.query
        look = CaptionRequest(query.question, ctx.views, query.context, query.instructions)
        completion = await ctx.ask(look, fund=FUND)
        try:
            caption = ctx.dialect.parse_caption(look, completion)
        except ModelError as error:
            return Verdict(None, cause_of(error))
        if not ctx.dialect.has_gate:
            return Verdict(caption.safety, "" if caption.safety is not None else "no verdict")
        fence = ctx.fence("gate", caption.text)
        return await self.judge(
            ctx,
            GateRequest(query.question, caption.text, fence, query.context, query.instructions),
        )
