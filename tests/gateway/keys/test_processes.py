"""Several real processes on one store, and processes that are killed or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway.keys import (
    KeyPolicy,
    KeyRecord,
    Released,
    WindowExhausted,
    WindowUsage,
    open_store,
)

SPENDER = Path(__file__).parents[2] / "support" / "key_spender.py"
YEAR = 365 * 86_400
LIMIT = 10_000


async def a_key(url: str, limit: int = LIMIT) -> KeyRecord:
    store = open_store(url)
    # One window for as long as the test lasts, whatever the hour.
    policy = KeyPolicy(window_tokens=limit, window_seconds=YEAR, fleet=False)
    made = await store.create("k", policy)
    await store.aclose()
    return made.record


async def the_window(url: str, key: KeyRecord) -> WindowUsage:
    store = open_store(url)
    (window,) = await store.usage(key.id)
    await store.aclose()
    return window


async def released(url: str, process: str | None = None) -> list[Released]:
    store = open_store(url)
    try:
        return list(await store.release(process))
    finally:
        await store.aclose()


async def alive(url: str) -> list[str]:
    """The processes that have grants, and have not been buried."""
    store = open_store(url)
    found = [one.id for one in await store.processes()]
    folder = store._shelf.folder
    await store.aclose()
    assert folder is not None
    assert all((folder / f"ecoalign-{one}.book").exists() for one in found)
    return found


@contextmanager
def spender(url: str, key: KeyRecord, *how: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SPENDER), url, key.id, *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def stop(process: subprocess.Popen[str], url: str) -> None:
    """Stop it, in the middle of anything but a transaction, which would keep others waiting."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if await asyncio.to_thread(_unlocked, url):
            return
        process.send_signal(signal.SIGCONT)


def _unlocked(url: str) -> bool:
    if url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT id FROM eco_keys").fetchall()
            free = "SELECT id FROM eco_keys FOR UPDATE SKIP LOCKED"
            return len(connection.execute(free).fetchall()) == len(rows)
    with contextlib.closing(sqlite3.connect(url, timeout=0, isolation_level=None)) as file:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def killed(process: subprocess.Popen[str]) -> list[str]:
    """End it, in the middle of whatever it is doing; what it still had to say."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    # The last line may be cut.
    return [line.strip() for line in process.stdout if line.endswith("\n")]


async def test_what_a_killed_process_was_granted_and_did_not_tell_of_is_charged_in_full(
    store_url: str,
) -> None:
    key = await a_key(store_url)
    with spender(store_url, key, "1000", "die", "1000") as process:
        start(process)
        seen = sum(map(int, lines(process, 4)))
        seen += sum(map(int, killed(process)))
    window = await the_window(store_url, key)
    # All that it has heard of is there; one more may have been on its way to it.
    assert seen <= window.held_tokens <= min(LIMIT, seen + 1000)
    assert window.open == window.requests == window.held_tokens // 1000
    store = open_store(store_url)
    # Any process that goes on finds out, at the latest when a request does not fit otherwise.
    assert (await store.grant(key, Budget(LIMIT - seen))).budget.tokens == LIMIT - seen
    with pytest.raises(WindowExhausted) as short:
        await store.grant(key, Budget(1))
    (window,) = await store.usage(key.id)
    assert (window.tokens, window.held_tokens, window.open) == (seen, LIMIT - seen, 1)
    assert short.value.crowded
    await store.aclose()


async def test_a_killed_process_costs_what_its_calls_can_have_cost(store_url: str) -> None:
    key = await a_key(store_url)
    with spender(store_url, key, "1000", "call", "5") as process:
        start(process)
        assert lines(process, 5) == ["1000"] * 5
        held = await the_window(store_url, key)
        assert (held.tokens, held.held_tokens, held.open) == (0, 5000, 5)
        assert await released(store_url) == []  # it lives
        assert len(await alive(store_url)) == 1
        killed(process)
    (one,) = await released(store_url)
    assert (one.key_id, one.grants, one.exact) == (key.id, 5, True)
    # Of each a call that has cost 50, and one under way that may cost 100.
    assert (one.tokens, one.returned_tokens) == (750, 4250)
    window = await the_window(store_url, key)
    assert (window.tokens, window.held_tokens, window.open, window.requests) == (750, 0, 0, 5)
    assert await released(store_url) == []
    assert await alive(store_url) == []


async def test_a_process_that_is_stopped_is_not_dead(store_url: str) -> None:
    key = await a_key(store_url)
    with spender(store_url, key, "1000", "wait", "3") as process:
        start(process)
        assert lines(process, 3) == ["1000"] * 3
        await stop(process, store_url)
        store = open_store(store_url)
        (stopped,) = await store.processes()
        assert stopped.state == "alive"
        assert await store.release() == []
        with pytest.raises(InputError, match="is alive"):
            await store.release(stopped.name)
        await store.grant(key, Budget(LIMIT - 3000))
        with pytest.raises(WindowExhausted):
            await store.grant(key, Budget(1))
        process.send_signal(signal.SIGCONT)
        start(process)
        assert lines(process, 1) == ["done"]
        process.wait()
        (window,) = await store.usage(key.id)
        assert (window.tokens, window.held_tokens, window.open) == (1500, LIMIT - 3000, 1)
        await store.aclose()


@pytest.mark.parametrize("leased", [False, True])
async def test_who_was_taken_for_dead_and_lives_is_charged_the_truth_once(
    store_url: str, leased: bool
) -> None:
    """As on another machine, where its book cannot be seen."""
    limit = LIMIT * 1000 if leased else LIMIT
    key = await a_key(store_url, limit)
    with spender(store_url, key, "1000", "wait", "8") as process:
        start(process)
        assert lines(process, 8) == ["1000"] * 8
        await stop(process, store_url)
        store = open_store(store_url)
        (before,) = await store.usage(key.id)
        assert before.held_tokens == 8000
        (away,) = await store.processes()
        book = next(store._shelf.folder.glob(f"*{away.id}*"))  # type: ignore[union-attr]
        book.rename(book.with_suffix(".hidden"))
        assert (await store.processes())[0].state == "unknown"
        assert await store.release() == []  # it was heard of just now
        (one,) = await store.release(away.id)
        assert (one.exact, one.tokens >= 8000, one.returned_tokens) == (False, True, 0)
        (window,) = await store.usage(key.id)
        assert (window.tokens, window.held_tokens, window.open) == (one.tokens, 0, 0)
        process.send_signal(signal.SIGCONT)
        start(process)
        assert lines(process, 1) == ["done"]
        process.wait()
        (window,) = await store.usage(key.id)
        assert (window.tokens, window.held_tokens, window.open) == (4000, 0, 0)
        assert window.requests == 8
        await store.aclose()
        book.with_suffix(".hidden").unlink(missing_ok=True)


async def test_processes_at_once_never_over_spend(store_url: str) -> None:
    key = await a_key(store_url)
    ways = (("70", "settle", "1000"), ("110", "settle", "1000"), ("130", "die", "12"))
    with (
        spender(store_url, key, *ways[0]) as one,
        spender(store_url, key, *ways[1]) as two,
        spender(store_url, key, *ways[2]) as dead,
    ):
        start(dead)
        lost = int(lines(dead, 1)[0])
        start(one)
        start(two)
        first, _ = one.communicate(timeout=60)
        second, _ = two.communicate(timeout=60)
        third = killed(dead)
    settled = sum(int(line) // 2 for line in (first + second).split())
    await released(store_url)
    window = await the_window(store_url, key)
    assert lost == 130
    # The kill may have come between a commit and the line that tells of it.
    told = lost + sum(map(int, third))
    assert window.tokens - settled in {told, told + 130}
    assert (window.held_tokens, window.open) == (0, 0)
    assert window.tokens <= LIMIT
    # And the window was used as far as the requests allow.
    assert LIMIT - window.tokens < 110 + 130


async def test_killed_again_and_again_while_leasing_no_window_is_passed(store_url: str) -> None:
    """Processes that lease ahead, one of them killed every moment, until the window is spent."""
    limit, want, kills = 4_000_000, 200, 6
    key = await a_key(store_url, limit)
    told = 0
    store = open_store(store_url)
    said: list[str] = []
    with spender(store_url, key, str(want), "spin", "4") as lasting:
        start(lasting)
        assert lasting.stdout is not None
        listening = threading.Thread(target=said.extend, args=(lasting.stdout,))
        listening.start()
        for _ in range(kills):
            with spender(store_url, key, str(want), "spin", "4") as process:
                start(process)
                lines(process, 400)
                (window,) = await store.usage(key.id)
                assert window.tokens + window.held_tokens + window.leased_tokens <= limit
                process.kill()
                process.wait()
                assert process.stdout is not None
                told += 400 + sum(1 for line in process.stdout if line.endswith("\n"))
        lasting.kill()
        listening.join()
    told += sum(1 for line in said if line.endswith("\n"))
    await store.release()
    (window,) = await store.usage(key.id)
    assert (window.held_tokens, window.open, window.leased_tokens) == (0, 0, 0)
    # What was settled is there, and at the most what four clients of each had open beside it.
    assert told * want // 2 <= window.tokens
    assert window.tokens <= told * want // 2 + (kills + 1) * 4 * want + (kills + 1) * want
    # Each request that was told of is counted.
    assert window.requests >= told
    # Nothing of it is lost to the next.
    assert (await store.grant(key, Budget(limit - window.tokens))).budget.tokens
    await store.aclose()
