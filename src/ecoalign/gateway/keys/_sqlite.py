"""The default store: one SQLite file in WAL mode, shared by any number of processes of one machine.

`synchronous=FULL`: what was granted survives a kill and a power cut. The file must be on a local
disk; for several machines there is PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ecoalign.errors import EcoAlignError
from ecoalign.gateway.keys._policy import StoreError
from ecoalign.gateway.keys._schema import Operation, Row, migrate
from ecoalign.gateway.keys._statements import LOCK
from ecoalign.gateway.keys._store import KeyStore

Result = TypeVar("Result")

_TOGETHER = 128
"""Operations in one transaction at the most."""

_PATIENCE = 10.0
"""Seconds to wait for another process that writes."""


@dataclass(slots=True)
class _Task(Generic[Result]):
    """One operation and the future that awaits it. `deliver` is called once, after the commit."""

    operation: Callable[[], Operation[Result]]
    write: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]
    result: Result | None = None
    refusal: EcoAlignError | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        """Run the operation; if it refuses, nothing that it wrote stays.

        Raises:
            sqlite3.Error: the database failed; the transaction is of no use.
        """
        connection.execute("SAVEPOINT one")
        try:
            self.result = _perform(connection, self.operation())
        except EcoAlignError as refusal:
            connection.execute("ROLLBACK TO one")
            self.refusal = refusal
        connection.execute("RELEASE one")

    def deliver(self, failure: Exception | None = None) -> None:
        """Give the result, or why there is none, to the waiting task, if its loop still runs."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._finish, failure or self.refusal)

    def _finish(self, failure: Exception | None) -> None:
        if self.future.done():
            return
        if failure is not None:
            self.future.set_exception(failure)
        else:
            self.future.set_result(cast("Result", self.result))


class SqliteStore(KeyStore):
    """A `KeyStore` in a file, written by one thread, which starts with the first operation.

    Args:
        path: the file; made with the first use, its folder too, readable by its owner only.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        # Beside the file: whoever can use the store can see the books.
        super().__init__(clock, lambda: path.parent)
        self.path = path
        self._tasks: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._file = (0, 0)

    async def _run(self, operation: Callable[[], Operation[Result]], *, write: bool) -> Result:
        if self._closed:
            raise StoreError("the store of the keys is closed")
        if self._thread is None:
            # A daemon: whatever it is doing when the process ends is whole or not there at all.
            self._thread = threading.Thread(target=self._work, name="ecoalign-keys", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._tasks.put(_Task(operation, write, loop, future))
        return await future

    async def _close(self) -> None:
        self._closed = True
        if self._thread is not None:
            self._tasks.put(None)
            await asyncio.to_thread(self._thread.join)

    # -- in the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while (batch := self._gather()) is not None:
            try:
                if connection is not None and not self._is_there():
                    connection.close()
                    connection = None
                if connection is None:
                    connection = _connect(self.path)
                    self._file = _identity(self.path)
                _transact(connection, batch)
            except Exception as error:
                # Whatever it is, all waiting operations get it, and the thread goes on.
                failure = _explained(self.path, error)
                if connection is not None and connection.in_transaction:
                    connection.rollback()
                for task in batch:
                    task.deliver(failure)
            else:
                for task in batch:
                    task.deliver()
        if connection is not None:
            connection.close()

    def _is_there(self) -> bool:
        """Whether the file is the one that was opened; another in its place has to be opened.

        Raises:
            StoreError: there is none: what is written would be lost.
        """
        try:
            return _identity(self.path) == self._file
        except OSError:
            raise StoreError(f"the store of the keys, {self.path}, is gone") from None

    def _gather(self) -> list[_Task[Any]] | None:
        """What waits, at least one task; None when it is time to end."""
        first = self._tasks.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < _TOGETHER:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is None:
                # For the next turn, after this batch.
                self._tasks.put(None)
                break
            batch.append(task)
        return batch


def _transact(connection: sqlite3.Connection, batch: list[_Task[Any]]) -> None:
    # Taking the write lock at once: a reader cannot become a writer after another one has written.
    connection.execute("BEGIN IMMEDIATE" if any(task.write for task in batch) else "BEGIN")
    for task in batch:
        task.attempt(connection)
    connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        _perform(connection, migrate())
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _perform(connection: sqlite3.Connection, operation: Operation[Result]) -> Result:
    rows: list[Row] = []
    statement = next(operation, None)
    while statement is not None:
        text, values = statement
        rows = connection.execute(text.replace(LOCK, ""), values).fetchall()
        try:
            statement = operation.send(rows)
        except StopIteration as end:
            result: Result = end.value
            return result
    raise StoreError("an operation of the store ended without a statement")


def _explained(path: Path, error: Exception) -> EcoAlignError:
    if isinstance(error, EcoAlignError):
        return error
    return StoreError(f"the store of the keys, {path}, failed: {type(error).__name__}: {error}")
