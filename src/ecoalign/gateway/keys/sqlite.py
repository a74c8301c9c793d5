"""The default store: one SQLite file in WAL mode, shared by any number of processes of one machine.

`synchronous=FULL`: what was granted survives a kill and a power cut. The file must be on a local
disk; for several machines there is PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ecoalign.gateway.keys.statements import Operation
from ecoalign.gateway.keys.store import SqlStore
from ecoalign.gateway.keys.writer import Writer

__all__ = ["SqliteStore"]

Result = TypeVar("Result")


class SqliteStore(SqlStore):
    """A `KeyStore` in a file.

    Args:
        path: the file; made with the first use, readable by its owner only.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._writer = Writer(path)

    async def _run(self, operation: Callable[[], Operation[Result]], *, write: bool) -> Result:
        return await self._writer.run(operation, write=write)

    async def _close(self) -> None:
        await self._writer.aclose()
