"""Trace files: written as the run goes, so that what has happened is kept whatever comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from ecoalign.errors import InputError
from ecoalign.trace.events import Event, from_json, to_json


class TraceWriter:
    """Writes events to a file, each flushed at once. A context manager.

    Args:
        path: the file; an existing one is replaced.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file: TextIO = self.path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InputError(f"cannot write the trace to {path}: {error.strerror}") from None

    def write(self, event: Event) -> None:
        """Append one event."""
        self._file.write(to_json(event) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
