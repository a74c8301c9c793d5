"""The output of a batch: the rows of the input with what became of them, written whole or not."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecoalign.batch._journal import sync_folder
from ecoalign.batch._rows import Source
from ecoalign.batch._work import COLUMNS
from ecoalign.errors import InputError
from ecoalign.query.tables import pyarrow_parquet

FORMATS = (".jsonl", ".csv", ".parquet")
"""What an output can be, by the end of its name."""

_TAKEN = "input_"
"""What the name of an input's column gets that is called as one of ours."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet takes for a formula, after blanks too."""

_NUMBER = re.compile(r"[-+]?[0-9][0-9.,]*%?")

_AT_ONCE = 1024
"""Rows of a parquet file that are held in memory together."""


def check_format(path: Path) -> None:
    """See that an output can be written.

    Raises:
        InputError: its name ends in none of `FORMATS`, its folder is not there, or pyarrow is
            missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{str(path)!r}: an output is a {', '.join(FORMATS)} file")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; name a file")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {str(path.parent)!r} to write {path.name} to")
    if path.suffix.lower() == ".parquet":
        pyarrow_parquet()


def carried(source: Source) -> dict[str, str]:
    """The columns of the input in the output: their names there, by their names in the input."""
    there = {column for row in source.rows for column in row.values}
    return _renamed([name for name in source.columns if name in there])


def _renamed(names: Sequence[str]) -> dict[str, str]:
    """New names for those of an input's columns that are called as one of ours."""
    taken = {*COLUMNS, *names}
    found = {}
    for name in names:
        new = _valid(name)
        while new in COLUMNS or (new != name and new in taken):
            new = _TAKEN + new
        taken.add(new)
        found[name] = new
    return found


def write_output(path: Path, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the output; it is there at once and whole, or not at all.

    Args:
        path: the file; one that is there is replaced.
        source: the input, whose columns come first.
        rows: our columns (`COLUMNS`) of each row, in order.

    Raises:
        InputError: it cannot be written.
    """
    write = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()]
    with replacing(path) as temporary:
        write(temporary, source, rows)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once all is written.

    Raises:
        InputError: it cannot be written; `path` is as before.
    """
    # One batch writes to it at a time, and takes what a kill has left there.
    temporary = path.with_name(f".{path.name}.new")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _merged(
    source: Source, rows: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    names = carried(source)
    for known, row in zip(source.rows, rows, strict=True):
        yield {names[name]: value for name, value in known.values.items()}, row


def _json_lines(path: Path, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n", errors="replace") as file:
        for given, row in _merged(source, rows):
            body = given | {name: row[name] for name in COLUMNS}
            file.write(_dumped(body) + "\n")


def _csv(path: Path, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
    names = [*carried(source).values(), *COLUMNS]
    with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for given, row in _merged(source, rows):
            both = {**given, **{name: _inert(value) for name, value in row.items()}}
            writer.writerow([_cell(both.get(name)) for name in names])


def _inert(value: object) -> object:
    """A text that came from a model, which no spreadsheet takes for a formula. Numbers stay."""
    if not isinstance(value, str) or not value.lstrip().startswith(_FORMULA):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | Mapping):
        return _dumped(value)
    return "" if value is None else value


def _dumped(body: object) -> str:
    return _valid(json.dumps(_plain(body), ensure_ascii=False, allow_nan=False, default=str))


def _plain(value: Any) -> Any:
    """`value` without what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(path: Path, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
    parquet = pyarrow_parquet()
    import pyarrow

    types = {
        str: pyarrow.string(),
        bool: pyarrow.bool_(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
    }
    kinds = {name: types[kind] for name, kind in COLUMNS.items()}
    rows = iter(rows)
    writer = None
    try:
        for given in _given_tables(source, parquet, pyarrow):
            table, ours = given, [next(rows) for _ in range(given.num_rows)]
            for name, kind in kinds.items():
                values = [_as(COLUMNS[name], row.get(name)) for row in ours]
                table = table.append_column(name, pyarrow.array(values, kind))
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    except (pyarrow.ArrowException, ValueError) as error:  # shards of different columns, too
        raise InputError(f"{path.name} cannot be written: {error}") from None
    finally:
        if writer is not None:
            writer.close()


def _valid(text: str) -> str:
    """`text` without halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _as(kind: type, value: Any) -> Any:
    if isinstance(value, str):
        return _valid(value)
    return float(value) if kind is float and value is not None else value


def _given_tables(source: Source, parquet: Any, pyarrow: Any) -> Iterator[Any]:
    """The input's columns, a part of the rows at a time."""
    for path in source.parquet:
        file = parquet.ParquetFile(path)
        names = list(_renamed(file.schema_arrow.names).values())
        for batch in file.iter_batches(_AT_ONCE):
            yield pyarrow.Table.from_batches([batch]).rename_columns(names)
    if source.parquet:
        return
    names_of = carried(source)
    columns = {
        new: _column([row.values.get(name) for row in source.rows], pyarrow)
        for name, new in names_of.items()
    }
    yield pyarrow.table(columns or {"row": range(1, len(source.rows) + 1)})


def _column(values: Sequence[Any], pyarrow: Any) -> Any:
    """The values as a column; as JSON text where they are of more than one kind."""
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, UnicodeError, OverflowError):
        texts = [
            None if one is None else one if isinstance(one, str) else _dumped(one) for one in values
        ]
        return pyarrow.array([_as(str, one) for one in texts], pyarrow.string())


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines of text, all or none; how many there were.

    Raises:
        InputError: they cannot be written.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for one in lines:
            file.write(one + "\n")
            count += 1
        file.flush()
    return count
