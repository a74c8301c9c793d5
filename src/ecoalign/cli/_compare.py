"""`ecoalign ask --compare`: the answers of several methods, side by side."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ecoalign._text import harmless
from ecoalign.cli._receipt import number
from ecoalign.cli._text import rich_console, tell
from ecoalign.errors import EcoAlignError
from ecoalign.graph import ThoughtKind
from ecoalign.trace import Alignment, is_search, outcome, reason, threshold
from ecoalign.trace.events import ThoughtAdded

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ecoalign.budget import Budget
    from ecoalign.query import Query

Answers = Mapping[str, Alignment | EcoAlignError]
"""By method its answer, or the error that there is instead."""

_LEAST_COLUMN = 20
"""Characters of an answer's column; where there is less room, answers stand one below the other."""

_LABELS = 10

_ROOMY = 80

_BASE = "base"

_UNSCORED = "not scored"


_FIGURES = ("outcome", "safety", "utility", "tokens", "x Base", "seconds")


def to_json(query: Query, model: str, budget: Budget, answers: Answers) -> dict[str, object]:
    """The object that `--compare --json` prints, but for the traces.

    `{"question", "model", "budget": {"tokens", "usd", "seconds"}, "answers": {METHOD: RESULT}}`,
    where a RESULT is the object that `--json` prints for one method, with "x_base": its tokens in
    those of Base, null where Base is not compared; or `{"error": {"type", "message",
    "exit_code"}}`.
    """
    return {
        "question": query.question,
        "model": model,
        "budget": {"tokens": budget.tokens, "usd": budget.usd, "seconds": budget.seconds},
        "answers": {name: _json(one, answers) for name, one in answers.items()},
    }


def result_json(result: Alignment, trace: str | None = None) -> dict[str, object]:
    """The object that `--json` prints for one answer; "scored" is whether it was judged at all."""
    scored = result.safety is not None
    return result.to_json() | {"method": result.method, "scored": scored, "trace": trace}


def _json(one: Alignment | EcoAlignError, answers: Answers) -> dict[str, object]:
    if isinstance(one, EcoAlignError):
        body = {"type": type(one).__name__, "message": str(one), "exit_code": one.exit_code}
        return {"error": body}
    return result_json(one) | {"x_base": _times_base(one, answers)}


def tell_block(name: str, one: Alignment | EcoAlignError) -> None:
    """Print one answer as soon as it is there."""
    if isinstance(one, EcoAlignError):
        tell(f"{name} (failed)\n{_indented(str(one))}\n")
        return
    unscored = one.safety is None and not one.refused
    marked = f"{outcome(one)}, {_UNSCORED}" if unscored else outcome(one)
    tell(f"{name} ({marked})\n{_indented(one.answer)}\n")


def _indented(text: str) -> str:
    """Set in by two blanks; on a terminal broken between words."""
    lines = text.split("\n")
    if sys.stdout.isatty():
        room = max(20, rich_console().width - 2)
        lines = [part for one in lines for part in textwrap.wrap(one, room) or [""]]
    return textwrap.indent("\n".join(lines), "  ")


def tell_table(answers: Answers, *, with_answers: bool) -> None:
    """Print all figures, a column a method; a row a method where there is no room, or the answers
    were printed before.

    Args:
        answers: in their order.
        with_answers: print the answers, too.
    """
    from rich.text import Text

    console = rich_console()
    room = (console.width - _LABELS) // max(1, len(answers)) - 2
    if with_answers and room >= _LEAST_COLUMN:
        console.print(_columns(answers))
        return
    if with_answers:
        for name, one in answers.items():
            tell_block(name, one)
    console.print(_rows(answers, padding=2 if console.width >= _ROOMY else 1))
    for name, one in answers.items():
        if why := _why(one, answers):
            console.print(Text(harmless(f"{name}: {why}")))


def _rows(answers: Answers, padding: int) -> Table:
    """A row a method, narrow enough for 60 columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0))
    for head in ("method", "outcome", "safety", "utility", "tokens", "x Base", "sec"):
        table.add_column(head, no_wrap=True)
    for name, one in answers.items():
        ended, safety, *rest = _figures(one, answers)
        short = {_UNSCORED: "unscored"}.get(safety, safety)
        table.add_row(*map(Text, (name, ended.split()[0].rstrip(","), short, *rest)))
    return table


def _columns(answers: Answers) -> Table:
    """A column a method."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("")
    for name in answers:
        table.add_column(Text(name), overflow="fold", ratio=1)
    figures = [_figures(one, answers) for one in answers.values()]
    rows: list[tuple[str, list[Text]]] = [
        ("answer", [_said(one) for one in answers.values()]),
        ("outcome", [Text(each[0], style=_style(each[0])) for each in figures]),
        ("why", [Text(_why(one, answers)) for one in answers.values()]),
    ]
    rows += [
        (head, [Text(each[i]) for each in figures]) for i, head in enumerate(_FIGURES[1:], start=1)
    ]
    for label, cells in rows:
        table.add_row(Text(label, style="dim"), *cells, end_section=label in {"answer", "why"})
    return table


def _said(one: Alignment | EcoAlignError) -> Text:
    from rich.text import Text

    if isinstance(one, EcoAlignError):
        return Text(harmless(str(one)), style="red")
    return Text(harmless(one.answer), style="bold")


def _style(outcome: str) -> str:
    return {"refused": "yellow", "failed": "red"}.get(outcome, "")


def _figures(one: Alignment | EcoAlignError, answers: Answers) -> tuple[str, ...]:
    """The cells of `_FIGURES`."""
    if isinstance(one, EcoAlignError):
        return ("failed", "-", "-", "-", "-", "-")
    times = _times_base(one, answers)
    fixed = one.refused and (one.safety is None or (is_search(one) and len(one.path) == 1))
    unscored = one.safety is None and not fixed
    return (
        outcome(one),
        "-" if fixed else _UNSCORED if unscored else number(one.safety),
        "-" if fixed or unscored else number(one.utility),
        f"{one.spent.tokens.total:,}",
        "-" if times is None else f"{times:.1f}",
        f"{one.spent.seconds:.1f}",
    )


def _times_base(one: Alignment, answers: Answers) -> float | None:
    base = answers.get(_BASE)
    if not isinstance(base, Alignment) or not base.spent.tokens.total:
        return None
    return one.spent.tokens.total / base.spent.tokens.total


def _why(one: Alignment | EcoAlignError, answers: Answers) -> str:
    """Why it ended as it did, in a sentence or two."""
    if isinstance(one, EcoAlignError):
        return ""
    judged = next(_judged_elsewhere(one, answers), "")
    return "; ".join(filter(None, (reason(one), judged)))


def _judged_elsewhere(one: Alignment, answers: Answers) -> Iterator[str]:
    """What another method's judge gave the very words that this one has given out unscored."""
    for name, other in answers.items() if one.safety is None and not one.refused else ():
        if not isinstance(other, Alignment):
            continue
        scores = [
            event.thought.safety
            for event in other.trace
            if isinstance(event, ThoughtAdded)
            and event.thought.kind is ThoughtKind.ANSWER
            and event.thought.text.strip() == one.answer.strip()
        ]
        if scores:
            least = min(scores)
            yield f"{name} judged these very words {least:+.2f}, {_verdict(least, other)}"


def _verdict(safety: float, judged: Alignment) -> str:
    return "safe" if safety >= threshold(judged) else "unsafe"
