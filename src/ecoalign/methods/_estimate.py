"""What an answer is likely to cost, told before anything is spent: no call is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ecoalign.budget import Amount, Budget, Ledger, PriceBook
from ecoalign.graph import ROOT, Thought, ThoughtKind
from ecoalign.methods._registry import open_method, with_preset
from ecoalign.models import ChatModel, ChatRequest, SupportsSegments, Usage, profile_of
from ecoalign.prompts.requests import AnswerRequest
from ecoalign.query import FULL_PIXELS, Query
from ecoalign.search.context import RunContext, named_evaluator
from ecoalign.search.drafter import first_calls
from ecoalign.settings import Settings

_BYTES_A_TOKEN = 4.0
"""Of English, where no probe has measured it."""

_LIKELY_IMAGE = 1500
"""Tokens of an image on a server of an unknown family; the bound is far above."""

_TEMPLATE = {"request": 16, "message": 5, "text": 0}
"""Tokens of what a chat template adds; their bounds are far above, too."""

_WRITTEN = {"scan": 60, "execute": 24, "write": 24, "answer": 24, "score": 16}
"""Output tokens of short replies, by stage: a caption and a grade, a sentence, a verdict."""

_WRITTEN_EMBEDDED = {"scan": 20, "execute": 8, "write": 8, "answer": 8, "score": 3}
"""The same of the embedded model, whose words are tokens."""

_BASELINES: Mapping[str, tuple[float, float]] = {
    "cot": (1.97, 1.14),
    "cod": (1.08, 1.04),
    "safety-prompt": (1.04, 1.05),
    "ecso": (2.61, 2.37),
    "vlm-guard": (3.29, 3.60),
    "best-of-n": (8.40, 8.22),
}
"""Mean tokens in those of a plain answer, as in docs/evidence.md: of the embedded model on its test
split, and of 24 simulated models that are spoken to as real ones are."""

_SEARCHES: Mapping[str, tuple[float, float]] = {
    "default": (2.11, 1.59),
    "paper": (2.63, 3.30),
}
"""Mean tokens of EcoAlign under a preset, in those of the least that is estimated here, on the same
two: `python perf/estimates.py`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one answer may cost, in tokens and dollars; dollars are None where a price is unknown.

    Attributes:
        method: who answers.
        least: the shortest way to an answer, with short replies. Reckoned, and no bound: a shorter
            reply, or an image that counts less than is known of the model, costs less.
        typical: the mean to expect; None where that was not measured.
        most: what is never passed, the budget; None in a unit that nothing bounds. Where it has no
            dollars, they are those of its tokens at the dearest price.
        how: how each of the three is reckoned, in a sentence.
    """

    method: str
    least: Amount
    typical: Amount | None
    most: Amount
    how: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        typical = None
        if self.typical is not None:
            typical = {"tokens": self.typical.tokens, "usd": self.typical.usd}
        return {
            "method": self.method,
            "least": {"tokens": self.least.tokens, "usd": self.least.usd},
            "typical": typical,
            "most": {
                "tokens": self.most.tokens,
                "usd": self.most.usd,
                "seconds": self.most.seconds,
            },
            "how": dict(self.how),
        }


def estimate(
    query: Query, model: ChatModel, settings: Settings, budget: Budget, method: str = "ecoalign"
) -> Estimate:
    """What it would cost to have `query` answered. Nobody is asked.

    Args:
        query: the question.
        model: who would answer.
        settings: in force.
        budget: what the answer may spend.
        method: by its name; see `METHODS`.

    Raises:
        InputError: there is no such method, or the model cannot read the question.
    """
    open_method(method, settings)
    kind, _, preset = method.partition(":")
    searches = kind == "ecoalign"
    settings = with_preset(settings, preset) if preset else settings
    book = settings.price_book()
    ctx = RunContext.of(
        query,
        model,
        named_evaluator(settings).of(model),
        Ledger(budget, book),
        settings,
        view_pixels=None if searches else FULL_PIXELS,
    ).sized()
    calls = _shortest(ctx) if searches else [_plain_call(ctx)]
    parts = [(_asked(ctx, call), _likely(model, call)) for call in calls]
    tokens = sum(used.total for _, used in parts)
    prices = [book(name, used) for name, used in parts]
    usd = None if None in prices else float(sum(filter(None, prices)))
    most = _most(budget, book, {name for name, _ in parts})
    times, typical = _typical(method, settings.preset, embedded=model.name == "embedded")
    named = zip(calls, parts, strict=True)
    way = " + ".join(f"{call.stage} {used.total:,}" for call, (_, used) in named)
    how = {
        "least": f"{way if searches else f'one plain call: {way}'}, with short replies; no bound",
        "typical": typical,
        "most": "the budget, which no answer passes",
    }
    least = _times(tokens, usd, 1.0, most)
    return Estimate(
        method, least, None if times is None else _times(tokens, usd, times, most), most, how
    )


def _shortest(ctx: RunContext) -> list[ChatRequest]:
    """The calls of a search that ends at once."""
    stages = {"scan", "execute" if ctx.settings.draft else "write", "score"}
    return [call for call in first_calls(ctx) if call.stage in stages]


def _plain_call(ctx: RunContext) -> ChatRequest:
    query = ctx.query
    return ctx.render(
        AnswerRequest(
            query.question, ctx.views, "plain", query.context, instructions=query.instructions
        )
    )


def _asked(ctx: RunContext, call: ChatRequest) -> str:
    """The name of the model that a call goes to."""
    if call.stage != "score":
        return ctx.model.name
    root = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, 0.0)
    return ctx.score_bounds(ctx.score_request((root,), "answer", ""))[0][0]


def _likely(model: ChatModel, call: ChatRequest) -> Usage:
    """What a call with a short reply is likely to use, at most its bound."""
    bound, profile = model.bound(call), profile_of(model)
    short = _WRITTEN_EMBEDDED if profile.dialect == "compact" else _WRITTEN
    written = min(bound.completion, short.get(call.stage, 24) + profile.thinking)
    if not isinstance(model, SupportsSegments):
        return Usage(bound.prompt, written, bound.image)
    each = profile.bytes_per_token if profile.bytes_per_token > 1 else _BYTES_A_TOKEN
    text, image = 0.0, 0
    for segment in model.segments(call):
        if segment.image is not None:
            unknown = profile.family == "unknown"
            image += min(segment.tokens, _LIKELY_IMAGE) if unknown else segment.tokens
        elif isinstance(segment.key, str):
            text += min(segment.tokens, _TEMPLATE.get(segment.key, segment.tokens))
        else:
            text += segment.tokens / each
    return Usage(min(bound.prompt, round(text) + image), written, image)


def _typical(method: str, preset: str, *, embedded: bool) -> tuple[float | None, str]:
    """How many times the least the mean answer takes, and how that is known."""
    if method == "base":
        return 1.0, "that one call"
    times, name, n = None, method, 4
    if method.partition(":")[0] == "ecoalign":
        times, of = _SEARCHES.get(preset), "the least"
    else:
        head, _, number = method.rpartition("-")
        if head == "best-of" and number != "n":
            name, n = "best-of-n", int(number)
        times, of = _BASELINES.get(name), "a plain answer"
    if times is None:
        return None, "was not measured here"
    where = "the embedded model" if embedded else "24 simulated models, not on this one"
    share = times[0 if embedded else 1] * (n / 4)
    return share, f"{share:.3g} times {of}: the mean measured on {where}"


def _most(budget: Budget, book: PriceBook, models: Iterable[str]) -> Amount:
    usd = budget.usd
    if usd is None and budget.tokens is not None:
        kinds = Usage(prompt=budget.tokens), Usage(completion=budget.tokens)
        prices = [book(name, kind) for name in sorted(models) for kind in kinds]
        known = [price for price in prices if price is not None]
        usd = float(max(known)) if len(known) == len(prices) else None
    return Amount(budget.tokens, usd, budget.seconds)


def _times(tokens: int, usd: float | None, times: float, most: Amount) -> Amount:
    total = round(tokens * times)
    if most.tokens is not None:
        total = min(total, most.tokens)
    if usd is not None:
        usd = usd * times if most.usd is None else min(usd * times, most.usd)
    return Amount(total, usd)
