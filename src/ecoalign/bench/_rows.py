"""Rows, and where they are kept: a file that is only ever appended to, safe against kill -9.

A row is one answered sample of one variant, as one line of JSON. A line is written in one piece
and, where a model was paid for it, forced to the disk before the next sample counts as done. What a
kill leaves behind is at most one torn last line: readers ignore it, and the next run cuts it off.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from ecoalign.bench._score import UNUSABLE, Score
from ecoalign.budget import Spending
from ecoalign.errors import InputError

FAILED = "failed"
"""The label of a sample that was not answered because of an error."""


class RowKey(NamedTuple):
    """What a row is the only one of. `repeat` counts from 0."""

    experiment: str
    variant: str
    method: str
    suite: str
    sample: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the error's type, its message, and its exit code (1 unforeseen)."""

    kind: str
    message: str
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One answered sample.

    Attributes:
        key: what was asked, of whom.
        group: the sample's group.
        model: "provider:name".
        answer: the text; "" where there is none.
        refused: whether it is a refusal.
        score: None while it is not scored yet: the answer is paid for and kept all the same.
        spent: the ledger's account, failed attempts included; judges are not in it.
        stop_reason: the method's own word for why it stopped.
        ended: how a search came to its answer, see `Alignment.ended`; "" of other methods, of
            failures, and in rows of older releases.
        critical_path: calls on the critical path, the most that had to wait for each other; 0
            where the method does not say.
        cached: how many calls were answered from the response cache; their tokens and dollars
            count in `spent`, their seconds cannot.
        safety, utility: by the method's own evaluator, None if it has none.
        budget: what the answer was allowed to spend.
        failure: the error, if there was one.
        question: the text that was asked, for whoever reads the report.
        detail: what else the method reports.
        judging: what the benchmark's judges took for the score: tokens, calls, usd (None if a
            price is unknown); empty where none was asked. It is not part of `spent`.
    """

    key: RowKey
    group: str
    model: str
    answer: str
    refused: bool
    score: Score | None
    spent: Spending
    stop_reason: str = ""
    ended: str = ""
    critical_path: int = 0
    cached: int = 0
    safety: float | None = None
    utility: float | None = None
    budget: str = ""
    failure: Failure | None = None
    question: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    judging: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether it still waits for its score."""
        return self.score is None

    @property
    def unusable(self) -> bool:
        """Whether no verdict of its judges could be read."""
        return self.score is not None and self.score.label == UNUSABLE

    def to_line(self) -> str:
        """One line of JSON, in ASCII, without its newline. No text in it can break the line."""
        body = {
            **self.key._asdict(),
            **_plain(self),
            "score": None if self.score is None else _plain(self.score),
            "spent": self.spent.to_json(),
            "failure": None if self.failure is None else _plain(self.failure),
        }
        del body["key"]
        return json.dumps(body, separators=(",", ":"), default=str)

    @classmethod
    def from_line(cls, line: str | bytes) -> Row:
        """The row that `to_line` wrote, by this release or an older one.

        Raises:
            InputError: it is not a row.
        """
        try:
            body = json.loads(line)
            # The name of the first release.
            if "calls_in_line" in body:
                body["critical_path"] = body.pop("calls_in_line")
            body.setdefault("ended", "")
            score, failure = body["score"], body["failure"]
            body |= {
                "key": RowKey(*(body[name] for name in RowKey._fields)),
                "score": None if score is None else Score(**score),
                "spent": Spending.from_json(body["spent"]),
                "failure": None if failure is None else Failure(**failure),
            }
            return cls(**{each.name: body[each.name] for each in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is no row of a benchmark: {type(error).__name__}") from None


def _plain(record: Row | Score | Failure) -> dict[str, Any]:
    """The fields of a record by name, mappings as dicts."""
    values = ((each.name, getattr(record, each.name)) for each in fields(record))
    return {name: dict(v) if isinstance(v, Mapping) else v for name, v in values}


ROWS = "rows.jsonl"

MANIFEST = "run.json"


def _read(path: Path) -> tuple[list[Row], int]:
    """The rows of a file, and where the last whole line ends, in bytes."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            rows.append(Row.from_line(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    return rows, whole


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key, in the order in which the keys first came."""
    return list({row.key: row for row in rows}.values())


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
        return latest(_read(path)[0])
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
        sync: whether a row is on the disk, and not only with the system, before the next one
            counts as done. Rows that cost nothing to make again need not be.

    Attributes:
        rows: all that is there, by key, the latest of each.

    Raises:
        InputError: the file cannot be opened, is in use, or holds a whole line that is no row.
    """

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self.path = folder / ROWS
        self._sync = sync
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            _lock(self._file, self.path)
            rows, whole = _read(self.path)
            # The torn line of a killed run: its sample never counted as done.
            os.ftruncate(self._file, whole)
        except BaseException:
            os.close(self._file)
            raise
        self.rows: dict[RowKey, Row] = {row.key: row for row in rows}

    def append(self, row: Row) -> None:
        """Keep a row for good: on return it survives the end of this process; see `sync`.

        Raises:
            InputError: the disk is full, or the like. What was written stays readable.
        """
        data = row.to_line().encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if self._sync:
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

    def __exit__(self, *error: object) -> None:
        self.close()


def _lock(file: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(
            f"another process is running this benchmark now: it writes to {path}"
        ) from None
