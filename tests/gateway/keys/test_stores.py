"""What every store promises, on both databases."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from clock import Clock

from ecoalign.budget import Budget, Spending
from ecoalign.errors import InputError
from ecoalign.gateway.keys import (
    KeyPolicy,
    KeyRecord,
    KeyStore,
    StoreError,
    UnknownKey,
    WindowExhausted,
    open_store,
)
from ecoalign.gateway.keys._postgres import PostgresStore
from ecoalign.gateway.keys._sqlite import SqliteStore
from ecoalign.models import Usage

DAY = 86_400
NOON = 20_000 * DAY + DAY / 2.0


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest_asyncio.fixture
async def store(store_url: str, clock: Clock) -> AsyncIterator[KeyStore]:
    opened = timed(store_url, clock)
    yield opened
    await opened.aclose()


def timed(url: str, clock: Callable[[], float]) -> KeyStore:
    if url.startswith("postgresql"):
        return PostgresStore(url, clock)
    return SqliteStore(Path(url), clock)


def used(tokens: int, usd: float | None = 0.0) -> Spending:
    return Spending(Usage(tokens, 0), usd=usd)


async def keyed(store: KeyStore, **limits: object) -> KeyRecord:
    text = KeyPolicy(fleet=False).to_json() | limits
    return (await store.create("k", KeyPolicy.from_text(json.dumps(text)))).record


async def test_a_key_is_found_by_its_secret_alone(store: KeyStore) -> None:
    policy = KeyPolicy(budget=Budget(100, 0.5), preset="paper", window_tokens=5)
    made = await store.create("  team a ", policy)
    found = await store.find(made.secret)
    assert found == made.record
    assert found is not None
    assert (found.name, found.policy) == ("team a", policy)
    other = made.secret[:-1] + ("a" if made.secret[-1] != "a" else "b")
    unknown = f"eco-{'z' * 12}-{made.secret[-52:]}"
    for wrong in (other, unknown, made.record.id, made.secret + "a", made.secret.upper(), ""):
        assert await store.find(wrong) is None
    assert await store.find(made.secret) == made.record


async def test_no_secret_is_kept(store: KeyStore, store_url: str) -> None:
    made = await store.create("k", KeyPolicy())
    await store.grant(made.record, Budget(10))
    hidden = made.secret.split("-")[2]
    assert hidden not in repr(made)
    if store_url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(store_url) as connection:
            rows = connection.execute("SELECT * FROM eco_keys").fetchall()
        assert made.record.id in str(rows)
        assert hidden not in str(rows)
    else:
        files = list(Path(store_url).parent.iterdir())
        assert any(made.record.id.encode() in file.read_bytes() for file in files)
        assert all(hidden.encode() not in file.read_bytes() for file in files)
        assert all(file.stat().st_mode & 0o077 == 0 for file in files)


async def test_a_revoked_key_is_nobody(store: KeyStore, clock: Clock) -> None:
    made = await store.create("k", KeyPolicy())
    running = await store.grant(made.record, Budget(10))
    clock.now += 5
    revoked = await store.revoke("k")
    assert revoked.revoked == clock.now
    assert await store.find(made.secret) is None
    with pytest.raises(UnknownKey):
        await store.grant(made.record, Budget(10))
    await store.settle(running, used(4))
    assert (await store.usage(made.record.id))[0].tokens == 4
    clock.now += 5
    assert (await store.revoke(made.record.id)).revoked == revoked.revoked
    # The name is free again, and now it means the new key.
    again = await store.create("k", KeyPolicy())
    assert await store.revoke("k") == (await store.keys())[1]
    assert [key.id for key in await store.keys()] == [made.record.id, again.record.id]


async def test_another_process_that_still_knows_a_revoked_key_is_granted_nothing(
    store: KeyStore, store_url: str
) -> None:
    made = await store.create("k", KeyPolicy())
    other = open_store(store_url)
    try:
        known = await other.find(made.secret)
        assert known is not None
        await store.revoke("k")
        with pytest.raises(UnknownKey):
            await other.grant(known, Budget(10))
    finally:
        await other.aclose()


async def test_names(store: KeyStore) -> None:
    first = await store.create("k", KeyPolicy())
    for name in ("k", " k ", first.record.id):
        with pytest.raises(InputError, match="already"):
            await store.create(name, KeyPolicy())
    for name in ("", "  ", "x" * 101, "a\nb"):
        with pytest.raises(InputError, match="printable"):
            await store.create(name, KeyPolicy())
    for call in (store.revoke("nobody"), store.usage("nobody")):
        with pytest.raises(UnknownKey, match="nobody"):
            await call
    assert len(await store.keys()) == 1


async def test_one_name_at_the_same_moment_is_one_key(store_url: str) -> None:
    stores = [open_store(store_url) for _ in range(4)]
    done = await asyncio.gather(
        *(one.create("k", KeyPolicy()) for one in stores), return_exceptions=True
    )
    failed = [one for one in done if isinstance(one, BaseException)]
    assert len(failed) == 3
    assert all(isinstance(one, InputError) for one in failed)
    assert len(await stores[0].keys()) == 1
    await asyncio.gather(*(one.aclose() for one in stores))


async def test_a_window_holds_what_it_holds(store: KeyStore) -> None:
    key = await keyed(store, window_tokens=100)
    first = await store.grant(key, Budget(60, seconds=3.0))
    assert first.budget == Budget(60, seconds=3.0)
    assert first.price_factor == 1.0
    with pytest.raises(WindowExhausted) as short:
        await store.grant(key, Budget(41))
    assert short.value.unit == "tokens"
    assert "40 of 100 tokens left" in str(short.value)
    assert (await store.grant(key, Budget(40))).budget.tokens == 40
    await store.settle(first, used(25))
    (window,) = await store.usage(key.id)
    assert (window.requests, window.open, window.tokens, window.held_tokens) == (2, 1, 25, 40)
    assert (await store.grant(key, Budget(35))).budget.tokens == 35
    with pytest.raises(WindowExhausted):
        await store.grant(key, Budget(1))


async def test_a_grant_is_as_much_of_what_is_wanted_as_fits(store: KeyStore) -> None:
    key = await keyed(store, window_tokens=100)
    await store.grant(key, Budget(70))
    assert (await store.grant(key, Budget(50), Budget(20))).budget == Budget(30)
    with pytest.raises(WindowExhausted):
        await store.grant(key, Budget(50), Budget(1))


async def test_a_unit_that_the_request_does_not_bound_is_bounded_by_the_window(
    store: KeyStore,
) -> None:
    key = await keyed(store, window_tokens=100, window_usd=0.25)
    grant = await store.grant(key, Budget(10))
    assert grant.budget == Budget(10, 0.25)
    with pytest.raises(WindowExhausted) as short:
        await store.grant(key, Budget(10))
    assert short.value.unit == "usd"
    await store.settle(grant, used(10, 0.1))
    assert (await store.grant(key, Budget(10))).budget == Budget(10, 0.15)


async def test_dollars(store: KeyStore) -> None:
    key = await keyed(store, window_usd=0.3)
    grants = [await store.grant(key, Budget(usd=0.1)) for _ in range(3)]
    with pytest.raises(WindowExhausted, match="dollars"):
        await store.grant(key, Budget(usd=1e-9))
    await store.settle(grants[0], used(5, 0.04))
    await store.settle(grants[1], used(5, None))  # unknown is never 0
    (window,) = await store.usage(key.id)
    assert (window.usd, window.held_usd, window.tokens) == (0.14, 0.1, 10)


async def test_what_is_reported_is_charged_also_above_the_grant_and_only_once(
    store: KeyStore,
) -> None:
    key = await keyed(store, window_tokens=100, window_usd=1.0)
    grant = await store.grant(key, Budget(50, 0.5))
    await store.settle(grant, used(140, 2.5))
    await store.settle(grant, used(7, 0.1))
    (window,) = await store.usage(key.id)
    assert (window.tokens, window.usd, window.open) == (140, 2.5, 0)
    assert (window.held_tokens, window.held_usd) == (0, 0.0)
    with pytest.raises(WindowExhausted) as short:
        await store.grant(key, Budget(1))
    assert not short.value.crowded


async def test_no_report_overflows_the_counters(store: KeyStore) -> None:
    key = await keyed(store)
    for _ in range(25):
        grant = await store.grant(key, Budget(10, 0.1))
        await store.settle(grant, used(10**30, 10.0**40))
    (window,) = await store.usage(key.id)
    assert window.tokens == 25 * 10**15
    assert window.usd >= 9e9
    assert (window.held_tokens, window.open) == (0, 0)
    grant = await store.grant(key, Budget(10))
    await store.settle(grant, used(-5, 0.0))
    assert (await store.usage(key.id))[0].tokens == 25 * 10**15


async def test_without_limits_everything_is_counted_and_nothing_refused(store: KeyStore) -> None:
    key = await keyed(store)
    for _ in range(3):
        await store.settle(await store.grant(key, Budget(10**9)), used(10**9, 5.0))
    await store.settle(await store.grant(key, Budget(seconds=1.0)), used(77))
    (window,) = await store.usage(key.id)
    assert (window.requests, window.tokens, window.usd) == (4, 3 * 10**9 + 77, 15.0)


async def test_the_next_window_is_a_new_one(store: KeyStore, clock: Clock) -> None:
    key = await keyed(store, window_tokens=100, window_seconds=60)
    clock.now = NOON + 59.0
    old = await store.grant(key, Budget(100))
    with pytest.raises(WindowExhausted) as short:
        await store.grant(key, Budget(100), Budget(1))
    # What is under way may give something back, but the border is nearer than its mean time.
    assert short.value.retry_after == pytest.approx(1.0)
    clock.now = NOON + 60.0
    await store.grant(key, Budget(40))
    # Settled late, it counts where it was granted.
    await store.settle(old, used(10))
    windows = await store.usage(key.id)
    assert [(one.start - NOON, one.tokens, one.held_tokens) for one in windows] == [
        (60.0, 0, 40),
        (0.0, 10, 0),
    ]
    assert len(await store.usage(key.id, 1)) == 1


async def test_a_grant_says_whether_others_cut_it(store: KeyStore) -> None:
    key = await keyed(store, window_tokens=100)
    whole = await store.grant(key, Budget(50))
    cut = await store.grant(key, Budget(80), Budget(1))
    assert (cut.budget.tokens, cut.crowded, whole.crowded) == (50, True, False)
    await store.settle(whole, used(50))
    await store.settle(cut, used(10))
    # Now the window itself has no more.
    last = await store.grant(key, Budget(80), Budget(1))
    assert (last.budget.tokens, last.crowded) == (40, False)


async def test_retry_after(store: KeyStore, clock: Clock) -> None:
    key = await keyed(store, window_tokens=100)
    with pytest.raises(WindowExhausted, match="more than a whole window") as never:
        await store.grant(key, Budget(101))
    assert never.value.retry_after is None
    assert not never.value.crowded
    done = await store.grant(key, Budget(50))
    clock.now += 1
    await store.settle(done, used(50))
    await store.grant(key, Budget(50))
    with pytest.raises(WindowExhausted) as soon:
        await store.grant(key, Budget(20))
    assert soon.value.retry_after == pytest.approx(1.0)
    assert soon.value.crowded
    with pytest.raises(WindowExhausted) as tomorrow:
        await store.grant(key, Budget(60))
    assert tomorrow.value.retry_after == pytest.approx(DAY / 2 - 1)
    assert not tomorrow.value.crowded
    # Whoever has not settled for so long is not coming back.
    clock.now += 3600
    with pytest.raises(WindowExhausted) as lost:
        await store.grant(key, Budget(20))
    assert lost.value.retry_after == pytest.approx(DAY / 2 - 3601)
    clock.now += lost.value.retry_after or 0.0
    assert (await store.grant(key, Budget(20))).budget.tokens == 20


async def test_a_client_that_leaves_while_it_waits_for_its_grant_gets_none(
    store: KeyStore, store_url: str
) -> None:
    key = await keyed(store, window_tokens=100)
    for _ in range(20):
        asking = asyncio.create_task(store.grant(key, Budget(100)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    await store.aclose()
    again = open_store(store_url)
    assert [one.held_tokens for one in await again.usage(key.id)] in ([0], [])
    await again.aclose()


async def test_a_settlement_happens_even_if_its_task_is_cancelled(
    store: KeyStore, store_url: str
) -> None:
    key = await keyed(store, window_tokens=100)
    grant = await store.grant(key, Budget(100))
    settling = asyncio.create_task(store.settle(grant, used(30)))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    await store.aclose()
    again = open_store(store_url)
    (window,) = await again.usage(key.id)
    assert (window.tokens, window.open) == (30, 0)
    await again.aclose()


async def test_a_closed_store_says_so(store: KeyStore) -> None:
    made = await store.create("k", KeyPolicy())
    await store.aclose()
    for call in (store.ping(), store.grant(made.record, Budget(1)), store.keys()):
        with pytest.raises(StoreError, match="closed"):
            await call


async def test_many_stores_at_once_never_pass_the_window(store_url: str) -> None:
    """Concurrent property: whatever the interleaving, settled + held <= limit, exactly used up."""
    stores = [open_store(store_url) for _ in range(3)]
    key = await keyed(stores[0], window_tokens=1000, window_usd=1.0)
    granted: list[int] = []

    async def client(number: int) -> None:
        store = stores[number % len(stores)]
        for turn in range(12):
            want = 7 + (number * 13 + turn * 5) % 40
            try:
                grant = await store.grant(key, Budget(want, 0.001 * want), Budget(1, 0.001))
            except WindowExhausted:
                continue
            (window,) = await store.usage(key.id)
            assert window.tokens + window.held_tokens <= 1000
            assert window.usd + window.held_usd <= 1.0 + 1e-12
            assert grant.budget.tokens is not None
            spent = max(0, grant.budget.tokens - turn % 3)
            await store.settle(grant, used(spent, min(0.001 * spent, grant.budget.usd or 0.0)))
            granted.append(spent)

    await asyncio.gather(*(client(number) for number in range(12)))
    (window,) = await stores[0].usage(key.id)
    assert window.tokens == sum(granted) <= 1000
    assert window.tokens >= 990
    assert (window.held_tokens, window.open, window.requests) == (0, 0, len(granted))
    await asyncio.gather(*(one.aclose() for one in stores))


async def test_the_price_is_kept_with_the_key(
    store: KeyStore, store_url: str, clock: Clock
) -> None:
    policy = KeyPolicy(window_tokens=10_000, expected_requests=100)
    key = (await store.create("k", policy)).record
    prices = []
    for _ in range(20):  # each costs ten times its share
        grant = await store.grant(key, Budget(1000), Budget(100))
        prices.append(grant.price_factor)
        clock.now += 10
        await store.settle(grant, used(min(1000, grant.budget.tokens or 0)))
        if (await store.usage(key.id))[0].tokens > 8000:
            break
    assert prices[0] == 1.0
    assert prices == sorted(prices)
    assert prices[-1] > 2.0
    again = timed(store_url, clock)
    clock.now += DAY
    assert (await again.grant(key, Budget(10))).price_factor >= prices[-1]
    await again.aclose()


async def test_old_windows_are_forgotten(store: KeyStore, clock: Clock) -> None:
    key = await keyed(store, window_tokens=100, window_seconds=1)
    await store.grant(key, Budget(1))
    clock.now += 200
    await store.grant(key, Budget(2))
    clock.now += 300
    await store.grant(key, Budget(3))
    assert [one.held_tokens for one in await store.usage(key.id)] == [3, 2]


async def test_a_store_of_the_future_is_left_alone(store: KeyStore, store_url: str) -> None:
    await store.ping()
    change = "UPDATE eco_schema SET version = 999"
    if store_url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(store_url) as connection:
            connection.execute(change)
    else:
        with sqlite3.connect(store_url) as file:
            file.execute(change)
        file.close()
    later = open_store(store_url)
    with pytest.raises(InputError, match="newer EcoAlign"):
        await later.ping()
    await later.aclose()
