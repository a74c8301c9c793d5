"""How a run went, in words that a stranger understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ecoalign._text import short
from ecoalign.cli._text import amount, counted
from ecoalign.graph import ThoughtKind
from ecoalign.trace import is_fixed, is_search, outcome, reason

if TYPE_CHECKING:
    from ecoalign.budget import Budget, Spending
    from ecoalign.trace import Alignment

_STOPPED = {
    "satisfied": "more thought was not worth its price",
    "no-positive-action": "no further step was both safe and worth its price",
    "budget": "the budget allowed no further step",
    "limits": "the limit on thoughts, depth or unsafe answers was reached",
    "unsafe-request": "the request itself was judged unsafe",
    "fail-closed": "nothing that was written could be shown to be safe",
}
"""Why a search ended, by `stop_reason`."""


def spending(spent: Spending, budget: Budget) -> str:
    """What was spent of what was allowed: "579 of 8,000 tokens, 0.3 s, 10 calls"."""
    parts = []
    tokens, usd = spent.tokens.total, spent.usd or None  # free is not worth a word
    for used, allowed in (
        (amount(tokens=tokens), amount(tokens=budget.tokens)),
        (amount(usd=usd), amount(usd=budget.usd)),
        (amount(seconds=spent.seconds), amount(seconds=budget.seconds)),
    ):
        parts.append(_of(used, allowed))
    parts.append(counted(spent.calls, "call", "calls"))
    return ", ".join(filter(None, parts))


def _of(used: str, allowed: str) -> str:
    if not (used and allowed):
        return used
    number, _, unit = used.partition(" ")
    return f"{number} of {allowed}" if unit else f"{used} of {allowed}"


def receipt(result: Alignment) -> Iterator[str]:
    """What a run has come to, why, and what it has cost, a line each."""
    named = "" if result.method == "ecoalign" else f" by {result.method}"
    why = reason(result)
    yield f"{outcome(result)}{named}{why and f': {why}'}"
    yield _scores(result)
    stages = ", ".join(f"{stage} {entry.tokens:,}" for stage, entry in result.spent.dearest)
    yield f"spent: {spending(result.spent, result.budget)} (tokens: {stages})"
    if end := _STOPPED.get(result.stop_reason, "") if is_search(result) else "":
        yield f"stopped: {end}"
    if result.finish_reason == "length":
        yield (
            "cut short: the answer reached the cap on its length; allow more, as in "
            """--set 'caps={"answer": 1024}'"""
        )
    if result.spent.usd is None:
        yield "price: unknown for this model; give it in ecoalign.toml, [prices]"
    if result.hint and result.stop_reason != "fail-closed":
        yield f"hint: {short(result.hint, 400)}"


def _scores(result: Alignment) -> str:
    if is_fixed(result):
        return "scores: none, the refusal is a fixed text that no model wrote"
    if result.safety is None and result.utility is None:
        return "scores: none, this method does not score its answer"
    path = " > ".join("request" if t.kind is ThoughtKind.ROOT else t.kind for t in result.path)
    numbers = (
        f"safety {number(result.safety)} (-1 to 1), utility {number(result.utility)} (0 is none)"
    )
    return f"scores: {numbers}{path and f'; path: {path}'}"


def number(value: float | None) -> str:
    """A score with two digits; "-" for none."""
    return "-" if value is None else f"{value:.2f}"
