"""Trace files: written as the run goes, so that what has happened is kept whatever comes next."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import get_args

from ecoalign.errors import InputError
from ecoalign.trace.events import Event, from_json, to_json

_BEGINNING = re.compile(
    rb'\s*\{\s*"event"\s*:\s*"(?:%s)"' % "|".join(one.__name__ for one in get_args(Event)).encode()
)
"""Of a trace, whichever version wrote it, and even if its first line was cut off."""

_LOOK = 256


class TraceWriter:
    """Writes events to a file, each at once. A context manager.

    The file is made with the first event: where nothing has happened there is none. A trace that
    is there is replaced then; any other file with something in it is left alone. Links are
    followed. A pipe, a device or a standard stream of this process gets the events as they come.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be written, or what is there is no trace. `write` raises it, too, of
            what has changed since.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: FileIO | None = None
        with _told(self.path):
            _check(self.path)

    def write(self, event: Event) -> None:
        """Append one event.

        Raises:
            OSError: there is no room, or nobody reads the pipe any more.
        """
        line = (to_json(event) + "\n").encode()
        if self._file is not None:
            _write(self._file, line)
            return
        with _told(self.path):
            self._file, fresh = _open(self.path)
        try:
            _write(self._file, line)
        except OSError:
            if fresh:
                with suppress(OSError):
                    self.path.unlink()
            raise

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says against writing `path`, as an `InputError`."""
    try:
        yield
    except OSError as error:
        why = str(error.strerror)
        if error.errno == errno.ENXIO:
            why = "nothing reads from it; start its reader first"
        elif error.errno == errno.ENOENT:
            why = f"there is no folder {Path(os.path.realpath(path)).parent}"
        elif error.errno == errno.EISDIR:
            why = "it is a folder; name a file"
        raise InputError(f"cannot write the trace to {path}: {why}") from None
    except ValueError:  # of a name with a zero byte
        raise InputError(
            f"cannot write the trace to {str(path)!r}: it is no name of a file"
        ) from None


def _check(path: Path) -> None:
    """Find out what is wrong with `path`, without touching anything."""
    try:
        found = path.stat()
    except FileNotFoundError:
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"nothing can be made in {folder}") from None
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if stat.S_ISREG(found.st_mode) and _stream(found) is None:
        with path.open("rb") as file:
            _check_beginning(path, file.read(_LOOK))


def _check_beginning(path: Path, beginning: bytes) -> None:
    if beginning and not _BEGINNING.match(beginning):
        raise InputError(
            f"{path} is there and is no trace, so it is not overwritten; name another file"
        )


def _open(path: Path) -> tuple[FileIO, bool]:
    """The file, empty, and whether it was made now. What it holds is looked at through the very
    handle that is written to."""
    handle, fresh = -1, False
    with suppress(FileNotFoundError):
        found = path.stat()
        if (stream := _stream(found)) is not None:
            return FileIO(os.dup(stream), "w"), False
        if not stat.S_ISREG(found.st_mode):
            # A pipe that nobody reads would hold up the run.
            handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            os.set_blocking(handle, True)
            return FileIO(handle, "w"), False
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
    try:
        handle, fresh = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        handle = os.open(path, flags | os.O_CREAT, 0o666)
    try:
        if not fresh:
            _check_beginning(path, os.read(handle, _LOOK))
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return FileIO(handle, "w"), fresh


def _stream(found: os.stat_result) -> int | None:
    """The standard stream of this process that a file is, as /dev/stdout, or None. Opened once
    more it would be written from its beginning, over what the stream writes."""
    for handle in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(handle)):
                return handle
    return None


def _write(file: FileIO, line: bytes) -> None:
    """All of a line: a pipe may take less at a time."""
    while line:
        line = line[file.write(line) or 0 :]


def read_trace(path: str | Path) -> tuple[Event, ...]:
    """The events of a trace file. A last line that was cut off by a crash is left out.

    Raises:
        InputError: the file is missing, or a line other than a cut-off last one is no event.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the trace {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a trace: it is not UTF-8 text") from None
    # Not splitlines(): a model's text may hold what Unicode counts as the end of a line.
    *lines, _cut_off = text.split("\n")
    return tuple(from_json(line) for line in lines if line.strip())
