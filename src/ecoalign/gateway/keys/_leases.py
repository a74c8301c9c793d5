"""What a process has open: its grants, and what it leases ahead, in memory and in its book.

A lease is a part of a key's window that the store holds for this process. Grants of it are made and
settled here, by the same rule as in the store, and written into the book; `report` says what is to
be booked, and `apply` takes in what the store knows then. Whatever happens to the process, what it
can have spent of a lease is held for it in the store.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ecoalign.budget import Budget, Money, Reservation, Spending
from ecoalign.budget.pacing import NOTHING, PacingState, Short, Sum, owed
from ecoalign.gateway.keys._book import NOWHERE, Book, Entry
from ecoalign.gateway.keys._policy import Grant, GrantId, KeyId, KeyPolicy
from ecoalign.gateway.keys._spending import Report, Synced
from ecoalign.gateway.keys._windows import MOST_COST, Decision, Window, charge, decide, limits

FRESH = 2.0
"""Seconds after which nothing more is granted of a lease that the store has not confirmed."""

_BUSY = 3
"""A key with so many grants within `_WITHIN` seconds is worth a lease."""

_WITHIN = 1.0

_AHEAD = 2
"""A lease is to hold what was granted since the last look at the store, so many times."""

_LOW = 4
"""With less than this part of it left, a lease asks for more at once."""

_LARGEST = 64
"""And at least so many of the largest grants."""

_MOST_SPENT = Sum(4 * MOST_COST.tokens, 4 * MOST_COST.nano)

_IDLE = 1.0
"""Seconds without a grant after which a lease is given back."""


@dataclass(slots=True)
class Lease:
    """See the module.

    Attributes:
        id: of its row.
        key: whose window.
        slot: in the book.
        policy, window, pace: as of the last look at the store; the window's `held` includes
            `kept`.
        kept: what the store holds for it, beyond what is booked.
        size: what was free then.
        booked: of `spent`, as of that look; likewise `told` of `requests`, and `told_open`.
        costs: of each grant settled since, and the seconds that it was open.
        spent, held, exposed, requests, open: see `Entry`.
        new: whether the store knows it yet.
        stopping: whether nothing more is granted of it.
        confirmed: when the store was last seen, on a clock that never runs backwards.
        used: when something was last granted of it, on that clock.
        granted: all that was held by grants since that look; `largest`: by one of them.
        turn: reports of it are made one after the other.
    """

    id: GrantId
    key: KeyId
    slot: int
    policy: KeyPolicy
    window: Window
    confirmed: float
    used: float
    granted: Sum
    largest: Sum
    pace: PacingState = field(default_factory=PacingState)
    costs: list[tuple[Sum, float]] = field(default_factory=list)
    kept: Sum = field(default_factory=Sum)
    size: Sum = field(default_factory=Sum)
    booked: Sum = field(default_factory=Sum)
    spent: Sum = field(default_factory=Sum)
    held: Sum = field(default_factory=Sum)
    exposed: Sum = field(default_factory=Sum)
    requests: int = 0
    told: int = 0
    open: int = 0
    told_open: int = 0
    new: bool = True
    stopping: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def free(self) -> Sum:
        """What can be granted of it."""
        return self.kept.beyond(self.spent - self.booked + self.held)

    @property
    def now(self) -> Window:
        """The counters of the window, with what this process has done since."""
        was = self.window
        return Window(
            was.start,
            was.since,
            was.requests + self.requests - self.told,
            was.open + self.open - self.told_open,
            was.spent + self.spent - self.booked,
            was.held.beyond(self.kept) + self.held,
            was.seconds,
        )


@dataclass(slots=True)
class Open:
    """A grant that is not settled.

    Attributes:
        key: who pays.
        lease: which it is part of; None where it has a row of its own.
        slot: of its own entry, where it has one.
        held: what is reserved for it.
        exposed: what it has spent, and what its calls under way can cost; all of `held` as long
            as nobody says.
        at: when it was made, on the store's clock.
    """

    key: KeyId
    lease: Lease | None
    slot: int
    held: Sum
    exposed: Sum
    at: float


class Accounts:
    """The grants and leases of this process. Belongs to one store.

    Args:
        book: of this process; None where there can be none.
    """

    def __init__(self) -> None:
        self.book: Book | None = None
        self.open: dict[GrantId, Open] = {}
        self.leases: dict[GrantId, Lease] = {}
        self._current: dict[KeyId, Lease] = {}
        self._recent: dict[KeyId, deque[float]] = {}
        # A ledger may tell of its calls from any thread.
        self._lock = threading.Lock()

    # -- grants with a row of their own ------------------------------------------------------------

    def expect(self, grant_id: GrantId, key: KeyId, at: float) -> Open:
        """A grant that the store is asked for. No call is made before it is there."""
        made = Open(key, None, self._slot(), NOTHING, NOTHING, at)
        with self._lock:
            self.open[grant_id] = made
            self._write(grant_id, made)
        return made

    def made(self, grant_id: GrantId, held: Sum) -> None:
        """It was made, and holds so much; all of it may be spent until someone says otherwise."""
        with self._lock:
            entry = self.open[grant_id]
            entry.held = entry.exposed = held
            self._write(grant_id, entry)

    def drop(self, grant_id: GrantId) -> None:
        """It was not made, or is settled."""
        with self._lock:
            entry = self.open.pop(grant_id, None)
            if entry is not None and entry.lease is None and self.book is not None:
                self.book.give(entry.slot)

    # -- grants of leases --------------------------------------------------------------------------

    def grant(
        self, key: KeyId, want: Budget, least: Budget | None, now: float, clock: float
    ) -> Grant | None:
        """A grant of the key's lease; None where the store must be asked.

        Args:
            key, want, least: see `KeyStore.grant`.
            now: seconds since the epoch.
            clock: seconds, never running backwards.
        """
        lease = self._current.get(key)
        if lease is None or lease.stopping or clock - lease.confirmed > FRESH:
            return None
        start = lease.window.start
        if not start <= now < start + (lease.window.seconds or 0):
            return None
        made = _whole(lease, want) if least is None else None
        if made is None:
            found = decide(lease.policy, lease.now, lease.pace, want, least, now)
            if isinstance(found, Short):
                return None
            made = found
        kept, used, held = lease.kept, lease.spent, made.held
        taken = lease.held
        if (
            held.tokens > kept.tokens - used.tokens + lease.booked.tokens - taken.tokens
            or held.nano > kept.nano - used.nano + lease.booked.nano - taken.nano
        ):
            return None
        grant_id = GrantId(secrets.token_hex(16))
        with self._lock:
            self.open[grant_id] = Open(key, lease, NOWHERE, held, held, now)
            lease.held += held
            lease.exposed += held
            lease.requests += 1
            lease.open += 1
            self._write_lease(lease)
        lease.used = clock
        self._note(lease, held)
        return Grant(grant_id, key, made.budget, made.price, made.crowded)

    def settle(self, grant_id: GrantId, spent: Spending, now: float) -> bool:
        """Settle a grant of a lease; False for one that has a row of its own."""
        with self._lock:
            entry = self.open.get(grant_id)
            lease = None if entry is None else entry.lease
            if entry is None or lease is None:
                return False
            del self.open[grant_id]
            cost = charge(entry.held, spent)
            lease.held -= entry.held
            lease.exposed -= entry.exposed
            lease.spent = (lease.spent + cost).least(_MOST_SPENT)
            lease.open -= 1
            self._write_lease(lease)
        if lease.spent.beyond(MOST_COST) != NOTHING:
            # A server lies: what a lease can have spent has an end, like a counter.
            self.stop_lease(lease)
        if lease.policy.fleet:
            lease.costs.append((cost, now - entry.at))
        return True

    # -- what calls can cost -----------------------------------------------------------------------

    def watch(self, grant_id: GrantId) -> None:
        """From now on `changed` tells of all calls of this grant; until the first, none is made."""
        self._expose(grant_id, None, NOTHING)

    def changed(self, grant_id: GrantId, reservation: Reservation) -> None:
        """A call of this grant is about to be made, or has ended."""
        reserved = reservation.need
        need = Sum(reserved.tokens, Money(reserved.units).billionths(up=True))
        if reservation.state == "open":
            self._expose(grant_id, NOTHING, need)
        elif reservation.state == "released":
            self._expose(grant_id, need, NOTHING)
        else:
            usd = reservation.usd
            nano = need.nano if usd is None else owed(usd) if usd else 0
            self._expose(grant_id, need, Sum(reservation.charged.total, nano))

    def _expose(self, grant_id: GrantId, less: Sum | None, more: Sum) -> None:
        """`less` None: `more` takes the place of what was exposed."""
        with self._lock:
            entry = self.open.get(grant_id)
            if entry is None:
                return
            before = entry.exposed
            entry.exposed = more if less is None else (before - less) + more
            if entry.lease is None:
                self._write(grant_id, entry)
                return
            entry.lease.exposed += entry.exposed - before
            self._write_lease(entry.lease)

    # -- leases and the store ----------------------------------------------------------------------

    def busy(self, key: KeyId, held: Sum, clock: float) -> bool:
        """Count a grant that the store has made. Returns whether the key wants a lease."""
        recent = self._recent.get(key)
        if recent is None:
            if len(self._recent) > 10_000:
                self._recent.clear()
            recent = self._recent[key] = deque(maxlen=_BUSY)
        recent.append(clock)
        lease = self._current.get(key)
        if lease is not None:
            self._note(lease, held)
            return lease.stopping is False
        return len(recent) == _BUSY and clock - recent[0] <= _WITHIN

    def begin(self, key: KeyId, policy: KeyPolicy, held: Sum, now: float, clock: float) -> None:
        """A lease that the store is to be asked for, after a grant that held so much."""
        if key in self._current:
            return
        span = policy.span(now)
        window = Window(span.start, span.start, seconds=span.seconds)
        lease = Lease(
            GrantId(secrets.token_hex(16)),
            key,
            self._slot(),
            policy,
            window,
            confirmed=clock - 2 * FRESH,
            used=clock,
            granted=held,
            largest=held,
        )
        self._current[key] = self.leases[lease.id] = lease
        with self._lock:
            self._write_lease(lease)

    def low(self, key: KeyId) -> bool:
        """Whether the key's lease needs more soon."""
        lease = self._current.get(key)
        if lease is None or lease.stopping or lease.new:
            return False
        free, size = lease.free, lease.size
        return size.tokens > _LOW * free.tokens or size.nano > _LOW * free.nano

    def stop(self, key: KeyId) -> Lease | None:
        """Grant nothing more of the key's lease; it is given back with the next report."""
        lease = self._current.pop(key, None)
        if lease is not None:
            lease.stopping = True
        return lease

    def report(self, lease: Lease, now: float, clock: float, *, all_of_it: bool = False) -> Report:
        """What the store is told of a lease now. `apply` or `failed` must follow."""
        window = lease.window
        over = now >= window.start + (window.seconds or 0)
        if all_of_it or over or (not lease.new and clock - lease.used > _IDLE):
            self.stop_lease(lease)
        with self._lock:
            wish = _times(lease.granted, _AHEAD)
            floor = _times(lease.largest, _LARGEST)
            return Report(
                id=lease.id,
                slot=lease.slot,
                new=lease.new,
                start=window.start,
                seconds=window.seconds or 0,
                spent=lease.spent,
                requests=lease.requests,
                open=lease.open,
                held=lease.held,
                wish=Sum(max(wish.tokens, floor.tokens), max(wish.nano, floor.nano)),
                largest=lease.largest,
                ends=lease.stopping,
                costs=tuple(lease.costs),
            )

    def apply(self, lease: Lease, report: Report, found: Synced, clock: float) -> None:
        """The store has booked a report."""
        if found.gone:
            self.lose(lease)
            return
        with self._lock:
            lease.kept, lease.booked = found.kept, report.spent
            lease.told, lease.told_open = report.requests, report.open
            lease.new = False
            lease.policy, lease.window = found.policy, found.window
            lease.pace = found.pace
            del lease.costs[: len(report.costs)]
            lease.confirmed, lease.size = clock, lease.free
            lease.granted = NOTHING
        if found.stop:
            self.stop_lease(lease)

    def failed(self, lease: Lease) -> None:
        """The store has not answered, and may have done it or not: a new lease is given up."""
        if lease.new:
            self.stop_lease(lease)

    def lose(self, lease: Lease) -> None:
        """The store knows nothing of it any more."""
        self.stop_lease(lease)
        known = self.leases.pop(lease.id, None)
        if known is not None and self.book is not None and not lease.open:
            self.book.give(lease.slot)

    def stop_lease(self, lease: Lease) -> None:
        """See `stop`."""
        lease.stopping = True
        if self._current.get(lease.key) is lease:
            del self._current[lease.key]

    def due(self) -> Iterator[Lease]:
        """All leases."""
        yield from list(self.leases.values())

    # -- inside ------------------------------------------------------------------------------------

    def _note(self, lease: Lease, held: Sum) -> None:
        lease.granted += held
        if held.beyond(lease.largest) != NOTHING:
            lease.largest = Sum(
                max(held.tokens, lease.largest.tokens), max(held.nano, lease.largest.nano)
            )

    def _slot(self) -> int:
        return NOWHERE if self.book is None else self.book.take()

    def _write(self, grant_id: GrantId, entry: Open) -> None:
        if self.book is not None:
            told = Entry(NOTHING, entry.exposed, entry.held, 1, 1)
            self.book.write(entry.slot, bytes.fromhex(grant_id), told)

    def _write_lease(self, lease: Lease) -> None:
        if self.book is not None:
            told = Entry(lease.spent, lease.exposed, lease.held, lease.requests, lease.open)
            self.book.write(lease.slot, bytes.fromhex(lease.id), told)


def _whole(lease: Lease, want: Budget) -> Decision | None:
    """What `decide` says where the request wants all or nothing, bounds all that the window bounds,
    and there is room; the lease is the room."""
    tokens, nano = limits(lease.policy)
    if (tokens is not None and want.tokens is None) or (nano is not None and want.usd is None):
        return None
    held = Sum(want.tokens or 0, 0 if want.usd is None else owed(want.usd))
    paced = lease.policy.fleet and lease.policy.limited
    return Decision(want, held, lease.pace.price if paced else 1.0, crowded=False)


def _times(amount: Sum, factor: int) -> Sum:
    return Sum(amount.tokens * factor, amount.nano * factor)
