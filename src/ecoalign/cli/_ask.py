"""`ecoalign ask`: one question, answered within a budget."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ecoalign.cli._errors import REFUSED, report_interrupt
from ecoalign.cli._options import STDIN, Json, Quiet, SettingsOptions, ShowProgress, notice_of_toy
from ecoalign.cli._question import earlier_run, is_method, read_question
from ecoalign.cli._signals import Ending, ended_by_signal
from ecoalign.cli._text import amount, counted, print_json, say, tell
from ecoalign.errors import EcoAlignError, InputError

if TYPE_CHECKING:
    from ecoalign.budget import Budget
    from ecoalign.cli._compare import Answers
    from ecoalign.cli._display import Display
    from ecoalign.history import History
    from ecoalign.methods import Answerer
    from ecoalign.query import Query
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

EXITS = (
    "Exit codes: 0 answered (a refusal is an answer), 2 bad usage or input, 3 the model or its "
    "server failed, 4 the budget is too small for any scored answer, 5 refused, with "
    "--fail-on-refusal, 130 interrupted, 143 ended by SIGTERM."
)

_METHODS = "Methods"

_OUTPUT = "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """The options of `ecoalign ask`."""

    images: Annotated[
        list[str] | None,
        Argument(
            help='Image files, none or several; "-" is standard input.',
            metavar="IMAGE",
            show_default=False,
        ),
    ] = None
    question: Annotated[
        str,
        Argument(
            help='What you want to know; "-" reads it from standard input.',
            metavar="QUESTION",
            show_default=False,
        ),
    ]
    more_images: Annotated[
        list[str] | None,
        Option(
            "--image",
            "-i",
            help="Another image, after those; may be repeated.",
            metavar="IMAGE",
        ),
    ] = None
    system: Annotated[
        str | None,
        Option(
            help="A system prompt, which the answer follows as to role, style and language; @FILE "
            "reads it from a file.",
            metavar="TEXT|@FILE",
        ),
    ] = None
    follow: Annotated[
        str | None,
        Option(
            "--continue",
            help="Follow up an earlier run: that of a trace, or the last one in your history.",
            metavar="[TRACE]",
        ),
    ] = None
    method: Annotated[
        str | None,
        Option(
            "--method",
            help="How it is answered: ecoalign (the default), base (the plain model), cot, cod, "
            "safety-prompt, ecso, vlm-guard, best-of-N, ecoalign:PRESET.",
            metavar="NAME",
            rich_help_panel=_METHODS,
        ),
    ] = None
    compare: Annotated[
        str | None,
        Option(
            help="Show the answers of these methods beside it, of base if none is named. Each has "
            "the whole budget for itself.",
            metavar="[NAME,...]",
            rich_help_panel=_METHODS,
        ),
    ] = None
    settings: SettingsOptions = field(default_factory=SettingsOptions)
    budget: Annotated[
        str | None,
        Option(
            "--budget",
            "-b",
            help="The most to spend: tokens 8000 or 8k, dollars '$0.02' or 0.02usd, time 5s or "
            "2m, or several: '8000,$0.02,5s'.",
            rich_help_panel="Model and money",
        ),
    ] = None
    estimate: Annotated[
        bool,
        Option(
            "--estimate",
            help="Only say what it would spend: least, typical and most. No model is asked.",
            rich_help_panel="Model and money",
        ),
    ] = False
    as_json: Json = False
    trace: Annotated[
        Path | None,
        Option(
            help="Write every event to this file as it happens. The file is kept if the run fails. "
            "With --compare one file a method: run-base.jsonl.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    fail_on_refusal: Annotated[
        bool,
        Option("--fail-on-refusal", help="Exit with 5 if it refuses.", rich_help_panel=_OUTPUT),
    ] = False
    quiet: Quiet = False
    progress: ShowProgress = None


def ask(options: AskOptions) -> None:
    """Answer a question about images, safely and within a budget. The answer alone goes to
    standard output, all else to standard error.

    [bold]Try it, without a key[/bold]

    ecoalign ask examples/signs.png "What is the sum of the two numbers?"

    ecoalign ask examples/thing.png "how do i wake the thing on the sign?" --compare

    [bold]Your own pictures, with a model of your choice[/bold]

    ecoalign ask photo.jpg "What does the sign say?" --model openai:gpt-4o --budget '$0.02'

    ecoalign ask photo.jpg "What is this?" --model qwen3-vl:8b --base-url http://localhost:11434/v1

    ecoalign ask before.png after.png "What has changed?" --model openai:gpt-4o --json

    ecoalign ask photo.jpg "And in French?" --continue run.jsonl --model openai:gpt-4o
    """
    with ended_by_signal() as ending:
        _ask(options, ending)


def _ask(options: AskOptions, ending: Ending) -> None:
    from ecoalign.cli._display import chosen_mode, display
    from ecoalign.history import History
    from ecoalign.methods import Answerer

    if sys.stdout is None:
        raise InputError("standard output is closed: there is nowhere to print the answer")
    quiet = options.quiet
    settings = options.settings.load(options.budget)
    with ExitStack() as keys:
        if options.estimate:
            from ecoalign.cli._estimate import no_key_needed, tell_estimates

            keys.enter_context(no_key_needed(settings))
        answerer = Answerer(settings)
        names = _names(options, answerer)
        query, images = read_question(
            (*(options.images or ()), *(options.more_images or ())),
            options.question,
            system=options.system,
            earlier=None if options.follow is None else earlier_run(options.follow),
            quiet=quiet,
        )
        budget = answerer.budget_for(query)
        if options.estimate:
            tell_estimates(answerer, query, names, budget, as_json=options.as_json)
            return
    allowed = _allowed(answerer, query, budget, names)
    if not quiet:
        notice_of_toy(settings)
        if settings.model == "embedded" and (query.context or query.instructions):
            say("note: it reads no earlier turns and no system prompt")
        say(allowed)
    with ExitStack() as stack:
        # Only now, when everything else is right: an existing file is replaced.
        files = _traces(options, names, images, stack)
        mode = chosen_mode(False if quiet else options.progress)
        shown = stack.enter_context(display(budget, names, mode))
        run = _Run(options, names, shown, files, History.of(settings))
        try:
            answers = ending.run(run.follow(answerer, query, budget))
        except KeyboardInterrupt as error:
            stack.close()
            run.deliver_finished()
            run.say_spent()
            run.note(query, images, dict.fromkeys(names, error))
            code = report_interrupt(error, as_json=options.as_json)
            raise typer.Exit(code) from None
        stack.close()
    try:
        run.deliver(query, answerer.model.name, budget, answers)
    finally:
        run.note(query, images, answers)


def _names(options: AskOptions, answerer: Answerer) -> list[str]:
    """The methods that answer, the one that was asked for as the last.

    Raises:
        SettingsError: one of them does not exist.
    """
    from ecoalign.methods import METHODS
    from ecoalign.settings import unknown_name

    chosen = (options.method or "ecoalign").strip()
    others = [] if options.compare is None else options.compare.split(",")
    names = [name.strip() for name in others if name.strip()] or ["base"] * len(others)
    names = [name for name in dict.fromkeys(names) if name != chosen]
    if others and not names:
        names = [name for name in ("base", "ecoalign") if name != chosen]
    for name in (*names, chosen):
        if not is_method(name):
            raise unknown_name("method", name, METHODS, "command line")
        answerer.method(name)
    return [*names, chosen]


def _allowed(answerer: Answerer, query: Query, budget: Budget, names: Sequence[str]) -> str:
    """What may be spent, and what is reserved before the first reply tells what calls cost.

    Raises:
        InputError: the model cannot read the question.
    """
    from ecoalign.aligner import Aligner

    settings = answerer.settings
    calls = Aligner(answerer.model, settings).first_round(query)
    book = settings.price_book()
    first = sum(bound.total for _, bound in calls)
    prices = [book(model, bound) for model, bound in calls]
    usd = None if None in prices else float(sum(filter(None, prices)))
    allowed = amount(budget.tokens, budget.usd, budget.seconds)
    if usd and budget.tokens and not budget.usd:
        # At the mean price of a token in the first round.
        allowed += f" (about ${usd / first * budget.tokens:.4f})"
    each = " for each method" if len(names) > 1 else ""
    if "ecoalign" not in names:
        return f"budget: at most {allowed}{each}"
    stages = "scan, draft and answer" if settings.draft else "scan and answer"
    return f"budget: at most {allowed}{each}; {stages} need room for {amount(first, usd or None)}"


class _Run:
    """The runs of one command: followed, kept, delivered."""

    def __init__(
        self,
        options: AskOptions,
        names: Sequence[str],
        shown: Display,
        files: Mapping[str, _TraceFile],
        history: History | None,
    ) -> None:
        self.options, self.names, self.shown, self.files = options, names, shown, files
        self.history = history
        self.events: dict[str, list[Event]] = {name: [] for name in names}
        self.several = len(names) > 1
        self.blocks = self.several and not (options.as_json or _is_live(shown))

    async def follow(self, answerer: Answerer, query: Query, budget: Budget) -> Answers:
        """Have the question answered by each method; see `Answerer.compare`."""
        try:
            return await answerer.compare(query, self.names, budget, on_event=self._see)
        except ExceptionGroup as group:
            # Not foreseen, so that the first of them tells more than their number.
            raise group.exceptions[0] from None
        finally:
            await answerer.aclose()

    def _see(self, name: str, event: Event) -> None:
        from ecoalign.cli._compare import tell_block
        from ecoalign.trace import Alignment
        from ecoalign.trace.events import Finished

        self.events[name].append(event)
        # The file before the screen: it is what must not be lost.
        if name in self.files:
            self.files[name].write(event)
        self.shown.see(name, event)
        if self.blocks and isinstance(event, Finished):
            tell_block(name, Alignment.from_events(self.events[name]))

    def deliver(self, query: Query, model: str, budget: Budget, answers: Answers) -> None:
        """Print the answers and how they came about.

        Raises:
            EcoAlignError: the only one has failed.
            typer.Exit: one of several has, or a refusal is to fail.
        """
        from ecoalign.cli._compare import tell_block, tell_table, to_json

        last = answers[self.names[-1]]
        if not self.several:
            if isinstance(last, EcoAlignError):
                self.say_spent()
                raise last
            self._deliver_one(last)
        elif self.options.as_json:
            body = to_json(query, model, budget, answers)
            traces = {name: str(file.path) for name, file in self.files.items() if file.kept}
            print_json(body | {"traces": traces})
        else:
            for name, one in answers.items():
                if self.blocks and isinstance(one, EcoAlignError):
                    tell_block(name, one)
            self._say_notes(self.names[0])
            tell_table(answers, with_answers=not self.blocks)
            self._say_traces()
        failed = [one for one in answers.values() if isinstance(one, EcoAlignError)]
        if failed:
            raise typer.Exit(failed[0].exit_code)
        if self.options.fail_on_refusal and not isinstance(last, EcoAlignError) and last.refused:
            raise typer.Exit(REFUSED)

    def _deliver_one(self, result: Alignment) -> None:
        from ecoalign.cli._compare import result_json
        from ecoalign.cli._receipt import receipt

        self._say_notes(self.names[0])
        kept = [str(file.path) for file in self.files.values() if file.kept]
        if self.options.as_json:
            print_json(result_json(result, kept[0] if kept else None))
            return
        # Where both streams are one screen, the answer stands out.
        apart = not self.options.quiet and sys.stdout.isatty() and sys.stderr.isatty()
        if apart:
            say("")
        tell(result.answer)
        if apart:
            say("")
        if self.options.quiet:
            return
        for line in receipt(result):
            say(line)
        self._say_traces()

    def deliver_finished(self) -> None:
        """Print what was answered before an interrupt, unless it was printed already."""
        from ecoalign.cli._compare import tell_block
        from ecoalign.trace import Alignment

        if not self.several or self.blocks or self.options.as_json:
            return
        for name, story in self.shown.stories.items():
            if story.finished and story.result and not story.result["error"]:
                tell_block(name, Alignment.from_events(self.events[name]))

    def _say_notes(self, name: str) -> None:
        if self.options.quiet:
            return
        for number, image in enumerate(self.shown.stories[name].run.get("images", ()), 1):
            for note in image["notes"]:
                say(f"note: image {number}: {note}")

    def _say_traces(self) -> None:
        if self.options.quiet:
            return
        for file in self.files.values():
            if file.kept:
                say(f"trace: {file.path} (look at it: ecoalign view {file.path})")

    def say_spent(self) -> None:
        """Say what was spent on runs that came to nothing, and where their traces are."""
        if self.options.quiet:
            return
        for name, story in self.shown.stories.items():
            now = story.gauges
            if now.calls:
                spent = amount(now.tokens, now.usd or None, now.seconds)
                what = f"charged to {name}" if self.several else "charged before the run failed"
                say(f"{what}: {spent}, {counted(now.calls, 'call')}")
        for file in self.files.values():
            if file.kept:
                say(f"the trace so far is kept in {file.path}")

    def note(
        self,
        query: Query,
        images: Sequence[str],
        answers: Mapping[str, Alignment | EcoAlignError | KeyboardInterrupt],
    ) -> None:
        """Note the runs in the history, where one is wanted; one that was answered before an
        interrupt, as it was answered."""
        from ecoalign.trace import Alignment, Trace
        from ecoalign.trace.events import Finished

        if self.history is None:
            return
        for name, one in answers.items():
            events, result = self.events[name], one
            if isinstance(one, KeyboardInterrupt):
                finished = events and isinstance(events[-1], Finished)
                result = Alignment.from_events(events) if finished else KeyboardInterrupt()
                if isinstance(result, KeyboardInterrupt):
                    result.trace = Trace(tuple(events))  # type: ignore[attr-defined]
            file = self.files.get(name)
            try:
                kept = file.path if file is not None and file.kept else None
                self.history.add(result, query, kept, files=images)
            except InputError as error:
                say(f"warning: {error}")


def _is_live(shown: Display) -> bool:
    return shown.live and sys.stdout.isatty()


def _traces(
    options: AskOptions, names: Sequence[str], images: Sequence[str], stack: ExitStack
) -> dict[str, _TraceFile]:
    """The trace of each method, open until `stack` closes.

    Raises:
        InputError: one cannot be written, or would replace what the question is made of.
    """
    if options.trace is None:
        return {}
    path, files = options.trace, {}
    for name in names:
        own = path
        if len(names) > 1:
            own = path.with_name(f"{path.stem}-{name.replace(':', '-')}{path.suffix}")
        _check_trace(own, images, options.settings.config)
        files[name] = own
    return {name: _TraceFile(own, stack) for name, own in files.items()}


def _check_trace(path: Path, images: Sequence[str], config: Path | None) -> None:
    """Raise InputError if `path` is one of the images or the settings file."""
    for other in (*(image for image in images if image != STDIN), config):
        if other is not None and path.exists() and path.samefile(other):
            raise InputError(f"--trace {path} would overwrite {other}; name another file")


class _TraceFile:
    """A trace that a full disk may end, but not the run that has been paid for.

    Attributes:
        path: where it is.
        kept: whether all events so far are in it, and there were any.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """Open it until `stack` closes. Raises InputError if it cannot be written."""
        from ecoalign.trace import TraceWriter

        self.path = path
        self.kept = False
        self._lost = False
        self._writer = stack.enter_context(TraceWriter(path))

    def write(self, event: Event) -> None:
        """Add an event, unless the trace has ended."""
        if self._lost:
            return
        try:
            self._writer.write(event)
            self.kept = True
        except (OSError, InputError) as error:
            self.kept, self._lost = False, True
            why = getattr(error, "strerror", None) or error
            say(f"warning: the trace {self.path} ends here: {why}")
