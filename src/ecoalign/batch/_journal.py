"""What a batch has done so far: a file beside its output, appended to and safe against kill -9.

One JSON object a line:

    {"journal": 1, "version": ..., "settings": {...}}             what every answer depends on
    {"begin": ID, "most": [tokens, nano], "boot": ...}            an item is begun, on this grant
    {"of": ID, "cost": [tokens, nano]}                            it may have cost so much by now
    {"end": ID, "cost": [tokens, nano], "row": {...}, ...}        it is done, or lost (no row)
    {"again": [ID, ...]}                                          these rows do not count

A line is written in one piece, before what it tells of is done: a call is made only after the line
with its worst case. What a kill leaves behind is at most one torn last line, which is cut off, and
items that were begun and have no end: each is charged its last `cost`, that is, what its settled
calls have cost and the bounds of those under way, and is asked again.

Lines that begin or end an item are forced to the disk (`sync`). The many costs in between need only
outlive the process; after a crash of the machine, told by its boot id, such an item costs its whole
grant.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecoalign.budget.pacing import PacingState, Sum
from ecoalign.errors import InputError

SUFFIX = ".journal"
"""What the name of the output gets for its journal."""

_VERSION = 1

_HEADER = b'{"journal":'
"""How every journal begins."""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


BOOT = _boot_id()
"""Names this start of the machine; "" where the system does not say."""


@dataclass(frozen=True, slots=True)
class Done:
    """An item that has its row.

    Attributes:
        status: of the row.
        fault: how the model failed it; "" if it did not.
        files: size, time of change and digest of each image file when it was asked.
        tokens, usd, calls: what its row says that it took; usd is None if unknown.
        at, length: where its line is in the journal, in bytes.
    """

    status: str
    fault: str
    files: tuple[tuple[int, int, str], ...]
    tokens: int
    usd: float | None
    calls: int
    at: int
    length: int


@dataclass(slots=True)
class _Begun:
    tokens: int | None
    nano: int | None
    boot: str
    cost: Sum


class Journal:
    """The journal of one batch, open for more. A context manager; one process at a time.

    Args:
        path: the file; made if need be.
        header: what every answer depends on, as plain JSON.
        fresh: set a journal that is there aside, as NAME.old, and begin anew.

    Attributes:
        done: the items that have a row, by id.
        spent: what all attempts have been charged, those that gave no row included.
        pace: the shadow price after the last item.
        lost: what was charged now for items that were under way at a kill, by id.
        size, synced: bytes that are written, and those of them that are on the disk.
        found: whether an earlier run has begun anything.

    Raises:
        InputError: the file cannot be opened, is in use, is no journal, or is one of a batch with
            another header.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self.done: dict[str, Done] = {}
        self.spent = Sum()
        self.pace = PacingState()
        self.lost: dict[str, Sum] = {}
        self._begun: dict[str, _Begun] = {}
        self.size = self.synced = 0
        self._lock = threading.Lock()
        try:
            self._file = _opened(path)
            if fresh and os.fstat(self._file).st_size:
                path.replace(path.with_name(path.name + ".old"))
                os.close(self._file)
                self._file = _opened(path)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        try:
            there = self._read()
            self.found = bool(self.done or self._begun or self.spent != Sum())
            if self.found and there is not None:
                _check(path, there, json.loads(json.dumps(header)))
                self._charge_lost()
            else:
                os.ftruncate(self._file, 0)
                self.size = 0
                self._write({"journal": _VERSION, **header})
                sync_folder(path.parent)
            self.sync()
        except BaseException:
            self.close()
            raise

    def begin(self, item: str, tokens: int | None, nano: int | None, *, told: bool = True) -> None:
        """Begin an attempt at an item; it outlives a kill when this returns, and more after `sync`.

        Args:
            item: its id.
            tokens, nano: the grant; None where it bounds nothing.
            told: whether `cost` will be told of its calls; else a lost one costs its whole grant.
        """
        boot = BOOT if told else ""
        self._begun[item] = _Begun(tokens, nano, boot, Sum())
        self._write({"begin": item, "most": [tokens, nano], "boot": boot})

    def cost(self, item: str, cost: Sum) -> None:
        """What an item may have cost by now, calls under way at their bounds; outlives a kill."""
        self._begun[item].cost = cost
        self._write({"of": item, "cost": [cost.tokens, cost.nano]})
        if not BOOT:
            self.sync()

    def end(
        self,
        item: str,
        cost: Sum,
        row: Mapping[str, Any] | None = None,
        *,
        fault: str = "",
        files: Sequence[tuple[int, int, str]] = (),
        branches: Sequence[Mapping[str, Any]] | None = None,
        pace: PacingState | None = None,
    ) -> None:
        """End an attempt; it outlives a kill when this returns, and more after `sync`.

        Args:
            item: its id.
            cost: what it is charged.
            row: what the output will say of it; None if the item is to be asked again.
            fault, files: see `Done`.
            branches: answers of the same run that were not given out; None if they are not kept.
            pace: the shadow price from now on.
        """
        line: dict[str, Any] = {"end": item, "cost": [cost.tokens, cost.nano]}
        if row is not None:
            line |= {"row": row, "fault": fault, "files": list(files)}
        if branches is not None:
            line["branches"] = list(branches)
        if pace is not None:
            line["pace"] = pace.to_json()
        at, length = self._write(line)
        self._take(line, at, length)

    def again(self, items: Iterable[str]) -> None:
        """Rows that do not count: the items are to be asked again. What they cost stays."""
        line = {"again": list(items)}
        self._take(line, *self._write(line))

    def sync(self) -> None:
        """Force what is written to the disk. From any thread.

        Raises:
            InputError: the disk fails.
        """
        size = self.size
        try:
            os.fsync(self._file)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        self.synced = max(self.synced, size)

    def read(self, item: str) -> dict[str, Any]:
        """The line of a done item: `row`, `files`, and `branches` if they were kept."""
        done = self.done[item]
        with self.path.open("rb") as file:
            file.seek(done.at)
            body: dict[str, Any] = json.loads(file.read(done.length))
        return body

    def close(self) -> None:
        """Close the file and let others have it. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """Append a line; where it is, and how long without its newline."""
        data = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            at, length = self.size, len(data) - 1
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                with suppress(OSError):
                    # Half a line would spoil the next one.
                    os.ftruncate(self._file, at)
                raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
            self.size += length + 1
        return at, length

    def _read(self) -> dict[str, Any] | None:
        """Take in what is there and cut off a torn last line; the header, None if there is none."""
        header = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if header is None and not _HEADER.startswith(line[: len(_HEADER)]):
                        # Somebody's own text of one line: it is not ours to cut off.
                        raise InputError(f"{self.path} is no journal of a batch; move it away")
                    break
                try:
                    body = json.loads(line)
                    if header is None:
                        if body.get("journal") != _VERSION:
                            raise ValueError
                        header = body
                    else:
                        self._take(body, self.size, len(line) - 1)
                except (ValueError, KeyError, TypeError, AttributeError):
                    raise InputError(
                        f"{self.path}, line {number}, is not of the journal of a batch; move the "
                        "file away, or name another output"
                    ) from None
                self.size += len(line)
        os.ftruncate(self._file, self.size)
        return header

    def _take(self, body: Mapping[str, Any], at: int, length: int) -> None:
        if "begin" in body:
            tokens, nano = body["most"]
            self._begun[body["begin"]] = _Begun(tokens, nano, body["boot"], Sum())
        elif "of" in body:
            self._begun[body["of"]].cost = Sum(*body["cost"])
        elif "end" in body:
            self._begun.pop(body["end"], None)
            self.spent += Sum(*body["cost"])
            if "pace" in body:
                self.pace = PacingState.from_json(body["pace"])
            if (row := body.get("row")) is not None:
                self.done[body["end"]] = Done(
                    row["status"],
                    body["fault"],
                    tuple((size, time, digest) for size, time, digest in body["files"]),
                    row["tokens"],
                    row["usd"],
                    row["calls"],
                    at,
                    length,
                )
        elif "again" in body:
            for item in body["again"]:
                self.done.pop(item, None)
        else:
            raise ValueError

    def _charge_lost(self) -> None:
        for item, begun in list(self._begun.items()):
            cost = begun.cost
            if not (BOOT and begun.boot == BOOT):
                cost = Sum(
                    cost.tokens if begun.tokens is None else begun.tokens,
                    cost.nano if begun.nano is None else begun.nano,
                )
            self.end(item, cost)
            self.lost[item] = cost


def _opened(path: Path) -> int:
    """The file, locked."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file), path.stat()):
                raise FileNotFoundError  # set aside by another process just now
    except OSError:
        os.close(file)
        raise InputError(
            f"another process is running this batch now: it writes to {path}"
        ) from None
    return file


def _check(path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise InputError if a batch with another header is in the journal."""
    old, new = dict(_flat(there)), dict(_flat(wanted))
    changed = [
        f"{name} was {_shown(old.get(name))} and is now {_shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if name not in {"journal", "version"} and old.get(name) != new.get(name)
    ]
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"{path} holds answers under other settings: {'; '.join(changed[:3])}{more}. Answers "
            "are not mixed: name another output, or begin anew with --fresh (the old journal is "
            "kept as .journal.old)"
        )


def _flat(body: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in body.items():
        if name == "settings" and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"


def sync_folder(folder: Path) -> None:
    """A new name in a folder outlives a crash of the machine, where the system can do that."""
    if sys.platform == "win32":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
