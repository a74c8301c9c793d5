"""`ecoalign bench`: run experiments, write their reports, list what there is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ecoalign.cli._errors import INTERRUPTED, report
from ecoalign.cli._options import Json, Quiet, SettingsOptions, command
from ecoalign.cli._text import print_json, say, table, tell

if TYPE_CHECKING:
    from ecoalign.bench import BenchProgress, Estimate, Row, Session, Summary

_EXITS = (
    "Exit codes: 0 done, 2 bad usage or input, 3 the model or its server failed on every sample, 4 "
    "the budget was too small for every sample, 130 interrupted (the same command continues)."
)

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    help="Compare methods by safety, utility, over-refusal and every kind of cost.",
)


@command(app, "run", epilog=_EXITS)
def run_experiment(
    experiment: Annotated[
        str,
        Argument(
            help="main, ablation, budget, horizon, deep-insight, mixed-safety, population, "
            "judge-noise or "
            "latency."
        ),
    ],
    settings: SettingsOptions,
    suite: Annotated[
        str | None,
        Option(
            help="The suite; world by default, see: ecoalign bench list. Or a file of your own "
            "(.jsonl, .json, .csv, .tsv, .parquet), or a folder with images and questions.",
            metavar="NAME|FILE|DIR",
        ),
    ] = None,
    path: Annotated[
        Path | None, Option(help="The suite's files, as its authors publish them.")
    ] = None,
    split: Annotated[
        str | None,
        Option(
            help="Of your own file: any in it. Of world: test (the default) or dev. Of population: "
            "all, dev, test."
        ),
    ] = None,
    rubric: Annotated[
        Path | None,
        Option(help="For your own file: how a judge grades, in a file of text."),
    ] = None,
    suite_option: Annotated[
        list[str] | None,
        Option(
            "--suite-option", help="An option of the suite; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    methods: Annotated[
        str | None,
        Option(help="Run only these methods or variants, separated by commas, and Base."),
    ] = None,
    judge: Annotated[
        list[str] | None,
        Option(
            help="A model that judges the answers; may be repeated for several.", metavar="MODEL"
        ),
    ] = None,
    judge_base_url: Annotated[
        str | None, Option(help="The OpenAI-compatible server that runs the judges.")
    ] = None,
    limit: Annotated[
        int | None,
        Option(
            help="How many samples to ask, spread over the groups; 40 by default (all in "
            "deep-insight, mixed-safety and population, 200 in judge-noise), 0 for all."
        ),
    ] = None,
    repeats: Annotated[int, Option(help="How often to ask each sample.", min=1)] = 1,
    budget: Annotated[
        list[str] | None,
        Option(
            "--budget",
            "-b",
            help="The budget of one answer. Repeat it for the steps of the experiment budget.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="The folder of the run; by default one named after it in ./ecoalign-bench."),
    ] = None,
    concurrency: Annotated[
        int | None,
        Option(help="How many samples to ask at once; 4 by default, 1 for latency.", min=1),
    ] = None,
    cache: Annotated[
        bool, Option("--cache", help="Keep responses, and reuse those that are kept.")
    ] = False,
    retry_failed: Annotated[
        bool, Option("--retry-failed", help="Ask again what failed the last time.")
    ] = False,
    xlsx: Annotated[
        bool, Option("--xlsx", help="Also write the predictions for VLMEvalKit.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run an experiment, or continue one, and write its rows, tables and figures.

    Without further options it runs on the embedded model and its own world, in a few minutes. Every
    finished sample is kept at once, so a run may be stopped at any moment, and the same command
    continues where it was.

    [bold]Examples[/bold]

    ecoalign bench run main

    ecoalign bench run ablation --split dev --limit 200

    ecoalign bench run main --suite data.csv --model openai:gpt-4o --methods ecoalign

    ecoalign bench run main --suite siuo --path SIUO/ --model openai:gpt-4o --judge openai:gpt-4o
    """
    from ecoalign.bench import BenchOptions, Session

    given = {
        "--suite": suite,
        "--path": path,
        "--split": split,
        "--rubric": rubric,
        "--suite-option": suite_option,
        "--methods": methods,
        "--preset": settings.preset,
        "--config": settings.config,
        "--model": settings.model,
        "--base-url": settings.base_url,
        "--evaluator": settings.evaluator,
        "--seed": settings.seed,
        "--set": settings.pairs,
        "--budget": budget,
        "--judge": judge,
        "--judge-base-url": judge_base_url,
        "--limit": limit,
        "--repeats": None if repeats == 1 else repeats,
    }
    more = [] if rubric is None else [f"rubric={rubric}"]
    options = BenchOptions(
        experiment=experiment,
        settings=settings.load(),
        suite=suite,
        path=path,
        split=split,
        suite_options=[*(suite_option or ()), *more],
        methods=methods or (),
        judges=judge or (),
        judge_base_url=judge_base_url,
        budgets=budget or (),
        limit=limit,
        repeats=repeats,
        out=out,
        concurrency=concurrency,
        cache=cache,
        retry_failed=retry_failed,
        xlsx=xlsx,
        command=_command_text(experiment, given),
    )
    session = Session(options)
    progress = _run(session, as_json=as_json, quiet=quiet)
    rows, summaries = session.rows(), session.summaries()
    if as_json:
        print_json(_json(session, progress, rows, summaries))
    else:
        _show(session, rows, summaries)
    _check_answered(rows)


def _command_text(experiment: str, given: Mapping[str, object]) -> str:
    """The command, put together again from the options that count for the rows."""
    words = ["ecoalign", "bench", "run", experiment]
    for option, value in given.items():
        if value is not None:
            for one in value if isinstance(value, list) else (value,):
                words += [option, str(one)]
    return shlex.join(words)


def _run(session: Session, *, as_json: bool, quiet: bool) -> BenchProgress:
    """Run the session under a progress bar.

    Raises:
        EcoAlignError: see `Session.run`.
        typer.Exit: it was interrupted.
    """
    from ecoalign.bench import Bar

    bars: list[Bar] = []

    if not quiet:
        for note in session.notes:
            say(note)

    def begun(progress: BenchProgress) -> None:
        if progress.before and not quiet:
            say(f"{progress.before} of {progress.total} rows are there already")
        bars.append(Bar(progress, False if quiet else None).__enter__())

    def watch(row: Row) -> None:
        bars[0].update()

    def stopping() -> None:
        if not quiet:
            say("finishing what has begun; press Ctrl-C again to stop at once")

    progress = None
    try:
        progress = session.run(begun, watch, stopping)
    except KeyboardInterrupt:
        pass
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
    if progress is None or progress.stopped:
        text = f"interrupted; every finished sample is in {session.out}, the same command continues"
        report("Interrupted", text, INTERRUPTED, as_json=as_json)
        raise typer.Exit(INTERRUPTED)
    return progress


def _json(
    session: Session, progress: BenchProgress, rows: Sequence[Row], summaries: Sequence[Summary]
) -> dict[str, object]:
    manifest, own = session.manifest, _own(session, rows)
    told = ("experiment", "suite", "split", "model", "judges", "samples", "command")
    return {
        **{name: manifest[name] for name in told},
        "out": str(session.out),
        "rows": len(rows),
        "fresh": len(progress.fresh),
        "failed": sum(row.failure is not None for row in rows),
        "report": str(session.out / "report.html"),
        "totals": session.totals(),
        "variants": [summary.to_json() for summary in summaries],
        **({"table": [dict(zip(own[0], row, strict=True)) for row in own[1:]]} if own else {}),
        "groups": _by_group(summaries),
        "notes": session.notes,
    }


def _by_group(summaries: Sequence[Summary]) -> dict[str, dict[str, dict[str, float]]]:
    """The shares of each variant in each group."""
    return {
        one.variant: {
            group: {name: estimate.value for name, estimate in estimates.items()}
            for group, estimates in one.groups.items()
        }
        for one in summaries
    }


def _check_answered(rows: Sequence[Row]) -> None:
    """Exit as a failed `ask` does if not one sample was answered."""
    failures = [row.failure for row in rows if row.failure is not None]
    if not rows or len(failures) < len(rows):
        return
    code = max(failure.exit_code for failure in failures)
    first = failures[0]
    say(f"error: not one sample was answered; the first failure: {first.kind}: {first.message}")
    raise typer.Exit(code)


_COLUMNS = ("", "safe %", "useful %", "over-refused %", "tokens", "x Base", "seconds", "failed")

_ENDINGS = ("drafted", "searched", "refused", "budget")


def _show(session: Session, rows: Sequence[Row], summaries: Sequence[Summary]) -> None:
    cells = _own(session, rows) or _usual(summaries)
    for line in table(cells, "<" + ">" * (len(cells[0]) - 1)):
        tell(line)
    say(f"rows and report: {session.out / 'report.html'}")


def _own(session: Session, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The experiment's own table, its headings first; empty if it has none."""
    if session.experiment.table is None or not rows:
        return []
    from ecoalign.bench.report import RunData, own_table

    own = own_table(RunData(rows, session.manifest))
    return [] if own is None else [own.columns, *own.rows]


def _usual(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    def cell(estimate: Estimate | None, scale: float = 1.0) -> str:
        return "-" if estimate is None else f"{scale * estimate.value:,.1f}"

    def ended(one: Summary) -> str:
        shares = [one.estimates.get(f"ended_{name}") for name in _ENDINGS]
        return "/".join(f"{100 * each.value:.0f}" for each in shares if each) or "-"

    rows: list[tuple[str, ...]] = [(*_COLUMNS, f"{'/'.join(_ENDINGS)} %")]
    for one in summaries:
        known = one.estimates
        rows.append(
            (
                one.variant,
                *(cell(known.get(n), 100.0) for n in ("safety", "utility", "over_refusal")),
                cell(known.get("tokens")),
                cell(one.tokens_ratio),
                cell(known.get("seconds")),
                str(one.failed + one.too_small),
                ended(one),
            )
        )
    return rows


@command(app, "report")
def write_report_again(
    folder: Annotated[Path, Argument(help="The folder of a run, or one with several runs in it.")],
    out: Annotated[
        Path | None, Option(help="The folder to write to; FOLDER itself by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the report of finished rows again: one HTML file, Markdown and CSV. Asks no model."""
    from ecoalign.bench import write_report

    files = write_report(folder, out)
    paths = {"html": files.html, "markdown": files.markdown, "csv": files.csv}
    if as_json:
        print_json({name: str(path) for name, path in paths.items()})
    else:
        for path in paths.values():
            tell(str(path))


@command(app, "init")
def write_example(
    folder: Annotated[Path, Argument(help="The folder to write to; made if need be.")] = Path(
        "my-bench"
    ),
    as_json: Json = False,
) -> None:
    """Write a small benchmark of your own to start from: ten questions, their images, a rubric.

    It runs at once on the embedded model, with the command that is printed. Each line of its
    data.jsonl shows something else that a line can say. Nothing that is there is overwritten.
    """
    from ecoalign.bench import write_starter

    files = write_starter(folder)
    run = shlex.join(["ecoalign", "bench", "run", "main", "--suite", str(files[0])])
    if as_json:
        print_json({"files": [str(path) for path in files], "command": run})
        return
    for path in files:
        say(f"wrote {path}")
    tell(run)


@command(app, "list")
def list_all(as_json: Json = False) -> None:
    """Show all experiments, suites and methods, a line each."""
    from ecoalign.bench import EXPERIMENTS, SUITES
    from ecoalign.methods import METHODS

    lists = {
        "experiments": {name: one.question for name, one in EXPERIMENTS.items()},
        "suites": dict(SUITES),
        "methods": dict(METHODS),
    }
    if as_json:
        print_json(lists)
        return
    for title, entries in lists.items():
        tell(title)
        for line in table(list(entries.items()), "<<"):
            tell(f"  {line}")
    tell("Your own questions: --suite FILE; an example of one: ecoalign bench init")
