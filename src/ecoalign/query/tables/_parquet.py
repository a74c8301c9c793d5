"""Parquet files: their rows, a row group at a time, so that their images need not be kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign.errors import InputError
from ecoalign.query.tables._sources import Record

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "parquet files need pyarrow, which is not installed: pip install 'ecoalign[bench]'"
        ) from None
    return pyarrow.parquet


class _RowGroups:
    """The rows of one parquet file; the row group that was read last is kept."""

    def __init__(self, path: Path, file: ParquetFile) -> None:
        self._path = path
        self._file = file
        self._lock = threading.Lock()
        self._group = -1
        self._kept: Sequence[Mapping[str, object]] = ()

    def row(self, group: int, offset: int) -> Mapping[str, object]:
        """A row of a row group.

        Raises:
            InputError: it cannot be read.
        """
        from pyarrow import ArrowException

        with self._lock:
            if self._group != group:
                try:
                    table = self._file.read_row_group(group)
                except (OSError, ArrowException) as error:
                    raise InputError(f"cannot read {str(self._path)!r}: {error}") from None
                self._kept, self._group = table.to_pylist(), group
            return self._kept[offset]


def parquet_records(path: Path, *, several: bool) -> Iterator[Record]:
    """The rows of a file.

    Args:
        path: the file.
        several: whether it is one of several, so that its name is told, too.

    Raises:
        InputError: it cannot be read, or pyarrow is not installed.
    """
    parquet = pyarrow_parquet()
    from pyarrow import ArrowException

    name = f"{path.name}, " if several else ""
    number = 0
    try:
        file = parquet.ParquetFile(path)
        columns = {str(column.name): str(column.type) for column in file.schema_arrow}
        heavy = frozenset(name for name, kind in columns.items() if "binary" in kind)
        light = [name for name in columns if name not in heavy]
        groups = _RowGroups(path, file)
        for group in range(file.num_row_groups):
            for offset, values in enumerate(file.read_row_group(group, light).to_pylist()):
                number += 1
                again = partial(groups.row, group, offset)
                yield Record(values, f"{name}row {number}", again, heavy=heavy)
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read the parquet file {str(path)!r}: {error}") from None
