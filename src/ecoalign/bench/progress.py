"""The progress bar of a run, on standard error: samples, money, rate, time to go."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ecoalign.bench._rows import Row

__all__ = ["Bar", "Counts"]


class Counts:
    """What a run has done so far, and how long the rest will take.

    Args:
        total: rows of the whole run.
        before: rows that were there when it began; they cost no time now.
        clock: seconds, never running backwards.

    Attributes:
        done: rows so far, those of before included.
        fresh, failed, unusable, cached: of this run: rows; failures; verdicts that could not be
            read; rows with calls from the cache.
        tokens: spent in this run.
        usd: dollars in this run; None once the price of any call is unknown.
    """

    def __init__(
        self, total: int, before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = before
        self.fresh = self.failed = self.unusable = self.cached = self.tokens = 0
        self.usd: float | None = 0.0
        self._clock = clock
        self._start = clock()

    def add(self, row: Row) -> None:
        """Count one new row."""
        from ecoalign.bench._rows import UNUSABLE

        self.done += 1
        self.fresh += 1
        self.failed += row.failure is not None
        self.unusable += row.score is not None and row.score.label == UNUSABLE
        self.cached += row.cached > 0
        self.tokens += row.spent.tokens.total
        usd = row.spent.usd
        self.usd = None if self.usd is None or usd is None else self.usd + usd

    @property
    def rate(self) -> float | None:
        """Rows per second in this run; None while there is none."""
        passed = self._clock() - self._start
        return self.fresh / passed if self.fresh and passed > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds to go at the rate so far; None while that is unknown."""
        rate = self.rate
        return None if rate is None else (self.total - self.done) / rate

    def words(self) -> str:
        """Everything but the bar, in one line."""
        parts = [f"{self.done} of {self.total}", f"{self.tokens:,} tokens"]
        if self.usd is None:
            parts.append("price unknown")
        elif self.usd:
            parts.append(f"${self.usd:.4f}")
        for name in ("failed", "unusable", "cached"):
            if number := getattr(self, name):
                parts.append(f"{number} {name}")
        if (rate := self.rate) is not None:
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")
        if (left := self.remaining) is not None:
            parts.append(f"{_time(left)} to go")
        return ", ".join(parts)


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Bar:
    """Shows counts while a run lasts. A context manager; silent where nobody looks.

    Args:
        counts: what to show; give its rows to `add`.
        wanted: whether to show it; by default only where standard error is a terminal.
    """

    def __init__(self, counts: Counts, wanted: bool | None = None) -> None:
        self.counts = counts
        self._shown = sys.stderr.isatty() if wanted is None else wanted
        self._stop: Callable[[], None] | None = None
        self._move: Callable[[], None] | None = None

    def add(self, row: Row) -> None:
        """Count and show one new row."""
        self.counts.add(row)
        if self._move is not None:
            self._move()

    def __enter__(self) -> Bar:
        if not self._shown:
            return self
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        counts = self.counts
        task = bar.add_task("", total=counts.total, completed=counts.done, words=counts.words())

        def move() -> None:
            bar.update(task, completed=counts.done, words=counts.words())

        bar.start()
        self._move, self._stop = move, bar.stop
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = self._move = None
