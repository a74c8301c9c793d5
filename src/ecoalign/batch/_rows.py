"""The input of a batch: rows of a file, whatever its format, or the images of a folder."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from pyarrow import DataType, Schema
    from pyarrow.parquet import ParquetFile

Picture = str | bytes
"""An image as a row gives it: a path as it is written there, a `data:` URI, or its bytes."""

STDIN = "-"

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

_SIDECARS = tuple(
    f"{stem}{ending}"
    for stem in ("data", "metadata", "questions", "index")
    for ending in (".jsonl", ".csv", ".tsv", ".json")
)
"""Tables beside images; the first that is there counts. "metadata" is Hugging Face's name."""

_ALSO: Mapping[str, tuple[str, ...]] = {
    "question": ("prompt", "query"),
    "image": ("images", "image_path", "image_paths", "file_name", "image_base64"),
}
"""Other names of columns, as a benchmark of one's own has them, too."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{64,}=*\s*")

_MOST_CHARACTERS = 96 * 1024 * 1024
"""Base64 of the largest image that is read at all."""

_csv_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row of the input.

    Attributes:
        values: by column, as they were read. A column of a parquet file that holds bytes is not
            among them.
        where: file and row, for messages.
        stored: reads the images that a parquet file holds for this row; None if it holds none.
        flat: whether the values are cells, in which a list is written "a | b".
    """

    values: Mapping[str, Any]
    where: str
    flat: bool = False
    stored: Callable[[], tuple[Picture, ...]] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of an input, in order.

    Attributes:
        rows: all of them.
        columns: names in the order in which they first come.
        folder: where relative paths of images begin.
        name: for messages.
        notes: what the user should know about how it was read.
        parquet: the file, where the input is one: its columns can be carried over as they are.
    """

    rows: Sequence[InputRow]
    columns: Sequence[str]
    folder: Path
    name: str
    notes: tuple[str, ...] = ()
    parquet: Path | None = None


def read_source(
    source: str | Path | Iterable[Mapping[str, Any]], image: str | None = None
) -> Source:
    """Read an input.

    Args:
        source: a .jsonl, .json, .csv, .tsv or .parquet file, a folder of images, "-" for JSON
            lines on standard input, or rows as mappings.
        image: the column with the images; "image" or "images" if None.

    Raises:
        InputError: it cannot be read; the message says in which row.
    """
    if not isinstance(source, str | Path):
        rows = _objects(enumerate(source, 1), "the rows")
        return _source(rows, Path(), "the rows")
    if source == STDIN:
        name = "standard input"
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError('"-" reads JSON lines from standard input; pipe them in: ... < FILE')
        return _source(_json_lines(sys.stdin.buffer.read(), name), Path(), name)
    path = Path(source)
    if path.is_dir():
        return _folder(path, image)
    return _table(path, image)


def column_of(role: str, columns: Iterable[str], named: str | None = None) -> str:
    """The column of a role: the one that is named, or called so, in any case, or as `_ALSO` has
    it; the role itself where there is none."""
    if named is not None:
        return named
    there = {name.lower(): name for name in reversed(list(columns))}
    wanted = (role, *_ALSO.get(role, ()))
    return next((there[name] for name in wanted if name in there), role)


def _table(path: Path, image: str | None) -> Source:
    name = str(path)
    reader = _READERS.get(path.suffix.lower())
    if path.suffix.lower() == ".parquet":
        return _parquet(path, image)
    if reader is None:
        raise InputError(
            f"{name!r}: a batch is a .jsonl, .json, .csv, .tsv or .parquet file, or a folder of "
            "images"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name!r}: {error.strerror}") from None
    return _source(reader(data, name), path.parent, name)


def _source(
    rows: Sequence[InputRow], folder: Path, name: str, notes: tuple[str, ...] = ()
) -> Source:
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return Source(rows, tuple(columns), folder, name, notes)


# -- text ---------------------------------------------------------------------------------------


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name!r} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None


def _json_lines(data: bytes, name: str) -> list[InputRow]:
    def parsed() -> Iterator[tuple[int, object]]:
        # Not splitlines(): a text may hold what Unicode counts as the end of a line.
        for number, line in enumerate(_text(data, name).split("\n"), 1):
            # As the examples of `ecoalign bench init` have them.
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{name!r}, line {number}, is not JSON: {error}") from None

    return _objects(parsed(), name, "line")


def _json(data: bytes, name: str) -> list[InputRow]:
    try:
        body = json.loads(_text(data, name))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name!r} is not JSON: {error}") from None
    if not isinstance(body, list):
        raise InputError(f"{name!r} holds {type(body).__name__}, not a list of rows")
    return _objects(enumerate(body, 1), name)


def _objects(
    numbered: Iterable[tuple[int, object]], name: str, unit: str = "row"
) -> list[InputRow]:
    rows = []
    for number, body in numbered:
        where = f"{name}, {unit} {number}"
        if not isinstance(body, Mapping):
            raise InputError(f"{where}, is no object but {type(body).__name__}")
        rows.append(InputRow({str(key): value for key, value in body.items()}, where))
    return rows


def _separated(delimiter: str) -> Callable[[bytes, str], list[InputRow]]:
    def read(data: bytes, name: str) -> list[InputRow]:
        rows: list[InputRow] = []
        try:
            with _wide_fields():
                reader = csv.reader(
                    io.StringIO(_text(data, name), newline=""), delimiter=delimiter, strict=True
                )
                header = next(reader, [])
                if len(set(header)) < len(header):
                    raise InputError(f"{name!r}: two columns have the same name")
                for cells in reader:
                    if not cells:
                        continue
                    where = f"{name}, line {reader.line_num}"
                    if len(cells) != len(header):
                        raise InputError(
                            f"{where}: {len(cells)} cells, but the first line names "
                            f"{len(header)} columns; is a comma or a quote missing?"
                        )
                    values = dict(zip(header, cells, strict=True))
                    rows.append(InputRow(values, where, flat=True))
        except csv.Error as error:
            raise InputError(f"cannot read {name!r} as a table: {error}") from None
        return rows

    return read


@contextmanager
def _wide_fields() -> Iterator[None]:
    """Lets `csv` read long fields; its limit is one for the whole process, so it is put back."""
    with _csv_limit:
        before = csv.field_size_limit(_MOST_CHARACTERS)
        try:
            yield
        finally:
            csv.field_size_limit(before)


_READERS: Mapping[str, Callable[[bytes, str], list[InputRow]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
}


# -- parquet ------------------------------------------------------------------------------------


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "parquet files need pyarrow, which is not installed: pip install 'ecoalign[bench]'"
        ) from None
    return pyarrow.parquet


def _parquet(path: Path, image: str | None) -> Source:
    file_of = pyarrow_parquet().ParquetFile
    from pyarrow import ArrowException

    rows: list[InputRow] = []
    try:
        file = file_of(path)
        schema: Schema = file.schema_arrow
        light = [name for name in schema.names if not _holds_bytes(schema.field(name).type)]
        image = column_of("image", schema.names, image)
        images = None
        if image in schema.names and image not in light:
            images = _StoredImages(path, file, image)
        for group in range(file.num_row_groups):
            for offset, values in enumerate(file.read_row_group(group, light).to_pylist()):
                where = f"{path}, row {len(rows) + 1}"
                stored = None if images is None else images.reader(group, offset, where)
                rows.append(InputRow(values, where, stored=stored))
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read the parquet file {str(path)!r}: {error}") from None
    return Source(rows, tuple(schema.names), path.parent, str(path), parquet=path)


def _holds_bytes(kind: DataType) -> bool:
    """Whether a column may be large: images, mostly."""
    return "binary" in str(kind)


class _StoredImages:
    """The images of one parquet file; the row group that was read last is kept."""

    def __init__(self, path: Path, file: ParquetFile, column: str) -> None:
        self._path = path
        self._file = file
        self._column = column
        self._lock = threading.Lock()
        self._group = -1
        self._kept: Sequence[Any] = ()

    def reader(self, group: int, offset: int, where: str) -> Callable[[], tuple[Picture, ...]]:
        return lambda: self._read(group, offset, where)

    def _read(self, group: int, offset: int, where: str) -> tuple[Picture, ...]:
        from pyarrow import ArrowException

        with self._lock:
            if self._group != group:
                try:
                    table = self._file.read_row_group(group, [self._column])
                except (OSError, ArrowException) as error:
                    raise InputError(f"cannot read {str(self._path)!r}: {error}") from None
                self._kept, self._group = table.column(0).to_pylist(), group
            return pictures_of(self._kept[offset], where)


def pictures_of(value: Any, where: str, *, flat: bool = False) -> tuple[Picture, ...]:
    """The images that a cell names or holds: a text, bytes, Hugging Face's {"bytes", "path"}, a
    list of these, or such a list as JSON text; none for an empty cell. A text is a path, a `data:`
    URI or base64; in a flat cell several are written "a | b".

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(f"{where}: the list of images is not JSON: {value[:60]!r}") from None
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, list | tuple):
        return tuple(one for each in value for one in pictures_of(each, where))
    if isinstance(value, str):
        parts = value.split("|") if flat else [value]
        texts = [part.strip() for part in parts if part.strip()]
        return tuple(f"data:;base64,{one}" if _BASE64.fullmatch(one) else one for one in texts)
    if isinstance(value, bytes):
        return (value,)
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
        if isinstance(data, bytes) and data:
            return (data,)
        if isinstance(data, str) and data:
            return (f"data:;base64,{data}",)
        if isinstance(path, str) and path:
            return (path,)
    raise InputError(f"{where}: an image is a path or bytes, not {type(value).__name__}")


# -- folders ------------------------------------------------------------------------------------


def _folder(folder: Path, image: str | None) -> Source:
    """The images of a folder and those below it, or the rows of its sidecar."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in _IMAGES and not path.name.startswith(".") and path.is_file()
    )
    sidecar = next((folder / name for name in _SIDECARS if (folder / name).is_file()), None)
    if sidecar is not None:
        return _with_sidecar(folder, sidecar, names, image)
    if not names:
        raise InputError(f"there is no image in the folder {str(folder)!r}")
    rows = []
    for name in names:
        note = (folder / name).with_suffix(".txt")
        values = {image or "image": name}
        if note.is_file():
            try:
                values["question"] = _text(note.read_bytes(), str(note)).strip()
            except OSError as error:
                raise InputError(f"cannot read {str(note)!r}: {error.strerror}") from None
        rows.append(InputRow(values, f"{folder / name}"))
    return _source(rows, folder, str(folder))


def _with_sidecar(folder: Path, sidecar: Path, names: Sequence[str], named: str | None) -> Source:
    table = _table(sidecar, named)
    image = column_of("image", table.columns, named)
    told = {
        Path(one).as_posix()
        for row in table.rows
        for one in pictures_of(row.values.get(image), row.where, flat=row.flat)
        if isinstance(one, str)
    }
    left = [name for name in names if name not in told]
    notes = (
        f"{len(left)} images of {folder} are in no row of {sidecar.name} and are not asked about",
    )
    return _source(table.rows, folder, str(folder), notes if left else ())
