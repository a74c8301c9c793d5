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


def heavy_columns(file: ParquetFile) -> frozenset[str]:
    """The columns that hold bytes, and may be large: images, mostly."""
    return frozenset(
        str(column.name) for column in file.schema_arrow if "binary" in str(column.type)
    )


class RowGroups:
    """The rows of one parquet file; the row group that was read last is kept."""

    def __init__(self, path: Path, file: ParquetFile, columns: Sequence[str]) -> None:
        self._path = path
        self._file = file
        self._columns = list(columns)
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
                    table = self._file.read_row_group(group, self._columns)
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
    try:
        file = parquet.ParquetFile(path)
        heavy = heavy_columns(file)
        groups = RowGroups(path, file, [str(column) for column in file.schema_arrow.names])
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read the parquet file {str(path)!r}: {error}") from None
    number = 0
    for group, size in enumerate(sizes):
        for offset in range(size):
            number += 1
            again = partial(groups.row, group, offset)
            yield Record(again(), f"{name}row {number}", again, heavy=heavy)
