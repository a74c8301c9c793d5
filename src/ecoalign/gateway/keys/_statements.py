"""What a store does to keys, written once for every database.

An operation is a generator: it yields statements, is sent the rows of each, and returns its
result. A driver runs one operation in one transaction, which is what makes it atomic. `?` stands
for a parameter, and LOCK for what locks the selected rows until the transaction ends, where the
database has not locked everything for it already. What is spent is in `_spending`, and what dead
processes leave behind in `_releasing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ecoalign.budget.pacing import PacingState, Sum
from ecoalign.errors import InputError
from ecoalign.gateway.keys._book import Entry, Reader
from ecoalign.gateway.keys._policy import (
    KeyId,
    KeyPolicy,
    KeyRecord,
    NewKey,
    UnknownKey,
    WindowUsage,
    mint,
    rotated,
)
from ecoalign.gateway.keys._schema import Operation, Row, Value, check_version
from ecoalign.gateway.keys._windows import Window

LOCK = "/*lock*/"

_KEY = "id, name, policy, created, revoked"

COUNTERS = "start, since, requests, open, tokens, nano, held_tokens, held_nano, seconds"

_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A key and what its secrets are known by.

    Attributes:
        record: the key.
        digest: of its secret.
        old_digest: of the secret before the last rotation, None if there is none.
        old_until: until when that one is good, seconds since the epoch.
    """

    record: KeyRecord
    digest: str
    old_digest: str | None
    old_until: float


@dataclass(frozen=True, slots=True)
class Locked:
    """A key whose row this transaction has locked."""

    policy: KeyPolicy
    pace: PacingState
    created: float
    revoked: bool


def create(name: str, policy: KeyPolicy, now: float) -> Operation[NewKey]:
    """See `KeyStore.create`."""
    label = yield from _free_name(name)
    made = mint()
    yield (
        f"INSERT INTO eco_keys ({_KEY}, digest, pace) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (made.id, label, policy.text(), now, None, made.digest, PacingState().to_json()),
    )
    return NewKey(KeyRecord(made.id, label, policy, now), made.text)


def find(key_id: KeyId) -> Operation[Found | None]:
    """The key and its digests, if it is in force."""
    rows = yield (
        f"SELECT {_KEY}, digest, old_digest, old_until FROM eco_keys "  # noqa: S608
        "WHERE id = ? AND revoked IS NULL",
        (key_id,),
    )
    if not rows:
        return None
    digest, old, until = rows[0][5:8]
    return Found(record_of(rows[0]), str(digest), None if old is None else str(old), real(until))


def keys() -> Operation[Sequence[KeyRecord]]:
    """See `KeyStore.keys`."""
    rows = yield f"SELECT {_KEY} FROM eco_keys ORDER BY created, id", ()  # noqa: S608
    return [record_of(row) for row in rows]


def revoke(key: str, now: float) -> Operation[KeyRecord]:
    """See `KeyStore.revoke`."""
    record = yield from named(key)
    if record.revoked is not None:
        return record
    yield "UPDATE eco_keys SET revoked = ? WHERE id = ?", (now, record.id)
    return replace(record, revoked=now)


def update(
    key: str, name: str | None, change: Callable[[KeyPolicy], KeyPolicy]
) -> Operation[KeyRecord]:
    """See `KeyStore.update`."""
    record = yield from _in_force(key)
    # Locked and read again: two updates at once are one after the other.
    yield from locked(record.id)
    record = yield from named(record.id)
    if name is not None and name.strip() != record.name:
        record = replace(record, name=(yield from _free_name(name)))
    changed = replace(record, policy=change(record.policy))
    yield (
        "UPDATE eco_keys SET policy = ?, name = ? WHERE id = ?",
        (changed.policy.text(), changed.name, record.id),
    )
    return changed


def rotate(key: str, grace: float, now: float) -> Operation[NewKey]:
    """See `KeyStore.rotate`."""
    record = yield from _in_force(key)
    yield from locked(record.id)
    made = rotated(record.id)
    yield (
        "UPDATE eco_keys SET old_digest = digest, old_until = ?, digest = ? WHERE id = ?",
        (now + grace, made.digest, record.id),
    )
    return NewKey(record, made.text)


def delete(key: str) -> Operation[KeyRecord]:
    """See `KeyStore.delete`."""
    record = yield from named(key)
    yield from locked(record.id, revoked_too=True)
    rows = yield "SELECT COUNT(*) FROM eco_grants WHERE key_id = ?", (record.id,)
    if whole(rows[0][0]):
        raise InputError(
            f"the key {record.name!r} has requests under way, or reservations of processes that "
            "ended: revoke it and wait, or see: ecoalign keys release"
        )
    for table in ("eco_released", "eco_windows"):
        yield f"DELETE FROM {table} WHERE key_id = ?", (record.id,)  # noqa: S608
    yield "DELETE FROM eco_keys WHERE id = ?", (record.id,)
    return record


def usage(
    key: str, windows: int, reader: Callable[[str], Reader | None]
) -> Operation[tuple[Sequence[WindowUsage], bool]]:
    """See `KeyStore.usage`.

    Args:
        reader: the book of a process: what is in it and not yet in the tables counts, too.

    Returns:
        The windows, and whether all that the books say is in them: a lease that has just ended is
        in neither.
    """
    record = yield from named(key)
    # In one statement, which sees one moment.
    columns = ", ".join(f"w.{name}" for name in COUNTERS.split(", "))
    rows = yield (
        f"SELECT {columns}, g.id, g.process, g.slot, g.tokens, g.nano, g.booked_tokens, "  # noqa: S608
        f"g.booked_nano, g.booked_requests, g.opened FROM (SELECT {COUNTERS} FROM eco_windows "
        "WHERE key_id = ? ORDER BY start DESC, seconds LIMIT ?) w LEFT JOIN eco_grants g ON "
        "g.key_id = ? AND g.start = w.start AND g.seconds = w.seconds AND g.lease = 1 "
        "ORDER BY w.start DESC, w.seconds",
        (record.id, max(1, windows), record.id),
    )
    found: dict[tuple[float, int | None], WindowUsage] = {}
    complete = True
    for row in rows:
        one = window_of(row)
        told = found.get((one.start, one.seconds)) or _usage(one)
        lease = row[9:]
        book = None if lease[0] is None else reader(str(lease[1]))
        if book is not None:
            entry = book.entry(whole(lease[2]), bytes.fromhex(str(lease[0])))
            complete = complete and (entry is not None or whole(lease[2]) < 0)
            told = told if entry is None else _with_lease(told, lease, entry)
        found[one.start, one.seconds] = told
    return list(found.values()), complete


def _usage(one: Window) -> WindowUsage:
    return WindowUsage(
        start=one.start,
        seconds=one.seconds or 0,
        requests=one.requests,
        open=one.open,
        tokens=one.spent.tokens,
        usd=one.spent.usd,
        held_tokens=one.held.tokens,
        held_usd=one.held.usd,
    )


def _with_lease(told: WindowUsage, lease: Row, entry: Entry) -> WindowUsage:
    """The same with what a lease's book says: the row has all that is kept for it as held."""
    kept = Sum(whole(lease[3]), whole(lease[4]))
    unbooked = entry.spent.beyond(Sum(whole(lease[5]), whole(lease[6])))
    idle = kept.beyond(unbooked + entry.held)
    return replace(
        told,
        requests=told.requests + max(0, entry.requests - whole(lease[7])),
        open=max(0, told.open + entry.open - whole(lease[8])),
        tokens=told.tokens + unbooked.tokens,
        usd=round(told.usd + unbooked.usd, 9),
        held_tokens=max(0, told.held_tokens - kept.tokens) + entry.held.tokens,
        held_usd=round(max(0.0, told.held_usd - kept.usd) + entry.held.usd, 9),
        leased_tokens=told.leased_tokens + idle.tokens,
        leased_usd=round(told.leased_usd + idle.usd, 9),
    )


def locked(key: KeyId, *, revoked_too: bool = False) -> Operation[Locked]:
    """The key's row, locked first by everything that spends: one request of a key at a time.

    Raises:
        UnknownKey: there is none.
        InputError: a newer EcoAlign has changed the store since it was opened.
    """
    rows = yield (
        "SELECT policy, pace, created, revoked, "  # noqa: S608
        f"(SELECT MAX(version) FROM eco_schema) FROM eco_keys WHERE id = ? {LOCK}",
        (key,),
    )
    if not rows or (rows[0][3] is not None and not revoked_too):
        raise UnknownKey(f"the key {key} does not exist, or it has been revoked")
    policy, pace, created, revoked, version = rows[0]
    check_version(whole(version))
    return Locked(
        KeyPolicy.from_text(str(policy)),
        PacingState.from_json(str(pace)),
        real(created),
        revoked is not None,
    )


def window_at(key: KeyId, start: float, seconds: int) -> Operation[Window | None]:
    """The counters of one window of a key."""
    rows = yield (
        f"SELECT {COUNTERS} FROM eco_windows "  # noqa: S608
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (key, start, seconds),
    )
    return window_of(rows[0]) if rows else None


def named(key: str) -> Operation[KeyRecord]:
    """By id, or by the name of a key in force, or else of the one revoked last."""
    rows = yield (
        f"SELECT {_KEY} FROM eco_keys WHERE id = ? OR name = ? "  # noqa: S608
        "ORDER BY CASE WHEN id = ? THEN 0 WHEN revoked IS NULL THEN 1 ELSE 2 END, revoked DESC",
        (key, key, key),
    )
    if not rows:
        raise UnknownKey(f"there is no key {key!r} (see: ecoalign keys list)")
    return record_of(rows[0])


def _in_force(key: str) -> Operation[KeyRecord]:
    record = yield from named(key)
    if record.revoked is not None:
        raise UnknownKey(f"the key {record.name!r} has been revoked; make a new one")
    return record


def _free_name(name: str) -> Operation[str]:
    label = name.strip()
    if not label or len(label) > _LONGEST_NAME or not label.isprintable():
        raise InputError(f"a key's name has 1 to {_LONGEST_NAME} printable characters: {name!r}")
    taken = yield (
        "SELECT id FROM eco_keys WHERE (name = ? AND revoked IS NULL) OR id = ?",
        (label, label),
    )
    if taken:
        raise InputError(f"there is a key named {label!r} already; revoke it or choose another")
    return label


def record_of(row: Row) -> KeyRecord:
    """The key of a row that begins with the columns of `_KEY`."""
    key_id, name, policy, created, revoked = row[:5]
    return KeyRecord(
        KeyId(str(key_id)),
        str(name),
        KeyPolicy.from_text(str(policy)),
        real(created),
        None if revoked is None else real(revoked),
    )


def window_of(row: Row) -> Window:
    """The window of a row with the columns of `COUNTERS`."""
    start, since, requests, open_, tokens, billionths, held_tokens, held_nano, seconds = row[:9]
    return Window(
        real(start),
        real(since),
        whole(requests),
        whole(open_),
        Sum(whole(tokens), whole(billionths)),
        Sum(whole(held_tokens), whole(held_nano)),
        whole(seconds),
    )


def whole(value: Value) -> int:
    """A whole number of a database; 0 for NULL."""
    return int(value or 0)


def real(value: Value) -> float:
    """A number of a database; 0 for NULL."""
    return float(value or 0.0)
