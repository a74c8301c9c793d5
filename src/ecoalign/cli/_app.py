"""The commands and their options. What they do is in modules of their own, imported when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ecoalign._version import __version__
from ecoalign.cli._bench import bench
from ecoalign.cli._errors import report, reported
from ecoalign.cli._keys import keys
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
from ecoalign.cli._serve import SERVE_EXITS, serve_command

__all__ = ["run"]

app = typer.Typer(
    name="ecoalign",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bench)

app.add_typer(keys)

app.command(name="serve", epilog=SERVE_EXITS)(serve_command)

_EXITS = (
    "Exit codes: 0 answered (a refusal is an answer), 2 bad usage or input, 3 the model or its "
    "server failed, 4 the budget is too small for any scored answer, 130 interrupted."
)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        code = app(arguments, standalone_mode=False, prog_name="ecoalign")
    except TyperException as error:
        message = error.format_message()
        if message:
            text = f"{message} (try: ecoalign --help)"
            as_json = "--json" in arguments
            report(type(error).__name__, text, error.exit_code, as_json=as_json)
        return error.exit_code
    except typer.Abort:
        return 1
    return code if isinstance(code, int) else 0


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ecoalign {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Safe, economical answers from vision-language models, searched for within a hard budget."""


@app.command(
    name="ask",
    epilog=_EXITS,
)
def _ask(
    image: Annotated[str, typer.Argument(help='An image file, or "-" for standard input.')],
    question: Annotated[str, typer.Argument(help="What you want to know about it.")],
    more_images: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", help="A further image; may be repeated.", metavar="IMAGE"),
    ] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            "-b",
            help="Tokens 8000, dollars '$0.02', time 5s, or several: '8000,$0.02,5s'.",
            show_default=False,
        ),
    ] = None,
    preset: Preset = None,
    config: Config = None,
    evaluator: Evaluator = None,
    settings: SettingPairs = None,
    seed: Seed = None,
    as_json: Json = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write every event to this file, as it happens. It is kept whatever comes next.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show progress; by default only where standard error is a terminal.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Answer a question about an image: the answer on standard output, all else on standard error.

    [bold]Examples[/bold]

    ecoalign ask examples/signs.png "What is the sum of the two numbers?"

    ecoalign ask photo.jpg "What does the sign say?" --model openai:gpt-4o --budget '$0.02'

    ecoalign ask photo.jpg "What is this?" --model qwen3-vl:8b --base-url http://localhost:11434/v1

    ecoalign ask before.png "What has changed?" --image after.png --model openai:gpt-4o --json
    """
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._ask import Order, ask

        single: dict[str, object] = {
            "model": model,
            "base_url": base_url,
            "budget": budget,
            "evaluator": evaluator,
            "seed": seed,
        }
        choices = Choices(preset, config, single, tuple(settings or ()))
        images = (image, *(more_images or ()))
        ask(Order(images, question, choices, as_json, trace, quiet, progress))


@app.command(name="doctor")
def _doctor(
    preset: Preset = None, config: Config = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Show every setting in force and where it came from, and check what would work here.

    Asks no server and spends nothing. Exits with 0 if all is well and 2 if something is wrong.
    """
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._doctor import examine, show
        from ecoalign.cli._text import print_json

        health = examine(Choices(preset, config, {}))
        if as_json:
            print_json(health.to_json())
        else:
            show(health)
        if health.problems:
            raise typer.Exit(2)


@app.command(name="replay")
def _replay(
    trace: Annotated[Path, typer.Argument(help="A file that --trace has written.")],
    images: Annotated[
        list[str] | None, typer.Argument(help="The images of the run, in their order.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the engine again on the recorded answers and compare the events, byte for byte.

    Needs no model and no network. Exits with 0 if the events are the same and 1 if they differ.
    """
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._replay import replay_trace

        replay_trace(trace, tuple(images or ()), as_json=as_json)
