"""The store of keys: everything but how a database runs an operation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from ecoalign.budget import Budget, Reservation, Spending
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.gateway.keys import _releasing as releasing
from ecoalign.gateway.keys import _spending as spending
from ecoalign.gateway.keys import _statements as statements
from ecoalign.gateway.keys._book import Shelf, State
from ecoalign.gateway.keys._leases import Accounts, Lease
from ecoalign.gateway.keys._policy import (
    Grant,
    GrantId,
    KeyId,
    KeyPolicy,
    KeyRecord,
    NewKey,
    Process,
    Released,
    StoreError,
    WindowExhausted,
    WindowUsage,
    matches,
    split,
)
from ecoalign.gateway.keys._schema import Operation
from ecoalign.gateway.keys._writable import written

Result = TypeVar("Result")

_KNOWN_FOR = 2.0
"""Seconds for which a key that was found is not looked up again."""

_MOST_KNOWN = 10_000

_NO_DIGEST = "0" * 64
"""A digest that no key has: an unknown id is compared, too, and takes as long."""

_TICK = 0.5
"""Seconds between two looks at the store while something is leased."""

_RECALL = 2.5
"""Seconds that a request waits for other processes to give back what they have leased ahead."""

_STEP = 0.1
"""Seconds between two tries meanwhile, and between two looks for dead processes."""

_LOOKS = 4
"""At the books and the tables, until both are of one moment."""

_LONGEST_GRACE = 366 * 86_400.0

_log = logging.getLogger("ecoalign.gateway")


@dataclass(frozen=True, slots=True)
class _Known:
    record: KeyRecord
    digest: str
    old_digest: str | None
    old_until: float
    until: float

    def is_shown(self, secret: str, now: float) -> bool:
        """Whether this is its secret, or the one before it in its time of grace."""
        if self.old_digest is None or now >= self.old_until:
            return matches(secret, self.digest)
        # Both are compared, always: how long it takes does not say which it was.
        new, old = matches(secret, self.digest), matches(secret, self.old_digest)
        return new or old


class KeyStore(ABC):
    """Where keys and what they have spent are kept. See `open_store`.

    For every key, window and unit with a limit, at every moment and whatever crashes:

        settled + reserved by open grants + leased ahead by processes  <=  limit

    as long as no server reports more than the bound of its call; what it reports is charged all the
    same. A key that is busy in a process has a part of its window leased ahead there: its grants
    are then made and settled in memory and booked together, every half second. Where little is
    left, or another process needs the room, every grant is made in the store itself.

    The grants of a process that has died are released by the others (see `_releasing`), at the
    latest when a request does not fit without that.

    All methods may be called from many tasks, and many processes may share one store. A subclass
    runs an operation of `_statements` in one transaction.

    A key that was found is remembered for two seconds, so a revoked one may be *found* for that
    long by another process; it is granted nothing from the moment on when it is revoked, except of
    what is leased already, for half a second.

    Args:
        clock: seconds since the epoch, for the windows.
        books: the folder where processes keep their books; None where they can keep none.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, books: Callable[[], Path | None] | None = None
    ) -> None:
        self._clock = clock
        self._known: dict[KeyId, _Known] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._books = books
        self._owner = spending.Owner(secrets.token_hex(16), f"{socket.gethostname()}:{os.getpid()}")
        self._accounts = Accounts()
        self._owed: dict[GrantId, tuple[KeyId, Spending]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._began = False
        self._looking = asyncio.Lock()
        self._beaten = self._looked = self._released = -1e9

    @abstractmethod
    async def _run(self, operation: Callable[[], Operation[Result]], *, write: bool) -> Result:
        """Run an operation in one transaction; on disk when it returns."""

    @abstractmethod
    async def _close(self) -> None:
        """Close the connections."""

    # -- keys --------------------------------------------------------------------------------------

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
            known = _Known(
                found.record, found.digest, found.old_digest, found.old_until, now + _KNOWN_FOR
            )
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key_id] = known
        return known.record if known.is_shown(secret, self._clock()) else None

    def knows(self, secret: str) -> bool:
        """Whether this is the secret of a key that was found before, by this process and lately.

        It may have been revoked since.
        """
        key_id = split(secret)
        known = None if key_id is None else self._known.get(key_id)
        return known is not None and known.is_shown(secret, self._clock())

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

    async def update(
        self, key: str, change: Callable[[KeyPolicy], KeyPolicy], name: str | None = None
    ) -> KeyRecord:
        """Change what a key may do; its secret, its pace and what it has spent stay.

        A new kind of window begins anew. Processes that know the key take it over within about two
        seconds.

        Args:
            key: its id, or the name of a key in force.
            change: makes the new policy of the old one.
            name: a new name.

        Raises:
            UnknownKey: there is none in force.
            InputError: the new policy or name cannot be.
        """
        record = await self._run(lambda: statements.update(key, name, change), write=True)
        await self._forget(record.id)
        return record

    async def rotate(self, key: str, grace: float = 0.0) -> NewKey:
        """A new secret for a key, which stays the same otherwise.

        Args:
            key: its id, or the name of a key in force.
            grace: seconds for which the old secret is good as well, 0 to 366 days. One before that
                ends at once.

        Raises:
            UnknownKey: there is none in force.
            InputError: `grace` is out of its range.
        """
        if not 0.0 <= grace <= _LONGEST_GRACE:
            raise InputError(f"the time of grace is 0 seconds to 366 days, not {grace!r} s")
        now = self._clock()
        made = await self._run(lambda: statements.rotate(key, grace, now), write=True)
        self._known.pop(made.record.id, None)
        return made

    async def revoke(self, key: str) -> KeyRecord:
        """Revoke a key by its id or by the name of a key in force. Doing it twice is no error.

        Raises:
            UnknownKey: there is none.
        """
        now = self._clock()
        record = await self._run(lambda: statements.revoke(key, now), write=True)
        await self._forget(record.id)
        return record

    async def delete(self, key: str) -> KeyRecord:
        """Delete a key and all that is known of what it has spent.

        Raises:
            UnknownKey: there is none.
            InputError: something is reserved for its requests.
        """
        record = await self._run(lambda: statements.named(key), write=False)
        await self._forget(record.id)
        await self._run(lambda: statements.delete(record.id), write=True)
        return record

    async def usage(self, key: str, windows: int = 10) -> Sequence[WindowUsage]:
        """What a key (id or name) has spent in its last windows, the newest first.

        What a process on another machine has spent of its leases shows after half a second.

        Raises:
            UnknownKey: there is none.
        """
        for lease in self._accounts.due():
            if self._accounts.book is None:
                await self._sync(lease)
        found: Sequence[WindowUsage] = ()
        for _ in range(_LOOKS):
            reader = lru_cache(None)(self._shelf.reader)
            found, complete = await self._run(
                partial(statements.usage, key, windows, reader), write=False
            )
            if complete:
                break
        return found

    # -- spending ----------------------------------------------------------------------------------

    async def grant(self, key: KeyRecord, want: Budget, least: Budget | None = None) -> Grant:
        """Reserve what a request may spend; what is reserved outlives the process.

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
        clock = time.monotonic()
        leased = self._accounts.grant(key.id, want, least, self._clock(), clock)
        if leased is not None:
            if self._accounts.low(key.id):
                self._keep(at_once=True)
            return leased
        made = asyncio.ensure_future(self._granted(key, want, least))
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            # The client has disconnected: what is being reserved for it is given back.
            self._later(self._give_back(made))
            raise

    def watch(self, grant: Grant) -> Callable[[Reservation], None]:
        """What a ledger of this grant must be made with, as `on_change`.

        So this process always knows what the grant's calls can cost at most, and if it is killed,
        they are charged that instead of all that was granted. All calls must go through that
        ledger.
        """
        grant_id = grant.id
        self._accounts.watch(grant_id)
        return lambda reservation: self._accounts.changed(grant_id, reservation)

    async def settle(self, grant: Grant, spent: Spending) -> None:
        """Replace the reservation by what was spent, as it was reported.

        Dollars that are not known (None) cost the whole reservation. Settling again changes
        nothing. A grant that is never settled stays counted in full as long as its process lives.

        Raises:
            StoreError: the store failed; the reservation stays until it works again.
        """
        if self.settle_at_once(grant, spent):
            return
        # What was spent is settled also when this is cancelled.
        await asyncio.shield(self._later(self._settle(grant.id, grant.key_id, spent)))

    def settle_at_once(self, grant: Grant, spent: Spending) -> bool:
        """Settle a grant that is part of a lease; False for others, which `settle` can."""
        return self._accounts.settle(grant.id, spent, self._clock())

    async def release(self, process: str | None = None) -> Sequence[Released]:
        """Settle and release what dead processes have left open.

        Args:
            process: id or name (see `processes`) of one that is known to be dead although it
                was heard of lately, as of a machine that is gone; `first-release` stands for
                grants of programs that do not say who they are.

        Raises:
            InputError: there is no such process, or it lives.
        """
        now = self._clock()
        shelf, me = self._shelf, self._owner.process
        toll = await self._run(lambda: releasing.release(shelf, me, now, process), write=True)
        for dead in toll.buried:
            shelf.forget(dead)
        return toll.released

    async def processes(self) -> Sequence[Process]:
        """The processes that have grants."""
        rows = await self._run(releasing.processes, write=False)
        found = []
        for process, name, started, seen in rows:
            with self._shelf.examined(process) as (state, _):
                known: State = "alive" if process == self._owner.process else state
            found.append(Process(process, name, started, seen, known))
        return found

    async def ping(self) -> None:
        """Nothing, if the store can be written: for readiness. It leaves nothing behind.

        Raises:
            StoreError: it does not.
        """
        await self._run(written, write=True)

    async def aclose(self) -> None:
        """Finish what is under way, book everything and close. Further calls raise StoreError."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        while self._background:
            await asyncio.wait(self._background)
        gone = True
        if self._began:
            self._began = False
            gone = False
            with contextlib.suppress(EcoAlignError):
                for lease in self._accounts.due():
                    await self._sync(lease, all_of_it=True)
                await self._repay()
                gone = await self._run(lambda: releasing.leave(self._owner.process), write=True)
        await self._close()
        book, self._accounts.book = self._accounts.book, None
        if book is not None:
            book.close(keep=not gone)

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _shelf(self) -> Shelf:
        return Shelf(None if self._books is None else self._books())

    async def _granted(self, key: KeyRecord, want: Budget, least: Budget | None) -> Grant:
        """A grant made in the store, when there is room or has been made."""
        until: float | None = None
        while True:
            began = time.monotonic()
            try:
                return await self._exact(key, want, least)
            except WindowExhausted as short:
                await self._release_now()
                if self._released > began:
                    continue
                lease = self._accounts.stop(key.id)
                if lease is not None:
                    await self._sync(lease)
                    continue
                clock = time.monotonic()
                if until is None:
                    until = clock + _RECALL
                    if short.leased:
                        await self._recall(key.id)
                if not short.leased or clock > until:
                    raise
                await asyncio.sleep(_STEP)

    async def _exact(self, key: KeyRecord, want: Budget, least: Budget | None) -> Grant:
        accounts, now = self._accounts, self._clock()
        if not self._began:
            self._began = True
            accounts.book = self._shelf.open(self._owner.process)
            self._beaten = time.monotonic()
            self._later(self._look())
        grant_id = GrantId(secrets.token_hex(16))
        slot = accounts.expect(grant_id, key.id, now).slot
        try:
            opened = await self._run(
                lambda: spending.grant(grant_id, key.id, want, least, now, self._owner, slot),
                write=True,
            )
        except StoreError:
            # It may have been made all the same.
            self._owed[grant_id] = key.id, Spending()
            self._keep()
            raise
        except BaseException:
            accounts.drop(grant_id)
            raise
        accounts.made(grant_id, opened.held)
        clock = time.monotonic()
        if accounts.busy(key.id, opened.held, clock):
            accounts.begin(key.id, key.policy, opened.held, now, clock)
            self._keep(at_once=True)
        self._keep()
        return opened.grant

    async def _settle(self, grant_id: GrantId, key_id: KeyId, spent: Spending) -> None:
        now = self._clock()
        try:
            await self._run(lambda: spending.settle(grant_id, key_id, spent, now), write=True)
        except StoreError:
            self._owed[grant_id] = key_id, spent
            self._keep()
            raise
        self._accounts.drop(grant_id)

    async def _give_back(self, made: asyncio.Future[Grant]) -> None:
        await asyncio.wait([made])
        if not made.cancelled() and made.exception() is None:
            grant = made.result()
            await self._settle(grant.id, grant.key_id, Spending())

    async def _forget(self, key_id: KeyId) -> None:
        """A key has changed: nothing that is known of it here is used again."""
        self._known.pop(key_id, None)
        lease = self._accounts.stop(key_id)
        if lease is not None:
            await self._sync(lease)

    # -- what is done every now and then -----------------------------------------------------------

    def _keep(self, *, at_once: bool = False) -> None:
        """See to it that leases are booked and that the process is heard of, from now on."""
        loop = asyncio.get_running_loop()
        keeper = self._keeper
        if keeper is None or keeper.done() or keeper.get_loop() is not loop:
            self._nudge = asyncio.Event()
            self._keeper = loop.create_task(self._kept())
        if at_once:
            self._nudge.set()

    async def _kept(self) -> None:
        accounts, nudge = self._accounts, self._nudge
        while accounts.open or accounts.leases or self._owed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await nudge.wait()
            nudge.clear()
            try:
                await asyncio.gather(*(self._sync(lease) for lease in accounts.due()))
                await self._repay()
                if time.monotonic() - self._beaten > releasing.BEAT:
                    self._beaten = time.monotonic()
                    await self._beat()
                    await self._release_now()
            except EcoAlignError as error:
                # What is not booked stays reserved, and is booked when the store works again.
                _log.warning("the store of the keys does not answer: %s", error)

    async def _sync(self, lease: Lease, *, all_of_it: bool = False) -> None:
        async with lease.turn:
            if lease.id in self._accounts.leases:
                await self._reported(lease, all_of_it=all_of_it)

    async def _reported(self, lease: Lease, *, all_of_it: bool) -> None:
        accounts = self._accounts
        now, clock = self._clock(), time.monotonic()
        report = accounts.report(lease, now, clock, all_of_it=all_of_it)
        try:
            found = await self._run(
                lambda: spending.synced(lease.key, report, now, self._owner), write=True
            )
        except StoreError:
            accounts.failed(lease)
            raise
        except EcoAlignError:
            # The key was deleted.
            accounts.lose(lease)
            return
        # As old as the question.
        accounts.apply(lease, report, found, clock)

    async def _recall(self, key_id: KeyId) -> None:
        now = self._clock()
        await self._run(lambda: spending.recall(key_id, now, now + 2 * _RECALL), write=True)

    async def _beat(self) -> None:
        now = self._clock()
        await self._run(lambda: releasing.beat(self._owner, now), write=True)

    async def _repay(self) -> None:
        """What could not be settled when it was due."""
        for grant_id, (key_id, spent) in list(self._owed.items()):
            await self._settle(grant_id, key_id, spent)
            self._owed.pop(grant_id, None)

    async def _release_now(self) -> None:
        """Look for dead processes, unless that was done a moment ago; one look at a time."""
        async with self._looking:
            if time.monotonic() - self._looked < _STEP:
                return
            released = await self.release()
            self._looked = time.monotonic()
        if released:
            self._released = self._looked
        for one in released:
            _log.warning(
                "the process %s is dead: %d open grants of the key %s are released, and charged "
                "%d tokens and %.6f dollars",
                *(one.process, one.grants, one.key_id, one.tokens, one.usd),
            )

    async def _look(self) -> None:
        with contextlib.suppress(EcoAlignError):
            await self._release_now()

    def _later(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
