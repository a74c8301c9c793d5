"""What dead processes leave behind, and who is dead.

A process has a row as long as it has grants, and a book (see `_book`). It is dead for certain when
the lock of its book is free: then its grants are charged with what the book says that their calls
can have cost at the most, and the rest goes back to the window. Where its book cannot be seen, as
on another machine, it is taken for dead when it has not been heard of for `DEAD_AFTER`, and all
that it held is charged; should it live after all, there is room for all that it was granted, and
what it settles takes the place of that charge, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ecoalign.budget.pacing import NOTHING, Sum
from ecoalign.errors import InputError
from ecoalign.gateway.keys._book import Reader, Shelf
from ecoalign.gateway.keys._policy import KeyId, Released, UnknownKey
from ecoalign.gateway.keys._schema import Operation
from ecoalign.gateway.keys._spending import Owner, book
from ecoalign.gateway.keys._statements import locked, real, whole

DEAD_AFTER = 180.0
"""Seconds without a sign of life after which a process on another machine is taken for dead."""

BEAT = 15.0
"""Seconds between two signs of life."""

NAMELESS = "first-release"
"""What grants of programs that do not say who they are can be released by."""


@dataclass(slots=True)
class Toll:
    """What was released.

    Attributes:
        released: by process and key.
        buried: processes that are dead for certain and have nothing left.
    """

    released: list[Released] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)


def beat(owner: Owner, now: float) -> Operation[None]:
    """The process lives."""
    yield (
        "INSERT INTO eco_processes (id, name, started, seen) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET seen = excluded.seen",
        (owner.process, owner.name, now, now),
    )


def leave(process: str) -> Operation[bool]:
    """The process ends. Returns whether nothing of it is left."""
    rows = yield "SELECT COUNT(*) FROM eco_grants WHERE process = ?", (process,)
    if whole(rows[0][0]):
        return False
    yield "DELETE FROM eco_processes WHERE id = ?", (process,)
    return True


def release(shelf: Shelf, me: str, now: float, only: str | None = None) -> Operation[Toll]:
    """Settle and release the grants of dead processes.

    Args:
        shelf: where the books are.
        me: this process, which lives.
        now: seconds since the epoch.
        only: id or name of a process that the operator says is dead; NAMELESS for grants that
            no process is named for.

    Raises:
        InputError: there is no such process, or it lives.
    """
    rows = yield (
        "SELECT id, name, seen FROM eco_processes UNION "
        "SELECT process, process, MAX(at) FROM eco_grants WHERE process IS NOT NULL AND process "
        "NOT IN (SELECT id FROM eco_processes) GROUP BY process ORDER BY 1",
        (),
    )
    toll = Toll()
    known = only is None
    for row in rows:
        process, name, seen = str(row[0]), str(row[1]), real(row[2])
        if process == me or (only is not None and only not in {process, name}):
            continue
        known = True
        with shelf.examined(process) as (state, reader):
            if state == "alive":
                if only is not None:
                    raise InputError(f"the process {name} is alive: stop it first")
                continue
            if state == "unknown" and only is None and now - seen <= DEAD_AFTER:
                continue
            yield from _release_all(process, name, reader if state == "dead" else None, toll)
            yield "DELETE FROM eco_processes WHERE id = ?", (process,)
            toll.buried.append(process)
    if only == NAMELESS:
        known = True
        yield from _release_all(None, NAMELESS, None, toll)
    if not known:
        raise InputError(f"no process {only!r} has grants (see: ecoalign keys processes)")
    return toll


def processes() -> Operation[Sequence[tuple[str, str, float, float]]]:
    """Id, name, start and last sign of life of each process that has grants."""
    rows = yield "SELECT id, name, started, seen FROM eco_processes ORDER BY started, id", ()
    return [(str(row[0]), str(row[1]), real(row[2]), real(row[3])) for row in rows]


def _release_all(
    process: str | None, name: str, reader: Reader | None, toll: Toll
) -> Operation[None]:
    # In one order of keys, so that no two that release wait for each other.
    whose = "process = ?" if process is not None else "process IS NULL"
    values = () if process is None else (process,)
    rows = yield (
        f"SELECT key_id FROM eco_grants WHERE {whose} GROUP BY key_id ORDER BY key_id",  # noqa: S608
        values,
    )
    for key_row in rows:
        key = KeyId(str(key_row[0]))
        try:
            yield from locked(key, revoked_too=True)
        except UnknownKey:
            continue
        grants = yield (
            "SELECT id, start, seconds, tokens, nano, slot, lease, booked_tokens, "  # noqa: S608
            "booked_nano, "
            f"booked_requests, opened FROM eco_grants WHERE key_id = ? AND {whose}",
            (key, *values),
        )
        opened, charged, back, exact = 0, NOTHING, NOTHING, bool(grants)
        for row in grants:
            held = Sum(whole(row[3]), whole(row[4]))
            cost, requests, now_open = held, 0, whole(row[10])
            entry = None
            if reader is not None:
                entry = reader.entry(whole(row[5]), bytes.fromhex(str(row[0])))
            if entry is not None:
                # What a lease's settled grants have cost is in the book first, and booked later.
                cost = entry.spent.beyond(Sum(whole(row[7]), whole(row[8]))) + entry.exposed
                if whole(row[6]):
                    requests, now_open = max(0, entry.requests - whole(row[9])), entry.open
            exact = exact and entry is not None
            yield (
                "INSERT INTO eco_released (id, key_id, seconds, start, tokens, nano, at, process, "
                "slot, lease, booked_tokens, booked_nano, booked_requests, opened, "
                "charged_tokens, charged_nano) SELECT id, key_id, seconds, start, tokens, nano, "
                "at, ?, slot, lease, booked_tokens, booked_nano, booked_requests + ?, opened, "
                "?, ? FROM eco_grants WHERE id = ?",
                (process or NAMELESS, requests, cost.tokens, cost.nano, row[0]),
            )
            yield "DELETE FROM eco_grants WHERE id = ?", (row[0],)
            yield from book(
                key,
                real(row[1]),
                whole(row[2]),
                cost=cost,
                held=NOTHING - held,
                opened=-whole(row[10]),
                requests=requests,
            )
            opened, charged, back = opened + now_open, charged + cost, back + held.beyond(cost)
        if grants:
            toll.released.append(
                Released(
                    name, key, opened, charged.tokens, charged.usd, back.tokens, back.usd, exact
                )
            )
