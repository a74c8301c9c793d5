from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway.keys import KeyPolicy, StoreError, default_url, open_store
from ecoalign.gateway.keys._policy import CHOICES


def test_a_policy_survives_its_text() -> None:
    for policy in (
        KeyPolicy(),
        KeyPolicy(
            budget=Budget(8000, 0.02, 5.0),
            preset="paper",
            method="base",
            trace=False,
            may_choose=frozenset(CHOICES),
            most=Budget(usd=1.5),
            window_seconds=3600,
            window_tokens=7,
            window_usd=0.1,
            requests_per_minute=60,
            max_concurrent=2,
            fleet=False,
            expected_requests=1000,
        ),
        KeyPolicy(may_choose=frozenset()),
    ):
        assert KeyPolicy.from_text(policy.text()) == policy
    assert KeyPolicy.from_text('{"window_tokens": 5, "may_choose": ["budget"]}') == KeyPolicy(
        window_tokens=5, may_choose=frozenset({"budget"})
    )


@pytest.mark.parametrize("text", ["[]", '{"unheard_of": 1}', '{"budget": "lots"}'])
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(InputError):
        KeyPolicy.from_text(text)


@pytest.mark.parametrize(
    "field",
    [
        {"window_seconds": 0},
        {"window_seconds": 10**9},
        {"window_tokens": 0},
        {"window_tokens": True},
        {"window_usd": 0.0},
        {"window_usd": math.nan},
        {"window_usd": math.inf},
        {"requests_per_minute": 0},
        {"max_concurrent": -1},
        {"expected_requests": 0},
        {"may_choose": ["upstream"]},
    ],
    ids=str,
)
def test_values_out_of_range(field: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"a key"):
        KeyPolicy.from_text(json.dumps(field))


def test_whose_budget_counts() -> None:
    server, asked = Budget(8000), Budget(20_000, usd=0.5)
    assert KeyPolicy().request_budget(None, server) == server
    assert KeyPolicy().request_budget(asked, server) == asked
    fixed = KeyPolicy(budget=Budget(500), may_choose=frozenset())
    assert fixed.request_budget(asked, server) == Budget(500)
    capped = KeyPolicy(budget=Budget(500), most=Budget(9000, seconds=3.0))
    assert capped.request_budget(asked, server) == Budget(9000, 0.5, 3.0)
    assert capped.request_budget(None, server) == Budget(500, seconds=3.0)


@pytest.mark.parametrize("url", ["", " ", "mysql://host/db", "sqlite:///", "http://host"])
def test_addresses_that_are_no_store(url: str) -> None:
    with pytest.raises(InputError, match="the store of the keys is a file"):
        open_store(url)


async def test_addresses_of_files(tmp_path: Path) -> None:
    for url, path in (
        (f"sqlite:///{tmp_path}/deep/er/a.db", tmp_path / "deep" / "er" / "a.db"),
        (f"sqlite:///{tmp_path}/with%20space.db", tmp_path / "with space.db"),
        (f"{tmp_path}/plain", tmp_path / "plain"),
    ):
        store = open_store(url)
        await store.aclose()
        assert not path.exists()  # nothing is made before it is used
        store = open_store(url)
        await store.ping()
        await store.aclose()
        assert path.is_file()
    assert default_url().endswith("keys.sqlite3")


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100, encoding="utf-8")
    store = open_store(str(path))
    for _ in range(2):  # and the store goes on answering
        with pytest.raises(StoreError, match=r"notes\.txt"):
            await store.ping()
    await store.aclose()
    assert path.read_text(encoding="utf-8").startswith("not a database")


async def test_a_server_that_is_not_there() -> None:
    pytest.importorskip("psycopg")
    store = open_store("postgresql://user:pa%40ss-word@127.0.0.1:1/db?connect_timeout=2")
    with pytest.raises(StoreError, match="127") as failed:
        await store.ping()
    assert "pa%40ss" not in str(failed.value)
    assert "pa@ss" not in str(failed.value)
    await store.aclose()
