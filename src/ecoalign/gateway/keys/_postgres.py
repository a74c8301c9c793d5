"""The store for several machines: PostgreSQL, by URL (extra `postgres`).

Operations are those of the file. Each runs in a transaction of its own that locks the key's row
first, so the requests of one key queue up there and those of different keys do not. The windows
follow the clocks of the machines that ask, which should be in step to a second or so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from ecoalign.errors import InputError
from ecoalign.gateway.keys._book import private_folder
from ecoalign.gateway.keys._policy import StoreError
from ecoalign.gateway.keys._schema import Operation, Row, Value, migrate
from ecoalign.gateway.keys._statements import LOCK
from ecoalign.gateway.keys._store import KeyStore

try:
    from psycopg import AsyncConnection, Error
    from psycopg.errors import UniqueViolation
    from psycopg_pool import AsyncConnectionPool
except ImportError as missing:
    raise InputError(
        "keys in PostgreSQL need a further package: pip install 'ecoalign[postgres]'"
    ) from missing

Result = TypeVar("Result")

_CONNECTIONS = 10

_PATIENCE = 5.0
"""Seconds to wait for a connection."""

_MIGRATING = 0x65636F
"""The advisory lock that keeps two processes from making the tables at once."""

_ON_DISK = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)

_STUCK = (
    "SELECT set_config('idle_in_transaction_session_timeout', '10s', false), "
    "set_config('lock_timeout', '15s', false)"
)
"""A process that is stopped in the middle of a transaction does not keep the others waiting."""


class PostgresStore(KeyStore):
    """A `KeyStore` in PostgreSQL.

    Args:
        url: "postgresql://user@host/database"; libpq's environment variables and its password
            file are honoured, so that the URL need hold no password.
        clock: seconds since the epoch.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock, private_folder)
        self._url = url
        self._opening = asyncio.Lock()
        self._pool: AsyncConnectionPool | None = None
        self._closed = False

    async def _run(self, operation: Callable[[], Operation[Result]], *, write: bool) -> Result:
        if self._closed:
            raise StoreError("the store of the keys is closed")
        try:
            pool = self._pool or await self._open()
            try:
                return await _transact(pool, operation)
            except UniqueViolation:
                # Another process was faster: now the operation sees what that one wrote.
                return await _transact(pool, operation)
        except Error as error:
            raise self._explained(error) from None

    async def _open(self) -> AsyncConnectionPool:
        async with self._opening:
            if self._pool is not None:
                return self._pool
            async with await AsyncConnection.connect(
                self._url, connect_timeout=int(_PATIENCE)
            ) as connection:
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
                await _perform(connection, migrate())
            pool = AsyncConnectionPool(
                self._url,
                min_size=1,
                max_size=_CONNECTIONS,
                open=False,
                timeout=_PATIENCE,
                configure=_configure,
                check=AsyncConnectionPool.check_connection,
            )
            await pool.open()
            self._pool = pool
            return pool

    async def _close(self) -> None:
        self._closed = True
        async with self._opening:
            if self._pool is not None:
                await self._pool.close()

    def _explained(self, error: Error) -> StoreError:
        text = " ".join(str(error).split())
        password = urlsplit(self._url).password
        for secret in {password, unquote(password)} if password else ():
            text = text.replace(secret, "***")
        return StoreError(f"the store of the keys failed: {type(error).__name__}: {text}")


async def _configure(connection: AsyncConnection) -> None:
    """What was granted must survive a crash of the server, whatever its default."""
    await connection.execute(_ON_DISK)
    await connection.execute(_STUCK)
    await connection.commit()


async def _transact(
    pool: AsyncConnectionPool, operation: Callable[[], Operation[Result]]
) -> Result:
    # Leaving the block commits, or rolls back what an error has left.
    async with pool.connection() as connection:
        return await _perform(connection, operation())


async def _perform(connection: AsyncConnection, operation: Operation[Result]) -> Result:
    statement = next(operation, None)
    while statement is not None:
        rows = await _execute(connection, *statement)
        try:
            statement = operation.send(rows)
        except StopIteration as end:
            result: Result = end.value
            return result
    raise StoreError("an operation of the store ended without a statement")


async def _execute(connection: AsyncConnection, text: str, values: tuple[Value, ...]) -> list[Row]:
    query = text.replace(LOCK, "FOR UPDATE").replace("?", "%s").encode()
    cursor = await connection.execute(query, values)
    rows: list[Row] = list(await cursor.fetchall()) if cursor.description else []
    return rows
