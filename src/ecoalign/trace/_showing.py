"""A result as people see it: in a notebook, and on a terminal that rich draws on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ecoalign._text import harmless
from ecoalign.budget import Budget, Spending

__all__ = ["Shown", "as_html", "in_html", "scores", "stages"]

HEADS = ("stage", "calls", "tokens", "dollars", "seconds")

_LEFT = "text-align:left;padding:.1em 1em .1em 0"

_RIGHT = "text-align:right;padding:.1em 0 .1em 1em;font-variant-numeric:tabular-nums"


def scores(safety: float | None, utility: float | None) -> str:
    """The scores of a path in words."""
    if safety is None:
        return "not scored"
    return f"safety {safety:+.2f}" + ("" if utility is None else f", utility {utility:.2f}")


def stages(spent: Spending, budget: Budget) -> list[tuple[str, ...]]:
    """The account, a row a stage, the dearest first; then all of it, and what was allowed."""
    dearest = sorted(spent.by_stage.items(), key=lambda row: -row[1].tokens)
    rows = [(n, str(s.calls), f"{s.tokens:,}", _usd(s.usd), f"{s.seconds:.1f}") for n, s in dearest]
    total = spent.tokens.total
    rows.append(("all", str(spent.calls), f"{total:,}", _usd(spent.usd), f"{spent.seconds:.1f}"))
    tokens = "" if budget.tokens is None else f"{budget.tokens:,}"
    usd = "" if budget.usd is None else _usd(budget.usd)
    seconds = "" if budget.seconds is None else f"{budget.seconds:g}"
    return [*rows, ("budget", "", tokens, usd, seconds)]


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:.4f}"


def in_html(text: str) -> str:
    """Untrusted text as the content of an element."""
    return escape(harmless(text))


def as_html(answer: str, notes: Sequence[str], picture: str, rows: Sequence[Sequence[str]]) -> str:
    """A result: the answer, a line of what there is to say of it, the picture of its search and the
    account. Only `picture` is HTML."""
    head = "".join(
        f'<th scope="col" style="{_LEFT if not i else _RIGHT}">{name}</th>'
        for i, name in enumerate(HEADS)
    )
    body = "".join(
        f'<tr><th scope="row" style="{_LEFT};font-weight:normal">{in_html(name)}</th>'
        + "".join(f'<td style="{_RIGHT}">{in_html(cell)}</td>' for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return (
        '<div class="ecoalign" style="max-width:60em">'
        f'<p style="white-space:pre-wrap;font-weight:bold;margin:.5em 0">{in_html(answer)}</p>'
        f'<p style="margin:.5em 0">{" · ".join(map(in_html, notes))}</p>{picture}'
        "<details><summary>What it cost, by stage</summary>"
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></details></div>"
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """What rich draws of a result. It needs nothing of rich but the console that it is given."""

    answer: str
    refused: bool
    notes: Sequence[str]

    def __rich_console__(self, console: Any, options: object) -> Iterator[Any]:
        """See rich's console protocol."""
        style = "bold red" if self.refused else "bold"
        yield console.render_str(harmless(self.answer), style=style, markup=False, highlight=False)
        line = " · ".join(map(harmless, self.notes))
        yield console.render_str(line, style="dim", markup=False, highlight=False)
