"""A process's book: what it has spent and may yet spend of its grants, readable after its death.

The book is a file of shared memory that its process holds a lock on. Writing an entry is a copy in
memory, with no call of the system, so it is written before every call to a model and after it; the
pages outlive a `kill -9`, and the lock ends with the process and not before: who gets the lock
knows that the process is dead, and what its calls could have cost at the most. A process that is
only stopped keeps its lock. The pages do not outlive the machine, so a book of an earlier start of
it is not believed. Where there can be no book, nothing is known, and nothing is guessed.

An entry is kept twice, and one byte says which of the two counts: a kill in the middle of writing
leaves the other one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ecoalign.budget.pacing import NOTHING, Sum

_MAGIC = b"ecobook1"

_HEAD = 64

_ENTRY = 256

_COPY = 104

_CHOICE = 2 * _COPY

_FORMAT = struct.Struct("<16s8q")

_ENTRIES = 1024

_SIZE = _HEAD + _ENTRIES * _ENTRY

_MOST = 2**62

_ID = re.compile(r"[0-9a-f]{32}")

_FORGOTTEN = 30 * 86_400.0
"""Seconds."""

NOWHERE = -1
"""The slot of what no book tells of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a book says of a grant, or of a lease and all the grants made of it.

    Attributes:
        spent: by grants of a lease that have ended.
        exposed: what open grants have spent and what their calls under way can cost at the most.
        held: what open grants have reserved.
        requests: grants made.
        open: grants not settled.
    """

    spent: Sum = NOTHING
    exposed: Sum = NOTHING
    held: Sum = NOTHING
    requests: int = 0
    open: int = 0


class Book:
    """The book of this process.

    Args:
        folder: where it is kept, made if need be.
        process: 32 hexadecimal digits, of the process.

    Raises:
        OSError: there can be none here.
    """

    def __init__(self, folder: Path, process: str) -> None:
        import fcntl

        self.path = _path(folder, process)
        folder.mkdir(parents=True, exist_ok=True)
        # It has its name only once it is locked: who finds it unlocked knows that it is nobody's.
        handle, name = tempfile.mkstemp(dir=folder, prefix=".ecoalign-", suffix=".book")
        self._handle = handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # All of it is there: writing to memory cannot fail later for lack of a block.
            os.write(handle, bytes(_SIZE))
            self._memory = mmap.mmap(handle, _SIZE)
            self._memory[: len(_MAGIC) + 16] = _MAGIC + _boot()
            os.rename(name, self.path)
        except BaseException:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        self._free = list(range(_ENTRIES - 1, -1, -1))

    def take(self) -> int:
        """A slot for an entry; NOWHERE if all are in use."""
        return self._free.pop() if self._free else NOWHERE

    def give(self, slot: int) -> None:
        """The entry of this slot is of no use any more."""
        if slot != NOWHERE:
            self.write(slot, bytes(16), Entry())
            self._free.append(slot)

    def write(self, slot: int, owner: bytes, entry: Entry) -> None:
        """Make `entry` that of the slot.

        Args:
            slot: from `take`; nothing is done for NOWHERE.
            owner: 16 bytes, of the grant.
            entry: what is so from now on.
        """
        if slot == NOWHERE:
            return
        at = _HEAD + slot * _ENTRY
        other = 1 - self._memory[at + _CHOICE]
        spent, exposed, held = entry.spent, entry.exposed, entry.held
        _FORMAT.pack_into(
            self._memory,
            at + other * _COPY,
            owner,
            min(_MOST, spent.tokens),
            min(_MOST, spent.nano),
            min(_MOST, exposed.tokens),
            min(_MOST, exposed.nano),
            min(_MOST, held.tokens),
            min(_MOST, held.nano),
            entry.requests,
            entry.open,
        )
        self._memory[at + _CHOICE] = other

    def close(self, *, keep: bool) -> None:
        """Let the lock go. `keep` leaves the file, for whoever releases what it tells of."""
        if not keep:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._memory.close()
        os.close(self._handle)


State = Literal["alive", "dead", "unknown"]


class Shelf:
    """The books of all processes that keep theirs in one folder; None where there are none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def open(self, process: str) -> Book | None:
        """A book for this process, if there can be one."""
        if self.folder is None:
            return None
        try:
            made = Book(self.folder, process)
            self._sweep()
            return made
        except (OSError, ImportError, AttributeError):
            return None

    def _sweep(self) -> None:
        """Remove books that nobody has asked for in a month: their stores are gone, too."""
        if self.folder is None:
            return
        for file in self.folder.glob("ecoalign-*.book"):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < time.time() - _FORGOTTEN:
                    with self.examined(file.stem.removeprefix("ecoalign-")) as (state, _):
                        if state == "dead":
                            file.unlink()

    @contextlib.contextmanager
    def examined(self, process: str) -> Iterator[tuple[State, Reader | None]]:
        """Whether a process lives, and its book, if it is to be believed.

        "dead" is said only where it is certain; its lock is held inside the block. "unknown" is a
        process without a book here.
        """
        handle = self._handle(process)
        if handle is None:
            yield "unknown", None
            return
        try:
            state: State = "dead" if _locked(handle) else "alive"
            yield state, _reader(handle)
        finally:
            os.close(handle)

    def reader(self, process: str) -> Reader | None:
        """The book of a process, dead or alive."""
        handle = self._handle(process)
        if handle is None:
            return None
        try:
            return _reader(handle)
        finally:
            os.close(handle)

    def forget(self, process: str) -> None:
        """Remove the book of a process that is dead and has nothing left."""
        if self.folder is not None and _ID.fullmatch(process):
            with contextlib.suppress(OSError):
                _path(self.folder, process).unlink()

    def _handle(self, process: str) -> int | None:
        if self.folder is None or not _ID.fullmatch(process):
            return None
        try:
            return os.open(_path(self.folder, process), os.O_RDWR | os.O_NOFOLLOW)
        except (OSError, AttributeError):
            return None


class Reader:
    """A copy of a book.

    Args:
        content: of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def entry(self, slot: int, owner: bytes) -> Entry | None:
        """What it says of a grant; None if nothing."""
        at = _HEAD + slot * _ENTRY
        if not 0 <= slot < _ENTRIES or len(self._content) != _SIZE:
            return None
        choice = self._content[at + _CHOICE] & 1
        found, *numbers = _FORMAT.unpack_from(self._content, at + choice * _COPY)
        if found != owner or owner == bytes(16):
            return None
        a, b, c, d, e, f, requests, opened = numbers
        return Entry(Sum(a, b), Sum(c, d), Sum(e, f), requests, opened)


def private_folder() -> Path | None:
    """A folder of this user, on this machine, for books that have no file beside them."""
    try:
        folder = Path(tempfile.gettempdir()) / f"ecoalign-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, AttributeError):
        return None
    ours = found.st_uid == os.getuid() and not found.st_mode & 0o077 and folder.is_dir()
    return folder if ours and not folder.is_symlink() else None


def _path(folder: Path, process: str) -> Path:
    return folder / f"ecoalign-{process}.book"


def _reader(handle: int) -> Reader | None:
    content = os.pread(handle, _SIZE, 0)
    # Without the number of the machine's start it may be a book of before it.
    ours = _boot() != bytes(16) and content[: len(_MAGIC) + 16] == _MAGIC + _boot()
    return Reader(content) if ours else None


def _locked(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@lru_cache(1)
def _boot() -> bytes:
    """Which start of the machine this is; zeros where it does not say."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        return bytes.fromhex(text.strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return bytes(16)
