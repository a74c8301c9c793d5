"""A gateway that is killed in the middle of a search, again and again, and what its key pays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
from raw_upstream import Line, RawUpstream
from serving import WAIT, Served, asking, serving

from ecoalign.budget import Budget
from ecoalign.gateway.keys import KeyPolicy, open_store

LIMIT = 400_000
EACH = 10_000
KILLS = 3


async def test_kills_in_the_middle_of_searches_cost_what_was_called_and_no_more(
    tmp_path: Path,
) -> None:
    url = str(tmp_path / "keys.sqlite3")
    store = open_store(url)
    policy = KeyPolicy(window_tokens=LIMIT, window_seconds=366 * 86_400, fleet=False)
    made = await store.create("k", policy)
    asked: asyncio.Queue[Line] = asyncio.Queue()

    async def silent(line: Line) -> None:
        asked.put_nowait(line)
        await line.gone.wait()

    async with RawUpstream(silent) as upstream:
        for _ in range(KILLS):
            options = ("--model", "m", "--base-url", upstream.url, "--keys", url)
            opened = serving(tmp_path, *options, "--budget", str(EACH))
            served: Served = await asyncio.to_thread(opened.__enter__)
            try:
                async with httpx2.AsyncClient(base_url=served.v1, timeout=WAIT) as client:
                    body = asking("hello?")
                    headers = {"authorization": f"Bearer {made.secret}"}
                    request = asyncio.create_task(
                        client.post("/chat/completions", json=body, headers=headers)
                    )
                    await asyncio.wait_for(asked.get(), WAIT)
                    served.process.kill()
                    await asyncio.wait([request])
                    assert request.exception() is not None
            finally:
                await asyncio.to_thread(opened.__exit__, None, None, None)
            while not asked.empty():
                asked.get_nowait()
    # The last one is dead, too, and whoever needs the room finds out.
    (before,) = await store.usage("k")
    rest = LIMIT - before.tokens - before.held_tokens
    assert before.held_tokens == EACH
    whole = await store.grant(made.record, Budget(rest + 1))
    (window,) = await store.usage("k")
    assert (window.open, window.held_tokens) == (1, whole.budget.tokens)
    assert window.requests == KILLS + 1
    # A scan and a draft were under way each time: their bounds, and not the whole budget.
    assert 0 < window.tokens < KILLS * EACH * 0.75
    await store.aclose()
