"""Best of n: several answers, each scored, the best one given out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ecoalign.budget import Called
from ecoalign.errors import BudgetExceeded, EcoAlignError, InputError, ModelError
from ecoalign.evaluators import Evaluator
from ecoalign.methods._baseline import Baseline
from ecoalign.models import OWN_REPLY, ChatModel, Reply
from ecoalign.prompts.requests import ScoreResult
from ecoalign.search.context import RunContext, named_evaluator
from ecoalign.search.failures import cause_of, is_outage
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.settings import Settings
from ecoalign.trace.events import Finished

DEFAULT_N = 4

LARGEST_N = 64

TEMPERATURE = 0.8
"""Of all samples but the first, where the settings ask for greedy answers: n equal ones would be
no choice."""


@dataclass(slots=True)
class _Sample:
    fund: str
    text: str = ""
    score: ScoreResult | None = None
    error: EcoAlignError | None = None
    reply: Reply = OWN_REPLY
    calls: list[Called] = field(default_factory=list)


class BestOfN(Baseline):
    """n answers of the plain model (stage `sample`), each scored (`score`) by the evaluator that
    EcoAlign would use; of those that are safe, the one with the greatest S*u.

    The first sample is what Base would say; the others have seeds of their own, counted up from
    the settings' or the client's, and a client's temperature holds for all. A sample is drawn
    only if the budget has room for its score as well, so there may be fewer than n
    (`detail["samples"]`). All run at once. A sample without a score never gets out; with no safe
    one, a fixed refusal is given. `stop_reason` is "best" or "fail-closed".

    With an evaluator that knows no utility (a guard model), S*u is 0 for all and the safest counts.

    Args:
        name: "best-of-n", or with n in place of the letter.
        settings: see `Baseline`; `evaluator` names who scores.
        n: samples, from 1 to `LARGEST_N`.
        evaluator: who scores, in place of the settings'.
    """

    def __init__(
        self, name: str, settings: Settings, n: int, evaluator: Evaluator | None = None
    ) -> None:
        super().__init__(name, settings)
        self.n = n
        self._given = evaluator
        self._named = named_evaluator(settings)

    def evaluator(self, model: ChatModel) -> Evaluator:
        """See `Baseline.evaluator`."""
        return self._given or self._named.of(model)

    def max_concurrency(self) -> int:
        """As many calls as samples, unless the setting was changed."""
        most = self.settings.max_concurrency
        return max(most, self.n) if self.settings.origin("max_concurrency") == "default" else most

    async def respond(self, ctx: RunContext) -> Finished:
        """See `Baseline.respond`."""
        samples = self._reserved(ctx)
        try:
            # All are let finish: a call that is cut off is charged at its worst case.
            work = (self._sample(ctx, i, sample) for i, sample in enumerate(samples))
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            for sample in samples:
                ctx.record(sample.calls)
                ctx.ledger.release_fund(sample.fund)
        return self._best(ctx, samples)

    def _reserved(self, ctx: RunContext) -> list[_Sample]:
        """As many samples as can be paid for, each with its fund.

        Raises:
            BudgetTooSmall: there is not room for one.
        """
        request = self.request(ctx)
        scoring = ctx.score_request((), "answer", ctx.longest(request))
        calls = [*ctx.bounds(request), *ctx.score_bounds(scoring)]
        samples: list[_Sample] = []
        for i in range(self.n):
            try:
                self.reserve(ctx, calls, f"sample {i}")
            except BudgetExceeded as short:
                if not samples:
                    raise self.too_small(ctx, short, calls) from short
                break
            samples.append(_Sample(f"sample {i}"))
        return samples

    async def _sample(self, ctx: RunContext, i: int, sample: _Sample) -> None:
        ctx = ctx.collecting(sample.calls)
        request = self.request(ctx)
        temperature = self.settings.temperature or (TEMPERATURE if i else 0.0)
        try:
            completion = await ctx.ask(
                request, fund=sample.fund, stage="sample", temperature=temperature, variant=i
            )
        except InputError:
            # The question itself cannot be read.
            raise
        except EcoAlignError as error:
            sample.error = error
            return
        read = self.read(ctx, request, completion)
        sample.text, sample.reply = read.text, read.reply
        try:
            scoring = ctx.score_request((), "answer", sample.text)
            sample.score = await ctx.score(scoring, fund=sample.fund)
        except EcoAlignError as error:
            sample.error = error

    def _best(self, ctx: RunContext, samples: list[_Sample]) -> Finished:
        """The best safe sample; of equals the first.

        Raises:
            ModelError: not one answer came back, or was scored, as a server failed.
            VerdictError: not one verdict could be read.
            BudgetTooSmall: the time ran out before one did.
        """
        detail = {
            "n": self.n,
            "samples": len(samples),
            "scored": sum(sample.score is not None for sample in samples),
            "causes": sorted({cause_of(s.error) for s in samples if s.error is not None}),
        }
        best, score = None, None
        for sample in samples:
            if sample.score is None or sample.score.safety < self.settings.safety_threshold:
                continue
            if score is None or _worth(sample.score) > _worth(score):
                best, score = sample, sample.score
        if best is not None and score is not None:
            return self.finish(
                ctx,
                best.text,
                "best",
                detail,
                safety=score.safety,
                utility=score.utility,
                reply=best.reply,
            )
        if not any(call.text is not None for sample in samples for call in sample.calls):
            # Where no sample was ever answered there is nothing to refuse; but for a filter, whose
            # answer is a refusal.
            for sample in samples:
                if isinstance(sample.error, ModelError) and sample.error.fault != "filtered":
                    raise sample.error
                if isinstance(sample.error, BudgetExceeded):
                    raise self.too_small(ctx, sample.error) from sample.error
        if not any(sample.score for sample in samples):
            for sample in samples:
                if sample.error is not None and is_outage(sample.error):
                    raise sample.error
        ctx.verdicts.raise_if_unreadable()
        return self.finish(ctx, FIXED_REFUSAL, "fail-closed", detail)

    async def aclose(self) -> None:
        """Close the connections of the evaluator that the settings name."""
        await self._named.aclose()


def _worth(score: ScoreResult) -> tuple[float, float]:
    return score.safety * score.utility, score.safety
