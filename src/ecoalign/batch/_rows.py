"""The input of a batch: rows of a file, whatever its format, or the images of a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ecoalign.errors import InputError
from ecoalign.query.tables import (
    NAMES,
    ImageFolder,
    Mistakes,
    Record,
    find_source,
    images_below,
    plain_name,
    read_records,
)
from ecoalign.query.tables import Source as Table

Picture = str | bytes
"""An image of a row: a path, a `data:` URI, or its bytes."""

STDIN = "-"

_AS_OPTION = "--{} {}"


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of an input, in order.

    Attributes:
        rows: all of them.
        columns: names in the order in which they first come; those that are heavy, too.
        folder: where the paths of images begin.
        name: for messages.
        pictures: image files beside a table in a folder, which its rows may leave out.
        parquet: the files, where the input is some: their columns can be carried over as they are.
    """

    rows: Sequence[Record]
    columns: Sequence[str]
    folder: ImageFolder
    name: str
    pictures: Sequence[Path] = ()
    parquet: Sequence[Path] = ()


def read_source(
    source: str | Path | Iterable[Mapping[str, Any]],
    images: str | Path | None = None,
    encoding: str = "utf-8",
) -> Source:
    """Read an input.

    Args:
        source: a .jsonl, .json, .csv, .tsv or .parquet file, a folder of images, "-" for JSON
            lines on standard input, or rows as mappings.
        images: the folder where paths of images begin, and which they may not lead out of; None for
            that of the file. Paths in rows as mappings are free then.
        encoding: of a file of text that is not UTF-8.

    Raises:
        InputError: it cannot be read; the message holds every mistake and its line.
    """
    if not isinstance(source, str | Path):
        free = ImageFolder(Path(images or ""), bounded=images is not None)
        return _source(map(_given, source, range(1, sys.maxsize)), free, "the rows")
    if source == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError('"-" reads JSON lines from standard input; pipe them in: ... < FILE')
        name = Path("standard input")
        table = Table(name, Path(), (name.with_suffix(".jsonl"),), sys.stdin.buffer.read())
    else:
        table = find_source(source, bare=True)
    mistakes = Mistakes(str(table.path), _AS_OPTION)
    folder = ImageFolder(Path(images or table.folder), option=_AS_OPTION)
    read = _source(read_records(table, mistakes, encoding), folder, str(table.path))
    mistakes.check()
    beside = source != STDIN and Path(source).is_dir() and not table.beside
    return replace(
        read,
        pictures=images_below(table.folder) if beside else (),
        parquet=table.shards if table.parquet else (),
    )


def column_of(role: str, columns: Iterable[str], named: str | None = None) -> str:
    """The column of a role: the one that is named, or has one of its `NAMES`; the role itself where
    there is none."""
    if named is not None:
        return named
    there = {plain_name(name): name for name in reversed(list(columns))}
    return next((there[name] for name in NAMES.get(role, (role,)) if name in there), role)


def _given(row: object, number: int) -> Record:
    if not isinstance(row, Mapping):
        raise InputError(f"the rows, row {number}, is no object but {type(row).__name__}")
    values = {str(key): value for key, value in row.items()}
    return Record(values, f"row {number}", partial(dict, values))


def _source(records: Iterable[Record], folder: ImageFolder, name: str) -> Source:
    columns: dict[str, None] = {}
    rows = []
    for record in records:
        values = dict(record.values)
        # As a file of objects by the names of their images has it.
        if record.image and column_of("image", values) not in values and folder.has(record.image):
            values = {"image": record.image, **values}
        columns |= dict.fromkeys((*values, *sorted(record.heavy)))
        rows.append(replace(record, values=values))
    return Source(rows, tuple(columns), folder, name)
