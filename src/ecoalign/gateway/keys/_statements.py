"""What a store does, written once for every database.

An operation is a generator: it yields statements, is sent the rows of each, and returns its
result. A driver runs one operation in one transaction, which is what makes it atomic. `?` stands
for a parameter, and LOCK for what locks the selected rows until the transaction ends, where the
database has not locked everything for it already.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from ecoalign.budget import Budget, Spending
from ecoalign.budget.pacing import PacingState, Short, Sum
from ecoalign.errors import InputError
from ecoalign.gateway.keys._policy import (
    Grant,
    GrantId,
    KeyId,
    KeyPolicy,
    KeyRecord,
    NewKey,
    UnknownKey,
    WindowExhausted,
    WindowUsage,
    mint,
)
from ecoalign.gateway.keys._windows import (
    Window,
    charge,
    decide,
    repriced,
    window_start,
)

Value: TypeAlias = str | int | float | None

Row: TypeAlias = Sequence[Value]

Statement: TypeAlias = tuple[str, tuple[Value, ...]]

Result = TypeVar("Result")

Operation: TypeAlias = Generator[Statement, list[Row], Result]

LOCK = "/*lock*/"

_KEY = "id, name, policy, created, revoked"

_COUNTERS = "start, since, requests, open, tokens, nano, held_tokens, held_nano"

_LONGEST_NAME = 100

_KEPT = 400
"""Windows kept for `usage`."""

_SOON = 600.0
"""An open grant older than this many seconds is not expected to give anything back."""


def create(name: str, policy: KeyPolicy, now: float) -> Operation[NewKey]:
    """See `KeyStore.create`."""
    label = name.strip()
    if not label or len(label) > _LONGEST_NAME or not label.isprintable():
        raise InputError(f"a key's name has 1 to {_LONGEST_NAME} printable characters: {name!r}")
    taken = yield (
        "SELECT id FROM eco_keys WHERE (name = ? AND revoked IS NULL) OR id = ?",
        (label, label),
    )
    if taken:
        raise InputError(f"there is a key named {label!r} already; revoke it or choose another")
    made = mint()
    yield (
        f"INSERT INTO eco_keys ({_KEY}, digest, pace) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (made.id, label, policy.text(), now, None, made.digest, PacingState().to_json()),
    )
    return NewKey(KeyRecord(made.id, label, policy, now), made.text)


def find(key_id: KeyId) -> Operation[tuple[KeyRecord, str] | None]:
    """The key and its digest, if it is in force."""
    rows = yield (
        f"SELECT {_KEY}, digest FROM eco_keys WHERE id = ? AND revoked IS NULL",  # noqa: S608
        (key_id,),
    )
    return (_record(rows[0]), str(rows[0][5])) if rows else None


def keys() -> Operation[Sequence[KeyRecord]]:
    """See `KeyStore.keys`."""
    rows = yield f"SELECT {_KEY} FROM eco_keys ORDER BY created, id", ()  # noqa: S608
    return [_record(row) for row in rows]


def revoke(key: str, now: float) -> Operation[KeyRecord]:
    """See `KeyStore.revoke`."""
    record = yield from _named(key)
    if record.revoked is not None:
        return record
    yield "UPDATE eco_keys SET revoked = ? WHERE id = ?", (now, record.id)
    return replace(record, revoked=now)


def usage(key: str, windows: int) -> Operation[Sequence[WindowUsage]]:
    """See `KeyStore.usage`."""
    record = yield from _named(key)
    rows = yield (
        f"SELECT {_COUNTERS}, seconds FROM eco_windows WHERE key_id = ? "  # noqa: S608
        "ORDER BY start DESC, seconds LIMIT ?",
        (record.id, max(1, windows)),
    )
    found = []
    for row in rows:
        one = _window(row)
        found.append(
            WindowUsage(
                start=one.start,
                seconds=_int(row[8]),
                requests=one.requests,
                open=one.open,
                tokens=one.spent.tokens,
                usd=one.spent.usd,
                held_tokens=one.held.tokens,
                held_usd=one.held.usd,
            )
        )
    return found


def grant(key: KeyId, want: Budget, least: Budget | None, now: float) -> Operation[Grant]:
    """See `KeyStore.grant`."""
    policy, pace, created = yield from _locked(key)
    start = window_start(now, policy.window_seconds)
    window = yield from _window_at(key, start, policy.window_seconds)
    fresh = window is None
    if window is None:
        window = Window(start, max(start, created))
        if pace.window != start:
            last = yield from _last_requests(key, policy, start)
            pace = replace(pace, window=start, last=last)
    decision = decide(policy, window, pace, want, least, now)
    if isinstance(decision, Short):
        raise (yield from _exhausted(key, policy, window, pace, decision, now))
    held, grant_id = decision.held, GrantId(randomness.token_hex(16))
    if fresh:
        yield from _forget_old(key, policy, start)
        yield (
            "INSERT INTO eco_windows (key_id, seconds, start, since, requests, open, tokens, nano, "
            "held_tokens, held_nano) VALUES (?, ?, ?, ?, 0, 0, 0, 0, 0, 0)",
            (key, policy.window_seconds, start, window.since),
        )
        yield "UPDATE eco_keys SET pace = ? WHERE id = ?", (pace.to_json(), key)
    yield (
        "UPDATE eco_windows SET requests = requests + 1, open = open + 1, "
        "held_tokens = held_tokens + ?, held_nano = held_nano + ? "
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (held.tokens, held.nano, key, start, policy.window_seconds),
    )
    yield (
        "INSERT INTO eco_grants (id, key_id, start, seconds, tokens, nano, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (grant_id, key, start, policy.window_seconds, held.tokens, held.nano, now),
    )
    return Grant(grant_id, key, decision.budget, decision.price, decision.crowded)


def settle(grant_id: GrantId, key: KeyId, spent: Spending, now: float) -> Operation[None]:
    """See `KeyStore.settle`."""
    policy, pace, _ = yield from _locked(key, revoked_too=True)
    rows = yield (
        "SELECT start, seconds, tokens, nano, at FROM eco_grants WHERE id = ? AND key_id = ?",
        (grant_id, key),
    )
    if not rows:
        return
    start, seconds, tokens, billionths, at = rows[0]
    held = Sum(_int(tokens), _int(billionths))
    cost = charge(held, spent)
    yield "DELETE FROM eco_grants WHERE id = ?", (grant_id,)
    yield (
        "UPDATE eco_windows SET open = open - 1, tokens = tokens + ?, nano = nano + ?, "
        "held_tokens = held_tokens - ?, held_nano = held_nano - ? "
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (cost.tokens, cost.nano, held.tokens, held.nano, key, start, seconds),
    )
    window = yield from _window_at(key, _float(start), _int(seconds))
    if window is not None and policy.fleet and window.start == window_start(now, _int(seconds)):
        paced = repriced(policy, window, pace, cost, now - _float(at), now)
        yield "UPDATE eco_keys SET pace = ? WHERE id = ?", (paced.to_json(), key)


def _locked(
    key: KeyId, *, revoked_too: bool = False
) -> Operation[tuple[KeyPolicy, PacingState, float]]:
    """The key's row, locked first by everything that spends: one request of a key at a time."""
    rows = yield (
        f"SELECT policy, pace, created, revoked FROM eco_keys WHERE id = ? {LOCK}",  # noqa: S608
        (key,),
    )
    if not rows or (rows[0][3] is not None and not revoked_too):
        raise UnknownKey(f"the key {key} does not exist, or it has been revoked")
    policy, pace, created, _ = rows[0]
    return KeyPolicy.from_text(str(policy)), PacingState.from_json(str(pace)), _float(created)


def _window_at(key: KeyId, start: float, seconds: int) -> Operation[Window | None]:
    rows = yield (
        f"SELECT {_COUNTERS} FROM eco_windows "  # noqa: S608
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (key, start, seconds),
    )
    return _window(rows[0]) if rows else None


def _last_requests(key: KeyId, policy: KeyPolicy, start: float) -> Operation[float]:
    """Requests of the window just before, scaled to a whole one; 0 if there was none."""
    seconds = policy.window_seconds
    before = yield from _window_at(key, start - seconds, seconds)
    if before is None:
        return 0.0
    used = start - before.since
    return before.requests * seconds / used if used > 0 else 0.0


def _forget_old(key: KeyId, policy: KeyPolicy, start: float) -> Operation[None]:
    oldest = start - _KEPT * policy.window_seconds
    for table in ("eco_grants", "eco_windows"):
        yield (
            f"DELETE FROM {table} WHERE key_id = ? AND seconds = ? AND start < ?",  # noqa: S608
            (key, policy.window_seconds, oldest),
        )


def _exhausted(
    key: KeyId, policy: KeyPolicy, window: Window, pace: PacingState, short: Short, now: float
) -> Operation[WindowExhausted]:
    rows = yield (
        "SELECT COALESCE(SUM(tokens), 0), COALESCE(SUM(nano), 0) FROM eco_grants "
        "WHERE key_id = ? AND start = ? AND seconds = ? AND at > ?",
        (key, window.start, policy.window_seconds, now - _SOON),
    )
    returning = _int(rows[0][0 if short.unit == "tokens" else 1])
    ends = window.start + policy.window_seconds - now
    scale, word = (1, "tokens") if short.unit == "tokens" else (10**9, "dollars")
    message = (
        f"the key's window of {policy.window_seconds} s has {short.free / scale:.10g} of "
        f"{short.limit / scale:.10g} {word} left (requests under way count as taken), and this "
        f"request needs {short.needed / scale:.10g}"
    )
    crowded = False
    if short.needed > short.limit:
        wait = None
        message += ": more than a whole window; lower the request's budget"
    elif short.free + returning >= short.needed:
        wait, crowded = min(ends, max(1.0, pace.seconds)), True
        message += "; requests under way may give some of it back"
    else:
        wait = ends
        message += f"; the next window begins in {ends:.0f} s"
    return WindowExhausted(message, unit=short.unit, retry_after=wait, crowded=crowded)


def _named(key: str) -> Operation[KeyRecord]:
    """By id, or by the name of a key in force, or else of the one revoked last."""
    rows = yield (
        f"SELECT {_KEY} FROM eco_keys WHERE id = ? OR name = ? "  # noqa: S608
        "ORDER BY CASE WHEN id = ? THEN 0 WHEN revoked IS NULL THEN 1 ELSE 2 END, revoked DESC",
        (key, key, key),
    )
    if not rows:
        raise UnknownKey(f"there is no key {key!r} (see: ecoalign keys list)")
    return _record(rows[0])


def _record(row: Row) -> KeyRecord:
    key_id, name, policy, created, revoked = row[:5]
    return KeyRecord(
        KeyId(str(key_id)),
        str(name),
        KeyPolicy.from_text(str(policy)),
        _float(created),
        None if revoked is None else _float(revoked),
    )


def _window(row: Row) -> Window:
    start, since, requests, open_, tokens, billionths, held_tokens, held_nano = row[:8]
    return Window(
        _float(start),
        _float(since),
        _int(requests),
        _int(open_),
        Sum(_int(tokens), _int(billionths)),
        Sum(_int(held_tokens), _int(held_nano)),
    )


def _int(value: Value) -> int:
    return int(value or 0)


def _float(value: Value) -> float:
    return float(value or 0.0)


_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE eco_keys (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest TEXT NOT NULL,
            policy TEXT NOT NULL,
            pace TEXT NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            revoked DOUBLE PRECISION
        )""",
        # One name, one key in force, even if two processes create it at the same moment.
        "CREATE UNIQUE INDEX eco_keys_name ON eco_keys (name) WHERE revoked IS NULL",
        """CREATE TABLE eco_windows (
            key_id TEXT NOT NULL REFERENCES eco_keys (id),
            seconds BIGINT NOT NULL,
            start DOUBLE PRECISION NOT NULL,
            since DOUBLE PRECISION NOT NULL,
            requests BIGINT NOT NULL,
            open BIGINT NOT NULL CHECK (open >= 0),
            tokens BIGINT NOT NULL CHECK (tokens >= 0),
            nano BIGINT NOT NULL CHECK (nano >= 0),
            held_tokens BIGINT NOT NULL CHECK (held_tokens >= 0),
            held_nano BIGINT NOT NULL CHECK (held_nano >= 0),
            PRIMARY KEY (key_id, seconds, start)
        )""",
        """CREATE TABLE eco_grants (
            id TEXT PRIMARY KEY,
            key_id TEXT NOT NULL,
            seconds BIGINT NOT NULL,
            start DOUBLE PRECISION NOT NULL,
            tokens BIGINT NOT NULL,
            nano BIGINT NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            FOREIGN KEY (key_id, seconds, start) REFERENCES eco_windows (key_id, seconds, start)
        )""",
        "CREATE INDEX eco_grants_window ON eco_grants (key_id, seconds, start, at)",
    ),
)

VERSION = len(_MIGRATIONS)


def migrate() -> Operation[None]:
    """Bring the tables up to `VERSION`. The caller keeps other processes out meanwhile.

    Raises:
        InputError: a newer version of EcoAlign has written the store.
    """
    yield "CREATE TABLE IF NOT EXISTS eco_schema (version BIGINT NOT NULL)", ()
    rows = yield "SELECT version FROM eco_schema", ()
    version = int(rows[0][0] or 0) if rows else 0
    if version > VERSION:
        raise InputError(
            f"the store of the keys has version {version}, written by a newer EcoAlign; this one "
            f"knows version {VERSION}: upgrade it"
        )
    if version == VERSION:
        return
    for statements in _MIGRATIONS[version:]:
        for statement in statements:
            yield statement, ()
    yield "DELETE FROM eco_schema", ()
    yield "INSERT INTO eco_schema (version) VALUES (?)", (VERSION,)
