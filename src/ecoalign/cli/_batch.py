"""`ecoalign batch`: a file of questions, answered under one budget."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from ecoalign._text import harmless
from ecoalign.cli._options import (
    Json,
    Quiet,
    SettingsOptions,
    ShowProgress,
    notice_of_toy,
    split_pair,
)
from ecoalign.cli._text import amount, print_json, say
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress

    from ecoalign.batch import BatchProgress, BatchResult

EXITS = (
    "Exit codes: 0 every row has its answer or its error, 2 bad usage or input, 3 the model or its "
    "server failed, 4 the budget of the batch did not suffice, 130 interrupted, 143 ended by "
    "SIGTERM. Where every row failed, or --max-failures was reached, that of the last failure. The "
    "same command goes on."
)

_ROWS = "Rows"

_MONEY = "Model and money"

_OUTPUT = "Output"

_RUN = "How it runs"

_EVERY = 10.0
"""Seconds between two lines of progress where it is not a terminal that shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCommand:
    """The options of `ecoalign batch`."""

    input: Annotated[
        str,
        Argument(
            help="A .jsonl, .json, .csv, .tsv or .parquet file with a question, and mostly an "
            'image, in each row; a folder of images; or "-" for JSON lines on standard input.'
        ),
    ]
    output: Annotated[Path, Argument(help="A .jsonl, .csv or .parquet file.")]
    question: Annotated[
        str | None,
        Option(
            "--question", help="What to ask where a row has no question.", rich_help_panel=_ROWS
        ),
    ] = None
    system: Annotated[
        str,
        Option("--system", help="The system prompt where a row has none.", rich_help_panel=_ROWS),
    ] = ""
    method: Annotated[
        str,
        Option(
            help="Who answers where a row names no method. See: ecoalign bench list",
            rich_help_panel=_MONEY,
        ),
    ] = "ecoalign"
    column: Annotated[
        list[str] | None,
        Option(
            help="Which column is the question, image, budget, method, system or context, where "
            "it has another name; may be repeated.",
            metavar="ROLE=NAME",
            rich_help_panel=_ROWS,
        ),
    ] = None
    images: Annotated[
        Path | None,
        Option(
            help="Where the paths of images begin, and what they may not lead out of; by default "
            "the folder of the input.",
            metavar="DIR",
            rich_help_panel=_ROWS,
        ),
    ] = None
    encoding: Annotated[
        str,
        Option(help="Of an input of text that is not UTF-8: cp1252.", rich_help_panel=_ROWS),
    ] = "utf-8"
    settings: SettingsOptions = field(default_factory=SettingsOptions)
    budget: Annotated[
        str | None,
        Option(
            "--budget",
            "-b",
            help="The most to spend on one answer: tokens 8000, dollars '$0.02', time 5s.",
            rich_help_panel=_MONEY,
        ),
    ] = None
    total_budget: Annotated[
        str | None,
        Option(
            "--total-budget",
            "-B",
            help="The most to spend on all answers together, earlier runs of the same batch "
            "included: 2000k, '$5', 1h, or several.",
            rich_help_panel=_MONEY,
        ),
    ] = None
    concurrency: Annotated[
        int, Option(help="How many rows to ask at once.", min=1, rich_help_panel=_RUN)
    ] = 4
    traces: Annotated[
        Path | None,
        Option(
            help="Write a trace of each row to this folder.", metavar="DIR", rich_help_panel=_OUTPUT
        ),
    ] = None
    preferences: Annotated[
        Path | None,
        Option(
            help="Also write preference data: JSON lines with the answer as chosen and other "
            "branches of the same search as rejected.",
            metavar="FILE",
            rich_help_panel=_OUTPUT,
        ),
    ] = None
    max_failures: Annotated[
        int | None, Option(help="Stop after so many rows have failed.", min=1, rich_help_panel=_RUN)
    ] = None
    retry_failed: Annotated[
        bool,
        Option(
            "--retry-failed",
            help="Ask again all that failed in an earlier run, not only what the model failed.",
            rich_help_panel=_RUN,
        ),
    ] = False
    fresh: Annotated[
        bool,
        Option(
            "--fresh",
            help="Begin anew; the journal of an earlier run is kept as NAME.old.",
            rich_help_panel=_RUN,
        ),
    ] = False
    engine: Annotated[
        str,
        Option(
            help='Where rows are asked: local, or ray for Ray Data (extra "ray").',
            rich_help_panel=_RUN,
        ),
    ] = "local"
    workers: Annotated[int, Option(help="Processes of Ray.", min=1, rich_help_panel=_RUN)] = 2
    gpus: Annotated[
        float,
        Option(
            help="GPUs of each process of Ray, for models that run in it.",
            min=0,
            rich_help_panel=_RUN,
        ),
    ] = 0.0
    as_json: Json = False
    quiet: Quiet = False
    progress: ShowProgress = None


def batch(options: BatchCommand) -> None:
    """Answer every row of a file under one budget, and write the answers in the same order.

    Each row keeps its columns and gets its answer, scores, spending and how it ended. What is done
    is kept in OUTPUT.journal, so that the same command goes on where it was, also after kill -9.

    [bold]Examples[/bold]

    ecoalign batch questions.csv answers.csv --model openai:gpt-4o --total-budget '$5'

    ecoalign batch photos/ captions.jsonl --question "What does the sign say?" --model vllm:NAME

    ecoalign batch in.parquet out.parquet --column question=prompt --traces traces/ --concurrency 16
    """
    from ecoalign.batch import Batch

    columns = dict(
        split_pair(pair, "--column takes ROLE=NAME, as in --column question=prompt")
        for pair in options.column or ()
    )
    settings = options.settings.load(options.budget)
    engine: Literal["local", "ray"] = "ray" if options.engine == "ray" else "local"
    if options.engine not in {"local", "ray"}:
        raise InputError(f"--engine is local or ray, not {options.engine!r}")
    job = Batch(
        options.input,
        options.output,
        settings,
        question=options.question,
        system=options.system,
        method=options.method,
        columns=columns,
        images=options.images,
        encoding=options.encoding,
        total_budget=options.total_budget,
        concurrency=options.concurrency,
        traces=options.traces,
        preferences=options.preferences,
        max_failures=options.max_failures,
        retry_failed=options.retry_failed,
        fresh=options.fresh,
        engine=engine,
        workers=options.workers,
        gpus=options.gpus,
    )
    if not options.quiet:
        notice_of_toy(settings)
    with _Bar(wanted=False if options.quiet else options.progress) as bar:
        result = job.run(bar.see, None if options.quiet else bar.say)
    if options.as_json:
        print_json(result.to_json())
    _receipt(result, quiet=options.quiet)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


_WHY = {
    "budget": "the budget of the batch did not suffice for {unasked} of {rows} rows: {short}; with "
    "a larger --total-budget the same command asks them",
    "model": "the model failed for every row that was asked last, so the batch was stopped; those "
    "rows are asked again by the same command. The last failure: {error}",
    "failures": "so many rows failed that the batch was stopped; the same command goes on. The "
    "last failure: {error}",
    "interrupted": "interrupted; {done} of {rows} rows are in {journal}, the same command goes on",
    "terminated": "ended by SIGTERM; {done} of {rows} rows are in {journal}, the same command goes "
    "on",
}


def _receipt(result: BatchResult, *, quiet: bool) -> None:
    """What a run has done and cost, and how to go on; only the latter if `quiet`."""
    counts = result.statuses
    done = sum(counts.get(name, 0) for name in ("answered", "refused", "error"))
    if result.stopped:
        why = _WHY[result.stopped].format(
            unasked=f"{result.rows - done:,}",
            rows=f"{result.rows:,}",
            done=f"{done:,}",
            journal=result.journal,
            short=result.short,
            error=result.error,
        )
        say(f"error: {why}" if result.stopped in {"model", "failures"} else why)
    elif result.exit_code:
        say(f"error: not one row was answered; the last failure: {result.error}")
    if quiet:
        return
    words = {
        "answered": counts.get("answered", 0),
        "refused": counts.get("refused", 0),
        "failed": counts.get("error", 0),
        "not asked": result.rows - done,
    }
    told = ", ".join(f"{number:,} {word}" for word, number in words.items() if number)
    usd = result.usd or None
    spent = amount(result.charged.tokens, usd, result.seconds)
    limit = amount(result.limit.tokens, result.limit.usd)
    say(f"{result.rows:,} rows: {told}; {result.fresh:,} of them asked now")
    say(f"spent: {spent}{f'; budget of the batch: {limit}' if limit else ''}")
    if result.usd is None:
        say("price: unknown for this model; give it in ecoalign.toml, [prices]")
    if result.preferences:
        say(f"preference data: {result.preferences:,} pairs")
    if result.output is not None:
        say(f"output: {result.output}")


class _Bar:
    """Shows the progress of a batch on standard error while it lasts. A context manager.

    Args:
        wanted: whether to show it; by default only where standard error is a terminal. Where it is
            none, a line now and then.
    """

    def __init__(self, *, wanted: bool | None) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = self._terminal if wanted is None else wanted
        self._bar: Progress | None = None
        self._last = time.monotonic()

    def see(self, progress: BatchProgress) -> None:
        """Show how far it is now."""
        if not self._shown:
            return
        if self._terminal:
            if self._bar is None:
                self._bar = _rich_bar(progress.total)
            (task,) = self._bar.task_ids
            self._bar.update(task, completed=progress.done, words=str(progress))
        elif time.monotonic() - self._last >= _EVERY or progress.done == progress.total:
            self._last = time.monotonic()
            say(str(progress))

    def say(self, text: str) -> None:
        """Say something beside the progress."""
        if self._bar is None:
            say(text)
        else:
            self._bar.console.print(harmless(text), markup=False, highlight=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rich_bar(total: int) -> Progress:
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
    bar.add_task("", total=total, words="")
    bar.start()
    return bar
