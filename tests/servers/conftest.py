from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import real_servers
from real_servers import RealServer


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """llama.cpp's server, one for all tests."""
    yield from _started("llama.cpp", real_servers.llama, tmp_path_factory)


@pytest.fixture(scope="session")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """`transformers serve`, one for all tests."""
    yield from _started("transformers", real_servers.transformers, tmp_path_factory)


def _started(
    name: str,
    start: Callable[[Path], AbstractContextManager[RealServer]],
    folders: pytest.TempPathFactory,
) -> Iterator[RealServer]:
    if (why := real_servers.missing(name)) is not None:
        pytest.skip(why)
    with start(folders.mktemp(name)) as server:
        yield server


@pytest.fixture(params=["llama", "transformers"])
def server(request: pytest.FixtureRequest) -> RealServer:
    """Each real server."""
    found: RealServer = request.getfixturevalue(request.param)
    return found
