"""The live display of a run, on standard error, drawn from its events."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from ecoalign.cli.progress import Progress
from ecoalign.cli.text import amount, say
from ecoalign.events import ActionsChosen, PathChosen, RootScanned

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from ecoalign.budget import Budget
    from ecoalign.events import Event

__all__ = ["Display", "Mode", "chosen_mode", "display"]

Mode = Literal["live", "lines", "none"]


def display(budget: Budget, mode: Mode) -> Display:
    """The display to use: one that moves, one line a step, or none that shows."""
    if mode == "live":
        return _Live(budget)
    return _Lines(budget) if mode == "lines" else Display(budget)


def chosen_mode(wanted: bool | None) -> Mode:
    """What suits standard error; `wanted` is what the options say, if they do."""
    if wanted is False:
        return "none"
    if sys.stderr.isatty():
        return "live"
    return "lines" if wanted else "none"


class Display:
    """Follows a run and shows nothing; the others build on it. A context manager.

    Attributes:
        progress: what is known so far.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.progress = Progress()

    def see(self, event: Event) -> None:
        """Take one event in and show it."""
        self.progress.see(event)

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Stop showing."""


class _Lines(Display):
    @property
    def _allowed(self) -> str:
        return amount(self.budget.tokens, self.budget.usd, self.budget.seconds)

    def see(self, event: Event) -> None:
        super().see(event)
        now = self.progress
        if isinstance(event, RootScanned):
            say(f"scanned; risk leaves {event.share:.0%} of the budget to the search")
        elif isinstance(event, ActionsChosen):
            say(
                f"step {now.step}: {now.doing}; horizon {now.horizon}; {now.counts()}; "
                f"{now.spent} of {self._allowed}"
            )
        elif isinstance(event, PathChosen):
            say(f"path: {now.best_in_words()}")


class _Live(Display):
    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        self._live = Live(
            console=Console(stderr=True),
            get_renderable=self._draw,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now, budget = self.progress, self.budget
        # Text and not markup: what a model writes must not be read as a style.
        self._spinner.update(text=Text(f"step {now.step}: {now.doing}"))
        money = Table.grid(padding=(0, 1))
        bars = (
            (now.tokens, budget.tokens, amount(tokens=now.tokens), amount(tokens=budget.tokens)),
            (now.usd or 0, budget.usd, amount(usd=now.usd), amount(usd=budget.usd)),
            (now.seconds, budget.seconds, amount(seconds=now.seconds), f"{budget.seconds} s"),
        )
        for spent, limit, spent_text, limit_text in bars:
            if limit is not None:
                bar = ProgressBar(total=float(limit), completed=float(spent), width=24)
                money.add_row(bar, Text(f"{spent_text} of {limit_text}"))
        state = f"{now.counts()}; horizon {now.horizon}; {now.calls} calls"
        lines: list[RenderableType] = [self._spinner, money, Text(state)]
        if best := now.best_in_words():
            lines.append(Text(f"strongest path: {best}", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)
