"""The live display of a run, on standard error, drawn from its story."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from ecoalign._text import short
from ecoalign.cli._text import amount, counted, say
from ecoalign.trace import Node, Option, Story, mark_word
from ecoalign.trace.events import (
    ActionFailed,
    ActionsChosen,
    Confirmed,
    Event,
    Finished,
    PathChosen,
    RootScanned,
    RunFailed,
    ThoughtAdded,
)
from ecoalign.trace.look import KINDS, MARKS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from ecoalign.budget import Budget

Mode = Literal["live", "lines", "none"]

_DUMB = {"dumb", "unknown"}

_WORDLESS = {"unsafe", "merged"}
"""The marks of thoughts whose words are not shown."""

_SHOWN = {"path", "answer"}
"""The marks that are seen without a word: such rows are bold and have a star."""

_LEFT = 16
"""Rows of the tree that is left behind."""

_WIDE = 90
"""Columns from which on there is room for what a thought has cost."""

_LEAST_ROWS = 3
"""Rows of the tree on a terminal however low."""


def chosen_mode(wanted: bool | None) -> Mode:
    """The mode for standard error; `wanted` is the option `--progress`, None if it is not given."""
    if wanted is False or sys.stderr is None:
        return "none"
    if sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in _DUMB:
        return "live"
    return "lines" if wanted else "none"


def display(budget: Budget, methods: Sequence[str], mode: Mode) -> Display:
    """The display of a mode: one that is redrawn, one line a step, or nothing."""
    if mode == "live":
        return _Live(budget, methods)
    return (_Lines if mode == "lines" else Display)(budget, methods)


class Display:
    """Follows a run of each method and shows nothing; the others build on it. A context manager.

    Attributes:
        stories: what is known so far, by method.
        live: whether it is redrawn, and so leaves nothing behind.
    """

    live = False

    def __init__(self, budget: Budget, methods: Sequence[str]) -> None:
        self.budget = budget
        self.stories: Mapping[str, Story] = {name: Story() for name in methods}

    def see(self, method: str, event: Event) -> None:
        """Add one event and show it."""
        self.show(method, event, self.stories[method].see(event)["text"])

    def show(self, method: str, event: Event, text: str) -> None:
        """Show what an event has changed; `text` says it in a sentence."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        """Stop showing."""


_TOLD = (
    *(RootScanned, ActionsChosen, ActionFailed, ThoughtAdded, Confirmed, PathChosen),
    *(Finished, RunFailed),
)
"""The events that have a line."""


class _Lines(Display):
    def show(self, method: str, event: Event, text: str) -> None:
        if not isinstance(event, _TOLD):
            return
        gauges = self.stories[method].gauges
        name = f"{method}: " if len(self.stories) > 1 else ""
        spent = _of_limits(self.stories[method], self.budget)
        if isinstance(event, ActionsChosen) and event.step:
            text = f"step {event.step}: {gauges.doing}; {_counts(self.stories[method])}; {spent}"
        elif isinstance(event, Finished | RunFailed):
            text = f"{text} {spent}"
        say(f"{name}{text}")


def _of_limits(story: Story, budget: Budget) -> str:
    bars = _bars(story, budget, story.gauges.seconds)
    return "; ".join(f"{spent} of {limit}" for _, _, spent, limit in bars)


def _bars(story: Story, budget: Budget, seconds: float) -> Iterator[tuple[float, float, str, str]]:
    """Spent and allowed of each unit of the budget, as numbers and in words."""
    gauges = story.gauges
    if budget.tokens is not None:
        yield gauges.tokens, budget.tokens, f"{gauges.tokens:,}", amount(tokens=budget.tokens)
    if budget.usd is not None:
        yield gauges.usd or 0.0, budget.usd, amount(usd=gauges.usd or 0.0), amount(usd=budget.usd)
    if budget.seconds is not None:
        yield seconds, budget.seconds, f"{seconds:.1f}", amount(seconds=budget.seconds)


def _counts(story: Story) -> str:
    gauges = story.gauges
    words = [counted(gauges.thoughts, "thought")]
    for name in ("pruned", "merged", "failed"):
        if number := getattr(gauges, name):
            words.append(f"{number} {name}")
    return ", ".join(words)


# The tree -----------------------------------------------------------------------------------------


def tree(story: Story, most: int, width: int, *, ascii_only: bool = False) -> list[Text]:
    """The thoughts so far, and the steps under way, as the rows of a tree.

    Of more than `most` rows the strongest path and the newest are kept. A thought that was judged
    unsafe is told of without its words.

    Args:
        story: the run.
        most: rows, >= 1.
        width: columns; where there are few, numbers are fewer and shorter.
        ascii_only: draw with nothing but ASCII.
    """
    above = _parents(story)
    kept = _kept(story, above, most)
    under: dict[str, list[Node]] = {}
    for name in kept:
        under.setdefault(above[name], []).append(story.nodes[name])
    guides = ("`- ", "|- ", "   ", "|  ") if ascii_only else ("└ ", "├ ", "  ", "│ ")
    rows: list[Text] = []
    thoughts: list[bool] = []  # whether each row is one, and no step under way

    def draw(nodes: Sequence[Node | Option], before: str) -> None:
        for one in nodes:
            last, top = one is nodes[-1], isinstance(one, Node) and not above[one.id]
            guide = "" if top else before + guides[0 if last else 1]
            parts = ((guide, "dim"), *_row(one, story, wide=width >= _WIDE))
            rows.append(line(*parts, ascii_only=ascii_only))
            thoughts.append(isinstance(one, Node))
            if isinstance(one, Node):
                below: list[Node | Option] = [*under.get(one.id, ())]
                below += [option for option in one.options if option.state == "chosen"]
                draw(below, "" if top else before + guides[2 if last else 3])

    draw(under.get("", ()), "")
    if len(kept) < len(story.nodes) or len(rows) > most:
        hidden = len(story.nodes) - sum(thoughts[: most - 1])
        more = f"({counted(hidden, 'more thought')})" if hidden else "(and steps under way)"
        rows[most - 1 :] = [line((more, "dim"), ascii_only=ascii_only)]
    return rows


def line(*parts: tuple[str, str], ascii_only: bool = False) -> Text:
    """One row, cut where it is too long: pieces of text, each with its style."""
    from rich.text import Text

    # Text and not markup: what a model writes must not be read as a style.
    row = Text(no_wrap=True, overflow="crop" if ascii_only else "ellipsis")
    for text, style in parts:
        row.append(text.encode("ascii", "replace").decode() if ascii_only else text, style)
    return row


def _parents(story: Story) -> dict[str, str]:
    """By thought the one that it is drawn under, which came before it; "" for the root."""
    above: dict[str, str] = {}
    for node in story.nodes.values():
        # One that came later is the parent of a thought that was merged into this one.
        found = next((name for name in node.parents if name in above), "t0")
        above[node.id] = "" if node.id == "t0" else found
    return above


def _kept(story: Story, above: Mapping[str, str], most: int) -> list[str]:
    """The thoughts that are drawn: the strongest path, then the newest with what they grew from."""
    if len(story.nodes) <= most:
        return list(story.nodes)
    kept, room = {"t0"}, most - 1  # the last row says what is hidden
    ends = (name for name in story.path[-1:] if name in story.nodes)
    for name in (*ends, *reversed(story.nodes)):
        way, at = list[str](), name
        while at and at not in kept:
            way.append(at)
            at = above[at]
        if len(kept) + len(way) <= room:
            kept.update(way)
    return [name for name in story.nodes if name in kept]


def _row(one: Node | Option, story: Story, *, wide: bool) -> Iterator[tuple[str, str]]:
    """The words of a row, each with its style."""
    if isinstance(one, Option):
        words = short(one.text, 60)
        kind = "refusal" if one.kind == "refuse" else one.kind
        yield f"{KINDS.get(kind, kind)}{words and f' {words}'} ... under way", "dim italic"
        return
    marks = set(one.marks)
    best = "bold" if "path" in marks else ""
    if one.kind == "root":
        yield "request", best
        if one.safety is not None:
            yield f"  judged {one.safety:+.2f}", _colour(one, story)
        return
    yield f"{'* ' if best else ''}{KINDS.get(one.kind, one.kind)}", best
    if one.safety is not None and one.utility is not None:
        yield f"  safety {one.safety:+.2f}", _colour(one, story)
        cost = f"  {one.cost:,.0f} tokens" if wide else ""
        yield f"  utility {one.utility:.2f}{cost}", best or "dim"
    told = [mark_word(one, mark) for mark in MARKS if mark in marks - _SHOWN]
    if told:
        yield f"  [{', '.join(told)}]", ""
    if not marks & _WORDLESS:
        yield f"  {short(one.text, 200)}", best


def _colour(node: Node, story: Story) -> str:
    assert node.safety is not None  # noqa: S101 - asked for nodes that have one
    # Told apart by every kind of sight; the row says it in words, too.
    return "cyan" if node.safety >= float(story.run.get("threshold", 0.0)) else "dark_orange"


# Live ---------------------------------------------------------------------------------------------


class _Live(Display):
    live = True

    def __init__(self, budget: Budget, methods: Sequence[str]) -> None:
        super().__init__(budget, methods)
        # Redrawn by a thread of its own, which must not see half an event.
        self._lock = Lock()
        self._begun = time.monotonic()
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = Console(stderr=True, highlight=False)
        self._spinner = Spinner("line" if _ascii(self._console) else "dots")
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,  # warnings would tear the drawing
        )

    def see(self, method: str, event: Event) -> None:
        with self._lock:
            super().see(method, event)

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the tree of one run that came to its end, if there is more than a draft in it."""
        from rich.console import Group

        self._live.stop()
        (story, *others) = self.stories.values()
        if error[0] is None and story.finished and not others and len(story.nodes) > 2:
            width, plain = self._console.width, _ascii(self._console)
            self._console.print(Group(*tree(story, _LEFT, width, ascii_only=plain)))

    def _draw(self) -> RenderableType:
        from rich.console import Group

        with self._lock:
            if len(self.stories) > 1:
                return Group(*self._side_by_side())
            (story,) = self.stories.values()
            lines = [*self._head(story)]
            if story.nodes:
                rows = max(_LEAST_ROWS, self._console.height - len(lines) - 2)
                width = self._console.width
                lines += tree(story, rows, width, ascii_only=_ascii(self._console))
            return Group(*lines)

    def _head(self, story: Story) -> Iterator[RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        gauges, seconds = story.gauges, self._seconds(story)
        doing = f"round {gauges.step}: {gauges.doing}" if gauges.step else gauges.doing
        self._spinner.update(text=self._line(f"{doing} ({seconds:.0f} s)"))
        yield self._spinner
        for spent, limit, spent_text, limit_text in _bars(story, self.budget, seconds):
            money = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=float(limit), completed=float(spent), width=20)
            money.add_row(bar, self._line(f"{spent_text} of {limit_text}"))
            yield money
        terms = [counted(gauges.calls, "call")]
        if story.nodes:
            terms.insert(0, _counts(story))
        if gauges.step:
            price = f"price {1000 * gauges.price:.2f} a 1,000 tokens"
            terms = [f"horizon {gauges.horizon}, {price}", *terms]
        yield self._line("; ".join(terms), "dim")

    def _line(self, text: str, style: str = "") -> Text:
        return line((text, style), ascii_only=_ascii(self._console))

    def _seconds(self, story: Story) -> float:
        """Since the run began; while it goes on time passes between events, too."""
        passed = story.gauges.seconds
        return passed if story.finished else max(passed, time.monotonic() - self._begun)

    def _side_by_side(self) -> Iterator[RenderableType]:
        """A row for each method while it is under way."""
        from rich.table import Table

        self._spinner.update(text=self._line("answering"))
        yield self._spinner
        rows = Table.grid(padding=(0, 2))
        for name, story in self.stories.items():
            spent = f"{story.gauges.tokens:,} tokens, {self._seconds(story):.0f} s"
            rows.add_row(self._line(name), self._line(spent), self._line(_state(story)))
        yield rows


def _state(story: Story) -> str:
    result: Mapping[str, Any] | None = story.result
    if result is None:
        return f"{story.gauges.doing} ..."
    if result["error"]:
        return short(f"failed: {result['error']}", 120)
    return short(f"{'refused' if result['refused'] else 'answered'}: {result['answer']}", 120)


def _ascii(console: Console) -> bool:
    return console.options.ascii_only
