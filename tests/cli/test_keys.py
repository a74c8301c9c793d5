"""`ecoalign keys` as a user meets it: a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from command import both, run

from ecoalign.gateway.keys import open_store


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
