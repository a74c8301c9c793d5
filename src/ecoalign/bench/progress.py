"""How far a run is, and the bar that shows it on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecoalign._text import pace

if TYPE_CHECKING:
    from rich.progress import Progress

    from ecoalign.bench._rows import Row


class BenchProgress:
    """What a run has done so far, and how long the rest will take.

    Args:
        total: rows of the whole run.
        before: rows that were there when it began; they cost no time now.
        clock: seconds, never running backwards.

    Attributes:
        fresh: the rows of this run, as they came.
        failed, unusable, cached: of them: failures; verdicts that could not be read; rows with
            calls from the cache.
        tokens: spent in this run.
        usd: dollars in this run; None once the price of any call is unknown.
        stopped: whether it was interrupted.
    """

    def __init__(
        self, total: int, before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.before = before
        self.fresh: list[Row] = []
        self.failed = self.unusable = self.cached = self.tokens = 0
        self.usd: float | None = 0.0
        self.stopped = False
        self._clock = clock
        self._start = clock()

    def add(self, row: Row) -> None:
        """Count one new row."""
        self.fresh.append(row)
        self.failed += row.failure is not None
        self.unusable += row.unusable
        self.cached += row.cached > 0
        self.tokens += row.spent.tokens.total
        usd = row.spent.usd
        self.usd = None if self.usd is None or usd is None else self.usd + usd

    @property
    def done(self) -> int:
        """Rows that are there, those of before included."""
        return self.before + len(self.fresh)

    @property
    def rate(self) -> float | None:
        """Rows per second in this run; None while there is none."""
        passed = self._clock() - self._start
        return len(self.fresh) / passed if self.fresh and passed > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds to go at the rate so far; None while that is unknown."""
        rate = self.rate
        return None if rate is None else (self.total - self.done) / rate

    def __str__(self) -> str:
        """All of it in one line, for people."""
        parts = [f"{self.done} of {self.total}", f"{self.tokens:,} tokens"]
        if self.usd is None:
            parts.append("price unknown")
        elif self.usd:
            parts.append(f"${self.usd:.4f}")
        for name in ("failed", "unusable", "cached"):
            if number := getattr(self, name):
                parts.append(f"{number} {name}")
        return ", ".join([*parts, *pace(self.rate, self.remaining)])


class Bar:
    """Shows the progress of a run on standard error while it lasts. A context manager.

    Args:
        progress: what to show.
        wanted: whether to show it; by default only where standard error is a terminal.
    """

    def __init__(self, progress: BenchProgress, wanted: bool | None = None) -> None:
        self.progress = progress
        self._shown = sys.stderr.isatty() if wanted is None else wanted
        self._bar: Progress | None = None

    def update(self) -> None:
        """Show how far it is now."""
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, completed=self.progress.done, words=str(self.progress))

    def __enter__(self) -> Bar:
        if not self._shown:
            return self
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.add_task("", total=self.progress.total, words="")
        self.update()
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
