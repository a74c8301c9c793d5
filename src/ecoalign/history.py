"""The history: what was asked, decided and spent, a line a run. Opt-in, local, no pictures.

history = History.of(settings)            # None unless the setting `history` is on
if history is not None:
    history.add(result, query, "run.jsonl")
for entry in History.open().entries(limit=10): ...
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from ecoalign._version import __version__
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event, RunFailed, RunStarted

__all__ = ["Entry", "History", "history_file"]

Outcome = Literal["answered", "refused", "failed", "interrupted"]

_SCHEMA = 1


def history_file() -> Path:
    """Where the history is: history.jsonl in the user's folder for the state of programs."""
    from platformdirs import user_state_path

    return user_state_path("ecoalign", appauthor=False) / "history.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run."""

    id: str
    """Eight hexadecimal digits, by which `find` knows it."""
    at: str
    """When it ended, in UTC: "2026-11-26T01:20:30.123+00:00"."""
    question: str
    """As it was asked."""
    outcome: Outcome
    """Whether it was answered, or refused (a refusal is an answer), or failed."""
    answer: str = ""
    """The text that came out; "" if none did."""
    context: tuple[str, ...] = ()
    """The earlier turns, the oldest first."""
    instructions: str = ""
    """The system prompt."""
    images: tuple[str, ...] = ()
    """SHA-256 of each image, in hexadecimal. The pictures themselves are nowhere in it."""
    files: tuple[str, ...] = ()
    """Where each image was read from; "" for one that came from no file. Empty if not told."""
    model: str = ""
    """The model, as "provider:name"."""
    method: str = "ecoalign"
    """The method."""
    preset: str = ""
    """The preset."""
    ended: str = ""
    """How the search came to it; see `Ending`."""
    stop_reason: str = ""
    """Why the search ended."""
    safety: float | None = None
    """S[P] in [-1, 1]; None where nothing was scored."""
    utility: float | None = None
    """U[P] >= 0; None where nothing was scored."""
    budget: str = ""
    """What it might spend, as `Budget.parse` reads it."""
    tokens: int = 0
    """Tokens charged."""
    usd: float | None = 0.0
    """Dollars charged; None if a price is unknown."""
    seconds: float = 0.0
    """Wall-clock."""
    calls: int = 0
    """Calls that were, or may have been, billed."""
    hint: str = ""
    """What to change where something went wrong."""
    error: str = ""
    """Type and message of the error of a run that failed."""
    trace: str = ""
    """The file of its trace; "" if none was kept."""
    version: str = __version__
    """The version of EcoAlign."""

    def to_json(self) -> dict[str, object]:
        """Plain JSON, the line of the file."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {"schema": _SCHEMA, **values, **lists}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. What a later version has added is left out.

        Raises:
            ValueError: it is no entry.
        """
        known = {one.name: one for one in fields(cls)}
        values = {name: value for name, value in body.items() if name in known}
        for name in ("context", "images", "files"):
            values[name] = tuple(map(str, values.get(name, ())))
        try:
            entry = cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from None
        texts = (entry.id, entry.at, entry.question, entry.answer, entry.outcome)
        if not all(isinstance(text, str) for text in texts) or not entry.id:
            raise ValueError("a field that should be text is not")
        return entry


class History:
    """A file of entries, the oldest first. Several processes may add to it at once.

    Args:
        path: the file; it need not be there.

    Attributes:
        path: the file.
        skipped: lines that the last reading could make nothing of, such as one that was cut off.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skipped = 0

    @classmethod
    def open(cls, path: str | Path | None = None) -> Self:
        """The history at `path`; the user's own (`history_file`) if None."""
        return cls(history_file() if path is None else path)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The user's own history if `settings` want one kept, else None."""
        return cls.open() if settings.history else None

    def add(
        self,
        result: Alignment | EcoAlignError | KeyboardInterrupt,
        query: Query,
        trace: str | Path | None = None,
        *,
        files: Sequence[str | Path] = (),
        events: Sequence[Event] = (),
    ) -> Entry:
        """Note a run.

        Args:
            result: what came of it; the error of a run that failed, or the interrupt that ended it.
            query: what was asked.
            trace: the file of its trace, where one was kept.
            files: where the images were read from, in order; "-" or "" for no file.
            events: of a run that did not succeed; what it has spent is read from them. Those that
                the error has kept if none are given.

        Raises:
            InputError: the file cannot be written. The run is over by then: whoever calls this has
                delivered the answer, and says what could not be noted.
        """
        entry = Entry(
            secrets.token_hex(4),
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            query.question,
            "answered",
            context=query.context,
            instructions=query.instructions,
            images=tuple(picture.sha256 for picture in query.pictures),
            files=tuple(_absolute(file) for file in files),
            trace="" if trace is None else _absolute(trace),
        )
        entry = _decided(entry, result, events)
        self._append(entry)
        return entry

    def entries(self, limit: int | None = None) -> list[Entry]:
        """The latest entries, the oldest of them first; all of them if `limit` is None.

        Raises:
            InputError: the file cannot be read.
        """
        self.skipped = 0
        found = list(self._read())
        return found if limit is None else found[max(0, len(found) - limit) :]

    def last(self) -> Entry | None:
        """The latest entry; None if there is none.

        Raises:
            InputError: the file cannot be read.
        """
        return next(iter(self.entries(1)), None)

    def find(self, name: str) -> Entry:
        """The entry whose id begins with `name`; "last" is the latest.

        Raises:
            InputError: there is none, or several; or the file cannot be read.
        """
        entries = self.entries()
        wanted = name.strip().lower()
        if wanted == "last":
            found = entries[-1:]
        else:
            found = [one for one in entries if wanted and one.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(one.id for one in found[:5])
            raise InputError(f"{name!r} is the beginning of several ids: {shown}; give more of it")
        raise InputError(f"the history has no entry {name!r}; ecoalign history lists them")

    def clear(self) -> int:
        """Remove all entries; returns how many lines there were.

        Raises:
            InputError: the file cannot be written.
        """
        if not self.path.exists():
            return 0
        try:
            with _locked(self.path, os.O_RDWR) as handle:
                lines = self.path.read_bytes().count(b"\n")
                os.ftruncate(handle, 0)
        except OSError as error:
            raise InputError(f"cannot clear the history {self.path}: {error.strerror}") from None
        return lines

    def _read(self) -> Iterator[Entry]:
        try:
            # Not splitlines(): a model's text may hold what Unicode counts as the end of a line.
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"cannot read the history {self.path}: {error.strerror}") from None
        for line in lines:
            if not line.strip():
                continue
            try:
                yield Entry.from_json(json.loads(line))
            except (ValueError, AttributeError, TypeError, RecursionError):
                self.skipped += 1

    def _append(self, entry: Entry) -> None:
        """Add a whole line, whoever else is writing, and whatever a crash has left."""
        # ASCII: half of a character that a model wrote is no UTF-8.
        line = json.dumps(entry.to_json(), separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
                size = os.lseek(handle, 0, os.SEEK_END)
                if size and _byte_at(handle, size - 1) != b"\n":
                    line = b"\n" + line  # a writer was killed in the middle of its line
                while line:
                    line = line[os.write(handle, line) :]
        except OSError as error:
            raise InputError(f"cannot write the history {self.path}: {error.strerror}") from None


def _decided(entry: Entry, result: Alignment | BaseException, events: Sequence[Event]) -> Entry:
    """`entry` with what came of the run."""
    if isinstance(result, Alignment):
        return replace(
            entry,
            outcome="refused" if result.refused else "answered",
            answer=result.answer,
            model=result.model,
            method=result.method,
            preset=result.preset,
            ended=result.ended,
            stop_reason=result.stop_reason,
            safety=result.safety,
            utility=result.utility,
            budget=str(result.budget),
            tokens=result.spent.tokens.total,
            usd=result.spent.usd,
            seconds=round(result.spent.seconds, 3),
            calls=result.spent.calls,
            hint=result.hint,
        )
    own = isinstance(result, EcoAlignError)
    failed = replace(
        entry,
        outcome="failed" if own else "interrupted",
        error=f"{type(result).__name__}: {result}" if own else "",
    )
    events = tuple(events or getattr(result, "trace", None) or ())
    if events and isinstance(started := events[0], RunStarted):
        failed = replace(
            failed,
            model=started.model,
            method=started.method,
            preset=started.preset,
            budget=started.budget,
        )
    if events and isinstance(last := events[-1], RunFailed) and last.spent:
        spent = last.spent
        failed = replace(
            failed,
            tokens=spent["tokens"]["total"],
            usd=spent["usd"],
            seconds=round(spent["seconds"], 3),
            calls=spent["calls"],
        )
    return failed


def _absolute(file: str | Path) -> str:
    return "" if str(file) in {"", "-"} else os.path.abspath(file)


def _byte_at(handle: int, place: int) -> bytes:
    os.lseek(handle, place, os.SEEK_SET)
    return os.read(handle, 1)


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    """The file, open for its owner alone and for one writer at a time."""
    handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            import fcntl
        except ImportError:  # Windows: one write at the end of the file is whole there, too
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.fchmod(handle, 0o600)
        yield handle
    finally:
        os.close(handle)
