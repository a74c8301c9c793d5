"""The application: all commands, and how it ends."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option
from typer.exceptions import TyperException

from ecoalign._version import __version__
from ecoalign.cli import (
    _ask,
    _batch,
    _bench,
    _doctor,
    _history,
    _keys,
    _play,
    _probe,
    _replay,
    _serve,
    _view,
)
from ecoalign.cli._errors import report
from ecoalign.cli._options import command
from ecoalign.cli._question import with_values

app = typer.Typer(
    name="ecoalign",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

command(app, "ask", epilog=_ask.EXITS)(_ask.ask)
command(app, "show")(_view.show)
command(app, "view", epilog=_view.EXITS)(_view.view)
command(app, "batch", epilog=_batch.EXITS)(_batch.batch)
command(app, "play", epilog=_play.EXITS)(_play.play)
command(app, "serve", epilog=_serve.EXITS)(_serve.serve)
app.add_typer(_bench.app)
app.add_typer(_keys.app)
command(app, "probe", epilog=_probe.EXITS)(_probe.probe)
command(app, "doctor")(_doctor.doctor)
command(app, "replay")(_replay.replay)
command(app, "history")(_history.history)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    if arguments[:1] == ["ask"]:
        arguments = ["ask", *with_values(arguments[1:])]
    try:
        code = app(arguments, standalone_mode=False, prog_name="ecoalign")
    except TyperException as error:
        message = error.format_message()
        if message:
            given = f"ecoalign {arguments[0]}" if arguments else "ecoalign"
            asked = getattr(getattr(error, "ctx", None), "command_path", given)
            text = f"{message} (try: {asked} --help)"
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
        bool,
        Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Safe, economical answers from vision-language models, searched for within a hard budget."""
