"""Where rows are kept: a file that is only ever appended to, one line a row, safe against kill -9.

A line is written in one piece and forced to the disk before the next sample counts as done. What a
kill leaves behind is at most one torn last line: readers ignore it, and the next run cuts it off.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign.bench._rows import Row, RowKey
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

__all__ = [
    "MANIFEST",
    "ROWS",
    "Store",
    "check_manifest",
    "in_order",
    "latest",
    "read_manifest",
    "read_rows",
]

ROWS = "rows.jsonl"

MANIFEST = "run.json"


@dataclass(frozen=True, slots=True)
class _Content:
    rows: list[Row]
    whole: int  # bytes up to the end of the last whole line


def _read(path: Path) -> _Content:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            rows.append(Row.from_line(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    return _Content(rows, whole)


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key, in the order in which the keys first came."""
    by_key: dict[RowKey, Row] = {}
    for row in rows:
        by_key[row.key] = row
    return list(by_key.values())


def in_order(rows: Iterable[Row], variants: Sequence[str]) -> list[Row]:
    """The rows by variant, in the order given, others last; of a variant as they came."""
    place = {name: i for i, name in enumerate(variants)}
    return sorted(rows, key=lambda row: place.get(row.key.variant, len(place)))


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run, the last one of each key; a torn last line is ignored.

    Raises:
        InputError: there is no run in the folder, or a whole line of it is no row.
    """
    path = folder / ROWS
    try:
        return latest(_read(path).rows)
    except OSError as error:
        raise InputError(f"no rows of a benchmark in {folder}: {error.strerror}") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the run in a folder is a run of; empty if it does not say.

    Raises:
        InputError: the file is there and cannot be read.
    """
    path = folder / MANIFEST
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(body, dict):
        raise InputError(f"{path} is not one JSON object")
    return body


def check_manifest(folder: Path, wanted: Mapping[str, Any], fixed: Iterable[str]) -> None:
    """Write the manifest of a new run, or see that the run there is one of the same.

    Args:
        folder: made if need be.
        wanted: what is to be run, as plain JSON.
        fixed: the names that must not change when a run goes on; others are brought up to date.

    Raises:
        InputError: the folder holds a run of something else, or cannot be written.
    """
    wanted = json.loads(json.dumps(wanted))
    there = read_manifest(folder)
    for name in fixed:
        if there and there.get(name) != wanted.get(name):
            raise InputError(
                f"{folder} holds a run with {name} {there.get(name)!r}, not "
                f"{wanted.get(name)!r}: give another --out, or remove the folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not there and (folder / ROWS).exists():
            raise InputError(f"{folder} holds rows and no {MANIFEST}: give another --out")
        fresh = folder / f"{MANIFEST}.new"
        fresh.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        fresh.replace(folder / MANIFEST)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None


class Store:
    """The rows of one run, open for more. A context manager; one process at a time.

    Args:
        folder: where `rows.jsonl` is or will be.

    Attributes:
        rows: all that is there, by key, the latest of each.

    Raises:
        InputError: the file cannot be opened, is in use, or holds a whole line that is no row.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ROWS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            _lock(self._file, self.path)
            content = _read(self.path)
            # The torn line of a killed run: its sample never counted as done.
            os.ftruncate(self._file, content.whole)
        except BaseException:
            os.close(self._file)
            raise
        self.rows: dict[RowKey, Row] = {row.key: row for row in content.rows}

    def append(self, row: Row) -> None:
        """Keep a row for good: on return it is on the disk.

        Raises:
            InputError: the disk is full, or the like. What was written stays readable.
        """
        data = row.to_line().encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        self.rows[row.key] = row

    def close(self) -> None:
        """Close the file and let others have it. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


if sys.platform == "win32":

    def _lock(file: int, path: Path) -> None:
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise _in_use(path) from None

else:

    def _lock(file: int, path: Path) -> None:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _in_use(path) from None


def _in_use(path: Path) -> InputError:
    return InputError(f"another process is running this benchmark now: it writes to {path}")
