"""What the stores have in common: everything but how an operation is run."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ecoalign.budget import Budget, Spending
from ecoalign.gateway.keys import _statements as statements
from ecoalign.gateway.keys._base import Grant, KeyRecord, NewKey, WindowUsage
from ecoalign.gateway.keys._policy import KeyId, KeyPolicy, matches, split
from ecoalign.gateway.keys._statements import Operation

__all__ = ["SqlStore"]

Result = TypeVar("Result")

_KNOWN_FOR = 2.0
"""Seconds for which a key that was found is not looked up again."""

_MOST_KNOWN = 10_000

_NOBODY = "0" * 64
"""A digest that no key has: an unknown id is compared, too, and takes as long."""


@dataclass(frozen=True, slots=True)
class _Known:
    record: KeyRecord
    digest: str
    until: float


class SqlStore(ABC):
    """A `KeyStore` on SQL. A subclass runs an operation in one transaction.

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
        """See `KeyStore.find`."""
        key_id = split(secret)
        if key_id is None:
            return None
        now = time.monotonic()
        known = self._known.get(key_id)
        if known is None or known.until <= now:
            found = await self._run(lambda: statements.find(key_id), write=False)
            if found is None:
                self._known.pop(key_id, None)
                matches(secret, _NOBODY)
                return None
            known = _Known(*found, now + _KNOWN_FOR)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key_id] = known
        return known.record if matches(secret, known.digest) else None

    async def grant(self, key: KeyRecord, want: Budget, least: Budget | None = None) -> Grant:
        """See `KeyStore.grant`."""
        now = self._clock()
        made = asyncio.ensure_future(
            self._run(lambda: statements.grant(key.id, want, least, now), write=True)
        )
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            # The client went away: what is being reserved for it is given back.
            self._later(self._give_back(made))
            raise

    async def settle(self, grant: Grant, spent: Spending) -> None:
        """See `KeyStore.settle`."""
        # Whoever is cancelled while this waits has spent it all the same.
        await asyncio.shield(self._later(self._settle(grant, spent)))

    async def create(self, name: str, policy: KeyPolicy) -> NewKey:
        """See `KeyStore.create`."""
        now = self._clock()
        return await self._run(lambda: statements.create(name, policy, now), write=True)

    async def keys(self) -> Sequence[KeyRecord]:
        """See `KeyStore.keys`."""
        return await self._run(statements.keys, write=False)

    async def revoke(self, key: str) -> KeyRecord:
        """See `KeyStore.revoke`."""
        now = self._clock()
        record = await self._run(lambda: statements.revoke(key, now), write=True)
        self._known.pop(record.id, None)
        return record

    async def usage(self, key: str, windows: int = 10) -> Sequence[WindowUsage]:
        """See `KeyStore.usage`."""
        return await self._run(lambda: statements.usage(key, windows), write=False)

    async def ping(self) -> None:
        """See `KeyStore.ping`."""
        await self._run(lambda: statements.find(KeyId("")), write=False)

    async def aclose(self) -> None:
        """See `KeyStore.aclose`."""
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
