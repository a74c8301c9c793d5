"""The tables, by version: each entry brings a store from the version before to its own.

`start` and `since` are seconds since the epoch, `nano` billionths of a dollar. The types are
understood by SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from ecoalign.errors import InputError
from ecoalign.gateway.keys.statements import Operation

__all__ = ["VERSION", "migrate"]

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
