"""Several real processes on one store, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecoalign.budget import Budget
from ecoalign.gateway.keys import KeyPolicy, KeyRecord, WindowExhausted, WindowUsage, open_store

SPENDER = Path(__file__).parents[2] / "support" / "key_spender.py"
YEAR = 365 * 86_400
LIMIT = 10_000


async def a_key(url: str) -> KeyRecord:
    store = open_store(url)
    # One window for as long as the test lasts, whatever the hour.
    policy = KeyPolicy(window_tokens=LIMIT, window_seconds=YEAR, fleet=False)
    made = await store.create("k", policy)
    await store.aclose()
    return made.record


async def the_window(url: str, key: KeyRecord) -> WindowUsage:
    store = open_store(url)
    (window,) = await store.usage(key.id)
    await store.aclose()
    return window


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


async def test_what_a_killed_process_was_granted_stays_counted_in_full(store_url: str) -> None:
    key = await a_key(store_url)
    with spender(store_url, key, "1000", "die", "1000") as process:
        start(process)
        assert process.stdout is not None
        seen = sum(int(process.stdout.readline()) for _ in range(4))
        process.kill()  # in the middle of whatever it is doing
        process.wait()
        seen += sum(int(line) for line in process.stdout)
    window = await the_window(store_url, key)
    # All that it has heard of is there; one more may have been on its way to it.
    assert seen <= window.held_tokens <= min(LIMIT, seen + 1000)
    assert window.open == window.requests == window.held_tokens // 1000
    store = open_store(store_url)
    left = LIMIT - window.held_tokens
    if left:
        await store.grant(key, Budget(left))
    with pytest.raises(WindowExhausted):
        await store.grant(key, Budget(1))
    await store.aclose()


async def test_processes_at_once_never_over_spend(store_url: str) -> None:
    key = await a_key(store_url)
    ways = (("70", "settle", "1000"), ("110", "settle", "1000"), ("130", "die", "12"))
    with (
        spender(store_url, key, *ways[0]) as one,
        spender(store_url, key, *ways[1]) as two,
        spender(store_url, key, *ways[2]) as dead,
    ):
        start(dead)
        assert dead.stdout is not None
        lost = int(dead.stdout.readline())
        start(one)
        start(two)
        first, _ = one.communicate(timeout=60)
        second, _ = two.communicate(timeout=60)
        dead.kill()
        third, _ = dead.communicate(timeout=60)
    settled = sum(int(line) // 2 for line in (first + second).split())
    window = await the_window(store_url, key)
    assert window.tokens == settled
    assert lost == 130
    # The kill may have come between a commit and the line that tells of it.
    told = lost + sum(map(int, third.split()))
    assert window.held_tokens in {told, told + 130}
    assert window.tokens + window.held_tokens <= LIMIT
    # And the window was used as far as the requests allow.
    assert LIMIT - (window.tokens + window.held_tokens) < 110
