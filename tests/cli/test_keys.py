"""`ecoalign keys` as a user meets it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from command import both, run

from ecoalign.budget import Budget, Spending
from ecoalign.gateway.keys import KeyPolicy, open_store
from ecoalign.models import Usage


async def test_from_creation_to_revocation(tmp_path: Path) -> None:
    url = str(tmp_path / "k.sqlite3")
    options = ("--limit", "2000,$0.5", "--window", "hour", "--rpm", "60", "--most", "500")
    done = run(tmp_path, "keys", "create", "team a", *options, "--keys", url)
    assert done.returncode == 0, done.stderr
    secret = done.stdout.decode().strip()
    assert secret.startswith("eco-")
    assert secret not in done.stderr.decode()
    store = open_store(url)
    found = await store.find(secret)
    await store.aclose()
    assert found is not None
    policy = found.policy
    assert (found.name, policy.window_seconds, policy.window_tokens) == ("team a", 3600, 2000)
    assert (policy.window_usd, policy.requests_per_minute) == (0.5, 60)

    listed = run(tmp_path, "keys", "list", ECOALIGN_KEYS=url)
    assert listed.returncode == 0, listed.stderr
    assert found.id in listed.stdout.decode()
    assert "2000,$0.5 a hour" in listed.stdout.decode()
    assert secret.split("-")[2] not in both(listed)

    gone = run(tmp_path, "keys", "revoke", "team a", "--json", "--keys", url)
    assert json.loads(gone.stdout)["revoked"] > found.created
    again = json.loads(run(tmp_path, "keys", "list", "--json", "--keys", url).stdout)
    assert [key["revoked"] is None for key in again["keys"]] == [False]
    used = run(tmp_path, "keys", "usage", found.id, "--json", "--keys", url)
    assert json.loads(used.stdout) == {"key": found.id, "windows": []}


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path) -> None:
    url = str(tmp_path / "k.sqlite3")
    for arguments, code, words in (
        (("usage", "nobody"), 2, "there is no key 'nobody'"),
        (("create", "x", "--window", "moon"), 2, "hour, day, week, month or a number of seconds"),
        (("create", "x", "--window", "week", "--zone", "Berlin"), 2, "no time zone 'Berlin'"),
        (("create", "x", "--window", "hour", "--zone", "Europe/Berlin"), 2, "--zone is for"),
        (("rotate", "x", "--grace", "soon"), 2, "--grace is a time such as"),
        (("update", "nobody", "--rpm", "5"), 2, "there is no key 'nobody'"),
        (("create", "x", "--limit", "5s"), 2, "tokens and dollars, not time"),
        (("create", "x", "--preset", "papr"), 2, "did you mean 'paper'"),
        (("create", "x", "--may-choose", "budget,host"), 2, "a key may choose budget"),
        (("create", "x", "--method", "wish"), 2, "unknown method 'wish'"),
    ):
        done = run(tmp_path, "keys", *arguments, "--keys", url)
        assert done.returncode == code, both(done)
        assert words in both(done)
        assert len(done.stderr.decode().splitlines()) == 1
        assert done.stdout == b""
    broken = run(tmp_path, "keys", "list", "--json", "--keys", str(tmp_path))
    assert broken.returncode == 3
    assert json.loads(broken.stdout)["error"]["type"] == "StoreError"


async def test_update_rotate_and_delete(tmp_path: Path) -> None:
    url = str(tmp_path / "k.sqlite3")
    keys = ("--keys", url)
    made = run(tmp_path, "keys", "create", "a", "--limit", "2000", "--rpm", "60", *keys)
    first = made.stdout.decode().strip()
    store = open_store(url)
    key = await store.find(first)
    assert key is not None
    await store.settle(await store.grant(key, Budget(500)), Spending(Usage(300, 0)))
    await store.aclose()

    options = ("--limit", "5000,$2", "--window", "month", "--zone", "Europe/Berlin", "--rpm", "0")
    changed = run(tmp_path, "keys", "update", "a", *options, "--name", "b", *keys)
    assert changed.returncode == 0, both(changed)
    assert "b" in changed.stdout.decode()
    assert "5000,$2 a month (Europe/Berlin)" in changed.stdout.decode()
    shown = json.loads(
        run(tmp_path, "keys", "update", "b", "--most", "700", "--json", *keys).stdout
    )
    policy = shown["policy"]
    # What was not named has stayed.
    assert (policy["calendar"], policy["zone"]) == ("month", "Europe/Berlin")
    assert (policy["window_tokens"], policy["most"]) == (5000, "700")
    assert policy["requests_per_minute"] is None

    rotated = run(tmp_path, "keys", "rotate", "b", "--grace", "1h", *keys)
    second = rotated.stdout.decode().strip()
    third = json.loads(run(tmp_path, "keys", "rotate", "b", "--json", *keys).stdout)["secret"]
    for secret in (first, second, third):
        assert secret not in rotated.stderr.decode()
    store = open_store(url)
    assert await store.find(first) is None
    assert await store.find(second) is None
    found = await store.find(third)
    assert found is not None
    assert found.id == key.id
    await store.aclose()

    asked = run(tmp_path, "keys", "delete", "b", *keys)
    assert (asked.returncode, asked.stdout) == (2, b"")
    assert "--yes" in asked.stderr.decode()
    gone = json.loads(run(tmp_path, "keys", "delete", "b", "--yes", "--json", *keys).stdout)
    assert [window["tokens"] for window in gone["windows"]] == [300]
    assert json.loads(run(tmp_path, "keys", "list", "--json", *keys).stdout) == {"keys": []}
    assert run(tmp_path, "keys", "delete", "b", "--yes", *keys).returncode == 2


async def test_the_old_secret_has_its_time_of_grace(tmp_path: Path) -> None:
    url = str(tmp_path / "k.sqlite3")
    first = run(tmp_path, "keys", "create", "a", "--keys", url).stdout.decode().strip()
    done = run(tmp_path, "keys", "rotate", "a", "--grace", "2s", "--keys", url)
    second = done.stdout.decode().strip()
    store = open_store(url)
    assert await store.find(second) is not None
    now = time.time()
    while await store.find(first) is not None:
        await asyncio.sleep(0.05)
        assert time.time() - now < 10
    assert await store.find(second) is not None
    await store.aclose()


async def test_what_a_killed_process_leaves_is_shown_and_released(tmp_path: Path) -> None:
    url = str(tmp_path / "k.sqlite3")
    store = open_store(url)
    key = (await store.create("a", KeyPolicy(window_tokens=10_000))).record
    await store.aclose()
    spender = Path(__file__).parents[1] / "support" / "key_spender.py"
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, str(spender), url, key.id, "1000", "call", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(3)] == ["ready\n", "1000\n", "1000\n"]
        listed = json.loads(run(tmp_path, "keys", "processes", "--json", "--keys", url).stdout)
        assert [one["state"] for one in listed["processes"]] == ["alive"]
        name = listed["processes"][0]["name"]
        alive = run(tmp_path, "keys", "release", "--process", name, "--keys", url)
        assert alive.returncode == 2
        assert "is alive: stop it first" in alive.stderr.decode()
        nothing = run(tmp_path, "keys", "release", "--keys", url)
        assert (nothing.returncode, nothing.stdout) == (0, b"")
        assert "nothing to release" in nothing.stderr.decode()
    finally:
        process.kill()
        process.communicate()
    shown = run(tmp_path, "keys", "processes", "--keys", url)
    assert " dead " in shown.stdout.decode()
    done = json.loads(run(tmp_path, "keys", "release", "--json", "--keys", url).stdout)
    (one,) = done["released"]
    assert (one["grants"], one["tokens"], one["returned_tokens"]) == (2, 300, 1700)
    assert one["exact"] is True
    unknown = run(tmp_path, "keys", "release", "--process", "nobody", "--keys", url)
    assert unknown.returncode == 2
    assert "no process 'nobody'" in unknown.stderr.decode()
