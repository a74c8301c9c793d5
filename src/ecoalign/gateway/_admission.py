"""How many requests run at once and how many may wait; the rest are rejected with a Retry-After.

An unbounded queue only moves the failure: all clients wait longer than their timeouts. The limits
hold in one process, as the work does: each process of a deployment has its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import ClassVar

from ecoalign.errors import EcoAlignError

_MEMORY = 0.1
"""Weight of one request in the running mean of durations."""

_FIRST_GUESS = 1.0
"""Seconds that a request is taken to last, at the least, before the first has ended."""

_LONGEST_WAIT = 300.0
"""The largest Retry-After, in seconds."""


class Overloaded(EcoAlignError):
    """The queue is full, or the server is shutting down.

    Attributes:
        retry_after: seconds after which a place should be free, >= 1; an estimate.
        draining: whether the server is shutting down.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, retry_after: float, draining: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.draining = draining


class Durations:
    """How long what is under way may still take, by what ended lately; by whose it is.

    Args:
        clock: seconds, never running backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mean = 0.0
        # By owner, the earliest first.
        self._began: dict[str, dict[object, float]] = {}

    @contextmanager
    def lasting(self, owner: str) -> Iterator[None]:
        """The time of one request."""
        began, one = self._clock(), object()
        self._began.setdefault(owner, {})[one] = began
        try:
            yield
        finally:
            took = self._clock() - began
            self._mean = took if self._mean == 0.0 else self._mean + _MEMORY * (took - self._mean)
            own = self._began[owner]
            del own[one]
            if not own:
                del self._began[owner]

    def each(self, owner: str | None = None) -> float:
        """Seconds that a request takes: the running mean, or what the oldest one under way has
        taken already where that is more; twice as much while none has ended.

        Args:
            owner: whose requests under way are looked at; None for all.
        """
        now, groups = self._clock(), self._began
        held = groups.values() if owner is None else (groups.get(owner, {}),)
        oldest = max((now - next(iter(one.values())) for one in held if one), default=0.0)
        return max(self._mean, oldest) if self._mean else max(_FIRST_GUESS, 2 * oldest)


class Admission:
    """A concurrency limit with a bounded queue, fair between keys.

    Free places go to the waiting keys in turn, each in the order of its own requests; so a key
    with a hundred waiting requests delays another one's by one. In a full queue the key with the
    most waiting requests loses its last one to a key with fewer. Belongs to one event loop.

    Args:
        limit: requests at once, >= 1.
        queue: requests that may wait, >= 0.
        clock: seconds, never running backwards.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, limit: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        if limit < 1 or queue < 0:
            raise ValueError(f"admission: limit {limit} must be >= 1 and queue {queue} >= 0")
        self.limit = limit
        self.queue = queue
        self._running: dict[str, int] = {}
        self._total = 0
        self._waiting = 0
        # Keys with waiting requests, the next one to be served first.
        self._queues: OrderedDict[str, deque[_Ticket]] = OrderedDict()
        self._durations = Durations(clock)
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return self._total

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    @property
    def draining(self) -> bool:
        """Whether new requests are rejected because the server is shutting down."""
        return self._draining

    @asynccontextmanager
    async def slot(self, key: str = "", most: int | None = None) -> AsyncGenerator[None, None]:
        """Wait for a slot and hold it.

        Args:
            key: whose request it is, for fairness and for `most`.
            most: how many of this key may run at once; None is no limit. What is beyond waits,
                and others overtake it.

        Raises:
            Overloaded: at once if the queue is full, or the server is shutting down; or while
                waiting, when it begins to shut down, or when keys that wait for less need the
                place.
        """
        await self._acquire(key, most)
        try:
            with self._durations.lasting(key):
                yield
        finally:
            self._release(key)

    async def drain(self, seconds: float) -> bool:
        """Reject new and waiting requests, and wait for those that run.

        Returns:
            Whether all have ended within `seconds`.
        """
        self._draining = True
        while self._queues:
            self._reject(next(iter(self._queues)), self._closing())
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _acquire(self, key: str, most: int | None) -> None:
        if self._draining:
            raise self._closing()
        if self._total < self.limit and key not in self._queues and self._may(key, most):
            self._occupy(key)
            return
        if self._waiting >= self.queue:
            self._evict(key, most)
        ticket = _Ticket(asyncio.get_running_loop().create_future(), most)
        self._queues.setdefault(key, deque()).append(ticket)
        self._waiting += 1
        try:
            # A turn that was cancelled itself could be given no slot before this is noticed here.
            await asyncio.shield(ticket.turn)
        except asyncio.CancelledError:
            if ticket.waits:
                self._withdraw(key, ticket)
            elif ticket.turn.exception() is None:
                # The slot was handed over at the moment of the cancellation.
                self._release(key)
            raise

    def _may(self, key: str, most: int | None) -> bool:
        return most is None or self._running.get(key, 0) < most

    def _occupy(self, key: str) -> None:
        self._total += 1
        self._running[key] = self._running.get(key, 0) + 1
        self._idle.clear()

    def _release(self, key: str) -> None:
        self._total -= 1
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        if not self._total:
            self._idle.set()
        self._dispatch()

    def _dispatch(self) -> None:
        """Give free slots to the keys in turn."""
        for key in list(self._queues):
            if self._total >= self.limit:
                return
            ticket = self._queues[key][0]
            if self._may(key, ticket.most):
                self._queues.move_to_end(key)
                self._withdraw(key, ticket)
                self._occupy(key)
                ticket.turn.set_result(None)

    def _evict(self, key: str, most: int | None) -> None:
        """Free a place in a full queue at the expense of the longest one, unless that is `key`'s.

        Raises:
            Overloaded: no other queue is longer than this one would be.
        """
        own = len(self._queues.get(key, ())) + 1
        longest = max(self._queues, key=lambda one: len(self._queues[one]), default=None)
        if longest is None or len(self._queues[longest]) <= own:
            raise self._full(most)
        self._reject(longest, self._full(self._queues[longest][-1].most))

    def _reject(self, key: str, why: Overloaded) -> None:
        """Reject the last request in a queue."""
        ticket = self._queues[key][-1]
        self._withdraw(key, ticket)
        ticket.turn.set_exception(why)

    def _withdraw(self, key: str, ticket: _Ticket) -> None:
        ticket.waits = False
        queue = self._queues[key]
        queue.remove(ticket)
        self._waiting -= 1
        if not queue:
            del self._queues[key]

    def _closing(self) -> Overloaded:
        return Overloaded("the server is shutting down", retry_after=1.0, draining=True)

    def _full(self, most: int | None) -> Overloaded:
        """With so many at once, each lasting as long as they do, a place is free after all those
        ahead.

        Args:
            most: how many of the key may run at once.
        """
        at_once = self.limit if most is None else min(self.limit, most)
        ahead = (self._waiting + 1) / at_once
        wait = min(_LONGEST_WAIT, max(1.0, math.ceil(self._durations.each() * ahead)))
        return Overloaded(
            f"the server is busy: {self._total} requests are running and {self._waiting} waiting; "
            f"try again in {wait:.0f} s",
            retry_after=wait,
        )


class _Ticket:
    """A place in the queue."""

    __slots__ = ("most", "turn", "waits")

    def __init__(self, turn: asyncio.Future[None], most: int | None) -> None:
        self.turn = turn
        self.most = most
        self.waits = True


_BURST_SECONDS = 10.0
"""A full bucket holds the requests of this time, at least one."""

_MOST_BUCKETS = 10_000


class RateLimited(EcoAlignError):
    """Too many requests a minute.

    Attributes:
        retry_after: seconds until the next one is let through, > 0.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, rpm: int, retry_after: float) -> None:
        super().__init__(
            f"this key may make {rpm} requests a minute; try again in {retry_after:.1f} s"
        )
        self.retry_after = retry_after


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class RateLimiter:
    """Token buckets by key.

    A bucket starts full, with the requests of ten seconds but at least one, and fills at the
    key's rate. So in any t minutes at most `rpm * t + max(1, rpm / 6)` requests pass.

    Args:
        clock: seconds, never running backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key_id: str, rpm: int | None) -> None:
        """Let one request through. None is no limit.

        Raises:
            RateLimited: the bucket is empty; nothing was taken.
            ValueError: `rpm` is below 1.
        """
        if rpm is None:
            return
        if rpm < 1:
            raise ValueError(f"requests per minute must be 1 or more, not {rpm}")
        now, rate = self._clock(), rpm / 60.0
        size = max(1.0, rate * _BURST_SECONDS)
        bucket = self._buckets.get(key_id)
        if bucket is None:
            self._forget_idle(now)
            bucket = self._buckets[key_id] = _Bucket(size, now)
        bucket.level = min(size, bucket.level + (now - bucket.at) * rate)
        bucket.at = now
        # Sums of fractions may fall short of a whole by rounding alone.
        if bucket.level < 1.0 - 1e-9:
            raise RateLimited(rpm, max(1e-3, (1.0 - bucket.level) / rate))
        bucket.level -= 1.0

    def _forget_idle(self, now: float) -> None:
        """Buckets idle for a minute are full again at any rate; forgetting them changes nothing."""
        if len(self._buckets) >= _MOST_BUCKETS:
            idle = [key for key, bucket in self._buckets.items() if now - bucket.at >= 60.0]
            for key in idle:
                del self._buckets[key]
