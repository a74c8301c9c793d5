"""Logs that hold no prompt, image or key, whoever writes them.

One handler is put at the root of Python's logging, and the promise is kept there, not in the
loggers, which any library may turn up. Unless content is asked for, it shows the messages of our
own loggers and of uvicorn's life cycle only; of all others the logger, the level and the line of
code. An exception is shown by its types and its frames: its message may quote the request.
"""

from __future__ import annotations

import json as _json
import logging
import sys
import threading
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from ecoalign.gateway.observe.context import current_request
from ecoalign.gateway.observe.redaction import Redactor, secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FIELDS", "Logs", "configure"]

FIELDS: Final = "ecoalign_fields"
"""The attribute of a record that holds the fields of a structured line."""
CLEAN: Final = "ecoalign_clean"
"""Set on a record whose fields are harmless words and numbers, and message a constant."""

# Ours are written with care for what they say; uvicorn's tells of ports and processes.
_SHOWN = ("ecoalign", "uvicorn.error")
_WITHHELD = "(message withheld: content is not logged)"
_MOST_FRAMES = 30
_MOST_CAUSES = 5
_log = logging.getLogger("ecoalign.process")


class _Formatter(logging.Formatter):
    def __init__(self, redactor: Redactor, *, json: bool, content: bool) -> None:
        super().__init__()
        self._redactor = redactor
        self._json = json
        self._content = content

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        clean = getattr(record, CLEAN, False)
        line["message"] = record.msg if clean else self._message(record)
        request = current_request.get()
        if request:
            line["request"] = request
        fields = getattr(record, FIELDS, None)
        if isinstance(fields, dict):
            line |= fields if clean else {k: self._cleaned(v) for k, v in fields.items()}
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["error"] = self._error(record.exc_info[1])
        if self._json:
            return _ENCODER.encode(line)
        return _human(line)

    def _message(self, record: logging.LogRecord) -> str:
        shown = record.name in _SHOWN or record.name.startswith("ecoalign.")
        if not (self._content or (shown and record.levelno >= logging.INFO)):
            return f"{_WITHHELD} {_place(record.pathname)}:{record.lineno} {record.funcName}"
        return self._redactor(record.getMessage())

    def _cleaned(self, value: object) -> object:
        if isinstance(value, str):
            return self._redactor(value)
        if isinstance(value, dict):
            return {self._redactor(str(key)): self._cleaned(item) for key, item in value.items()}
        return value

    def _error(self, error: BaseException) -> list[dict[str, object]]:
        """The error and what caused it, the last first."""
        found: list[dict[str, object]] = []
        at: BaseException | None = error
        while at is not None and len(found) < _MOST_CAUSES:
            entry: dict[str, object] = {"type": _type_name(at), "frames": _frames(at.__traceback__)}
            if self._content:
                entry["message"] = self._redactor(str(at))
            found.append(entry)
            at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
        return found


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


_ENCODER = _json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=_type_name)


def _place(path: str) -> str:
    """The end of a path: enough to find the file, without the machine's folders."""
    return "/".join(PurePath(path).parts[-3:])


def _frames(at: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f"{_place(code.co_filename)}:{at.tb_lineno} {code.co_name}")
        at = at.tb_next
    return frames[-_MOST_FRAMES:]


def _human(line: dict[str, object]) -> str:
    at, level = str(line.pop("at")), str(line.pop("level"))
    logger, message = line.pop("logger"), line.pop("message")
    rest = " ".join(
        f"{name}={value if isinstance(value, str) else _json.dumps(value, default=_type_name)}"
        for name, value in line.items()
        if value is not None
    )
    text = f"{at[11:23]} {level.upper():<8} {logger}: {message} {rest}".rstrip()
    # A line break or an escape sequence in a value would make lines that nobody wrote.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say that a line was lost; the default would print the arguments of the message."""
        kind = sys.exc_info()[0]
        name = "an error" if kind is None else kind.__name__
        sys.stderr.write(f"ecoalign: a line of {record.name} could not be logged ({name})\n")


class Logs:
    """The logging as `configure` set it up.

    Attributes:
        redactor: what takes secrets out of text.
    """

    def __init__(self, redactor: Redactor, restore: Callable[[], None]) -> None:
        self.redactor = redactor
        self._restore: Callable[[], None] | None = restore

    def close(self) -> None:
        """Put everything back as it was. Safe to call twice."""
        restore, self._restore = self._restore, None
        if restore is not None:
            restore()


def configure(
    json: bool = True,
    level: str = "INFO",
    *,
    secrets: Iterable[str] = (),
    content: bool = False,
    stream: TextIO | None = None,
) -> Logs:
    """Send all of the process's logs through one safe handler to `stream`.

    Handlers that others have put on the root and on uvicorn's loggers are taken off, uvicorn's own
    access log is turned off (its lines hold query strings; ours replaces it), and what Python
    would print of warnings and of errors outside of any handler is logged instead.

    Args:
        json: JSON lines, or lines for people.
        level: DEBUG, INFO, WARNING, ERROR or CRITICAL.
        secrets: taken out of every line, beside those of the environment.
        content: show messages and exceptions of every library, which may quote requests. Keys and
            images are taken out all the same, as far as they can be told.
        stream: standard error by default.

    Raises:
        ValueError: there is no such level.
    """
    root = logging.getLogger()
    servers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in (root, *servers)]
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    redactor = Redactor({*secrets, *secrets_of()})
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Formatter(redactor, json=json, content=content))

    def restore() -> None:
        for logger, handlers, old_level, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(old_level)
            logger.propagate = propagate
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks

    root.setLevel(level)
    root.handlers[:] = [handler]
    for server in servers:
        server.handlers.clear()
        server.setLevel(logging.NOTSET)
        server.propagate = server.name != "uvicorn.access"
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    warnings.showwarning = _warned
    return Logs(redactor, restore)


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    _log.critical("uncaught error", exc_info=(kind, error, traceback))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log.error("uncaught error in a thread", exc_info=args.exc_value)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        _log.error("error while cleaning up", exc_info=args.exc_value)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log.warning("%s at %s:%d", category.__name__, _place(filename), lineno)


def log_fields(
    logger: logging.Logger,
    level: int,
    message: str,
    fields: Mapping[str, object],
    *,
    clean: bool = False,
) -> None:
    """Log one structured line.

    Args:
        logger: of ours.
        level: of the line.
        message: a constant.
        fields: the line's.
        clean: they are harmless words and numbers, and need not be searched for secrets.
    """
    if not logger.isEnabledFor(level):
        return
    # Made by hand: to look for the caller takes longer than to write the line.
    record = logging.LogRecord(logger.name, level, __file__, 0, message, None, None)
    setattr(record, FIELDS, dict(fields))
    setattr(record, CLEAN, clean)
    logger.handle(record)
