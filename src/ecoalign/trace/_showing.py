"""A result as people see it: in a notebook, and on a terminal that rich draws on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ecoalign._text import harmless
from ecoalign.budget import Budget, Spending

__all__ = ["Shown", "as_html", "dollars", "html_table", "scores", "stages"]

HEADS = ("stage", "calls", "tokens", "dollars", "seconds")

_CELL = "padding:.1em 1em .1em 0;font-weight:inherit;"

_SIDES = {
    "<": f"{_CELL}text-align:left;white-space:pre-wrap",
    ">": f"{_CELL}text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums",
}


def scores(safety: float | None, utility: float | None) -> str:
    """The scores of a path in words."""
    if safety is None:
        return "not scored"
    return f"safety {safety:+.2f}" + ("" if utility is None else f", utility {utility:.2f}")


def stages(spent: Spending, budget: Budget) -> list[tuple[str, ...]]:
    """The account, a row a stage, the dearest first; then all of it, and what was allowed."""
    rows = [
        (n, str(s.calls), f"{s.tokens:,}", dollars(s.usd), f"{s.seconds:.1f}")
        for n, s in spent.dearest
    ]
    total = spent.tokens.total
    rows.append(("all", str(spent.calls), f"{total:,}", dollars(spent.usd), f"{spent.seconds:.1f}"))
    tokens = "" if budget.tokens is None else f"{budget.tokens:,}"
    usd = "" if budget.usd is None else dollars(budget.usd)
    seconds = "" if budget.seconds is None else f"{budget.seconds:g}"
    return [*rows, ("budget", "", tokens, usd, seconds)]


def dollars(usd: float | None) -> str:
    """Dollars in a column that is headed so."""
    if usd is None:
        return "unknown"
    return f"{usd:.4f}" if usd else "0"  # free


def in_html(text: str) -> str:
    """Untrusted text as the content of an element."""
    return escape(harmless(text))


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table of untrusted text; `align` has "<" or ">" a column; the first names the row."""

    def cell(text: str, side: str, kind: str) -> str:
        return f'<{kind} style="{_SIDES[side]}">{in_html(text)}</{kind.split(maxsplit=1)[0]}>'

    def row(cells: Sequence[str]) -> str:
        name, *rest = zip(cells, align, strict=True)
        data = "".join(cell(text, side, "td") for text, side in rest)
        return f"<tr>{cell(*name, kind='th scope=row')}{data}</tr>"

    names = zip(heads, align, strict=True)
    head = "".join(cell(text, side, "th scope=col") for text, side in names)
    return (
        f'<table class="ecoalign" style="border-collapse:collapse">'
        f'<thead style="font-weight:bold"><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(row, rows))}</tbody></table>"
    )


def as_html(answer: str, notes: Sequence[str], picture: str, rows: Sequence[Sequence[str]]) -> str:
    """A result: the answer, a line of what there is to say of it, the picture of its search and the
    account. Only `picture` is HTML."""
    return (
        '<div class="ecoalign" style="max-width:60em">'
        f'<p style="white-space:pre-wrap;font-weight:bold;margin:.5em 0">{in_html(answer)}</p>'
        f'<p style="margin:.5em 0">{" · ".join(map(in_html, notes))}</p>{picture}'
        f"<details><summary>What it cost, by stage</summary>{html_table(HEADS, rows, '<>>>>')}"
        "</details></div>"
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
