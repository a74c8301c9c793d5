"""What a run has cost and why it ended, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.cli._text import amount, short

if TYPE_CHECKING:
    from ecoalign.trace import Alignment

__all__ = ["EMBEDDED_NOTICE", "receipt"]

EMBEDDED_NOTICE = (
    "note: the embedded model knows only its synthetic world (coloured shapes and signs, and a "
    "made-up rulebook). For real pictures name a real model: --model openai:NAME with "
    "OPENAI_API_KEY set, or --model NAME --base-url URL for any OpenAI-compatible server."
)

_WHY = {
    "satisfied": "no further action could improve the answer by more than its price",
    "no-positive-action": "no safe action was worth its price any more",
    "budget": "the budget allowed no further action",
    "limits": "the limit on thoughts was reached",
    "unsafe-request": "the request itself was judged unsafe",
    "fail-closed": "nothing that was written could be shown to be safe",
}


def receipt(result: Alignment) -> list[str]:
    """The lines: scores, money by stage, why it stopped, what to change."""
    spent, budget = result.spent, result.budget
    kind = "refused" if result.refused else "answered"
    usd = spent.usd or None  # free is not worth a word
    used = amount(spent.tokens.total, usd, spent.seconds)
    allowed = amount(budget.tokens, budget.usd, budget.seconds)
    stages = ", ".join(f"{stage} {entry.tokens:,}" for stage, entry in spent.by_stage.items())
    path = " > ".join(thought.kind.value for thought in result.path)
    lines = [
        f"{kind}: safety {result.safety:.3f}, utility {result.utility:.3f}, path {path}",
        f"spent: {used} of {allowed}, {spent.calls} calls (tokens: {stages})",
        f"stopped: {result.stop_reason}, {_WHY[result.stop_reason]}",
    ]
    if spent.usd is None:
        lines.append("price: unknown for this model; give it in ecoalign.toml, [prices]")
    if result.hint:
        lines.append(f"hint: {short(result.hint, 400)}")
    return lines
