"""`ecoalign play`: the playground, on this machine only."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from contextlib import ExitStack
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ecoalign.cli._options import Json, Quiet, SettingsOptions, notice_of_toy
from ecoalign.cli._text import amount, print_json, say, tell

if TYPE_CHECKING:
    from ecoalign.playground import PlaygroundConfig
    from ecoalign.settings import Settings

EXITS = (
    "Exit codes: 0 stopped by a signal, 2 bad usage or settings, or the port is in use. The "
    "address holds a secret that is new each time: on this machine "
    "whoever has it can spend your money."
)


def play(
    settings: SettingsOptions,
    port: Annotated[
        int,
        Option(help="The port on 127.0.0.1; 0 takes a free one.", min=0, max=65535),
    ] = 0,
    budget: Annotated[
        str | None,
        Option(
            "--budget",
            "-b",
            help="Where the page's budget begins: 8000, '$0.02', 5s, or several. Without "
            "--max-budget it is also the most.",
            rich_help_panel="Model and money",
        ),
    ] = None,
    max_budget: Annotated[
        str | None,
        Option(
            help="The most that one answer may spend, whatever the page asks for.",
            rich_help_panel="Model and money",
        ),
    ] = None,
    runs: Annotated[int, Option(help="How many questions may be under way at once.", min=1)] = 2,
    open_page: Annotated[bool, Option("--open", help="Open the page in the browser, too.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Open a page to ask and to watch: methods side by side, and the search as it grows.

    The page is an operator's: it shows all that a trace holds, also text that was scored unsafe or
    not at all, marked as such. It is served on this machine only. The address, with its secret, is
    printed on standard output; Ctrl-C ends it.

    [bold]Examples[/bold]

    ecoalign play --open

    ecoalign play --model openai:gpt-4o --max-budget '40000,$0.10'

    ecoalign play --port 8500          and from elsewhere: ssh -L 8500:127.0.0.1:8500 HOST
    """
    import asyncio

    from ecoalign.playground import listen, serve

    config = playground(settings.load(budget), max_budget, runs)
    sock = listen("127.0.0.1", port)
    if not quiet:
        notice_of_toy(config.settings)
    with ExitStack() as stack:
        stack.callback(sock.close)

        def ready(address: str) -> None:
            if as_json:
                print_json({"url": address, "model": config.settings.model, "pid": os.getpid()})
            else:
                tell(address)
            if not quiet:
                most = amount(config.limit.tokens, config.limit.usd, config.limit.seconds)
                say(f"an answer may spend at most {most}; Ctrl-C ends the playground")
            if open_page:
                open_privately(address, stack)

        asyncio.run(serve(config, sock, ready))


def playground(settings: Settings, max_budget: str | None, runs: int = 2) -> PlaygroundConfig:
    """The playground of these options, with the example scenes.

    Raises:
        InputError: the budget cannot be read.
    """
    from io import BytesIO

    from ecoalign.bench.world.examples import EXAMPLES
    from ecoalign.bench.world.scenes import draw
    from ecoalign.budget import Budget
    from ecoalign.playground import Example, PlaygroundConfig

    most = None if max_budget is None else Budget.parse(max_budget)
    examples = []
    for example in EXAMPLES:
        png = BytesIO()
        draw(example.scene).save(png, "PNG", optimize=True)
        examples.append(Example(example.name, png.getvalue(), example.questions))
    return PlaygroundConfig(settings, most, tuple(examples), runs)


def open_privately(address: str, stack: ExitStack) -> None:
    """Show the page in the browser, by way of a private file: other users of this machine can read
    the arguments of a process."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ecoalign-")))
    page = folder / "open.html"
    page.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(address)}">'
        f'<a href="{escape(address)}">Open the playground</a>',
        encoding="utf-8",
    )
    if not webbrowser.open(page.as_uri()):
        say("no browser could be opened: open the address yourself")
