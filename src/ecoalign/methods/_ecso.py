"""ECSO, "Eyes Closed, Safety On" (Gou et al., arXiv 2403.09572, ECCV 2024)."""

from __future__ import annotations

from dataclasses import replace

from ecoalign.errors import BudgetExceeded, EcoAlignError, ModelError
from ecoalign.methods._baseline import FUND, Baseline, Verdict
from ecoalign.prompts.requests import AnswerRequest, CaptionRequest
from ecoalign.search.context import RunContext
from ecoalign.search.failures import cause_of
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.trace.events import Finished


class Ecso(Baseline):
    """Answer, self-check, and where that fails: caption, then answer without the image.

    The paper's idea: a model's language half was aligned before images were added and still
    refuses what it reads, while what it sees slips past. So

    1. answer with the image (stage `answer`);
    2. ask the model itself, with the image, whether that answer is harmful (`check`); a harmless
       answer is given out;
    3. else have the image described with the question in view (`caption`);
    4. and answer from that description alone, asked to stay harmless (`blind`).

    As in the paper the second answer is not checked again. Two things are stricter here. The
    authors' program takes every reply but "yes" for harmless; here a check without a well-formed
    verdict counts as unsafe. And an answer that has failed never gets out, not even if the model
    gives it word for word again. Then, and where the second answer cannot be had for lack of
    budget or of a caption, a fixed refusal is given.

    `stop_reason` is "draft", "eyes-closed" or "fail-closed"; `safety` is that of the check, None
    for the second answer.
    """

    async def respond(self, ctx: RunContext) -> Finished:
        """See `Baseline.respond`."""
        request = self.request(ctx)
        self.require(ctx, ctx.bounds(request, self.check(ctx, ctx.longest(request))))
        try:
            draft = await self.ask(ctx, request)
        except BudgetExceeded as short:
            raise self.too_small(ctx, short) from short
        if draft.note == "withheld":
            return self.finish(ctx, draft.text, "withheld", reply=draft.reply)
        verdict = await self.judge(ctx, self.check(ctx, draft.text))
        if verdict.passes(self.settings.safety_threshold):
            return self.finish(
                ctx,
                draft.text,
                "draft",
                {"flagged": False},
                safety=verdict.safety,
                reply=draft.reply,
            )
        return await self._eyes_closed(ctx, draft.text, verdict)

    async def _eyes_closed(self, ctx: RunContext, draft: str, verdict: Verdict) -> Finished:
        query = ctx.query
        detail = {"flagged": True, "verdict": verdict.safety, "cause": verdict.cause}
        request = CaptionRequest(query.question, ctx.views, query.context, query.instructions)
        blind = AnswerRequest(
            query.question,
            (),
            "blind",
            query.context,
            ctx.longest(request),
            query.instructions,
        )

        def refusal(cause: str) -> Finished:
            return self.finish(ctx, FIXED_REFUSAL, "fail-closed", detail | {"cause": cause})

        try:
            # A caption that could not be answered from would be money for nothing.
            self.reserve(ctx, ctx.bounds(request, blind))
            completion = await ctx.ask(request, fund=FUND)
            try:
                caption = ctx.dialect.parse_caption(request, completion).text
            except ModelError as error:
                return refusal(cause_of(error))
            result = await self.ask(ctx, replace(blind, caption=caption))
        except ModelError:
            # Nobody's verdict: the server is at fault, and nothing has got out.
            raise
        except EcoAlignError as error:
            return refusal(cause_of(error))
        if result.text.casefold().split() == draft.casefold().split():
            return refusal("the answer that failed came again")
        return self.finish(ctx, result.text, "eyes-closed", detail, reply=result.reply)
