"""`ecoalign keys`: the store of API keys for `ecoalign serve --keys`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer import Argument, Option

from ecoalign.cli._options import Json, command
from ecoalign.cli._secrets import PLACES, STORE, store_url
from ecoalign.cli._text import print_json, say, table, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.gateway.keys import KeyPolicy, KeyRecord, KeyStore, NewKey, WindowUsage

Result = TypeVar("Result")

_SECONDS = {"hour": 3600, "day": 86_400}

_NONE = "none"

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


Limit = Annotated[
    str | None,
    Option(
        help="What the key may spend per window: tokens 2000000, dollars '$5', or both: "
        "'2000000,$5'; none for no limit. No limit by default.",
        show_default=False,
    ),
]

Window = Annotated[
    str | None,
    Option(
        help="hour, day, week (from Monday), month, or a number of seconds. A day by default.",
        show_default=False,
    ),
]

Zone = Annotated[
    str | None,
    Option(
        help="The time zone whose midnight days, weeks and months begin with, such as "
        "Europe/Berlin. UTC by default.",
        show_default=False,
    ),
]

Fleet = Annotated[
    bool | None,
    Option(
        "--fleet/--no-fleet",
        help="Pace the window with a shadow price per token, so that hard questions get more (the "
        "default); otherwise first come, first served.",
    ),
]

Expected = Annotated[
    int | None,
    Option(help="How many requests to expect per window; learned if not given, or 0.", min=0),
]

OwnBudget = Annotated[
    str | None,
    Option(help="The budget of a request that does not choose one; none for the server's."),
]

Most = Annotated[
    str | None, Option(help="The most that one request may spend; none for the server's.")
]

OwnPreset = Annotated[
    str | None,
    Option(help="The preset of requests that do not choose one; none for the server's."),
]

OwnMethod = Annotated[
    str | None,
    Option(help="The method of requests that do not choose one; none for the server's."),
]

Trace = Annotated[
    bool | None, Option("--trace/--no-trace", help="Whether traces of its requests are kept.")
]

MayChoose = Annotated[
    str | None,
    Option(
        help="What a request may choose itself, separated by commas: budget, preset, method, "
        "trace, base (the methods that score nothing, which method includes); or nothing. Some "
        "presets and methods weaken safety. By default budget,trace.",
        show_default=False,
    ),
]

Rpm = Annotated[int | None, Option(help="The most requests per minute; 0 for any.", min=0)]

AtOnce = Annotated[int | None, Option(help="The most requests at once; 0 for any.", min=0)]


@command(app, "create", epilog=_EXITS)
def create(
    name: Annotated[str, Argument(help="The name of the key; only one key in force can have it.")],
    limit: Limit = None,
    window: Window = None,
    zone: Zone = None,
    fleet: Fleet = None,
    expected_requests: Expected = None,
    budget: OwnBudget = None,
    most: Most = None,
    preset: OwnPreset = None,
    method: OwnMethod = None,
    trace: Trace = None,
    may_choose: MayChoose = None,
    rpm: Rpm = None,
    max_concurrent: AtOnce = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Make a key and print its secret. It is shown only this once, and it is stored nowhere.

    [bold]Examples[/bold]

    ecoalign keys create "team search" --limit '2000000,$5' --window day

    ecoalign keys create harness --may-choose budget,preset,method,trace --rpm 600
    """
    from ecoalign.gateway.keys import KeyPolicy, default_url

    change = _change(
        limit=limit,
        window=window,
        zone=zone,
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
    made = _with(store, lambda opened: opened.create(name, change(KeyPolicy())))
    _show_secret(made, as_json=as_json)
    if store_url(store) is None and not as_json:
        say(f"serve with it: ecoalign serve --keys {default_url()}")


@command(app, "update", epilog=_EXITS)
def update(
    key: Key,
    name: Annotated[str | None, Option(help="A new name.")] = None,
    limit: Limit = None,
    window: Window = None,
    zone: Zone = None,
    fleet: Fleet = None,
    expected_requests: Expected = None,
    budget: OwnBudget = None,
    most: Most = None,
    preset: OwnPreset = None,
    method: OwnMethod = None,
    trace: Trace = None,
    may_choose: MayChoose = None,
    rpm: Rpm = None,
    max_concurrent: AtOnce = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Change what a key may do. What is not named stays, and so do its secret, what it has spent in
    this window and its pace. Servers take it over within two seconds.

    [bold]Example[/bold]

    ecoalign keys update "team search" --limit '4000000,$10' --window month --zone Europe/Berlin
    """
    change = _change(
        limit=limit,
        window=window,
        zone=zone,
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
    record = _with(store, lambda opened: opened.update(key, change, name))
    if as_json:
        print_json(_key_json(record))
    else:
        limits = ", ".join((_limit(record.policy), f"requests: {_rates(record.policy)}"))
        tell(f"updated: {record.name} ({record.id}): {limits}")


@command(app, "rotate", epilog=_EXITS)
def rotate(
    key: Key,
    grace: Annotated[
        str,
        Option(
            help="How long the old secret is good as well: 30m, 24h, 7d, or a number of seconds. "
            "A secret from before that ends at once."
        ),
    ] = "0",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print it. Its name, limits and history stay.

    [bold]Example[/bold]

    ecoalign keys rotate "team search" --grace 24h
    """
    seconds = _duration(grace)
    made = _with(store, lambda opened: opened.rotate(key, seconds))
    _show_secret(made, as_json=as_json)
    if not as_json:
        say(f"the old secret is good for another {grace}" if seconds else "the old one is not good")


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


@command(app, "delete", epilog=_EXITS)
def delete(
    key: Key,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Delete a key, and the history of what it has spent, for good. To keep that, revoke it.

    With --json the history is printed once more.
    """
    import sys

    async def gone(opened: KeyStore) -> tuple[KeyRecord, Sequence[WindowUsage]]:
        windows = await opened.usage(key, 10**6)
        if not yes:
            if not sys.stdin.isatty():
                raise InputError(f"to delete {key!r} and its history, add --yes")
            typer.confirm(f"Delete {key!r} and {_history(windows)}?", abort=True, err=True)
        return await opened.delete(key), windows

    record, windows = _with(store, gone)
    if as_json:
        print_json({**_key_json(record), "windows": [dict(one.to_json()) for one in windows]})
    else:
        tell(f"deleted: {record.name} ({record.id}), {_history(windows)}")


@command(app, "release", epilog=_EXITS)
def release(
    process: Annotated[
        str | None,
        Option(
            help="A process, by its name or id in: keys processes, that is known to be dead "
            "although that does not show yet, as with a machine that is gone. All that it has "
            "reserved is charged. first-release stands for programs of the first release."
        ),
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Settle and release what dead processes have left open. Servers do this by themselves.

    A dead process is charged what its calls can have cost at most, and the rest of what it had
    reserved goes back to the windows.
    """
    found = _with(store, lambda opened: opened.release(process))
    if as_json:
        print_json({"released": [dict(one.to_json()) for one in found]})
        return
    rows = [
        (
            one.process,
            one.key_id,
            f"{one.grants:,}",
            f"{one.tokens:,} tokens, ${one.usd:.4f}",
            f"{one.returned_tokens:,} tokens, ${one.returned_usd:.4f}",
        )
        for one in found
    ]
    _show(("process", "key", "open requests", "charged", "returned"), rows)
    if not found:
        say("nothing to release: no process with open requests is known to be dead")


@command(app, "processes", epilog=_EXITS)
def processes(store: Store = None, as_json: Json = False) -> None:
    """Show the processes that have something reserved, and whether they live."""
    found = _with(store, lambda opened: opened.processes())
    if as_json:
        print_json({"processes": [dict(one.to_json()) for one in found]})
        return
    rows = [(one.name, one.id, one.state, _time(one.started), _time(one.seen)) for one in found]
    _show(("process", "id", "state", "since", "last heard of"), rows)
    if not found:
        say("no process has anything reserved")


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


def _change(
    *,
    limit: str | None,
    window: str | None,
    zone: str | None,
    fleet: bool | None,
    expected_requests: int | None,
    budget: str | None,
    most: str | None,
    preset: str | None,
    method: str | None,
    trace: bool | None,
    may_choose: str | None,
    rpm: int | None,
    max_concurrent: int | None,
) -> Callable[[KeyPolicy], KeyPolicy]:
    """What makes of a policy the one that the options ask for; what is not given stays."""
    from ecoalign.budget import Budget
    from ecoalign.gateway.keys import choices

    changes: dict[str, Any] = {}
    if limit is not None:
        per_window = Budget() if limit.strip().lower() == _NONE else Budget.parse(limit)
        if per_window.seconds is not None:
            raise InputError(f"--limit bounds tokens and dollars, not time: {limit!r}")
        changes |= {"window_tokens": per_window.tokens, "window_usd": per_window.usd}
    for name, text in (("budget", budget), ("most", most)):
        if text is not None:
            changes[name] = None if text.strip().lower() == _NONE else Budget.parse(text)
    for name, word in (("preset", preset), ("method", method)):
        if word is not None:
            changes[name] = None if word == _NONE else word
    _check_names(changes.get("preset"), changes.get("method"))
    for name, number in (
        ("requests_per_minute", rpm),
        ("max_concurrent", max_concurrent),
        ("expected_requests", expected_requests),
    ):
        if number is not None:
            changes[name] = number or None
    for name, flag in (("fleet", fleet), ("trace", trace)):
        if flag is not None:
            changes[name] = flag
    if may_choose is not None:
        changes["may_choose"] = choices(may_choose)

    def change(policy: KeyPolicy) -> KeyPolicy:
        return replace(policy, **changes, **_windows(policy, window, zone))

    return change


def _windows(policy: KeyPolicy, window: str | None, zone: str | None) -> dict[str, Any]:
    """The fields of the window, where one of the two is given."""
    if window is None and zone is None:
        return {}
    word = (window or _window(policy)).strip().lower()
    where = zone if zone is not None else policy.zone
    if word in _SECONDS and (word == "hour" or where == "UTC"):
        if word == "hour" and zone not in {None, "UTC"}:
            raise InputError("--zone is for windows of a day, a week or a month")
        # A day in UTC is one of seconds, which the first release can read, too.
        return {"window_seconds": _SECONDS[word], "calendar": None, "zone": "UTC"}
    if word in {"day", "week", "month"}:
        return {"window_seconds": _SECONDS["day"], "calendar": word, "zone": where}
    if not (word.isascii() and word.isdigit()):
        raise InputError(
            f"--window is hour, day, week, month or a number of seconds, not {window!r}"
        )
    if zone not in {None, "UTC"}:
        raise InputError("--zone is for windows of a day, a week or a month")
    return {"window_seconds": int(word), "calendar": None, "zone": "UTC"}


def _window(policy: KeyPolicy) -> str:
    """The window as `--window` takes it."""
    names = {seconds: name for name, seconds in _SECONDS.items()}
    return policy.calendar or names.get(policy.window_seconds, str(policy.window_seconds))


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise InputError(f"--grace is a time such as 30m, 24h, 7d or 3600, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def _show_secret(made: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({**_key_json(made.record), "secret": made.secret})
        return
    tell(made.secret)
    say(
        f"the key {made.record.name!r} (id {made.record.id}); the secret is shown only once; "
        "save it now"
    )


def _history(windows: Sequence[WindowUsage]) -> str:
    tokens, usd = sum(one.tokens for one in windows), sum(one.usd for one in windows)
    return f"its history: {len(windows)} windows, {tokens:,} tokens, ${usd:.4f}"


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
    if limit.is_empty:
        return "no limit"
    window = _window(policy)
    name = f"{window} s" if window.isdigit() else window
    zone = "" if policy.zone == "UTC" else f" ({policy.zone})"
    return f"{limit} a {name}{zone}"


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
    parts = []
    if window.open:
        parts.append(
            f"{window.held_tokens:,} tokens, ${window.held_usd:.4f} ({window.open} not settled)"
        )
    if window.leased_tokens or window.leased_usd:
        parts.append(
            f"{window.leased_tokens:,} tokens, ${window.leased_usd:.4f} leased ahead by servers"
        )
    return "; ".join(parts) or "nothing"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for line in table([head, *rows], "<" * len(head)) if rows else ():
        tell(line)
