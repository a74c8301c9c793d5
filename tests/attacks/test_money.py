"""Servers that lie about what they bill, and many requests that want a key's window at once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from deadlines import Ended, Gate, after, gate, says_nothing, well
from hostile import completion
from raw_upstream import Line, RawUpstream, Script, answer, chunked
from serving import WAIT, asking

from ecoalign.budget import Budget
from ecoalign.gateway.keys import KeyPolicy, WindowUsage, open_store

YEAR = 366 * 86_400


async def keyed(home: Path, **policies: KeyPolicy) -> tuple[str, dict[str, str]]:
    """The address of a store, and the keys in it."""
    url = str(home / "keys.sqlite3")
    store = open_store(url)
    try:
        made = {name: await store.create(name, policy) for name, policy in policies.items()}
        return url, {name: key.secret for name, key in made.items()}
    finally:
        await store.aclose()


async def used(url: str, name: str) -> WindowUsage:
    """The only window of a key."""
    store = open_store(url)
    try:
        (window,) = await store.usage(name)
        return window
    finally:
        await store.aclose()


# Servers that lie --------------------------------------------------------------------------------

LIES: dict[str, dict[str, Any]] = {
    "140,000 above the cap": {"prompt_tokens": 50, "completion_tokens": 144_096},
    "a prompt that nobody sent": {"prompt_tokens": 2_000_000, "completion_tokens": 3},
    "only the total": {"prompt_tokens": 50, "completion_tokens": 3, "total_tokens": 5_000_000},
    "thoughts that no model has": {
        "prompt_tokens": 50,
        "completion_tokens": 900_000,
        "completion_tokens_details": {"reasoning_tokens": 900_000},
    },
    "more than any number": {"prompt_tokens": 10**18, "completion_tokens": 10**30},
}

SAID = {
    "140,000 above the cap": 144_146,
    "a prompt that nobody sent": 2_000_003,
    "only the total": 5_000_000,
    "thoughts that no model has": 900_050,
    "more than any number": 200_000_000,
}


def lying(usage: Mapping[str, Any]) -> Script:
    """A good server, but for its count; in a stream that of the end, and on every chunk."""

    async def script(line: Line) -> None:
        asked = (await line.asked()).body
        if json.loads(asked).get("stream"):
            piece = {"choices": [{"index": 0, "delta": {"content": "CANARY "}}], "usage": usage}
            events = [b"data: " + json.dumps(piece).encode() + b"\n\n"] * 3
            await line.say(chunked(*events, b"data: [DONE]\n\n", kind="text/event-stream"))
        else:
            body = json.loads(well(asked).partition(b"\r\n\r\n")[2]) | {"usage": usage}
            await line.say(answer(json.dumps(body).encode(), "Connection: close"))
        line.close()

    return script


ROUTES = {
    "base": ({"method": "base"}, False, 1),
    "base-stream": ({"method": "base"}, True, 1),
    "cot": ({"method": "cot"}, False, 1),
    "ecoalign": ({"method": "ecoalign"}, False, 2),
    "ecoalign-stream": ({"method": "ecoalign"}, True, 2),
    "responses": ({"method": "base"}, False, 1),
    "best-of-3": ({"method": "best-of-3"}, False, 3),
    "ecso": ({"method": "ecso"}, False, 1),
}

CHAT = "chat/completions"

PATHS = {"responses": "responses"}

RICH = KeyPolicy(
    window_tokens=10**12,
    window_seconds=YEAR,
    fleet=False,
    may_choose=frozenset({"budget", "method", "base", "trace"}),
)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_lies_is_charged_so_stopped_and_named(
    tmp_path: Path, lie: str, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, keys = await keyed(tmp_path, rich=RICH)
    options, stream, at_once = ROUTES[route]
    async with (
        RawUpstream(lying(LIES[lie])) as upstream,
        gate(upstream.url, keys=url) as served,
    ):
        chosen = {**options, "budget": {"tokens": 60_000, "seconds": WAIT}}
        with caplog.at_level(logging.WARNING, "ecoalign.request"):
            body = asking("hi", stream=stream, ecoalign=chosen)
            if route == "responses":
                body = {"model": "ecoalign", "input": "hi", "ecoalign": chosen}
            ended = await served.ask(body, keys["rich"], f"/v1/{PATHS.get(route, CHAT)}")
    assert ended.code == "model_false_usage", ended
    assert ended.status == 502
    assert ended.headers["x-should-retry"] == "false"
    assert "CANARY" not in ended.text
    assert upstream.url not in ended.text
    assert 1 <= len(upstream.lines) <= at_once
    (named,) = [one.getMessage() for one in caplog.records if "reported" in one.getMessage()]
    assert "openai:m reported" in named
    assert "probe" in named
    account = await used(url, "rich")
    assert (account.open, account.held_tokens) == (0, 0)
    # Charged as reported, by each of the calls that were under way.
    assert SAID[lie] <= account.tokens


async def test_a_stream_that_lies_at_its_end_says_so_in_the_stream(tmp_path: Path) -> None:
    """What was sent cannot be taken back; the error follows it."""

    async def script(line: Line) -> None:
        await line.asked()
        piece = {"choices": [{"index": 0, "delta": {"content": "The sign says Harbour. "}}]}
        told = {"choices": [], "usage": LIES["140,000 above the cap"]}
        events = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in (piece, told)]
        head, _, first = chunked(events[0], kind="text/event-stream").partition(b"\r\n\r\n")
        await line.say(head + b"\r\n\r\n" + first.removesuffix(b"0\r\n\r\n"))
        seen.set()
        await go.wait()
        await line.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(events[1]), events[1]))
        line.close()

    seen, go = asyncio.Event(), asyncio.Event()
    url, keys = await keyed(tmp_path, rich=RICH)
    async with RawUpstream(script) as upstream, gate(upstream.url, keys=url) as served:
        body = asking("hi", stream=True, ecoalign={"method": "base"})
        headers = {"authorization": f"Bearer {keys['rich']}"}
        async with served.client.stream(
            "POST", "/v1/chat/completions", json=body, headers=headers
        ) as reply:
            lines = reply.aiter_lines()
            first = await anext(lines)
            go.set()
            rest = "\n".join([one async for one in lines])
    assert "Harbour" in first
    assert "model_false_usage" in rest
    assert "[DONE]" not in rest
    assert (await used(url, "rich")).tokens >= SAID["140,000 above the cap"]


async def test_an_evaluator_that_lies_is_named_as_one() -> None:
    async def writes(line: Line) -> None:
        await line.say(well((await line.asked()).body))
        line.close()

    async with (
        RawUpstream(writes) as writer,
        RawUpstream(lying(LIES["140,000 above the cap"])) as judge,
        gate(
            writer.url,
            {
                "evaluator": "judge",
                "endpoints": {"judge": {"model": "j", "base_url": judge.url}},
            },
        ) as served,
    ):
        ended = await served.ask(asking("hi", ecoalign={"method": "ecoalign"}))
        assert (ended.status, ended.code) == (502, "evaluator_false_usage")
        assert len(judge.lines) == 1
        assert len(writer.lines) <= 3


async def test_a_liar_is_not_believed_by_a_batch_of_requests_either(tmp_path: Path) -> None:
    """The key of such a server is used up by what it says, and then nobody asks it."""
    policy = KeyPolicy(window_tokens=200_000, window_seconds=YEAR, method="base", fleet=False)
    url, keys = await keyed(tmp_path, one=policy)
    upstream = RawUpstream(lying(LIES["140,000 above the cap"]))
    async with upstream, gate(upstream.url, keys=url) as served:
        codes = [(await served.ask(asking("hi"), keys["one"])).code for _ in range(6)]
    assert codes == ["model_false_usage"] * 2 + ["insufficient_quota"] * 4
    assert len(upstream.lines) == 2
    assert (await used(url, "one")).tokens == 2 * SAID["140,000 above the cap"]


HONEST: dict[str, dict[str, Any]] = {
    "a little above the cap": {"prompt_tokens": 50, "completion_tokens": 32 + 8},
    "thoughts beside the cap": {
        "prompt_tokens": 50,
        "completion_tokens": 20_000,
        "completion_tokens_details": {"reasoning_tokens": 19_990},
    },
    "a system prompt of its own": {"prompt_tokens": 6000, "completion_tokens": 5},
    "a cache": {
        "prompt_tokens": 60,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 50},
    },
    "null": {"prompt_tokens": None, "completion_tokens": None},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", HONEST)
async def test_an_honest_server_is_passed_on(tmp_path: Path, kind: str, stream: bool) -> None:
    url, keys = await keyed(tmp_path, rich=RICH)
    async with RawUpstream(lying(HONEST[kind])) as upstream, gate(upstream.url, keys=url) as served:
        body = asking("hi", stream=stream, max_tokens=32, ecoalign={"method": "base"})
        ended = await served.ask(body, keys["rich"])
        assert (ended.status, ended.code) == (200, ""), ended
    account = await used(url, "rich")
    told = sum(HONEST[kind][name] or 0 for name in ("prompt_tokens", "completion_tokens"))
    assert account.tokens == told or (not told and account.tokens > 0)


# Many at once -------------------------------------------------------------------------------------


def _room(ended: Ended) -> None:
    """Refused for want of room, in words that a client understands."""
    assert (ended.status, ended.code) == (429, "rate_limit_exceeded"), ended
    assert int(ended.headers["retry-after"]) >= 1
    assert ended.headers.get("x-should-retry") != "false"


POLICIES = {
    "a budget that only just does": KeyPolicy(
        window_tokens=30_000, fleet=False, budget=Budget(tokens=9000)
    ),
    "tokens": KeyPolicy(window_tokens=60_000, fleet=False, budget=Budget(tokens=15_000)),
    "tokens, paced": KeyPolicy(window_tokens=60_000, budget=Budget(tokens=15_000)),
    "tokens, a large budget": KeyPolicy(window_tokens=60_000, budget=Budget(tokens=60_000)),
    "dollars": KeyPolicy(window_usd=0.9, fleet=False, budget=Budget(usd=0.3)),
    "dollars, paced": KeyPolicy(window_usd=0.9, budget=Budget(usd=0.3)),
    "both": KeyPolicy(window_tokens=60_000, window_usd=2.0, budget=Budget(tokens=15_000)),
    "base": KeyPolicy(window_tokens=60_000, method="base"),
}


PRICES = {"openai:gpt-4o": {"input": 2.5, "output": 10.0}}


@pytest.mark.parametrize("name", POLICIES)
async def test_many_at_once_are_never_told_that_the_window_is_spent(
    tmp_path: Path, name: str
) -> None:
    """Hardly any of it is spent: some are answered, others told to come again, and then answered,
    one after the other."""
    policy = POLICIES[name]
    url, keys = await keyed(tmp_path, many=policy)
    go = asyncio.Event()

    async def script(line: Line) -> None:
        asked = (await line.asked()).body
        await go.wait()
        await line.say(well(asked))
        line.close()

    async with (
        RawUpstream(script) as upstream,
        gate(upstream.url, {"model": "gpt-4o", "prices": PRICES}, keys=url) as served,
    ):
        body = asking("what does the sign say?")
        asks = [asyncio.create_task(served.ask(body, keys["many"])) for _ in range(24)]
        # Those that find no room are told so while the others are under way.
        early, _ = await asyncio.wait(asks, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
        go.set()
        ended = [await one for one in asks]
        refused = [one for one in ended if one.status != 200]
        for one in refused:
            _room(one)
        assert len(ended) > len(refused) > 0
        assert refused or early
        again = [await served.ask(body, keys["many"]) for _ in refused[:6]]
        assert Counter(one.status for one in again) == {200: len(again)}, again[0]


async def test_a_window_that_is_spent_is_said_to_be(tmp_path: Path) -> None:
    policy = KeyPolicy(window_tokens=3000, window_seconds=YEAR, method="base", fleet=False)
    url, keys = await keyed(tmp_path, one=policy)

    async def script(line: Line) -> None:
        await line.asked()
        spent = {"prompt_tokens": 2500, "completion_tokens": 3, "total_tokens": 2503}
        body = json.dumps(completion(usage=spent)).encode()
        await line.say(answer(body, "Connection: close"))
        line.close()

    async with RawUpstream(script) as upstream, gate(upstream.url, keys=url) as served:
        body = asking("hi", max_tokens=600)
        assert (await served.ask(body, keys["one"])).status == 200
        ended = await served.ask(body, keys["one"])
        assert (ended.status, ended.code) == (429, "insufficient_quota")
        assert ended.headers["x-should-retry"] == "false"
        left = (await served.get("/v1/ecoalign/usage", keys["one"])).json()["windows"][0]
        assert 0 <= left["end"] - left["start"] - YEAR < 1
        assert int(ended.headers["retry-after"]) > 0
        assert left["left_tokens"] == 3000 - 2503
        # A smaller one still fits.
        assert (await served.ask(asking("hi", max_tokens=30), keys["one"])).status == 200


async def test_clients_that_leave_are_settled(tmp_path: Path) -> None:
    url, keys = await keyed(tmp_path, rich=RICH)
    async with (
        RawUpstream(after(3, says_nothing)) as upstream,
        gate(upstream.url, keys=url) as served,
    ):
        bodies = [
            asking("hi", stream=bool(n % 2), ecoalign={"method": method})
            for n in range(4)
            for method in ("base", "ecoalign", "best-of-2")
        ]
        asks = [asyncio.create_task(served.ask(body, keys["rich"])) for body in bodies]
        await _asked(served, upstream, 6)
        for one in asks:
            one.cancel()
        await asyncio.wait(asks)
        async with asyncio.timeout(WAIT):
            while served.state.admission.running:
                await served.get("/healthz")
    account = await used(url, "rich")
    assert (account.open, account.held_tokens) == (0, 0)
    assert account.tokens > 0


async def _asked(served: Gate, upstream: RawUpstream, times: int) -> None:
    async with asyncio.timeout(WAIT):
        while len(upstream.lines) < times:
            await served.get("/healthz")
