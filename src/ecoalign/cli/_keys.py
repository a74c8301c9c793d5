"""`ecoalign keys`: the store of API keys for `ecoalign serve --keys`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer import Argument, Option

from ecoalign.cli._options import Json, command
from ecoalign.cli._secrets import PLACES, STORE, store_url
from ecoalign.cli._text import print_json, say, table, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.gateway.keys import KeyPolicy, KeyRecord, KeyStore, WindowUsage

Result = TypeVar("Result")

_WINDOWS = {"hour": 3600, "day": 86_400, "week": 7 * 86_400}

_EXITS = (
    "Exit codes: 0 done, 2 bad usage or input (also an unknown key), 3 the store cannot be reached."
)

app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="API keys for `ecoalign serve --keys`: who may ask, and what they may spend.",
)

Store = Annotated[
    str | None,
    Option(
        "--keys",
        help=f"The store: {PLACES}. By default that of the variable {STORE}, or else a file in "
        "your data folder.",
        show_default=False,
        metavar="URL",
    ),
]

Key = Annotated[str, Argument(help="The key's name, or its id as shown by: keys list")]


@command(app, "create", epilog=_EXITS)
def create(
    name: Annotated[str, Argument(help="The name of the key; only one key in force can have it.")],
    limit: Annotated[
        str | None,
        Option(
            help="What the key may spend per window: tokens 2000000, dollars '$5', or both: "
            "'2000000,$5'. No limit by default."
        ),
    ] = None,
    window: Annotated[
        str, Option(help="hour, day, week, or a number of seconds; windows are in UTC.")
    ] = "day",
    fleet: Annotated[
        bool,
        Option(
            "--fleet/--no-fleet",
            help="Pace the window with a shadow price per token, so that hard questions get more; "
            "otherwise first come, first served.",
        ),
    ] = True,
    expected_requests: Annotated[
        int | None, Option(help="How many requests to expect per window; learned if not given.")
    ] = None,
    budget: Annotated[
        str | None, Option(help="The budget of a request that does not choose one.")
    ] = None,
    most: Annotated[str | None, Option(help="The most that one request may spend.")] = None,
    preset: Annotated[
        str | None, Option(help="The preset of requests that do not choose one.")
    ] = None,
    method: Annotated[
        str | None, Option(help="The method of requests that do not choose one.")
    ] = None,
    trace: Annotated[
        bool | None, Option("--trace/--no-trace", help="Whether traces of its requests are kept.")
    ] = None,
    may_choose: Annotated[
        str,
        Option(
            help="What a request may choose itself, separated by commas: budget, preset, method, "
            "trace, base (the methods that score nothing, which method includes); or nothing. Some "
            "presets and methods weaken safety."
        ),
    ] = "budget,trace",
    rpm: Annotated[int | None, Option(help="The most requests per minute.")] = None,
    max_concurrent: Annotated[int | None, Option(help="The most requests at once.")] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Make a key and print its secret. It is shown only this once, and it is stored nowhere.

    [bold]Examples[/bold]

    ecoalign keys create "team search" --limit '2000000,$5' --window day

    ecoalign keys create harness --may-choose budget,preset,method,trace --rpm 600
    """
    from ecoalign.budget import Budget
    from ecoalign.gateway.keys import KeyPolicy, choices, default_url

    per_window = Budget() if limit is None else Budget.parse(limit)
    if per_window.seconds is not None:
        raise InputError(f"--limit bounds tokens and dollars, not time: {limit!r}")
    _check_names(preset, method)
    policy = KeyPolicy(
        budget=None if budget is None else Budget.parse(budget),
        preset=preset,
        method=method,
        trace=trace,
        may_choose=choices(may_choose),
        most=None if most is None else Budget.parse(most),
        window_seconds=_seconds(window),
        window_tokens=per_window.tokens,
        window_usd=per_window.usd,
        requests_per_minute=rpm,
        max_concurrent=max_concurrent,
        fleet=fleet,
        expected_requests=expected_requests,
    )
    made = _with(store, lambda opened: opened.create(name, policy))
    if as_json:
        print_json({**_key_json(made.record), "secret": made.secret})
        return
    tell(made.secret)
    say(
        f"the key {made.record.name!r} (id {made.record.id}); the secret is shown only once; "
        "save it now"
    )
    if store_url(store) is None:
        say(f"serve with it: ecoalign serve --keys {default_url()}")


@command(app, "list", epilog=_EXITS)
def list_keys(store: Store = None, as_json: Json = False) -> None:
    """Show all keys, revoked ones too. Their secrets are not stored, so they are not shown."""
    found = _with(store, lambda opened: opened.keys())
    if as_json:
        print_json({"keys": [_key_json(key) for key in found]})
        return
    rows = [
        (key.id, key.name, _limit(key.policy), _rates(key.policy), _time(key.created), _state(key))
        for key in found
    ]
    _show(("id", "name", "per window", "rates", "created", "state"), rows)
    if not found:
        say("no keys yet; make one with: ecoalign keys create NAME")


@command(app, "revoke", epilog=_EXITS)
def revoke(key: Key, store: Store = None, as_json: Json = False) -> None:
    """Stop a key at once. Requests that have begun may still spend what they were granted."""
    record = _with(store, lambda opened: opened.revoke(key))
    if as_json:
        print_json(_key_json(record))
    else:
        tell(f"revoked: {record.name} ({record.id})")


@command(app, "usage", epilog=_EXITS)
def usage(
    key: Key,
    windows: Annotated[int, Option(help="How many windows to show.", min=1)] = 10,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show what a key has spent, window by window, the newest first."""
    found = _with(store, lambda opened: opened.usage(key, windows))
    if as_json:
        print_json({"key": key, "windows": [dict(window.to_json()) for window in found]})
        return
    rows = [
        (_time(one.start), f"{one.requests:,}", f"{one.tokens:,}", f"${one.usd:.4f}", _held(one))
        for one in found
    ]
    _show(("window from", "requests", "tokens", "dollars", "reserved"), rows)
    if not found:
        say("nothing has been spent yet")


def _with(url: str | None, call: Callable[[KeyStore], Awaitable[Result]]) -> Result:
    """What `call` returns for the store at `url`, or at the default place."""
    import asyncio

    from ecoalign.gateway.keys import default_url, open_store

    async def once() -> Result:
        store = open_store(store_url(url) or default_url())
        try:
            return await call(store)
        finally:
            await store.aclose()

    return asyncio.run(once())


def _seconds(text: str) -> int:
    word = text.strip().lower()
    if word in _WINDOWS:
        return _WINDOWS[word]
    if word.isascii() and word.isdigit():
        return int(word)
    raise InputError(f"--window is hour, day, week or a number of seconds, not {text!r}")


def _check_names(preset: str | None, method: str | None) -> None:
    from ecoalign.methods import open_method
    from ecoalign.settings import Settings, preset_named

    if preset is not None:
        preset_named(preset, "command line")
    if method is not None:
        open_method(method, Settings())


def _key_json(key: KeyRecord) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "created": key.created,
        "revoked": key.revoked,
        "policy": key.policy.to_json(),
    }


def _limit(policy: KeyPolicy) -> str:
    from ecoalign.budget import Budget

    limit = Budget(policy.window_tokens, policy.window_usd)
    names = {seconds: name for name, seconds in _WINDOWS.items()}
    window = names.get(policy.window_seconds, f"{policy.window_seconds} s")
    return "no limit" if limit.is_empty else f"{limit} a {window}"


def _rates(policy: KeyPolicy) -> str:
    parts = []
    if policy.requests_per_minute is not None:
        parts.append(f"{policy.requests_per_minute} a minute")
    if policy.max_concurrent is not None:
        parts.append(f"{policy.max_concurrent} at once")
    return ", ".join(parts) or "any"


def _state(key: KeyRecord) -> str:
    return "in force" if key.revoked is None else f"revoked {_time(key.revoked)}"


def _held(window: WindowUsage) -> str:
    if not window.open:
        return "nothing"
    return f"{window.held_tokens:,} tokens, ${window.held_usd:.4f} ({window.open} not settled)"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for line in table([head, *rows], "<" * len(head)) if rows else ():
        tell(line)
