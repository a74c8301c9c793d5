"""`ecoalign ask`: one question, answered within a budget."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ecoalign._text import short
from ecoalign.cli._errors import INTERRUPTED, report
from ecoalign.cli._options import Json, Quiet, SettingsOptions, load_query, notice_of_toy
from ecoalign.cli._text import amount, print_json, say, tell
from ecoalign.errors import EcoAlignError, InputError

if TYPE_CHECKING:
    from ecoalign.aligner import Aligner
    from ecoalign.budget import Budget
    from ecoalign.cli._display import Display
    from ecoalign.query import Query
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

EXITS = (
    "Exit codes: 0 answered (a refusal is an answer), 2 bad usage or input, 3 the model or its "
    "server failed, 4 the budget is too small for any scored answer, 130 interrupted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """The options of `ecoalign ask`."""

    image: Annotated[str, Argument(help='An image file, or "-" for standard input.')]
    question: Annotated[str, Argument(help="What you want to know about the image.")]
    more_images: Annotated[
        list[str] | None,
        Option("--image", "-i", help="Another image; may be repeated.", metavar="IMAGE"),
    ] = None
    settings: SettingsOptions = field(default_factory=SettingsOptions)
    budget: Annotated[
        str | None,
        Option(
            "--budget",
            "-b",
            help="The most to spend: tokens 8000, dollars '$0.02', time 5s, or several: "
            "'8000,$0.02,5s'.",
        ),
    ] = None
    as_json: Json = False
    trace: Annotated[
        Path | None,
        Option(
            help="Write every event to this file as it happens. The file is kept if the run fails."
        ),
    ] = None
    quiet: Quiet = False
    progress: Annotated[
        bool | None,
        Option(
            "--progress/--no-progress",
            help="Show progress; by default only where standard error is a terminal.",
        ),
    ] = None


def ask(options: AskOptions) -> None:
    """Answer a question about an image: the answer on standard output, all else on standard error.

    [bold]Examples[/bold]

    ecoalign ask examples/signs.png "What is the sum of the two numbers?"

    ecoalign ask photo.jpg "What does the sign say?" --model openai:gpt-4o --budget '$0.02'

    ecoalign ask photo.jpg "What is this?" --model qwen3-vl:8b --base-url http://localhost:11434/v1

    ecoalign ask before.png "What has changed?" --image after.png --model openai:gpt-4o --json
    """
    import asyncio

    from ecoalign.aligner import Aligner
    from ecoalign.cli._display import chosen_mode, display
    from ecoalign.trace import Alignment

    settings = options.settings.load(options.budget)
    images = (options.image, *(options.more_images or ()))
    query = load_query(images, options.question)
    aligner = Aligner(settings=settings)
    budget = aligner.budget_for(query)
    if not options.quiet:
        price = _price(aligner, query, budget)
        notice_of_toy(settings)
        say(price)
    with ExitStack() as stack:
        # Only now, when everything else is right: an existing file is replaced.
        file = None
        if options.trace is not None:
            _check_trace(options.trace, images, options.settings.config)
            file = _TraceFile(options.trace, stack)
        shown = stack.enter_context(
            display(budget, chosen_mode(False if options.quiet else options.progress))
        )
        events: list[Event] = []
        try:
            asyncio.run(_follow(aligner, query, events, shown, file))
        except (EcoAlignError, KeyboardInterrupt) as error:
            stack.close()
            if not options.quiet:
                _say_spent(shown, file)
            if isinstance(error, EcoAlignError):
                raise
            report("Interrupted", "interrupted", INTERRUPTED, as_json=options.as_json)
            raise typer.Exit(INTERRUPTED) from None
    _deliver(options, Alignment.from_events(events), shown, file)


def _price(aligner: Aligner, query: Query, budget: Budget) -> str:
    """What may be spent, and what is reserved before the first reply tells what calls cost."""
    calls, book = aligner.first_round(query), aligner.settings.price_book()
    first = sum(bound.total for _, bound in calls)
    prices = [book(model, bound) for model, bound in calls]
    usd = None if None in prices else float(sum(filter(None, prices)))
    allowed = amount(budget.tokens, budget.usd, budget.seconds)
    if usd and budget.tokens and not budget.usd:
        # At the mean price of a token in the first round.
        allowed += f" (about ${usd / first * budget.tokens:.4f})"
    stages = "scan, draft and answer" if aligner.settings.draft else "scan and answer"
    return f"budget: {allowed}; {stages} need at most {amount(first, usd or None)}"


async def _follow(
    aligner: Aligner, query: Query, events: list[Event], shown: Display, file: _TraceFile | None
) -> None:
    try:
        async for event in aligner.stream(query):
            events.append(event)
            # The file before the screen: it is what must not be lost.
            if file is not None:
                file.write(event)
            shown.see(event)
    finally:
        await aligner.aclose()


def _deliver(
    options: AskOptions, result: Alignment, shown: Display, file: _TraceFile | None
) -> None:
    kept = file is not None and not file.lost
    if not options.quiet:
        for note in shown.progress.notes:
            say(f"note: {note}")
    if options.as_json:
        print_json(result.to_json() | {"trace": str(options.trace) if kept else None})
        return
    tell(result.answer)
    if options.quiet:
        return
    for line in _receipt(result):
        say(line)
    if kept:
        say(f"trace: {options.trace}")


def _say_spent(shown: Display, file: _TraceFile | None) -> None:
    """Say what was spent on a run that failed, and where its trace is."""
    now = shown.progress
    if now.calls:
        say(f"spent before the run failed: {now.spent}, {now.calls} calls")
    if file is not None and not file.lost:
        say(f"the trace so far is kept in {file.path}")


def _check_trace(path: Path, images: tuple[str, ...], config: Path | None) -> None:
    """Raise InputError if `path` is one of the images or the settings file."""
    for other in (*(image for image in images if image != "-"), config):
        if other is not None and path.exists() and path.samefile(other):
            raise InputError(f"--trace {path} would overwrite {other}; name another file")


class _TraceFile:
    """A trace that a full disk may end, but not the run that has been paid for.

    Attributes:
        path: where it is.
        lost: whether events could not be written.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """Open it until `stack` closes. Raises InputError if it cannot be written."""
        from ecoalign.trace import TraceWriter

        self.path = path
        self.lost = False
        self._writer = stack.enter_context(TraceWriter(path))

    def write(self, event: Event) -> None:
        """Add an event, unless the trace has ended."""
        if self.lost:
            return
        try:
            self._writer.write(event)
        except OSError as error:
            self.lost = True
            say(f"warning: the trace {self.path} ends here: {error.strerror}")


_WHY = {
    "satisfied": "what is left to gain was not worth going on",
    "no-positive-action": "no safe action was worth its price any more",
    "budget": "the budget allowed no further action",
    "limits": "the limit on thoughts, depth or unsafe answers was reached",
    "unsafe-request": "the request itself was judged unsafe",
    "fail-closed": "nothing that was written could be shown to be safe",
}


_ENDED = {
    "drafted": "answered by the draft",
    "searched": "answered by a search",
    "budget": "answered as far as the budget went",
}


def _receipt(result: Alignment) -> list[str]:
    """What a run has cost and why it ended, in a few lines."""
    spent, budget = result.spent, result.budget
    kind = "refused" if result.refused else _ENDED.get(result.ended, "answered")
    usd = spent.usd or None  # free is not worth a word
    used = amount(spent.tokens.total, usd, spent.seconds)
    allowed = amount(budget.tokens, budget.usd, budget.seconds)
    stages = ", ".join(f"{stage} {entry.tokens:,}" for stage, entry in spent.by_stage.items())
    path = " > ".join(thought.kind.value for thought in result.path)
    lines = [
        f"{kind}: safety {result.safety:.3f}, utility {result.utility:.3f}, path {path}",
        f"spent: {used}; budget: {allowed}; {spent.calls} calls (tokens: {stages})",
        f"stopped: {result.stop_reason}, {_WHY[result.stop_reason]}",
    ]
    if spent.usd is None:
        lines.append("price: unknown for this model; give it in ecoalign.toml, [prices]")
    if result.hint:
        lines.append(f"hint: {short(result.hint, 400)}")
    return lines
