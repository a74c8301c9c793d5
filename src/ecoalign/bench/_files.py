"""One entry of a benchmark's file, whatever the format, and errors that say where it is."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from ecoalign.errors import InputError
from ecoalign.query.tables import (
    ENDINGS,
    Mistakes,
    Record,
    Source,
    parquet_records,
    read_records,
)

Images = Callable[[], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a row of a table, an object of a JSON file.

    Attributes:
        values: by column.
        where: file and row, for error messages.
        images: reads the encoded images of the row when called; None if the file has none.
    """

    values: Mapping[str, object]
    where: str
    images: Images | None = field(default=None, compare=False)

    def text(self, column: str) -> str:
        """The text in `column`; a number as its digits.

        Raises:
            InputError: there is none.
        """
        text = self.maybe(column)
        if text is None:
            raise InputError(
                f"{self.where} has no text in {column!r} ({type(self.values.get(column)).__name__}"
                "); is this the file that the benchmark's authors publish?"
            )
        return text

    def maybe(self, column: str) -> str | None:
        """The text in `column`, None where there is none."""
        value = self.values.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        known = isinstance(value, str | int | float) and not isinstance(value, bool)
        return None if not known or _is_nan(value) else str(value)

    def whole(self, column: str) -> int | None:
        """The whole number in `column`, None where there is none.

        Raises:
            InputError: what is there is no whole number.
        """
        text = self.maybe(column)
        if text is None or not text.strip():
            return None
        try:
            return int(text)
        except ValueError:
            raise InputError(f"{self.where}: {column!r} is {text!r}, no whole number") from None

    def texts(self, column: str, *, written: bool = False) -> tuple[str, ...]:
        """The texts in `column`: a list, or a single text; () where there is none.

        Args:
            column: where.
            written: a text that is a Python list is read as one, as tables write lists.

        Raises:
            InputError: it is neither.
        """
        value = self.values.get(column)
        if value is None or value == "" or _is_nan(value):
            return ()
        if written and isinstance(value, str) and value.strip().startswith("["):
            try:
                read = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                read = None
            # "[1] see note" is a text like any other, and so is "[1]".
            if isinstance(read, list) and all(isinstance(entry, str) for entry in read):
                value = read
        if isinstance(value, str):
            return (value,)
        if isinstance(value, Sequence) and all(isinstance(entry, str) for entry in value):
            return tuple(str(entry) for entry in value)
        raise InputError(f"{self.where}: {column!r} is no list of texts")

    def part(self, column: str) -> Entry:
        """The object in `column` as a row of its own; an empty one where there is none."""
        value = self.values.get(column)
        values = value if isinstance(value, Mapping) else {}
        return Entry({str(name): entry for name, entry in values.items()}, self.where)


def _is_nan(value: object) -> bool:
    """Whether a cell is empty, as tables say it."""
    return isinstance(value, float) and math.isnan(value)


def need_columns(where: str, found: Sequence[str], needed: Sequence[str]) -> None:
    """Check that a table has the columns that are needed.

    Raises:
        InputError: some are missing; the message names them and those that are there.
    """
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(
            f"{where} has no column {', '.join(map(repr, missing))} (it has "
            f"{', '.join(map(repr, found)) or 'none'}); give the file as its authors publish it"
        )


def find_folder(path: str | Path, what: str) -> Path:
    """The folder that a user named.

    Raises:
        InputError: it is not there or is no folder.
    """
    folder = Path(path)
    if not folder.exists():
        raise InputError(
            f"there is no folder {str(path)!r}; give the one that holds {what}. Nothing is "
            "downloaded: get the files from the benchmark's authors first"
        )
    if not folder.is_dir():
        raise InputError(f"{str(path)!r} is a file; give the folder that holds {what}")
    return folder


def find_file(folder: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` that is a file under `folder`.

    Raises:
        InputError: none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{str(folder)!r} has no {' and no '.join(names)} ({what}); give the folder with the files "
        "that the benchmark's authors publish"
    )


def find_image(folders: Iterable[Path], name: str, benchmark: str) -> Path:
    """The image `name` in the first of `folders` that has it, under any usual ending.

    Raises:
        InputError: none has it, or the name leads out of the folder.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise InputError(f"{benchmark}: {name!r} is no image name inside the benchmark's folder")
    tried = list(dict.fromkeys(folders))
    for folder in tried:
        path = folder / relative
        for candidate in (path, *(path.with_suffix(ending) for ending in ENDINGS)):
            if candidate.is_file():
                return candidate
    raise InputError(
        f"{benchmark}: there is no image {name!r} in {' or '.join(repr(str(f)) for f in tried)}; "
        "the images are often a separate download of the benchmark: unpack them there"
    )


def read_json(path: Path) -> object:
    """The value in a JSON file.

    Raises:
        InputError: the file is not there, cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON ({error}); was it cut short?") from None


def entries_of(value: object, where: str) -> dict[str, Entry]:
    """The objects in a list or an object of objects, by key; a list's keys are "0", "1", ...

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, list):
        entries = {str(index): entry for index, entry in enumerate(value)}
    elif isinstance(value, dict):
        entries = {str(key): entry for key, entry in value.items()}
    else:
        raise InputError(f"{where} holds no list of items but {type(value).__name__}")
    found = {}
    for key, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise InputError(f"{where}, item {key!r} is no object but {type(entry).__name__}")
        found[key] = Entry(
            {str(name): part for name, part in entry.items()}, f"{where}, item {key!r}"
        )
    return found


def read_parquet(paths: Sequence[Path], needed: Sequence[str], image: str) -> list[Entry]:
    """The rows of parquet files, in order. Images are read one row group at a time, when asked.

    Args:
        paths: the files (shards) of one table.
        needed: columns that must be there.
        image: the column with the image: bytes, or Hugging Face's struct of bytes and path.

    Raises:
        InputError: pyarrow is not installed, a file cannot be read, or a column is missing.
    """
    rows: list[Entry] = []
    for path in paths:
        for number, record in enumerate(parquet_records(path, several=False)):
            if not number:
                there = [*record.values, *sorted(record.heavy)]
                need_columns(repr(str(path)), there, [*needed, image])
            where = f"{str(path)!r}, row {number}"
            images = partial(_image, record, image, where)
            rows.append(Entry(record.values, where, images))
    return rows


def _image(record: Record, column: str, where: str) -> tuple[bytes]:
    value = record.reread()[column]
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        raise InputError(f"{where} has no image in {column!r}")
    return (value,)


FileKind = Literal["json", "parquet", "tsv"]

_KINDS: dict[str, FileKind] = {".json": "json", ".parquet": "parquet", ".tsv": "tsv"}


def table_files(
    path: str | Path, benchmark: str, names: Sequence[str], shards: str = "*"
) -> tuple[FileKind, list[Path]]:
    """The files under `path`, or `path` itself, and their format.

    Args:
        path: a file, or a folder to look into.
        benchmark: its name, also of its TSV file.
        names: JSON files to look for, the best first.
        shards: pattern of the names of parquet files without the ending; `data/` is looked into.

    Raises:
        InputError: nothing is there.
    """
    given = Path(path)
    if given.is_file():
        kind = _KINDS.get(given.suffix.lower())
        if kind is None:
            raise InputError(f"{str(path)!r} is no .json, .parquet or .tsv file of {benchmark}")
        return kind, [given]
    if not given.exists():
        raise InputError(f"there is no file or folder {str(path)!r}, where {benchmark} should be")
    for name in names:
        if (given / name).is_file():
            return "json", [given / name]
    for tsv in (given / f"{benchmark}.tsv", *sorted(given.glob(f"{benchmark}*.tsv"))):
        if tsv.is_file():
            return "tsv", [tsv]
    for folder in (given, given / "data"):
        files = sorted(folder.glob(f"{shards}.parquet"))
        if files:
            return "parquet", files
    raise InputError(
        f"{str(path)!r} has no {''.join(f'{name}, ' for name in names)}{benchmark}.tsv or "
        f"{shards}.parquet; give a file of {benchmark} as its authors publish it, or its folder. "
        "Nothing is downloaded"
    )


# An image that several rows share is written once; the others hold that row's index instead.
_LONGEST_INDEX = 64


def read_tsv(path: Path, needed: Sequence[str]) -> list[Entry]:
    """The rows of a TSV file. Images are left in the file until they are asked for.

    Args:
        path: the file.
        needed: columns that must be there, beside `index` and `image`.

    Raises:
        InputError: the file is not there, is no such table, or a column is missing.
    """
    mistakes = Mistakes(repr(str(path)))
    records: dict[str, Record] = {}
    rows: list[Entry] = []
    for record in read_records(Source(path, path.parent, (path,)), mistakes):
        if not rows:
            there = [*record.values]
            need_columns(mistakes.file, there, ["index", "image", *needed])
        values = {name: value for name, value in record.values.items() if name != "image"}
        where = f"{mistakes.file}, {record.where}"
        # Without its values: what is large in them are the images.
        records[str(values["index"])] = replace(record, values={})
        images = partial(_written, records, str(values["index"]), where)
        rows.append(Entry(values, where, images))
    mistakes.check()
    if not rows:
        raise InputError(f"{mistakes.file} has no rows; was it cut short?")
    return rows


def _written(records: Mapping[str, Record], index: str, where: str) -> tuple[bytes, ...]:
    """The images that a row of a table of text holds, or the row that it names instead."""
    cell = str(records[index].reread().get("image", ""))
    if len(cell) <= _LONGEST_INDEX and cell in records:
        cell = str(records[cell].reread().get("image", ""))
    # Several images are a Python list of texts; base64 has neither quotes nor commas.
    several = cell.startswith("[") and cell.endswith("]")
    texts = cell[1:-1].split(",") if several else [cell]
    return tuple(_decoded(text.strip(" '\"\n"), where) for text in texts)


def _decoded(text: str, where: str) -> bytes:
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise InputError(f"{where} has no image in base64 in its column 'image'")
    return data
