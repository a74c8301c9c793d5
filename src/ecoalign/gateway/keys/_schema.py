"""The tables of the stores, and how older ones become those of today.

Two numbers say what a store is. `VERSION` is what a program must know to spend from it at all, and
changes only where an older one would count money wrongly: such a program is refused when it opens
the store, and again with each grant, if it was running when the store changed. `REVISION` counts
additions that older programs need not know: new tables, and columns that have a default. A program
of the first release spends from a store of revision 2 beside one of today.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

from ecoalign.errors import InputError

Value: TypeAlias = str | int | float | None

Row: TypeAlias = Sequence[Value]

Statement: TypeAlias = tuple[str, tuple[Value, ...]]

Result = TypeVar("Result")

Operation: TypeAlias = Generator[Statement, list[Row], Result]
"""It yields statements, is sent the rows of each, and returns its result."""

VERSION = 1

_REVISIONS: tuple[tuple[str, ...], ...] = (
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
    (
        # Whose grant it is; NULL for one of a program of the first release, which says nothing.
        "ALTER TABLE eco_grants ADD COLUMN process TEXT",
        # Where the process's book tells of it; -1 for nowhere.
        "ALTER TABLE eco_grants ADD COLUMN slot BIGINT NOT NULL DEFAULT -1",
        # 1 for what a process leases ahead, and then what of it has been booked so far, and for
        # how many requests.
        "ALTER TABLE eco_grants ADD COLUMN lease BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE eco_grants ADD COLUMN booked_tokens BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE eco_grants ADD COLUMN booked_nano BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE eco_grants ADD COLUMN booked_requests BIGINT NOT NULL DEFAULT 0",
        # What it counts for in `eco_windows.open`.
        "ALTER TABLE eco_grants ADD COLUMN opened BIGINT NOT NULL DEFAULT 1",
        "CREATE INDEX eco_grants_process ON eco_grants (process)",
        # Until when nothing of this window is leased ahead.
        "ALTER TABLE eco_windows ADD COLUMN recall DOUBLE PRECISION NOT NULL DEFAULT 0",
        # The secret before the last rotation, and until when it is good.
        "ALTER TABLE eco_keys ADD COLUMN old_digest TEXT",
        "ALTER TABLE eco_keys ADD COLUMN old_until DOUBLE PRECISION NOT NULL DEFAULT 0",
        """CREATE TABLE eco_processes (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            started DOUBLE PRECISION NOT NULL,
            seen DOUBLE PRECISION NOT NULL
        )""",
        # Grants of processes taken for dead, and what they were charged with.
        """CREATE TABLE eco_released (
            id TEXT PRIMARY KEY,
            key_id TEXT NOT NULL,
            seconds BIGINT NOT NULL,
            start DOUBLE PRECISION NOT NULL,
            tokens BIGINT NOT NULL,
            nano BIGINT NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            process TEXT NOT NULL,
            slot BIGINT NOT NULL,
            lease BIGINT NOT NULL,
            booked_tokens BIGINT NOT NULL,
            booked_nano BIGINT NOT NULL,
            booked_requests BIGINT NOT NULL,
            opened BIGINT NOT NULL,
            charged_tokens BIGINT NOT NULL,
            charged_nano BIGINT NOT NULL
        )""",
        "CREATE INDEX eco_released_window ON eco_released (key_id, start)",
    ),
)

REVISION = len(_REVISIONS)


def migrate() -> Operation[None]:
    """Bring the tables up to `REVISION`. The caller keeps other processes out meanwhile.

    Raises:
        InputError: a newer version of EcoAlign has written the store.
    """
    yield "CREATE TABLE IF NOT EXISTS eco_schema (version BIGINT NOT NULL)", ()
    rows = yield "SELECT version FROM eco_schema", ()
    version = int(rows[0][0] or 0) if rows else 0
    check_version(version)
    yield "CREATE TABLE IF NOT EXISTS eco_revision (revision BIGINT NOT NULL)", ()
    rows = yield "SELECT revision FROM eco_revision", ()
    # The first release wrote no revision.
    revision = int(rows[0][0] or 0) if rows else version
    if revision >= REVISION:
        return
    for statements in _REVISIONS[revision:]:
        for statement in statements:
            yield statement, ()
    if version == 0:
        yield "INSERT INTO eco_schema (version) VALUES (?)", (VERSION,)
    yield "DELETE FROM eco_revision", ()
    yield "INSERT INTO eco_revision (revision) VALUES (?)", (REVISION,)


def check_version(version: int) -> None:
    """Whether this program may spend from a store of that version.

    Raises:
        InputError: it may not.
    """
    if version > VERSION:
        raise InputError(
            f"the store of the keys has version {version}, written by a newer EcoAlign; this one "
            f"knows version {VERSION}: upgrade it"
        )
