"""`ecoalign keys`: its commands and options. What they do is in `keys_run`."""

from __future__ import annotations

from typing import Annotated

import typer

from ecoalign.cli._errors import reported
from ecoalign.cli._options import Debug, Json

__all__ = ["keys"]

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="API keys for `ecoalign serve --keys`: who may ask, and what they may spend.",
)

_EXITS = (
    "Exit codes: 0 done, 2 bad usage or input (an unknown key, too), 3 the store cannot be reached."
)

Store = Annotated[
    str | None,
    typer.Option(
        "--keys",
        help="The store: a file, or postgresql://USER@HOST/DATABASE. By default what the variable "
        "ECOALIGN_KEYS says, or else a file in your data folder.",
        show_default=False,
        metavar="URL",
    ),
]

Key = Annotated[str, typer.Argument(help="The key's name, or its id as shown by: keys list")]


@keys.command(name="create", epilog=_EXITS)
def _create(
    name: Annotated[str, typer.Argument(help="Who it is for; one name, one key.")],
    limit: Annotated[
        str | None,
        typer.Option(
            help="What the key may spend per window: tokens 2000000, dollars '$5', or both: "
            "'2000000,$5'. No limit by default.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        str, typer.Option(help="hour, day, week, or a number of seconds; windows are in UTC.")
    ] = "day",
    fleet: Annotated[
        bool,
        typer.Option(
            "--fleet/--no-fleet",
            help="Share the window out by a price per token, so that easy questions pay for hard "
            "ones; or first come, first served.",
        ),
    ] = True,
    expected_requests: Annotated[
        int | None,
        typer.Option(help="Requests per window, if known; else it is learned.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Of a request that does not choose one.", show_default=False),
    ] = None,
    most: Annotated[
        str | None,
        typer.Option(help="The most that one request may have.", show_default=False),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Of its requests.", show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help="Of its requests.", show_default=False)] = None,
    trace: Annotated[
        bool | None,
        typer.Option(
            "--trace/--no-trace",
            help="Whether traces of its requests are kept.",
            show_default=False,
        ),
    ] = None,
    may_choose: Annotated[
        str,
        typer.Option(
            help="What a request may choose itself, separated by commas: budget, preset, method, "
            "trace; or nothing. Some presets and methods weaken safety."
        ),
    ] = "budget,trace",
    rpm: Annotated[int | None, typer.Option(help="Requests a minute.", show_default=False)] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Requests at once.", show_default=False)
    ] = None,
    store: Store = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a key and print its secret, which is shown this once and kept nowhere.

    [bold]Examples[/bold]

    ecoalign keys create "team search" --limit '2000000,$5' --window day

    ecoalign keys create harness --may-choose budget,preset,method,trace --rpm 600
    """
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._keys_run import Order, create

        order = Order(
            limit=limit,
            window=window,
            fleet=fleet,
            expected_requests=expected_requests,
            budget=budget,
            most=most,
            preset=preset,
            method=method,
            trace=trace,
            may_choose=may_choose,
            rpm=rpm,
            max_concurrent=max_concurrent,
        )
        create(store, name, order, as_json=as_json)


@keys.command(name="list", epilog=_EXITS)
def _list(store: Store = None, as_json: Json = False, debug: Debug = False) -> None:
    """Show all keys, revoked ones too, without their secrets, which nobody has."""
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._keys_run import list_keys

        list_keys(store, as_json=as_json)


@keys.command(name="revoke", epilog=_EXITS)
def _revoke(key: Key, store: Store = None, as_json: Json = False, debug: Debug = False) -> None:
    """Let a key spend nothing more, at once. What it has been granted already it may finish."""
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._keys_run import revoke

        revoke(store, key, as_json=as_json)


@keys.command(name="usage", epilog=_EXITS)
def _usage(
    key: Key,
    windows: Annotated[int, typer.Option(help="How many of the last windows.", min=1)] = 10,
    store: Store = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a key has spent, window by window, the newest first."""
    with reported(as_json=as_json, debug=debug):
        from ecoalign.cli._keys_run import usage

        usage(store, key, windows, as_json=as_json)
