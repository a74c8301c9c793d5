"""What is in a table of questions: JSON lines, JSON, CSV, TSV, Parquet, or a folder of images.

Whatever the format, it is records; every mistake is noted with its line, and all of them are told
at once.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from ecoalign.errors import InputError
from ecoalign.query.tables._delimited import delimited
from ecoalign.query.tables._parquet import parquet_records
from ecoalign.query.tables._sources import Mistakes, Record, Source, Values, leads_out, with_texts


def read_records(source: Source, mistakes: Mistakes, encoding: str = "utf-8") -> Iterator[Record]:
    """The records of a source, in order, one at a time; what is no record is noted as a mistake.

    Args:
        source: see `find_source`.
        mistakes: takes what is wrong.
        encoding: of a file of text; UTF-16 is seen by its mark.

    Raises:
        InputError: nothing in it can be read.
    """
    if source.beside:
        yield from _beside_images(source, mistakes, encoding)
        return
    if source.parquet:
        for shard in source.shards:
            yield from parquet_records(shard, several=len(source.shards) > 1)
        return
    opened, suffix = _opener(source, encoding), source.path.suffix.lower()
    with _told(source.path):
        if suffix == ".json":
            yield from _json(opened, source.path, mistakes)
        elif suffix in {".csv", ".tsv"}:
            yield from _delimited(opened, suffix, mistakes)
        else:
            yield from _json_lines(opened, source.path, mistakes)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the system says of a file into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}") from None


# -- text -----------------------------------------------------------------------------------------

_UTF16 = (b"\xff\xfe", b"\xfe\xff")

Opened = Callable[[], IO[bytes]]


def _opener(source: Source, encoding: str) -> Opened:
    """What opens a file of text as UTF-8 with line feeds; it is read whole where it is not.

    Raises:
        InputError: it cannot be read, is no text, or not in that encoding.
    """
    path = source.path

    def as_it_is() -> IO[bytes]:
        return path.open("rb") if source.data is None else io.BytesIO(source.data)

    with _told(path), as_it_is() as file:
        head = file.read(1 << 16)
        if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            raise InputError(
                f"{str(path)!r} is no text but a spreadsheet or archive: save it as CSV"
            )
        wide = head.startswith(_UTF16)
        foreign = wide or _codec(encoding) != "utf-8"
        if b"\0" in head and not foreign:
            raise InputError(f"{str(path)!r} is no file of text: it holds zero bytes")
        # As Excel for the Macintosh ends its lines.
        returns = not wide and b"\r" in head and b"\n" not in head
        if not foreign and not returns:
            return as_it_is
        data = head + file.read()
    try:
        text = data.decode("utf-16" if wide else encoding)
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = data.count(b"\n", 0, at) + 1
        raise InputError(
            f"{str(path)!r}, line {line}: this is not {'UTF-16' if wide else encoding}"
        ) from None
    if returns:
        text = text.replace("\r", "\n")
    return partial(io.BytesIO, text.encode("utf-8", "surrogatepass"))


def _codec(encoding: str) -> str:
    import codecs

    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise InputError(
            f"there is no encoding {encoding!r}: utf-8 or cp1252, for example"
        ) from None


def _is_foreign(text: str) -> str:
    """The first byte that was no UTF-8, as 0xe9; "" if there is none."""
    strange = None if text.isascii() else _STRANGE.search(text)
    return f"0x{ord(strange[0]) - 0xDC00:02x}" if strange else ""


# What "surrogateescape" makes of a byte that is no UTF-8.
_STRANGE = re.compile("[\udc80-\udcff]")


def _wrong_encoding(byte: str, option: str) -> str:
    return (
        f"not UTF-8 (the byte {byte}): save the file as UTF-8, or name its encoding, as in "
        f"{option.format('encoding', 'cp1252')}"
    )


class _Encoding:
    """Notes the first line that is not UTF-8: whoever mends one mends all."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._count = 0

    def fits(self, where: str, text: str) -> bool:
        byte = _is_foreign(text)
        if byte:
            self._count += 1
            if self._count == 1:
                self._mistakes.add(where, _wrong_encoding(byte, self._mistakes.option))
        return not byte


# -- JSON -----------------------------------------------------------------------------------------


class _TwiceError(ValueError):
    """A name stands twice in an object."""


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _parsed(text: str) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; the message says what is wrong, and often what to do.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _TwiceError as error:
        raise ValueError(f"it has {str(error)!r} twice") from None
    except json.JSONDecodeError as error:
        hint = ""
        if text.lstrip()[:2] in {"{'", "['"}:
            hint = '; names and texts are in double quotes, "question"'
        elif error.msg == "Extra data" and text[error.pos :].strip() == ",":
            hint = "; the comma at the end is too much"
        elif error.msg == "Extra data":
            hint = "; one object a line"
        raise ValueError(f"not JSON ({error.msg}, column {error.colno}){hint}") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: it is nested too deeply") from None


def _json_lines(opened: Opened, path: Path, mistakes: Mistakes) -> Iterator[Record]:
    """An object a line; empty lines, and those that begin with "#", are passed over."""
    encoding, offset, first = _Encoding(mistakes), 0, True
    with opened() as file:
        for number, raw in enumerate(file, 1):
            start, where = offset, f"line {number}"
            offset += len(raw)
            text = raw.decode("utf-8-sig" if start == 0 else "utf-8", "surrogateescape").strip()
            if not text or text.startswith("#"):
                continue
            if first and text.startswith("["):
                # One list of all: JSON, whatever the file is called.
                yield from _json(opened, path, mistakes)
                return
            first = False
            if not encoding.fits(where, text):
                continue
            try:
                value = _parsed(text)
            except ValueError as error:
                mistakes.add(where, str(error))
                continue
            if not isinstance(value, dict):
                mistakes.add(where, f"no object {{...}} but {_kind(value)}")
                continue
            yield Record(value, where, partial(_json_again, opened, start, len(raw)))


def _json_again(opened: Opened, offset: int, length: int) -> Values:
    with opened() as file:
        file.seek(offset)
        raw = file.read(length)
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _json(opened: Opened, path: Path, mistakes: Mistakes) -> Iterator[Record]:
    """A list of objects, or an object of objects by the names of their images or their ids."""
    with opened() as file:
        text = file.read().decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if byte := _is_foreign(line):
            mistakes.add(f"line {number}", _wrong_encoding(byte, mistakes.option))
            return
    try:
        value = _parsed(text)
    except ValueError as error:
        cause = error.__context__
        begun = cause.lineno if isinstance(cause, json.JSONDecodeError) else 1
        mistakes.add(f"line {begun}", f"{error}; was the file cut short?")
        return
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        entries = [(f"item {key!r}", key, each) for key, each in value.items()]
    elif isinstance(value, list):
        entries = [(f"item {number}", "", each) for number, each in enumerate(value, 1)]
    else:
        raise InputError(f"{str(path)!r} holds no list of objects but {_kind(value)}")
    for where, key, each in entries:
        if isinstance(each, dict):
            values = {"id": key, **each} if key else each
            yield Record(values, where, partial(dict, values), image=key)
        else:
            mistakes.add(where, f"no object {{...}} but {_kind(each)}")


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


# -- tables of text -------------------------------------------------------------------------------


def _delimiter(opened: Opened, suffix: str) -> tuple[str, bool]:
    """What stands between cells, and whether the first line is nothing but that, as Excel has it:
    "sep=;"."""
    with opened() as file:
        head = file.readline().decode("utf-8-sig", "replace").strip()
    if head.lower().startswith("sep=") and len(head) == 5:
        return head[4], True
    bare, inside = "", False
    for char in head:
        inside ^= char == '"'
        bare += "" if inside else char
    marks = "\t,;" if suffix == ".tsv" else ",;\t"
    best = max(marks, key=bare.count)
    # One column has nothing between cells, and what looks so belongs to its texts.
    return (best if best in bare else "\x1f"), False


def _delimited(opened: Opened, suffix: str, mistakes: Mistakes) -> Iterator[Record]:
    delimiter, declared = _delimiter(opened, suffix)
    encoding = _Encoding(mistakes)
    with opened() as file:
        lines = delimited(file, delimiter)
        try:
            if declared:
                next(lines, None)
            head = next(lines, None)
            if head is None:
                return
            columns = [cell.strip() for cell in head.cells]
            twice = {name for name in columns if name and columns.count(name) > 1}
            for name in sorted(twice):
                mistakes.add(f"line {head.number}", f"the column {name!r} is there twice")
            if twice or not encoding.fits(f"line {head.number}", "".join(columns)):
                return
            for line in lines:
                where, cells = f"line {line.number}", line.cells
                if not any(cell.strip() for cell in cells):
                    continue
                if not encoding.fits(where, "".join(cells)):
                    continue
                if not any(cells[len(columns) :]):
                    cells = cells[: len(columns)]
                if len(cells) != len(columns):
                    mistakes.add(
                        where,
                        f"{len(cells)} cells, but the first line has {len(columns)} columns; a "
                        f"text with {delimiter!r} in it stands in double quotes",
                    )
                    continue
                place = line.offset, line.length
                again = partial(_cells_again, opened, delimiter, place, columns)
                values = _named(columns, cells)
                yield Record(values, where, again, flat=True, decimal_comma=delimiter == ";")
        except csv.Error as error:
            where, _, said = str(error).partition(": ")
            mistakes.add(where, _QUOTES if '"' in said or "end of data" in said else said)


_QUOTES = (
    "a text in double quotes is not closed, or goes on after they are; a double quote inside one "
    'is written twice: ""'
)


def _named(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    # What has no name is no column, unless something is there, as pandas writes its index.
    named = enumerate(zip(columns, cells, strict=True), 1)
    return {name or f"column {n}": cell for n, (name, cell) in named if name or cell.strip()}


def _cells_again(
    opened: Opened, delimiter: str, place: tuple[int, int], columns: Sequence[str]
) -> Values:
    offset, length = place
    with opened() as file:
        file.seek(offset)
        row = io.BytesIO(file.read(length))
    try:
        cells = next(delimited(row, delimiter)).cells
    except (StopIteration, csv.Error):
        cells = []
    # Of a file that was changed since, nothing.
    return {} if len(cells) < len(columns) else _named(columns, cells[: len(columns)])


# -- a folder with a file beside each image -------------------------------------------------------

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*:\s*(.*)")


def _beside_images(source: Source, mistakes: Mistakes, encoding: str) -> Iterator[Record]:
    """The NAME.txt beside each NAME.png: the question, or a field a line, "answer: 3"."""
    for image, path in with_texts(source):
        name = image.relative_to(source.folder).as_posix()
        fields: dict[str, object] = {}
        if path is not None:
            where = path.relative_to(source.folder).as_posix()
            if leads_out(path, source.folder):
                mistakes.add(where, "a link out of the folder: copy the text into it")
                continue
            try:
                data = path.read_bytes()
                fields = _fields(data.decode("utf-8-sig" if encoding == "utf-8" else encoding))
            except UnicodeError:
                mistakes.add(where, f"this is not {encoding}")
                continue
            except OSError as error:
                mistakes.add(where, f"cannot be read: {error.strerror}")
                continue
        values = {"image": name, **fields}
        yield Record(values, where if path else name, partial(dict, values), flat=True, image=name)


def _fields(text: str) -> dict[str, object]:
    lines = [line for line in text.splitlines() if line.strip()]
    found = [_FIELD.fullmatch(line.strip()) for line in lines]
    if found and all(found) and any(f and f[1].lower() == "question" for f in found):
        return {f[1].lower(): f[2] for f in found if f}
    return {"question": text.strip()}
