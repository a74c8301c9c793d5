"""What the commands of `ecoalign keys` do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar, cast

from ecoalign._text import harmless
from ecoalign.budget import Budget
from ecoalign.cli._text import print_json, say, tell
from ecoalign.errors import InputError
from ecoalign.gateway.keys import (
    KeyPolicy,
    KeyRecord,
    KeyStore,
    WindowUsage,
    default_url,
    open_store,
)
from ecoalign.gateway.keys._policy import DAY, Choice

__all__ = ["VARIABLE", "Order", "create", "list_keys", "revoke", "usage"]

Result = TypeVar("Result")

VARIABLE = "ECOALIGN_KEYS"

_WINDOWS = {"hour": 3600, "day": DAY, "week": 7 * DAY}


@dataclass(frozen=True, slots=True)
class Order:
    """The options of `keys create`, as they were written; None is not given."""

    limit: str | None
    window: str
    fleet: bool
    expected_requests: int | None
    budget: str | None
    most: str | None
    preset: str | None
    method: str | None
    trace: bool | None
    may_choose: str
    rpm: int | None
    max_concurrent: int | None

    def policy(self) -> KeyPolicy:
        """What the options mean.

        Raises:
            InputError: one of them cannot be read, or there is no such preset or method.
        """
        limit = _budget(self.limit)
        if limit is not None and limit.seconds is not None:
            raise InputError(f"--limit bounds tokens and dollars, not time: {self.limit!r}")
        _check_names(self.preset, self.method)
        parts = (part.strip() for part in self.may_choose.split(","))
        chosen = frozenset(cast("Choice", part) for part in parts if part not in {"", "nothing"})
        return KeyPolicy(
            budget=_budget(self.budget),
            preset=self.preset,
            method=self.method,
            trace=self.trace,
            may_choose=chosen,
            most=_budget(self.most),
            window_seconds=_seconds(self.window),
            window_tokens=None if limit is None else limit.tokens,
            window_usd=None if limit is None else limit.usd,
            requests_per_minute=self.rpm,
            max_concurrent=self.max_concurrent,
            fleet=self.fleet,
            expected_requests=self.expected_requests,
        )


def create(url: str | None, name: str, order: Order, *, as_json: bool) -> None:
    """Make a key; its secret is all that is on standard output."""
    policy = order.policy()
    made = _with(url, lambda store: store.create(name, policy))
    if as_json:
        print_json({**_key_json(made.record), "secret": made.secret})
        return
    tell(made.secret)
    say(f"the key {made.record.name!r} (id {made.record.id}); it is shown this once: keep it")
    if url is None and not os.environ.get(VARIABLE):
        say(f"serve with it: ecoalign serve --keys {default_url()}")


def list_keys(url: str | None, *, as_json: bool) -> None:
    """Show all keys."""
    found = _with(url, lambda store: store.keys())
    if as_json:
        print_json({"keys": [_key_json(key) for key in found]})
        return
    rows = [
        (key.id, key.name, _limit(key.policy), _rates(key.policy), _time(key.created), _state(key))
        for key in found
    ]
    _table(("id", "name", "per window", "rates", "created", "state"), rows)
    if not found:
        say("no keys yet; make one with: ecoalign keys create NAME")


def revoke(url: str | None, key: str, *, as_json: bool) -> None:
    """Revoke a key."""
    record = _with(url, lambda store: store.revoke(key))
    if as_json:
        print_json(_key_json(record))
    else:
        tell(f"revoked: {record.name} ({record.id})")


def usage(url: str | None, key: str, windows: int, *, as_json: bool) -> None:
    """Show what a key has spent."""
    found = _with(url, lambda store: store.usage(key, windows))
    if as_json:
        print_json({"key": key, "windows": [dict(window.to_json()) for window in found]})
        return
    rows = [
        (
            _time(one.start),
            f"{one.requests:,}",
            f"{one.tokens:,}",
            f"${one.usd:.4f}",
            _held(one),
        )
        for one in found
    ]
    _table(("window from", "requests", "tokens", "dollars", "reserved"), rows)
    if not found:
        say("nothing has been spent yet")


def _with(url: str | None, call: Callable[[KeyStore], Awaitable[Result]]) -> Result:
    async def once() -> Result:
        store = open_store(url or os.environ.get(VARIABLE) or default_url())
        try:
            return await call(store)
        finally:
            await store.aclose()

    return asyncio.run(once())


def _budget(text: str | None) -> Budget | None:
    return None if text is None else Budget.parse(text)


def _seconds(text: str) -> int:
    word = text.strip().lower()
    if word in _WINDOWS:
        return _WINDOWS[word]
    if word.isascii() and word.isdigit():
        return int(word)
    raise InputError(f"--window is hour, day, week or a number of seconds, not {text!r}")


def _check_names(preset: str | None, method: str | None) -> None:
    from ecoalign.methods import open_method
    from ecoalign.settings import PRESETS, Settings, unknown_name

    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS, "command line")
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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows) if rows else ():
        cells = (harmless(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        tell("  ".join(cells).rstrip())
