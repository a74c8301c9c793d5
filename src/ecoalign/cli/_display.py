"""The live display of a run, on standard error, drawn from its story."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ecoalign._text import short
from ecoalign.cli._text import amount, counted, say
from ecoalign.trace import Node, Option, Story
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

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from ecoalign.budget import Budget

Mode = Literal["live", "lines", "none"]

_DUMB = {"dumb", "unknown"}

_CUT = {"unsafe", "pruned", "merged"}
"""The marks of thoughts from which nothing grows any more."""

_WIDE = 90
"""Columns from which on there is room for what a thought has cost."""

_LEAST_ROWS = 3
"""Rows of the tree on a terminal however low."""


def chosen_mode(wanted: bool | None) -> Mode:
    """The mode for standard error; `wanted` is the option `--progress`, None if it is not given."""
    if wanted is False:
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
    return "; ".join(f"{spent} of {limit}" for _, _, spent, limit in _bars(story, budget))


def _bars(story: Story, budget: Budget) -> Iterator[tuple[float, float, str, str]]:
    """Spent and allowed of each unit of the budget, as numbers and in words."""
    gauges = story.gauges
    if budget.tokens is not None:
        yield gauges.tokens, budget.tokens, f"{gauges.tokens:,}", amount(tokens=budget.tokens)
    if budget.usd is not None:
        yield gauges.usd or 0.0, budget.usd, amount(usd=gauges.usd or 0.0), amount(usd=budget.usd)
    if budget.seconds is not None:
        yield (
            gauges.seconds,
            budget.seconds,
            f"{gauges.seconds:.1f}",
            amount(seconds=budget.seconds),
        )


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
    from rich.text import Text

    kept = _kept(story, most)
    under: dict[str, list[Node]] = {}
    for name in kept:
        node = story.nodes[name]
        under.setdefault(_parent(node, story), []).append(node)
    guides = ("`- ", "|- ", "   ", "|  ") if ascii_only else ("└ ", "├ ", "  ", "│ ")
    rows: list[Text] = []
    thoughts: list[bool] = []  # whether each row is one, and no step under way

    def draw(nodes: Sequence[Node | Option], before: str) -> None:
        for one in nodes:
            last = one is nodes[-1]
            guide = "" if one is top else guides[0 if last else 1]
            row = Text(f"{before}{guide}", style="dim", no_wrap=True, overflow="ellipsis")
            rows.append(row.append_text(_row(one, story, wide=width >= _WIDE)))
            thoughts.append(isinstance(one, Node))
            if isinstance(one, Node):
                further = "" if one is top else before + guides[2 if last else 3]
                below: list[Node | Option] = [*under.get(one.id, ())]
                below += [option for option in one.options if option.state == "chosen"]
                draw(below, further)

    top = story.nodes.get("t0")
    if top is not None:
        draw([top], "")
    if len(kept) < len(story.nodes) or len(rows) > most:
        hidden = len(story.nodes) - sum(thoughts[: most - 1])
        more = f"({counted(hidden, 'more thought')})" if hidden else "(and steps under way)"
        rows[most - 1 :] = [Text(more, style="dim", no_wrap=True, overflow="ellipsis")]
    return rows


def _parent(node: Node, story: Story) -> str:
    return next(
        (name for name in node.parents if name in story.nodes), "" if node.id == "t0" else "t0"
    )


def _kept(story: Story, most: int) -> list[str]:
    """The thoughts that are drawn: the strongest path, then the newest with what they grew from."""
    kept = {name for name in story.path if name in story.nodes} | {"t0"} & story.nodes.keys()
    room = most - 1  # the last row says what is hidden
    if len(story.nodes) <= most:
        return list(story.nodes)
    for node in reversed(story.nodes.values()):
        way, name = [], node.id
        while name and name not in kept and name not in way:
            way.append(name)
            name = _parent(story.nodes[name], story)
        if len(kept) + len(way) <= room:
            kept.update(way)
    return [name for name in story.nodes if name in kept]


def _row(one: Node | Option, story: Story, *, wide: bool) -> Text:
    from rich.text import Text

    if isinstance(one, Option):
        words = short(one.text, 60)
        return Text(f"{one.kind}{words and f' {words}'} ... under way", style="dim italic")
    marks, row = set(one.marks), Text()
    best = "path" in marks
    if one.kind == "root":
        row.append("request", "bold" if best else "")
        if one.safety is not None:
            row.append(f"  judged {one.safety:+.2f}", _colour(one, story))
        return row
    row.append(f"{'* ' if best else ''}{one.kind}", "bold" if best else "")
    if one.safety is not None and one.utility is not None:
        row.append(f"  safety {one.safety:+.2f}", _colour(one, story))
        numbers = f"  utility {one.utility:.2f}" + f"  {one.cost:,.0f} tokens" * wide
        row.append(numbers, "" if best else "dim")
    told: list[str] = [word for word in ("draft", "fused", "confirmed") if word in marks]
    if "merged" in marks:
        told.append(f"merged into {one.into}")
    elif "unsafe" in marks:
        told.append("unsafe, cut")
    elif "pruned" in marks:
        told.append("cut")
    if told:
        row.append(f"  [{', '.join(told)}]")
    if not marks & _CUT:
        # Text and not markup: what a model writes must not be read as a style.
        row.append(f"  {short(one.text, 200)}", "bold" if best else "")
    return row


def _colour(node: Node, story: Story) -> str:
    assert node.safety is not None  # noqa: S101 - asked for nodes that have one
    return "green" if node.safety >= float(story.run.get("threshold", 0.0)) else "red"


# Live ---------------------------------------------------------------------------------------------


class _Live(Display):
    live = True

    def __init__(self, budget: Budget, methods: Sequence[str]) -> None:
        super().__init__(budget, methods)
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
            redirect_stderr=False,
        )

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        from rich.console import Group

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
        from rich.text import Text

        gauges = story.gauges
        doing = f"round {gauges.step}: {gauges.doing}" if gauges.step else gauges.doing
        self._spinner.update(text=Text(doing, no_wrap=True, overflow="ellipsis"))
        yield self._spinner
        for spent, limit, spent_text, limit_text in _bars(story, self.budget):
            money = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=float(limit), completed=float(spent), width=20)
            money.add_row(bar, Text(f"{spent_text} of {limit_text}", no_wrap=True))
            yield money
        terms = f"{_counts(story)}; {gauges.calls} calls"
        if gauges.step:
            terms += (
                f"; horizon {gauges.horizon}; 1,000 tokens must bring {1000 * gauges.price:.2f}"
            )
        yield Text(terms, style="dim", no_wrap=True, overflow="ellipsis")

    def _side_by_side(self) -> Iterator[RenderableType]:
        """A row for each method while it is under way."""
        from rich.table import Table
        from rich.text import Text

        self._spinner.update(text=Text("answering"))
        yield self._spinner
        rows = Table.grid(padding=(0, 2))
        for name, story in self.stories.items():
            spent = f"{story.gauges.tokens:,} tokens"
            rows.add_row(
                Text(name), Text(spent), Text(_state(story), overflow="ellipsis", no_wrap=True)
            )
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
