"""A process of the first release beside one of today, on one store."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ecoalign.budget import Budget, Spending
from ecoalign.gateway.keys import KeyPolicy, KeyRecord, WindowExhausted, open_store
from ecoalign.models import Usage

ROOT = Path(__file__).parents[3]
SPENDER = ROOT / "tests" / "support" / "key_spender.py"
COMMIT = "9375f1ebd5c2"
"""The last one whose stores have tables of the first release."""
LIMIT = 30_000
YEAR = 365 * 86_400


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of then, in a folder to import it from."""
    made = subprocess.run(
        ["git", "archive", COMMIT, "src"], cwd=ROOT, capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("the history of the project is not here: git archive fails")
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    # What the build writes.
    version = ROOT / "src" / "ecoalign" / "_version.py"
    if version.exists():
        (folder / "src" / "ecoalign" / "_version.py").write_text(version.read_text())
    return folder / "src"


def python(code: str | Path, package: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process that imports `package`."""
    command = [str(code)] if isinstance(code, Path) else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        env=os.environ | {"PYTHONPATH": str(package)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CREATE = """
import asyncio, sys
from ecoalign.gateway.keys import KeyPolicy, open_store

async def main():
    store = open_store(sys.argv[1])
    policy = KeyPolicy(window_tokens=int(sys.argv[2]), window_seconds=int(sys.argv[3]), fleet=False)
    await store.create("k", policy)
    await store.aclose()

asyncio.run(main())
"""

USAGE = """
import asyncio, sys
from ecoalign.gateway.keys import open_store

async def main():
    store = open_store(sys.argv[1])
    window = (await store.usage("k"))[0]
    print(window.tokens, window.held_tokens, window.open, window.requests)
    await store.aclose()

asyncio.run(main())
"""


async def told(process: subprocess.Popen[str]) -> str:
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, err
    return out


async def keyed(url: str, first_release: Path) -> KeyRecord:
    """A key that the first release has made, and the tables, too."""
    await told(python(CREATE, first_release, url, str(LIMIT), str(YEAR)))
    store = open_store(url)
    try:
        return (await store.keys())[0]
    finally:
        await store.aclose()


async def test_old_and_new_processes_spend_side_by_side(
    store_url: str, first_release: Path
) -> None:
    await told(python(CREATE, first_release, store_url, str(LIMIT), str(YEAR)))
    key_id = (await told(python(_ID, first_release, store_url))).strip()
    # Open before the tables change, and granted something.
    old = python(SPENDER, first_release, store_url, key_id, "20", "settle", "100000")
    dead = python(SPENDER, first_release, store_url, key_id, "30", "die", "5")
    assert old.stdout is not None
    assert old.stdin is not None
    assert dead.stdout is not None
    assert dead.stdin is not None
    for process in (old, dead):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    dead.stdin.write("\n")
    dead.stdin.flush()
    assert [dead.stdout.readline() for _ in range(5)] == ["30\n"] * 5
    store = open_store(store_url)  # the tables are those of today now
    (key,) = await store.keys()
    old.stdin.write("\n")
    old.stdin.flush()
    settled = leased = 0
    try:
        while True:
            grant = await store.grant(key, Budget(40))
            (window,) = await store.usage("k")
            assert window.tokens + window.held_tokens + window.leased_tokens <= LIMIT
            leased += window.leased_tokens > 0
            await store.settle(grant, Spending(Usage(31, 0)))
            settled += 31
    except WindowExhausted:
        pass
    said = (await told(old)).split()
    dead.kill()
    dead.communicate()
    ours = sum(int(line) // 2 for line in said) + settled
    (window,) = await store.usage("k")
    assert leased > 0  # it was leased ahead beside the old one
    assert (window.tokens, window.held_tokens, window.open) == (ours, 150, 5)
    assert LIMIT - ours - 150 < 40
    # Who wrote no name is released by hand only.
    assert await store.release() == []
    (released,) = await store.release("first-release")
    assert (released.tokens, released.grants, released.exact) == (150, 5, False)
    await store.aclose()
    # And the old program reads what is there.
    requests = len(said) - 1 + settled // 31 + 5
    old_view = (await told(python(USAGE, first_release, store_url))).split()
    assert list(map(int, old_view)) == [ours + 150, 0, 0, requests]


_ID = """
import asyncio, sys
from ecoalign.gateway.keys import open_store

async def main():
    store = open_store(sys.argv[1])
    print((await store.keys())[0].id)
    await store.aclose()

asyncio.run(main())
"""


async def test_a_key_that_an_old_process_cannot_read_is_refused_before_it_spends(
    store_url: str, first_release: Path
) -> None:
    key = await keyed(store_url, first_release)
    old = python(SPENDER, first_release, store_url, key.id, "20", "settle", "5")
    assert old.stdout is not None
    assert old.stdout.readline() == "ready\n"
    store = open_store(store_url)
    await store.update(
        "k", lambda _: KeyPolicy(window_tokens=LIMIT, calendar="week", zone="Europe/Berlin")
    )
    _, error = await asyncio.to_thread(old.communicate, "\n", 60)
    assert old.returncode != 0
    assert "policy cannot be read" in error
    assert await store.usage("k") == []
    await store.aclose()


async def test_a_running_process_notices_a_store_of_the_future(store_url: str) -> None:
    from contextlib import closing

    store = open_store(store_url)
    key = (await store.create("k", KeyPolicy(window_tokens=LIMIT))).record
    await store.grant(key, Budget(10))
    change = "UPDATE eco_schema SET version = 999"
    if store_url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(store_url) as connection:
            connection.execute(change)
    else:
        import sqlite3

        with closing(sqlite3.connect(store_url)) as file, file:
            file.execute(change)
    from ecoalign.errors import InputError

    with pytest.raises(InputError, match="newer EcoAlign"):
        await store.grant(key, Budget(10))
    await store.aclose()
