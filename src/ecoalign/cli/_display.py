"""The live display of a run, on standard error, drawn from its events."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ecoalign._text import short
from ecoalign.cli._text import amount, say
from ecoalign.graph import ROOT, ActionKind, Thought, ThoughtId, economics
from ecoalign.trace.events import (
    DROPPED,
    ActionFailed,
    ActionsChosen,
    Called,
    Event,
    PathChosen,
    Proposed,
    RootScanned,
    RunStarted,
    StepStarted,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
    Valued,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ecoalign.budget import Budget


@dataclass
class Progress:
    """What is known of a run so far, for the display and for what is said at its end.

    Attributes:
        doing: the current stage, in words.
        tokens, usd, calls: charged so far; usd None if a price is unknown.
        thoughts: thoughts in the graph, the root included.
        pruned, merged, failed: how many thoughts were pruned or merged; how many actions failed.
        step, horizon: of the current step of the loop.
        notes: what was changed in the images when they were loaded.
        seconds: of the newest event, since the run began.
    """

    doing: str = "scanning the image"
    tokens: int = 0
    usd: float | None = 0.0
    calls: int = 0
    thoughts: int = 0
    pruned: int = 0
    merged: int = 0
    failed: int = 0
    step: int = 0
    horizon: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    _nodes: dict[ThoughtId, Thought] = field(default_factory=dict)
    _best: tuple[float, tuple[ThoughtId, ...]] = (0.0, ())
    _kinds: dict[int, ActionKind] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Add one event."""
        self.seconds = event.at
        match event:
            case RunStarted():
                self.notes = tuple(
                    f"image {i}: {note}"
                    for i, image in enumerate(event.images, 1)
                    for note in image.notes
                )
            case Called():
                self.tokens += event.charged.total
                known = self.usd is not None and event.usd is not None
                self.usd = (self.usd or 0.0) + (event.usd or 0.0) if known else None
                self.calls += 1
            case RootScanned():
                self.thoughts += 1
                self._nodes[event.root.id] = event.root
                self.doing = "planning"
            case StepStarted():
                self.step, self.horizon = event.step, event.horizon
                self.doing = "proposing"
            case Proposed():
                for i, candidate in enumerate(event.candidates, event.first):
                    self._kinds[i] = candidate.kind
                self.doing = "simulating"
            case Valued():
                self.doing = "choosing"
            case ActionsChosen():
                kinds = Counter(str(self._kinds[i].value) for i in event.actions)
                self.doing = "executing " + ", ".join(
                    kind if n == 1 else f"{n} x {kind}" for kind, n in kinds.items()
                )
            case ThoughtAdded():
                self.thoughts += 1
                self.pruned += event.pruned
                if not event.pruned:
                    self._grow(event.thought)
            case ThoughtMerged():
                self.merged += 1
                self._grow(event.thought)
            case ThoughtsDropped():
                self.pruned += len(event.thoughts)
            case ActionFailed() if event.cause != DROPPED:
                self.failed += 1
            case PathChosen():
                self._best = (event.safety * event.utility, event.ids)
                self.doing = "writing the answer"

    def _grow(self, thought: Thought) -> None:
        """Keep the strongest path: the greatest safe utility S[P] * U[P] that ends in a thought."""
        self._nodes[thought.id] = thought
        for parent in thought.parents:
            path = (*self._path_to(parent), thought.id)
            steps = [self._nodes[i] for i in path if i != ROOT]
            safety = economics.path_safety(step.safety for step in steps)
            worth = safety * economics.path_utility(step.utility for step in steps)
            if worth > self._best[0]:
                self._best = (worth, path)

    def _path_to(self, end: ThoughtId) -> tuple[ThoughtId, ...]:
        path = [end]
        while parents := self._nodes[path[-1]].parents:
            if parents[0] not in self._nodes or parents[0] in path:
                break
            path.append(parents[0])
        return tuple(reversed(path))

    @property
    def strongest(self) -> tuple[Thought, ...]:
        """The strongest path so far, without the root; the chosen one once there is one."""
        return tuple(self._nodes[i] for i in self._best[1] if i != ROOT and i in self._nodes)

    @property
    def spent(self) -> str:
        """What was spent so far, in words."""
        return amount(self.tokens, self.usd or None, self.seconds)

    def counts(self) -> str:
        """The numbers of thoughts, in words."""
        words = [f"{self.thoughts} thoughts"]
        for name in ("pruned", "merged", "failed"):
            if number := getattr(self, name):
                words.append(f"{number} {name}")
        return ", ".join(words)

    def best_in_words(self, most: int = 72) -> str:
        """The strongest path in one line, or nothing."""
        path = self.strongest
        if not path:
            return ""
        kinds = " > ".join(thought.kind.value for thought in path)
        return short(f"{kinds}: {path[-1].text}", most)


Mode = Literal["live", "lines", "none"]


def display(budget: Budget, mode: Mode) -> Display:
    """The display of a mode: one that is redrawn, one line per step, or nothing."""
    if mode == "live":
        return _Live(budget)
    return _Lines(budget) if mode == "lines" else Display(budget)


def chosen_mode(wanted: bool | None) -> Mode:
    """The mode for standard error; `wanted` is the option `--progress`, None if it is not given."""
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
        """Add one event and show it."""
        self.progress.see(event)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        """Stop showing."""


class _Lines(Display):
    @property
    def _allowed(self) -> str:
        return amount(self.budget.tokens, self.budget.usd, self.budget.seconds)

    def see(self, event: Event) -> None:
        super().see(event)
        now = self.progress
        if isinstance(event, RootScanned):
            share = f"scanned; the search may use {event.share:.0%} of the budget"
            say(share if event.root.cost else "no scan: the draft is good enough")
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

    def __exit__(self, *error: object) -> None:
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
