"""`ecoalign ask`: one question, answered within a budget."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ecoalign.aligner import Aligner
from ecoalign.cli._display import chosen_mode, display
from ecoalign.cli._errors import INTERRUPTED, report
from ecoalign.cli._options import Choices, load_query, load_settings
from ecoalign.cli._receipt import EMBEDDED_NOTICE, receipt
from ecoalign.cli._text import print_json, say, tell
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.trace import Alignment, TraceWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ecoalign.cli._display import Display
    from ecoalign.query import Query
    from ecoalign.trace.events import Event

__all__ = ["Order", "ask"]


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line.

    Attributes:
        images: paths, or "-" for standard input, in order.
        question: the question.
        choices: the settings.
        as_json: print the result as JSON.
        trace: where to write the events to, if anywhere.
        quiet: say nothing on standard error but errors.
        progress: whether to show progress; None where it suits standard error.
    """

    images: Sequence[str]
    question: str
    choices: Choices
    as_json: bool = False
    trace: Path | None = None
    quiet: bool = False
    progress: bool | None = None


def ask(order: Order) -> None:
    """Answer, or fail; see `ecoalign.cli._errors` for how.

    Raises:
        EcoAlignError: see `Aligner.align`; what was spent by then has been said.
        typer.Exit: the run was interrupted.
    """
    settings = load_settings(order.choices)
    query = load_query(order.images, order.question)
    aligner = Aligner(settings=settings)
    if settings.model == "embedded" and not order.quiet:
        say(EMBEDDED_NOTICE)
    with ExitStack() as stack:
        # Only now, when everything else is right: an existing file is replaced.
        writer = stack.enter_context(_Recording(_checked(order))) if order.trace else None
        mode = chosen_mode(False if order.quiet else order.progress)
        shown = stack.enter_context(display(settings.budget, mode))
        events: list[Event] = []
        try:
            asyncio.run(_follow(aligner, query, events, shown, writer))
        except (EcoAlignError, KeyboardInterrupt) as error:
            stack.close()
            _mourn(order, shown, writer)
            if isinstance(error, EcoAlignError):
                raise
            report("Interrupted", "interrupted", INTERRUPTED, as_json=order.as_json)
            raise typer.Exit(INTERRUPTED) from None
    _deliver(order, Alignment.from_events(events), shown, writer)


async def _follow(
    aligner: Aligner,
    query: Query,
    events: list[Event],
    shown: Display,
    writer: _Recording | None,
) -> None:
    try:
        async for event in aligner.stream(query):
            events.append(event)
            # The file before the screen: it is what must not be lost.
            if writer is not None:
                writer.write(event)
            shown.see(event)
    finally:
        await aligner.aclose()


def _deliver(order: Order, result: Alignment, shown: Display, writer: _Recording | None) -> None:
    if not order.quiet:
        for note in shown.progress.notes:
            say(f"note: {note}")
    if order.as_json:
        kept = None if writer is None or writer.lost else str(order.trace)
        print_json(result.to_json() | {"trace": kept})
        return
    tell(result.answer)
    if order.quiet:
        return
    for line in receipt(result):
        say(line)
    if writer is not None and not writer.lost:
        say(f"trace: {order.trace}")


def _mourn(order: Order, shown: Display, writer: _Recording | None) -> None:
    """Say what was spent on a run that came to nothing, and where its trace is."""
    if order.quiet:
        return
    now = shown.progress
    if now.calls:
        say(f"spent before it ended: {now.spent}, {now.calls} calls")
    if writer is not None and not writer.lost:
        say(f"the trace so far is kept in {order.trace}")


def _checked(order: Order) -> Path:
    """The trace's path.

    Raises:
        InputError: it is one of the images or the settings file, which would be overwritten.
    """
    path = order.trace
    assert path is not None  # noqa: S101 - only asked where there is one
    inputs = [image for image in order.images if image != "-"]
    for other in (*inputs, order.choices.config):
        if other is not None and path.exists() and path.samefile(other):
            raise InputError(f"--trace {path} would overwrite {other}; name another file")
    return path


class _Recording(TraceWriter):
    """A trace that a full disk may end, but not the run that has been paid for.

    Attributes:
        lost: whether events could not be written.
    """

    lost = False

    def write(self, event: Event) -> None:
        if self.lost:
            return
        try:
            super().write(event)
        except OSError as error:
            self.lost = True
            say(f"warning: the trace {self.path} ends here: {error.strerror}")

    def __enter__(self) -> _Recording:
        return self
