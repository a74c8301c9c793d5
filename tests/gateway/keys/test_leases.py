"""What processes lease ahead: never more than the window, whoever dies, and no room is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from clock import Clock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecoalign.budget import Budget, Ledger, Spending
from ecoalign.gateway.keys import (
    Grant,
    KeyPolicy,
    KeyRecord,
    KeyStore,
    UnknownKey,
    WindowExhausted,
    WindowUsage,
    open_store,
)
from ecoalign.gateway.keys._sqlite import SqliteStore
from ecoalign.models import Usage

Result = TypeVar("Result")
DAY = 86_400
NOON = 20_000 * DAY + DAY / 2.0
YEAR = 365 * DAY


def used(tokens: int) -> Spending:
    return Spending(Usage(tokens, 0))


async def leasing(store: KeyStore, key: KeyRecord, want: int = 10) -> WindowUsage:
    """Spend until the store leases ahead for this process."""
    while True:
        await store.settle(await store.grant(key, Budget(want)), used(1))
        (window,) = await store.usage(key.id)
        if window.leased_tokens:
            return window
        await asyncio.sleep(0.01)


async def spend(store: KeyStore, key: KeyRecord, each: int) -> None:
    """Spend until there is an error."""
    async with asyncio.timeout(20):
        while True:
            await store.settle(await store.grant(key, Budget(10)), used(each))
            await asyncio.sleep(0)


async def keyed(store: KeyStore, limit: int, **more: object) -> KeyRecord:
    policy = KeyPolicy(window_tokens=limit, window_seconds=YEAR, fleet=False, **more)  # type: ignore[arg-type]
    return (await store.create("k", policy)).record


async def test_most_requests_of_a_busy_key_need_no_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "k.sqlite3")
    key = await keyed(store, 10**9)
    await leasing(store, key)
    commits = 0
    run = store._run

    async def counted(operation, *, write):  # type: ignore[no-untyped-def]
        nonlocal commits
        commits += write
        return await run(operation, write=write)

    store._run = counted  # type: ignore[method-assign]
    before = (await store.usage(key.id))[0]
    for _ in range(2000):
        await store.settle(await store.grant(key, Budget(10)), used(7))
        await asyncio.sleep(0)
    assert commits < 400
    window = (await store.usage(key.id))[0]
    # And all of them show at once, in every process.
    other = SqliteStore(tmp_path / "k.sqlite3")
    assert (await other.usage(key.id))[0].tokens == window.tokens
    assert (window.tokens - before.tokens, window.requests - before.requests) == (14_000, 2000)
    await other.aclose()
    await store.aclose()


async def test_what_others_have_leased_refuses_no_request_that_fits(store_url: str) -> None:
    stores = [open_store(store_url) for _ in range(3)]
    key = await keyed(stores[0], 100_000)
    for one in stores[:2]:
        await leasing(one, key)
    (window,) = await stores[0].usage(key.id)
    left = 100_000 - window.tokens
    assert window.leased_tokens > 0
    assert window.held_tokens == 0
    # Every token that is left, at once, although others have leased some of them.
    whole = await stores[2].grant(key, Budget(left))
    assert whole.budget.tokens == left
    with pytest.raises(WindowExhausted) as short:
        await stores[0].grant(key, Budget(1))
    assert short.value.crowded
    await stores[2].settle(whole, used(left))
    with pytest.raises(WindowExhausted) as spent:
        await stores[0].grant(key, Budget(1))
    assert not spent.value.crowded
    await asyncio.gather(*(one.aclose() for one in stores))


async def test_a_lease_that_is_not_used_goes_back(store_url: str) -> None:
    store = open_store(store_url)
    key = await keyed(store, 100_000)
    await leasing(store, key)
    async with asyncio.timeout(20):
        while (await store.usage(key.id))[0].leased_tokens:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (window,) = await store.usage(key.id)
    assert (window.held_tokens, window.open) == (0, 0)
    assert not store._accounts.leases
    await store.aclose()


async def test_a_revoked_key_is_granted_nothing_of_a_lease(store_url: str) -> None:
    one, other = open_store(store_url), open_store(store_url)
    key = await keyed(one, 10**9)
    await leasing(one, key)
    await other.revoke("k")
    with pytest.raises(UnknownKey):
        await spend(one, key, 1)
    # Its own process knows at once.
    again = await other.create("k", KeyPolicy(window_tokens=10**9, window_seconds=YEAR))
    await leasing(one, again.record)
    await one.revoke("k")
    with pytest.raises(UnknownKey):
        await one.grant(again.record, Budget(10))
    await asyncio.gather(one.aclose(), other.aclose())
    third = open_store(store_url)
    for found in (key, again.record):
        (window,) = await third.usage(found.id)
        assert (window.held_tokens, window.leased_tokens, window.open) == (0, 0, 0)
    await third.aclose()


async def test_a_new_limit_holds_for_what_is_leased(store_url: str) -> None:
    one, other = open_store(store_url), open_store(store_url)
    key = await keyed(one, 10**9)
    window = await leasing(one, key)
    limit = window.tokens + window.held_tokens + window.leased_tokens + 100
    await other.update("k", lambda _: KeyPolicy(window_tokens=limit, window_seconds=YEAR))
    with pytest.raises(WindowExhausted):
        await spend(one, key, 10)
    (window,) = await other.usage(key.id)
    assert limit - 10 < window.tokens <= limit
    await asyncio.gather(one.aclose(), other.aclose())


async def test_at_a_border_a_lease_stays_in_its_window(tmp_path: Path) -> None:
    clock = Clock(NOON)
    store = SqliteStore(tmp_path / "k.sqlite3", clock)
    policy = KeyPolicy(window_tokens=100_000, window_seconds=60, fleet=False)
    key = (await store.create("k", policy)).record
    await leasing(store, key)
    late = await store.grant(key, Budget(10))
    clock.now = NOON + 60.0
    first = await store.grant(key, Budget(10))
    await store.settle(first, used(5))
    await store.settle(late, used(9))
    old_tokens = (await store.usage(key.id))[1].tokens
    await store.aclose()
    again = SqliteStore(tmp_path / "k.sqlite3", clock)
    new, old = await again.usage(key.id)
    assert (new.tokens, new.held_tokens, new.open) == (5, 0, 0)
    assert (old.tokens, old.held_tokens, old.open) == (old_tokens, 0, 0)
    await again.aclose()


async def test_the_price_learns_of_what_is_settled_in_leases(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "k.sqlite3")
    policy = KeyPolicy(window_tokens=10**6, window_seconds=YEAR, expected_requests=10**6)
    key = (await store.create("k", policy)).record
    price = 1.0
    async with asyncio.timeout(20):
        while price < 1.5:  # each costs ten times its share
            grant = await store.grant(key, Budget(10))
            price = grant.price_factor
            await store.settle(grant, used(10))
            await asyncio.sleep(0)
    assert store._accounts.leases
    await store.aclose()
    again = SqliteStore(tmp_path / "k.sqlite3")
    assert (await again.grant(key, Budget(10))).price_factor >= price
    await again.aclose()


class Processes(RuleBasedStateMachine):
    """Stores of several processes on one file: they grant, call, settle, sync, die and come back.

    A kill is what is left of a process after it: the tables, and its book with a free lock.
    """

    LIMIT = 40_000

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = Clock(NOON)
        self.stores = [self.opened() for _ in range(3)]
        self.key = self.run(keyed(self.stores[0], self.LIMIT))
        self.open: list[tuple[int, Grant, Ledger]] = []
        self.truth = 0
        self.most_lost = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def opened(self) -> SqliteStore:
        store = SqliteStore(self.folder / "k.sqlite3", self.clock)
        # The rules say when it looks at the store.
        store._keep = lambda *, at_once=False: None  # type: ignore[method-assign]
        return store

    def usage(self) -> WindowUsage | None:
        return next(iter(self.run(self.stores[0].usage(self.key.id))), None)

    @rule(which=st.integers(0, 2), want=st.integers(1, 60), count=st.integers(1, 6))
    def grant(self, which: int, want: int, count: int) -> None:
        async def some() -> None:
            for _ in range(count):
                grant = await self.stores[which].grant(self.key, Budget(want))
                ledger = Ledger(grant.budget, on_change=self.stores[which].watch(grant))
                self.open.append((which, grant, ledger))

        self.run(some())

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 10**6), part=st.floats(0.0, 1.0), ends=st.booleans())
    def call(self, index: int, part: float, ends: bool) -> None:
        _, grant, ledger = self.open[index % len(self.open)]
        tokens = int(part * (grant.budget.tokens or 0))
        if ledger.fits(Usage(tokens, 0), "m"):
            reservation = ledger.reserve("x", Usage(tokens, 0), "m")
            if ends:
                reservation.settle(Usage(max(1, tokens // 2), 0), floor=Usage())

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 10**6))
    def settle(self, index: int) -> None:
        which, grant, ledger = self.open.pop(index % len(self.open))
        spent = ledger.spent.tokens.total + int(ledger.reserved.tokens or 0)
        self.truth += spent
        self.run(self.stores[which].settle(grant, used(spent)))

    @rule(which=st.integers(0, 2))
    def look(self, which: int) -> None:
        store = self.stores[which]
        for lease in list(store._accounts.due()):
            self.run(store._sync(lease))

    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        store = self.stores[which]
        self.run(store._close())
        if store._accounts.book is not None:
            store._accounts.book.close(keep=True)
        for owner, _, ledger in self.open:
            if owner == which:
                self.truth += ledger.spent.tokens.total + int(ledger.reserved.tokens or 0)
        self.open = [one for one in self.open if one[0] != which]
        self.stores[which] = self.opened()

    @rule(which=st.integers(0, 2))
    def release(self, which: int) -> None:
        self.run(self.stores[which].release())

    @invariant()
    def the_window_holds(self) -> None:
        window = self.usage()
        if window is not None:
            assert window.tokens + window.held_tokens + window.leased_tokens <= self.LIMIT
            # All that is known to be spent is there, or held by who is not yet known to be dead.
            assert window.tokens <= self.truth <= window.tokens + window.held_tokens

    def teardown(self) -> None:
        try:
            for which, grant, _ in self.open:
                self.run(self.stores[which].settle(grant, used(0)))
            for store in self.stores[1:]:
                self.run(store.aclose())
            self.run(self.stores[0].release())
            for lease in list(self.stores[0]._accounts.due()):
                self.run(self.stores[0]._sync(lease, all_of_it=True))
            window = self.usage()
            if window is not None:
                assert (window.held_tokens, window.leased_tokens, window.open) == (0, 0, 0)
                assert window.tokens == self.truth
            self.run(self.stores[0].aclose())
            books = [name for name in os.listdir(self.folder) if name.endswith(".book")]
            assert books == []
        finally:
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)


Processes.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_processes_that_lease_and_die = Processes.TestCase
