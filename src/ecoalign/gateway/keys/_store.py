"""The store of keys: everything but how a database runs an operation."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ecoalign.budget import Budget, Spending
from ecoalign.gateway.keys import _statements as statements
from ecoalign.gateway.keys._policy import (
    Grant,
    KeyId,
    KeyPolicy,
    KeyRecord,
    NewKey,
    WindowUsage,
    matches,
    split,
)
from ecoalign.gateway.keys._statements import Operation
from ecoalign.gateway.keys._writable import written

Result = TypeVar("Result")

_KNOWN_FOR = 2.0
"""Seconds for which a key that was found is not looked up again."""

_MOST_KNOWN = 10_000

_NO_DIGEST = "0" * 64
"""A digest that no key has: an unknown id is compared, too, and takes as long."""


@dataclass(frozen=True, slots=True)
class _Known:
    record: KeyRecord
    digest: str
    until: float


class KeyStore(ABC):
    """Where keys and what they have spent are kept. See `open_store`.

    For every key, window and unit with a limit, at every moment and whatever crashes:

        settled + reserved by open grants  <=  limit

    All methods may be called from many tasks, and many processes may share one store. A subclass
    runs an operation of `_statements` in one transaction.

    A key that was found is remembered for two seconds, so a revoked one may be *found* for that
    long by another process; it is granted nothing from the moment on when it is revoked.

    Args:
        clock: seconds since the epoch, for the windows.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[KeyId, _Known] = {}
        self._background: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def _run(self, operation: Callable[[], Operation[Result]], *, write: bool) -> Result:
        """Run an operation in one transaction; on disk when it returns."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the connections."""

    async def find(self, secret: str) -> KeyRecord | None:
        """The key whose secret this is; None if it is unknown, malformed or revoked.

        Raises:
            StoreError: the store cannot be read.
        """
        key_id = split(secret)
        if key_id is None:
            return None
        now = time.monotonic()
        known = self._known.get(key_id)
        if known is None or known.until <= now:
            found = await self._run(lambda: statements.find(key_id), write=False)
            if found is None:
                self._known.pop(key_id, None)
                matches(secret, _NO_DIGEST)
                return None
            known = _Known(*found, now + _KNOWN_FOR)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key_id] = known
        return known.record if matches(secret, known.digest) else None

    def knows(self, secret: str) -> bool:
        """Whether this is the secret of a key that was found before, by this process and lately.

        It may have been revoked since.
        """
        key_id = split(secret)
        known = None if key_id is None else self._known.get(key_id)
        return known is not None and matches(secret, known.digest)

    async def grant(self, key: KeyRecord, want: Budget, least: Budget | None = None) -> Grant:
        """Reserve what a request may spend; on disk when this returns.

        Args:
            key: who pays. Its policy is read anew: a revoked key gets nothing.
            want: the most that the request wants. A unit with a window that is missing here gets
                a share of what is left of it.
            least: what the request can do with at the least, unit by unit; `want` if None, so that
                it is all or nothing. The grant is somewhere in between.

        Raises:
            WindowExhausted: what is left does not hold `least`.
            UnknownKey: the key was revoked in the meantime.
            StoreError: the store failed; nothing was granted.
        """
        now = self._clock()
        made = asyncio.ensure_future(
            self._run(lambda: statements.grant(key.id, want, least, now), write=True)
        )
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            # The client has disconnected: what is being reserved for it is given back.
            self._later(self._give_back(made))
            raise

    async def settle(self, grant: Grant, spent: Spending) -> None:
        """Replace the reservation by what was spent, at most the reservation itself.

        Dollars that are not known (None) cost the whole reservation. Settling again changes
        nothing. A grant that is never settled stays counted in full.

        Raises:
            StoreError: the store failed; the reservation stays.
        """
        # What was spent is settled also when this is cancelled.
        await asyncio.shield(self._later(self._settle(grant, spent)))

    async def create(self, name: str, policy: KeyPolicy) -> NewKey:
        """Make a key.

        Raises:
            InputError: the name is empty, too long or in use by a key in force.
            StoreError: the store failed.
        """
        now = self._clock()
        return await self._run(lambda: statements.create(name, policy, now), write=True)

    async def keys(self) -> Sequence[KeyRecord]:
        """All keys, revoked ones too, the oldest first."""
        return await self._run(statements.keys, write=False)

    async def revoke(self, key: str) -> KeyRecord:
        """Revoke a key by its id or by the name of a key in force. Doing it twice is no error.

        Raises:
            UnknownKey: there is none.
        """
        now = self._clock()
        record = await self._run(lambda: statements.revoke(key, now), write=True)
        self._known.pop(record.id, None)
        return record

    async def usage(self, key: str, windows: int = 10) -> Sequence[WindowUsage]:
        """What a key (id or name) has spent in its last windows, the newest first.

        Raises:
            UnknownKey: there is none.
        """
        return await self._run(lambda: statements.usage(key, windows), write=False)

    async def ping(self) -> None:
        """Nothing, if the store can be written: for readiness. It leaves nothing behind.

        Raises:
            StoreError: it does not.
        """
        await self._run(written, write=True)

    async def aclose(self) -> None:
        """Finish what is under way and close. Further calls raise StoreError."""
        while self._background:
            await asyncio.wait(self._background)
        await self._close()

    async def _settle(self, grant: Grant, spent: Spending) -> None:
        now = self._clock()
        await self._run(lambda: statements.settle(grant.id, grant.key_id, spent, now), write=True)

    async def _give_back(self, made: asyncio.Future[Grant]) -> None:
        await asyncio.wait([made])
        if not made.cancelled() and made.exception() is None:
            await self._settle(made.result(), Spending())

    def _later(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
