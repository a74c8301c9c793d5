from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import postgres_server
import pytest


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for this run; "/NAME" of a database is to be added."""
    why = postgres_server.missing()
    if why is not None:
        pytest.skip(why)
    with postgres_server.private_server() as url:
        yield url


_numbers = count()


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""
    import psycopg

    def make() -> str:
        name = f"eco{next(_numbers)}"
        with psycopg.connect(f"{postgres_url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{postgres_url}/{name}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "keys.sqlite3")
    make: Callable[[], str] = request.getfixturevalue("new_database")
    return make()
