"""Files of one's own: JSON lines, JSON, CSV, TSV, Parquet, or a folder of images.

Whatever the format, a file is records; every mistake in it is noted with its line, and all of them
are told at once.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ecoalign._text import short
from ecoalign.bench._files import ENDINGS, Line, RowGroups, delimited, wide_fields
from ecoalign.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""The endings of the files that are read."""

IMAGE_SUFFIXES = (*ENDINGS, ".tif", ".tiff", ".avif")
"""The endings of what counts as an image in a folder. What it is, its bytes say."""

# Of several files in a folder, the one with the questions.
_USUAL = ("data", "metadata", "questions", "index")

_MOST_SHOWN = 10

Values = Mapping[str, object]


class Mistakes:
    """What is wrong in a file, in the order in which it is found.

    Args:
        file: its name, as the user gave it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note a mistake.

        Args:
            where: "line 3".
            what: is wrong, and what to do.
        """
        self._found.append(f"{where}: {short(what, 400)}")

    def __len__(self) -> int:
        return len(self._found)

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InputError: there is a mistake; the message holds the first ten of them, a line each.
        """
        if not self._found:
            return
        if len(self._found) == 1:
            raise InputError(f"{self.file}, {self._found[0]}")
        lines = [f"  {text}" for text in self._found[:_MOST_SHOWN]]
        more = len(self._found) - _MOST_SHOWN
        if more > 0:
            lines.append(f"  and {more:,} more")
        raise InputError("\n".join([f"{self.file} has {len(self._found):,} mistakes:", *lines]))


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file.

    Attributes:
        values: by column, as they stand there.
        where: "line 3".
        reread: reads the values again, so that nobody has to keep the images among them.
        flat: whether the values are texts in cells, so that a list is written in one of them.
        image: the file that the entry belongs to where a folder says so, else "".
        decimal_comma: whether numbers in it are written "1,5".
    """

    values: Values
    where: str
    reread: Callable[[], Values]
    flat: bool = False
    image: str = ""
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from.

    Attributes:
        path: the file, or the folder where its questions are in a file beside each image.
        folder: what the paths of images start from.
        shards: the files, where a Parquet table has several; else the one.
    """

    path: Path
    folder: Path
    shards: tuple[Path, ...]


def find_source(given: str | Path) -> Source:
    """The file with the questions that a user named, or the one in the folder.

    Raises:
        InputError: there is none, there are several, or it is of no format that is read.
    """
    path = Path(given)
    try:
        if path.is_file():
            if path.suffix.lower() not in SUFFIXES:
                raise InputError(_unread(path))
            return Source(path, path.parent, (path,))
        if not path.is_dir():
            raise InputError(f"there is no file or folder {str(given)!r}{_near(path)}")
        files = sorted(one for one in path.iterdir() if one.is_file())
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {short(str(given))!r}: {said}") from None
    tables = [one for one in files if one.suffix.lower() in SUFFIXES]
    if len(tables) > 1 and all(one.suffix.lower() == ".parquet" for one in tables):
        return Source(path, path, tuple(tables))
    if len(tables) > 1:
        usual = [one for one in tables if one.stem.lower() in _USUAL]
        if len(usual) != 1:
            names = ", ".join(one.name for one in tables)
            raise InputError(
                f"the folder {str(given)!r} has several files with questions ({names}): name the "
                "one that is meant"
            )
        tables = usual
    if tables:
        return Source(tables[0], path, (tables[0],))
    if any(one.suffix.lower() == ".txt" for one in files):
        return Source(path, path, tuple(files))
    raise InputError(
        f"the folder {str(given)!r} has no questions: put a data.jsonl, data.csv or data.json "
        "there, or a NAME.txt beside each image NAME.png"
    )


def _unread(path: Path) -> str:
    advice = ""
    if path.suffix.lower() in {".xlsx", ".xls", ".ods"}:
        advice = "; save the sheet as CSV (UTF-8)"
    return f"{path.name!r} is none of the files that are read: {', '.join(SUFFIXES)}{advice}"


def _near(path: Path) -> str:
    """The name that was meant, if one in the same folder is near it."""
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f": did you mean {str(path.parent / near[0])!r}?" if near else ""


def read_records(source: Source, mistakes: Mistakes, encoding: str = "utf-8") -> Iterator[Record]:
    """The records of a source, in order, one at a time; what is no record is noted as a mistake.

    Args:
        source: see `find_source`.
        mistakes: takes what is wrong.
        encoding: of a file of text; UTF-16 is seen by its mark.

    Raises:
        InputError: nothing in it can be read.
    """
    if source.path.is_dir() and source.shards[0].suffix.lower() != ".parquet":
        yield from _beside_images(source.shards, mistakes, encoding)
        return
    suffix = source.shards[0].suffix.lower()
    if suffix == ".parquet":
        for shard in source.shards:
            yield from _parquet(shard, several=len(source.shards) > 1)
        return
    opened = _opener(source.path, encoding)
    with _told(source.path):
        if suffix == ".json":
            yield from _json(opened, source.path, mistakes)
        elif suffix in {".csv", ".tsv"}:
            yield from _delimited(opened, suffix, mistakes)
        else:
            yield from _json_lines(opened, source.path, mistakes)


class _told:  # noqa: N801 - used as a function is
    """Turns what the system says of a file into an InputError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise InputError(f"cannot read {str(self._path)!r}: {error.strerror}") from None


# -- text -----------------------------------------------------------------------------------------

_UTF16 = (b"\xff\xfe", b"\xfe\xff")

Opened = Callable[[], IO[bytes]]


def _opener(path: Path, encoding: str) -> Opened:
    """What opens a file of text as UTF-8 with line feeds; it is read whole where it is not.

    Raises:
        InputError: it cannot be read, is no text, or not in that encoding.
    """
    with _told(path), path.open("rb") as file:
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
            return lambda: path.open("rb")
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


def _wrong_encoding(byte: str) -> str:
    return (
        f"not UTF-8 (the byte {byte}): save the file as UTF-8, or name its encoding, as in "
        "--suite-option encoding=cp1252"
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
                self._mistakes.add(where, _wrong_encoding(byte))
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
            mistakes.add(f"line {number}", _wrong_encoding(byte))
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
        lines = delimited(file, delimiter, strict=True, errors="surrogateescape")
        try:
            if declared:
                _next(lines)
            head = _next(lines)
            if head is None:
                return
            columns = [cell.strip() for cell in head.cells]
            twice = {name for name in columns if name and columns.count(name) > 1}
            for name in sorted(twice):
                mistakes.add(f"line {head.number}", f"the column {name!r} is there twice")
            if twice or not encoding.fits(f"line {head.number}", "".join(columns)):
                return
            while (line := _next(lines)) is not None:
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


def _next(lines: Iterator[Line]) -> Line | None:
    """The next row. The limit of the csv module is one for the process: it is not left changed
    while the row is looked at."""
    with wide_fields():
        return next(lines, None)


def _named(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    return {name: cell for name, cell in zip(columns, cells, strict=True) if name}


def _cells_again(
    opened: Opened, delimiter: str, place: tuple[int, int], columns: Sequence[str]
) -> Values:
    offset, length = place
    with opened() as file:
        file.seek(offset)
        row = io.BytesIO(file.read(length))
    line = _next(delimited(row, delimiter, errors="surrogateescape"))
    if line is None or len(line.cells) < len(columns):
        return {}
    return _named(columns, line.cells[: len(columns)])


# -- Parquet --------------------------------------------------------------------------------------


def _parquet(path: Path, *, several: bool) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(
            "parquet files need pyarrow, which is not installed: pip install 'ecoalign[bench]'"
        ) from None
    name = f"{path.name}, " if several else ""
    try:
        file = ParquetFile(path)
        groups = RowGroups(path, file, [str(column) for column in file.schema_arrow.names])
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read the parquet file {str(path)!r}: {error}") from None
    number = 0
    for group, size in enumerate(sizes):
        for offset in range(size):
            number += 1
            again = partial(groups.row, group, offset)
            yield Record(again(), f"{name}row {number}", again)


# -- a folder with a file beside each image -------------------------------------------------------

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*:\s*(.*)")


def _beside_images(files: Sequence[Path], mistakes: Mistakes, encoding: str) -> Iterator[Record]:
    """The NAME.txt beside each NAME.png: the question, or a field a line, "answer: 3"."""
    texts = {one.stem: one for one in files if one.suffix.lower() == ".txt"}
    for image in files:
        if image.suffix.lower() not in IMAGE_SUFFIXES or image.stem not in texts:
            continue
        path = texts[image.stem]
        try:
            text = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeError:
            mistakes.add(path.name, f"this is not {encoding}")
            continue
        except OSError as error:
            mistakes.add(path.name, f"cannot be read: {error.strerror}")
            continue
        values = {"id": image.stem, **_fields(text)}
        yield Record(values, path.name, partial(dict, values), flat=True, image=image.name)


def _fields(text: str) -> dict[str, object]:
    lines = [line for line in text.splitlines() if line.strip()]
    found = [_FIELD.fullmatch(line.strip()) for line in lines]
    if found and all(found) and any(f and f[1].lower() == "question" for f in found):
        return {f[1].lower(): f[2] for f in found if f}
    return {"question": text.strip()}


def lonely(source: Source) -> list[str]:
    """Images of a folder without a text beside them, and texts without an image, by name."""
    images = {one.stem: one for one in source.shards if one.suffix.lower() in IMAGE_SUFFIXES}
    texts = {one.stem: one for one in source.shards if one.suffix.lower() == ".txt"}
    return sorted(
        each.name for stem, each in (images | texts).items() if (stem in images) != (stem in texts)
    )
