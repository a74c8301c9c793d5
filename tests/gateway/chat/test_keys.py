"""Keys, windows, rates, overload, leaving clients and the end, with a real gateway."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest
from command import run
from hostile import HostileServer, Reply, completion
from raw_upstream import Line, RawUpstream, answer
from serving import WAIT, Served, asking, picture, serving, text

from ecoalign import Budget
from ecoalign.gateway.keys import KeyPolicy, WindowUsage, open_store


@dataclass(frozen=True)
class Keys:
    """A store with keys in it.

    Attributes:
        url: of the store.
        secrets: by name.
    """

    url: str
    secrets: dict[str, str]

    async def used(self, name: str) -> WindowUsage | None:
        """What a key has spent in its only window; None if it has none yet."""
        store = open_store(self.url)
        try:
            windows = await store.usage(name)
            return windows[0] if windows else None
        finally:
            await store.aclose()

    def usage(self, name: str) -> WindowUsage | None:
        """The same, from outside of an event loop."""
        return asyncio.run(self.used(name))


POLICIES = {
    "plain": KeyPolicy(),
    "free": KeyPolicy(may_choose=frozenset({"budget", "preset", "method", "trace"})),
    "frugal": KeyPolicy(window_tokens=9000, window_seconds=366 * 86_400, fleet=False),
    "spent": KeyPolicy(window_tokens=50, window_seconds=366 * 86_400),
    "slow": KeyPolicy(requests_per_minute=1),
    "based": KeyPolicy(method="base", trace=True, budget=Budget(tokens=3000)),
    "leaving": KeyPolicy(method="base", window_tokens=10**6, window_seconds=366 * 86_400),
}


def make_keys(home: Path) -> Keys:
    """A store with a key for each policy."""

    async def make() -> dict[str, str]:
        store = open_store(str(home / "keys.sqlite3"))
        try:
            made = {name: await store.create(name, policy) for name, policy in POLICIES.items()}
            return {name: key.secret for name, key in made.items()}
        finally:
            await store.aclose()

    return Keys(str(home / "keys.sqlite3"), asyncio.run(make()))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def gateway(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("keyed"), "--keys", keys.url) as served:
        yield served


def _code(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


SIGN = asking(text("what is the sum of the two numbers?"), picture())


def test_without_a_key_nothing_is_told(gateway: Served, keys: Keys) -> None:
    wrong = keys.secrets["plain"][:-1] + ("a" if keys.secrets["plain"][-1] != "a" else "b")
    for key in ("", "nonsense", "sk-12345", wrong):
        assert _code(gateway.post(SIGN, key)) == (401, "invalid_api_key")
        headers = {"authorization": f"Bearer {key}".strip()}
        assert _code(gateway.get("/v1/models", **headers)) == (401, "invalid_api_key")
    basic = gateway.get("/v1/models", authorization=f"Basic {keys.secrets['plain']}")
    assert basic.status_code == 401
    assert gateway.get("/healthz").status_code == 200
    with (
        openai.OpenAI(base_url=gateway.v1, api_key="nope", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    assert wrong not in "".join(gateway.said)


def test_a_key_answers_and_its_account_is_exact(gateway: Served, keys: Keys) -> None:
    done = gateway.post(SIGN, keys.secrets["frugal"])
    assert done.status_code == 200, done.text
    used = keys.usage("frugal")
    assert used is not None
    assert used.tokens == done.json()["usage"]["total_tokens"]
    assert (used.open, used.held_tokens, used.requests) == (0, 0, 1)
    assert keys.secrets["frugal"] not in "".join(gateway.said)


def test_a_window_that_is_used_up(gateway: Served, keys: Keys) -> None:
    refused = gateway.post(SIGN, keys.secrets["spent"])
    assert _code(refused) == (429, "insufficient_quota")
    assert refused.json()["error"]["type"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert keys.usage("spent") is None


def test_what_a_key_may_not_choose(gateway: Served, keys: Keys) -> None:
    for options in ({"method": "base"}, {"preset": "paper"}):
        refused = gateway.post(SIGN | {"ecoalign": options}, keys.secrets["plain"])
        assert _code(refused) == (403, "not_allowed")
        assert refused.json()["error"]["param"] == f"ecoalign.{next(iter(options))}"
    chosen = gateway.post(SIGN | {"ecoalign": {"method": "base"}}, keys.secrets["free"])
    assert chosen.json()["ecoalign"]["method"] == "base"
    usual = gateway.post(SIGN, keys.secrets["based"]).json()["ecoalign"]
    assert (usual["method"], usual["budget"]["tokens"]) == ("base", 3000)


def test_a_trace_is_its_owners(gateway: Served, keys: Keys) -> None:
    mine, other = keys.secrets["plain"], keys.secrets["free"]
    done = gateway.post(SIGN | {"ecoalign": {"trace": True}}, mine)
    name = done.json()["ecoalign"]["trace"]
    assert done.headers["x-ecoalign-trace"] == name
    path = f"/v1/ecoalign/traces/{name}"
    kept = gateway.get(path, authorization=f"Bearer {mine}")
    assert json.loads(kept.text.splitlines()[-1])["event"] == "Finished"
    assert gateway.get(path, authorization=f"Bearer {other}").status_code == 404
    assert gateway.get(path).status_code == 401


def test_requests_a_minute(gateway: Served, keys: Keys) -> None:
    body = asking("hi", ecoalign={"budget": 3})
    assert gateway.post(body, keys.secrets["slow"]).status_code == 400
    limited = gateway.post(body, keys.secrets["slow"])
    assert _code(limited) == (429, "rate_limit_exceeded")
    assert 1 <= int(limited.headers["retry-after"]) <= 60


def test_a_key_is_revoked_at_once(gateway: Served, keys: Keys, tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "brief", "--keys", keys.url, "--json")
    secret = json.loads(made.stdout)["secret"]
    assert gateway.post(SIGN, secret).status_code == 200
    assert run(tmp_path, "keys", "revoke", "brief", "--keys", keys.url).returncode == 0
    assert _code(gateway.post(SIGN, secret)) == (401, "invalid_api_key")


def test_a_store_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    with serving(tmp_path, "--keys", keys.url) as served:
        assert served.get("/readyz").status_code == 200
        with sqlite3.connect(keys.url) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in tables.fetchall():
                database.execute(f"DROP TABLE {name}")
        database.close()
        assert _code(served.post(SIGN, keys.secrets["plain"])) == (503, "store_unavailable")
        assert served.get("/healthz").status_code == 200


# Clients that leave, too many of them, and the end -----------------------------------------------


class Waiting:
    """An upstream that answers nothing until it is told to.

    Attributes:
        asked: the connections on which it was asked, in order.
        go: it may answer.
        first: what it says to the first request at once.
    """

    def __init__(self) -> None:
        self.first: str | None = None
        self.asked: asyncio.Queue[Line] = asyncio.Queue()
        self.go = asyncio.Event()

    async def script(self, line: Line) -> None:
        await line.asked()
        self.asked.put_nowait(line)
        if self.first is not None:
            said, self.first = self.first, None
            await line.say(answer(json.dumps(completion(said)).encode(), "Connection: close"))
            line.close()
            return
        gone = asyncio.create_task(line.until_gone())
        go = asyncio.create_task(self.go.wait())
        await asyncio.wait({gone, go}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        go.cancel()
        if not line.gone.is_set():
            await line.say(answer(json.dumps(completion("late")).encode(), "Connection: close"))
            line.close()


@asynccontextmanager
async def waiting(
    home: Path, *arguments: str
) -> AsyncIterator[tuple[Waiting, Served, httpx2.AsyncClient]]:
    """A gateway in front of such an upstream, and a client."""
    mood = Waiting()
    async with RawUpstream(mood.script) as upstream:
        opened = serving(home, "--model", "m", "--base-url", upstream.url, *arguments)
        served = await asyncio.to_thread(opened.__enter__)
        try:
            async with httpx2.AsyncClient(base_url=served.v1, timeout=WAIT) as client:
                yield mood, served, client
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


async def _first(mood: Waiting) -> Line:
    return await asyncio.wait_for(mood.asked.get(), WAIT)


async def _until(served: Served, metric: str, wanted: float) -> None:
    """Wait until a metric has a value; each look is a request, so nothing spins."""
    async with asyncio.timeout(WAIT):
        while await asyncio.to_thread(served.metric, metric) != wanted:
            pass


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_search_and_the_spending(
    tmp_path: Path, stream: bool
) -> None:
    keys = await asyncio.to_thread(make_keys, tmp_path)
    async with waiting(tmp_path, "--keys", keys.url) as (mood, served, client):
        for key, method in (("leaving", "base"), ("free", "ecoalign"), ("free", "best-of-3")):
            secret = keys.secrets[key]
            body = asking("hello?", stream=stream) | (
                {} if key == "leaving" else {"ecoalign": {"method": method}}
            )
            asking_task = asyncio.create_task(
                client.post(
                    "/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"}
                )
            )
            line = await _first(mood)
            asking_task.cancel()
            await asyncio.wait([asking_task])
            # The upstream sees its call end, and no other comes.
            await asyncio.wait_for(line.gone.wait(), WAIT)
            await _until(served, "ecoalign_requests_running", 0)
            # A search asks for its scan and its draft at once.
            while not mood.asked.empty():
                assert (await _first(mood)).gone.is_set()
        used = await keys.used("leaving")
        assert used is not None
        # Nobody knows what the upstream has billed: the bound is charged, and nothing is held.
        assert used.open == 0
        assert 0 < used.tokens < 10_000
    log = [json.loads(one) for one in served.said if '"ecoalign.request"' in one]
    posts = [one for one in log if one["method"] != "none"]
    assert {(one["method"], one["status"]) for one in posts} == {
        ("base", 499),
        ("ecoalign", 499),
        ("best-of-3", 499),
    }
    assert all(sum(one["tokens"].values()) > 0 for one in posts if one["method"] != "base")


async def test_a_client_that_leaves_a_stream_that_has_begun(tmp_path: Path) -> None:
    """After the first comment the response is under way; closing it ends the search."""
    async with waiting(tmp_path, "--set", "draft=false") as (mood, served, client):
        mood.first = json.dumps({"caption": "a sign", "safety": 9, "strategy": ""})
        body = asking("hello?", stream=True)
        async with client.stream("POST", "/chat/completions", json=body) as reply:
            assert reply.status_code == 200
            lines = reply.aiter_lines()
            assert (await anext(lines)).startswith(": ecoalign {")
            await _first(mood)
            line = await _first(mood)
        await asyncio.wait_for(line.gone.wait(), WAIT)
        await _until(served, "ecoalign_requests_running", 0)
        assert (
            await asyncio.to_thread(served.metric, 'ecoalign_disconnects_total{method="ecoalign"}')
            == 1
        )


ONE_AT_A_TIME = ("--concurrency", "1", "--queue", "1", "--method", "base")


async def test_overload_is_told_and_the_queue_is_fair(tmp_path: Path) -> None:
    async with waiting(tmp_path, *ONE_AT_A_TIME) as (mood, served, client):
        body = asking("hello?")
        first = asyncio.create_task(client.post("/chat/completions", json=body))
        await _first(mood)
        second = asyncio.create_task(client.post("/chat/completions", json=body))
        await _until(served, "ecoalign_queue_waiting", 1)
        third = await client.post("/chat/completions", json=body)
        assert _code(third) == (429, "overloaded")
        assert int(third.headers["retry-after"]) >= 1
        assert served.get("/healthz").status_code == 200
        mood.go.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        turned = await asyncio.to_thread(
            served.metric, 'ecoalign_turned_away_total{reason="overloaded"}'
        )
        assert turned == 1


async def test_the_end_lets_what_runs_finish_and_sends_away_who_waits(tmp_path: Path) -> None:
    async with waiting(tmp_path, *ONE_AT_A_TIME) as (mood, served, client):
        body = asking("hello?")
        first = asyncio.create_task(client.post("/chat/completions", json=body))
        await _first(mood)
        second = asyncio.create_task(client.post("/chat/completions", json=body))
        await _until(served, "ecoalign_queue_waiting", 1)
        served.process.send_signal(signal.SIGTERM)
        assert _code(await second) == (503, "shutting_down")
        mood.go.set()
        assert (await first).json()["choices"][0]["message"]["content"] == "late"
        assert await asyncio.to_thread(served.process.wait, WAIT) == 0


async def test_who_does_not_finish_in_time_is_cancelled_and_settled(tmp_path: Path) -> None:
    keys = await asyncio.to_thread(make_keys, tmp_path)
    arguments = ("--drain", "0", "--keys", keys.url)
    async with waiting(tmp_path, *arguments) as (mood, served, client):
        headers = {"authorization": f"Bearer {keys.secrets['leaving']}"}
        task = asyncio.create_task(
            client.post("/chat/completions", json=asking("hello?"), headers=headers)
        )
        line = await _first(mood)
        served.process.send_signal(signal.SIGTERM)
        served.process.send_signal(signal.SIGINT)
        await asyncio.wait([task])
        await asyncio.wait_for(line.gone.wait(), WAIT)
        assert await asyncio.to_thread(served.process.wait, WAIT) == 0
        used = await keys.used("leaving")
        assert used is not None
        assert used.open == 0
        assert used.tokens > 0


def test_the_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "serve", "--port", port)
    assert done.returncode == 2
    assert b"cannot listen" in done.stderr
    for arguments in (("--model", "openai:gpt-4o"), ("--keys", "mysql://x")):
        done = run(tmp_path, "serve", "--port", "0", *arguments)
        assert done.returncode == 2, arguments
        assert b"Traceback" not in done.stderr


def test_listening_widely_takes_keys_or_a_word(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "gateway.example"):  # noqa: S104
        done = run(tmp_path, "serve", "--host", host, "--port", "0")
        assert done.returncode == 2
        assert b"--keys" in done.stderr
        assert b"--open" in done.stderr
    with serving(tmp_path, "--host", "0.0.0.0", "--open") as served:  # noqa: S104
        assert any("warning" in line and "everyone" in line for line in served.said)
        assert served.stop() == 0
    keys = make_keys(tmp_path)
    with serving(tmp_path, "--host", "0.0.0.0", ECOALIGN_KEYS=keys.url) as served:  # noqa: S104
        assert not any("warning" in line for line in served.said)
        url = f"http://127.0.0.1:{served.port}/v1/models"
        assert httpx2.get(url, timeout=WAIT).status_code == 401


def test_an_upstream_is_asked_with_the_servers_key_only(tmp_path: Path) -> None:
    with HostileServer(lambda request: Reply(completion("raw"))) as upstream:
        arguments = ("--model", "m", "--base-url", upstream.url, "--method", "base")
        with serving(tmp_path, *arguments, OPENAI_API_KEY="the-servers-own") as served:
            body = asking("hi")
            headers = {
                "authorization": "Bearer the-clients-own",
                "openai-organization": "org",
                "x-base-url": "http://127.0.0.1:9",
            }
            url = f"{served.v1}/chat/completions"
            assert httpx2.post(url, json=body, headers=headers, timeout=WAIT).status_code == 200
        (request,) = upstream.received
    assert request.headers["authorization"] == "Bearer the-servers-own"
    assert not {"openai-organization", "x-base-url"} & set(request.headers)
