"""`ecoalign bench`: its commands and options. What they do is in `bench_run` and `bench_list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecoalign.cli._errors import reported
from ecoalign.cli._options import (
    BaseUrl,
    Choices,
    Config,
    Debug,
    Evaluator,
    Json,
    Model,
    Preset,
    Quiet,
    Seed,
    SettingPairs,
)

__all__ = ["bench"]

bench = typer.Typer(
    name="bench",
    no_args_is_help=True,
    help="Measure methods against each other: safety, utility, over-refusal and every cost.",
)

_EXITS = (
    "Exit codes: 0 done, 2 bad usage or input, 3 the model or its server failed on every sample, 4 "
    "the budget was too small for every sample, 130 interrupted (the same command goes on)."
)


@bench.command(name="run", epilog=_EXITS)
def _run(
    experiment: Annotated[
        str,
        typer.Argument(
            help="main, ablation, budget, horizon, deep-insight, mixed-safety or latency."
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(help="What to ask; world by default. See: ecoalign bench list"),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(help="The suite's files, as its authors publish them.", show_default=False),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of world: test (the default) or dev.", show_default=False)
    ] = None,
    suite_option: Annotated[
        list[str] | None,
        typer.Option(
            "--suite-option", help="An option of the suite; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Only these methods or variants, separated by commas. Base is always run.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="A model that judges; may be repeated for several.", metavar="MODEL"),
    ] = None,
    judge_base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server for the judges.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Samples, spread over the groups; 40 by default, 0 for all."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often each sample is asked.", min=1)] = 1,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            "-b",
            help="For one answer. Repeated: the steps of the experiment budget.",
            show_default=False,
        ),
    ] = None,
    preset: Preset = None,
    config: Config = None,
    evaluator: Evaluator = None,
    settings: SettingPairs = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the run; by default one named for it in ./ecoalign-bench.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Samples at once; 4 by default, 1 for latency.", min=1),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Keep responses, and answer with those there are.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what failed the last time.")
    ] = False,
    xlsx: Annotated[
        bool, typer.Option("--xlsx", help="Write the predictions for VLMEvalKit, too.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run an experiment, or go on with one: rows, tables, figures.

    Without further options: on the embedded model and its own world, in a few minutes. Every
    finished sample is kept at once, so a run may be ended at any moment, and the same command goes
    on where it was.

    [bold]Examples[/bold]

    ecoalign bench run main

    ecoalign bench run ablation --split dev --limit 200

    ecoalign bench run main --suite siuo --path SIUO/ --model openai:gpt-4o --judge openai:gpt-4o
    """
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._bench_run import Request, run_bench

        single: dict[str, object] = {
            "model": model,
            "base_url": base_url,
            "budget": budget[0] if budget and len(budget) == 1 else None,
            "evaluator": evaluator,
            "seed": seed,
        }
        run_bench(
            Request(
                experiment=experiment,
                choices=Choices(preset, config, single, tuple(settings or ())),
                suite=suite,
                path=path,
                split=split,
                options=tuple(suite_option or ()),
                methods=methods,
                judges=tuple(judge or ()),
                judge_base_url=judge_base_url,
                budgets=tuple(budget or ()),
                limit=limit,
                repeats=repeats,
                out=out,
                concurrency=concurrency,
                cache=cache,
                retry_failed=retry_failed,
                xlsx=xlsx,
                as_json=as_json,
                quiet=quiet,
            )
        )


@bench.command(name="report")
def _report(
    folder: Annotated[
        Path, typer.Argument(help="The folder of a run, or one with several runs in it.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write to; FOLDER itself by default.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the report of finished rows again: one HTML file, Markdown and CSV. Asks nobody."""
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._bench_run import report_bench

        report_bench(folder, out, as_json=as_json)


@bench.command(name="list")
def _list(as_json: Json = False, debug: Debug = False) -> None:
    """Show the experiments, suites and methods that there are, a line each."""
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._bench_run import list_bench

        list_bench(as_json=as_json)
