"""Logs that hold no prompt, image or key, whichever library writes them.

One handler is put at the root of Python's logging, and the promise is kept there, not in the
loggers, which any library may turn up. Unless content is asked for, it shows the messages of our
own loggers and of uvicorn's life cycle only; of all others the logger, the level and the line of
code. An exception is shown by its types and its frames: its message may quote the request.
"""

from __future__ import annotations

import json as _json
import logging
import os
import re
import secrets
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath
from types import TracebackType
from typing import Final, TextIO

MOST_CHARACTERS = 8192

_SHORTEST_SECRET = 6

_SECRET_NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)(?:_|$)")

# Each is linear in the text: no repetition stands beside another that can match the same.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"data:[^\s,]{0,200};base64,[\w+/=%-]*", re.IGNORECASE), "data:[image]"),
    # Any other data: URI may hold spaces and quotes, so all that follows it goes.
    (re.compile(r"data:[\w.+-]{1,80}/[^\s,]{0,200},.*", re.IGNORECASE | re.DOTALL), "data:[image]"),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 [key]"),
    (re.compile(r"(?<![A-Za-z0-9])(?:sk|pk|rk|eco)-[A-Za-z0-9_-]{12,}"), "[key]"),
    (re.compile(r"://[^\s/@\"']*@"), "://[user]@"),
    (
        re.compile(
            r"\b((?:x-)?api[-_]?key|authorization|token|password|secret)(\\?[\"']?\s*[:=]\s*\\?[\"']?)"
            r"[^\s\"',}\\]+",
            re.IGNORECASE,
        ),
        r"\1\2[key]",
    ),
    (re.compile(r"[A-Za-z0-9+/_=-]{160,}"), "[data]"),
)

# What none of them can match; most of what is logged is such a word.
_PLAIN = re.compile(r"[A-Za-z0-9_]{0,159}|req-[0-9a-f]{32}")


def secrets_of(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """The values of all environment variables whose names say that they are secret."""
    found = os.environ if environment is None else environment
    return frozenset(
        value.strip() for name, value in found.items() if _SECRET_NAME.search(name.upper())
    )


class Redactor:
    """Takes secrets and images out of text.

    Args:
        secrets: texts that are never shown, as they are. Those under six characters are passed
            over: taking them out would show where they were.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({each for each in secrets if len(each) >= _SHORTEST_SECRET}, key=len)
        joined = "|".join(re.escape(each) for each in reversed(known))
        self._secrets = re.compile(joined) if joined else None

    def __call__(self, text: str) -> str:
        """`text` without secrets, credentials in URLs, data: URIs and long runs of base64."""
        if self._secrets is not None:
            text = self._secrets.sub("[key]", text)
        if _PLAIN.fullmatch(text):
            return text
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."


current_request: ContextVar[str] = ContextVar("ecoalign_request", default="")
"""The id of the request that is being answered; "" outside of requests."""

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

# No key may get into logs and headers as the id of a request.
_KEY = re.compile(r"(?:sk|pk|rk|eco)-", re.IGNORECASE)

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)


def request_id(given: str | None) -> str:
    """`given`, the client's X-Request-Id, where it is harmless, else a new one.

    Harmless are up to 64 letters, digits, dots, dashes and underscores that do not begin like an
    API key.
    """
    if given is not None and _HARMLESS.fullmatch(given) and _KEY.match(given) is None:
        return given
    return "req-" + secrets.token_hex(12)


@lru_cache(1024)
def word(text: str) -> str:
    """`text` where it is one harmless word, such as a model's name, else "other" ("" stays)."""
    harmless = not text or (_WORD.fullmatch(text) is not None and _KEY.match(text) is None)
    return text if harmless else "other"


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
    # A line break or an escape sequence in a value would forge lines.
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
