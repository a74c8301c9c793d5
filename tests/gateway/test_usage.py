"""GET /v1/ecoalign/usage: what a key has spent of its windows, for that key alone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2
import pytest
from deadlines import Gate, gate, plainly
from raw_upstream import Line, RawUpstream
from serving import WAIT, asking

from ecoalign.budget import Budget
from ecoalign.gateway.keys import KeyPolicy, open_store

PATH = "/v1/ecoalign/usage"

POLICIES = {
    "mine": KeyPolicy(
        method="base",
        window_tokens=100_000,
        window_seconds=3600,
        requests_per_minute=600,
        max_concurrent=8,
        most=Budget(tokens=9000, seconds=60),
        fleet=False,
    ),
    "other": KeyPolicy(method="base", window_tokens=100_000, window_usd=2.0),
    "free": KeyPolicy(method="base"),
}

PRICES = {"openai:m": {"input": 1.0, "output": 1.0}}


async def keyed(home: Path) -> tuple[str, dict[str, str]]:
    """The address of a store, and a key for each policy."""
    url = str(home / "keys.sqlite3")
    store = open_store(url)
    try:
        made = {name: await store.create(name, policy) for name, policy in POLICIES.items()}
        return url, {name: key.secret for name, key in made.items()}
    finally:
        await store.aclose()


async def test_a_key_reads_its_own_account(tmp_path: Path) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(line: Line) -> None:
        await line.asked()
        if line.index:
            asked.set()
            await go.wait()
        await line.say(plainly())
        line.close()

    url, keys = await keyed(tmp_path)
    async with (
        RawUpstream(script) as upstream,
        gate(upstream.url, {"prices": PRICES}, keys=url) as served,
    ):
        told = (await _read(served, keys["mine"])).json()
        assert (told["object"], told["name"], told["time_zone"]) == (
            "ecoalign.usage",
            "mine",
            "UTC",
        )
        assert told["limits"] == {
            "tokens": 100_000,
            "usd": None,
            "window": "3600 s",
            "requests_per_minute": 600,
            "max_concurrent": 8,
            "budget": None,
            "most": "9000,60s",
        }
        (now,) = told["windows"]
        assert now["start"] <= time.time() < now["end"] == now["start"] + 3600
        assert (now["requests"], now["tokens"], now["left_tokens"]) == (0, 0, 100_000)
        assert now["left_usd"] is None

        # One that has ended, and one under way.
        done = await served.ask(asking("hi"), keys["mine"])
        assert done.status == 200
        running = asyncio.create_task(served.ask(asking("hi"), keys["mine"]))
        await asyncio.wait_for(asked.wait(), WAIT)
        now = (await _read(served, keys["mine"])).json()["windows"][0]
        assert (now["requests"], now["open"]) == (2, 1)
        assert now["tokens"] == done.json["usage"]["total_tokens"]
        assert now["held_tokens"] == 9000
        assert now["left_tokens"] == 100_000 - 9000 - now["tokens"]
        go.set()
        assert (await running).status == 200

        # Nobody sees anything of another key.
        theirs = (await _read(served, keys["other"])).json()
        assert theirs["key"] != told["key"]
        assert told["key"] not in str(theirs)
        assert theirs["windows"][0]["requests"] == 0
        assert theirs["windows"][0]["left_usd"] == 2.0
        free = (await _read(served, keys["free"])).json()
        assert (free["limits"]["tokens"], free["windows"][0]["left_tokens"]) == (None, None)
        assert keys["mine"] not in str(told)


async def test_who_may_not_read_it(tmp_path: Path) -> None:
    url, keys = await keyed(tmp_path)
    async with gate("http://127.0.0.1:9/v1", keys=url) as served:
        for key in ("", "wrong", keys["mine"][:-1]):
            assert (await _read(served, key)).status_code == 401
        store = open_store(url)
        await store.revoke("mine")
        await store.aclose()
        assert (await _read(served, keys["mine"])).status_code == 401
        for odd in ("0", "-1", "101", "all", "1e9", ""):
            refused = await _read(served, keys["free"], f"?windows={odd}")
            assert refused.status_code == 400, odd
            assert refused.json()["error"]["param"] == "windows"
    async with gate("http://127.0.0.1:9/v1") as served:
        missing = await _read(served)
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("windows", [1, 2, 5])
async def test_earlier_windows(tmp_path: Path, windows: int) -> None:
    url, keys = await keyed(tmp_path)
    now = [time.time() - 3 * 3600]
    store = open_store(url)
    store._clock = lambda: now[0]
    (record,) = [one for one in await store.keys() if one.name == "mine"]
    for _ in range(3):
        await store.grant(record, Budget(tokens=100))
        now[0] += 3600
    await store.aclose()
    async with gate("http://127.0.0.1:9/v1", keys=url) as served:
        told = (await _read(served, keys["mine"], f"?windows={windows}")).json()["windows"]
    starts = [one["start"] for one in told]
    assert starts == sorted(starts, reverse=True)
    assert len(told) == min(windows, 4)
    assert [one["requests"] for one in told] == [0, 1, 1, 1][:windows]


async def _read(served: Gate, key: str = "", query: str = "") -> httpx2.Response:
    return await served.get(PATH + query, key)
