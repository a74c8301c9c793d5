"""What the commands of `ecoalign bench` do."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ecoalign.bench import EXPERIMENTS, SUITES, Bar, BenchOptions, Session, write_report
from ecoalign.cli._errors import INTERRUPTED, report
from ecoalign.cli._options import Choices, load_settings
from ecoalign.cli._text import print_json, say, tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ecoalign.bench import BenchProgress, Estimate, Row, Summary

__all__ = ["Request", "list_bench", "report_bench", "run_bench"]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line; see the options of `ecoalign bench run`."""

    experiment: str
    choices: Choices
    suite: str | None = None
    path: Path | None = None
    split: str | None = None
    options: Sequence[str] = ()
    methods: str | None = None
    judges: Sequence[str] = ()
    judge_base_url: str | None = None
    budgets: Sequence[str] = ()
    limit: int | None = None
    repeats: int = 1
    out: Path | None = None
    concurrency: int | None = None
    cache: bool = False
    retry_failed: bool = False
    xlsx: bool = False
    as_json: bool = False
    quiet: bool = False


def run_bench(request: Request) -> None:
    """Run or go on, show the figures, write the report.

    Raises:
        EcoAlignError: see `Session`.
        typer.Exit: it was interrupted, or not one sample was answered.
    """
    session = Session(_options(request))
    silent = request.quiet
    bars: list[Bar] = []

    def begun(progress: BenchProgress) -> None:
        if progress.before and not silent:
            say(f"{progress.before} of {progress.total} rows are there already")
        bars.append(Bar(progress, False if silent else None).__enter__())

    def watch(row: Row) -> None:
        bars[0].update()

    def stopping() -> None:
        if not silent:
            say("finishing what is under way; press Ctrl-C again to end at once")

    try:
        outcome = session.run(begun, watch, stopping)
    except KeyboardInterrupt:
        _close(bars)
        _interrupted(request, session)
    finally:
        _close(bars)
    if outcome.stopped:
        _interrupted(request, session)
    rows = session.rows()
    summaries = session.summaries()
    if request.as_json:
        print_json(_json(session, outcome, rows, summaries))
    else:
        _show(session, summaries)
    _check_answered(request, rows)


def _close(bars: list[Bar]) -> None:
    for bar in bars:
        bar.__exit__(None, None, None)


def _interrupted(request: Request, session: Session) -> None:
    text = f"interrupted; every finished sample is in {session.out}, the same command goes on"
    report("Interrupted", text, INTERRUPTED, as_json=request.as_json)
    raise typer.Exit(INTERRUPTED)


def _options(request: Request) -> BenchOptions:
    return BenchOptions(
        experiment=request.experiment,
        settings=load_settings(request.choices),
        suite=request.suite,
        path=request.path,
        split=request.split,
        suite_options=request.options,
        methods=request.methods or (),
        judges=request.judges,
        judge_base_url=request.judge_base_url,
        budgets=request.budgets,
        limit=request.limit,
        repeats=request.repeats,
        out=request.out,
        concurrency=request.concurrency,
        cache=request.cache,
        retry_failed=request.retry_failed,
        xlsx=request.xlsx,
        command=_command(request),
    )


def _command(request: Request) -> str:
    """The command, put together again from what counts for the rows."""
    words = ["ecoalign", "bench", "run", request.experiment]
    given: Iterable[tuple[str, object]] = (
        ("--suite", request.suite),
        ("--path", request.path),
        ("--split", request.split),
        *(("--suite-option", pair) for pair in request.options),
        ("--methods", request.methods),
        *((f"--{name}".replace("_", "-"), value) for name, value in _own(request.choices)),
        *(("--set", pair) for pair in request.choices.pairs),
        *(("--budget", text) for text in request.budgets),
        *(("--judge", name) for name in request.judges),
        ("--judge-base-url", request.judge_base_url),
        ("--limit", request.limit),
        ("--repeats", request.repeats if request.repeats != 1 else None),
    )
    for name, value in given:
        if value is not None:
            words += [name, str(value)]
    return shlex.join(words)


def _own(choices: Choices) -> Iterable[tuple[str, object]]:
    yield "preset", choices.preset
    yield "config", choices.config
    yield from ((name, value) for name, value in choices.single.items() if name != "budget")


def _json(
    session: Session, outcome: BenchProgress, rows: Sequence[Row], summaries: Sequence[Summary]
) -> dict[str, object]:
    manifest = session.manifest
    told = ("experiment", "suite", "split", "model", "judges", "samples", "command")
    return {
        **{name: manifest[name] for name in told},
        "out": str(session.out),
        "rows": len(rows),
        "fresh": len(outcome.fresh),
        "failed": sum(row.failure is not None for row in rows),
        "report": str(session.out / "report.html"),
        "totals": session.totals(),
        "variants": [summary.to_json() for summary in summaries],
    }


def _check_answered(request: Request, rows: Sequence[Row]) -> None:
    """Exit as a failed `ask` does if not one sample was answered."""
    failures = [row.failure for row in rows if row.failure is not None]
    if not rows or len(failures) < len(rows):
        return
    code = max(failure.exit_code for failure in failures)
    first = failures[0]
    say(f"error: not one sample was answered; the first failure: {first.kind}: {first.message}")
    raise typer.Exit(code)


_COLUMNS = ("", "safe %", "useful %", "over-refused %", "tokens", "x Base", "seconds", "failed")


def _show(session: Session, summaries: Sequence[Summary]) -> None:
    def cell(estimate: Estimate | None, scale: float = 1.0) -> str:
        return "-" if estimate is None else f"{scale * estimate.value:,.1f}"

    rows: list[tuple[str, ...]] = [_COLUMNS]
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
            )
        )
    for line in _aligned(rows):
        tell(line)
    say(f"rows and report: {session.out / 'report.html'}")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in rows
    ]


def report_bench(folder: Path, out: Path | None, *, as_json: bool) -> None:
    """Write the report of what is in a folder.

    Raises:
        InputError: there is nothing to report, or it cannot be written.
    """
    files = write_report(folder, out)
    paths = {"html": files.html, "markdown": files.markdown, "csv": files.csv}
    if as_json:
        print_json({name: str(path) for name, path in paths.items()})
    else:
        for path in paths.values():
            tell(str(path))


def list_bench(*, as_json: bool) -> None:
    """Show what there is."""
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
        wide = max(map(len, entries))
        for name, text in entries.items():
            tell(f"  {name.ljust(wide)}  {text}")
