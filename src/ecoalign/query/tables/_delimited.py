"""Tables of text as the `csv` module reads them, with the place of each row in its file."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Base64 of the largest image that is read at all (see ecoalign.query.MAX_BYTES).
_MOST_CHARACTERS = 96 * 1024 * 1024

_csv_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table of text.

    Attributes:
        number: of the line of the file that it begins on, from 1.
        offset, length: where it is in the file, in bytes.
        cells: its texts.
    """

    number: int
    offset: int
    length: int
    cells: list[str]


def delimited(file: Iterable[bytes], delimiter: str) -> Iterator[Line]:
    """The rows of a table of text, in UTF-8; those of nothing at all are passed over.

    Bytes that are no UTF-8 are in the cells as "surrogateescape" has them.

    Args:
        file: its lines, each with its line feed.
        delimiter: what stands between two cells.

    Raises:
        csv.Error: a row cannot be read, as a quote in it is never closed or goes on after it was;
            the message begins with its line.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        offset, number = lines.offset, reader.line_num + 1
        try:
            with _wide_fields():
                cells = next(reader, None)
        except csv.Error as error:
            raise csv.Error(f"line {number}: {error}") from None
        if cells is None:
            return
        if cells:
            texts = [cell.replace(_RETURN, "\r") for cell in cells]
            yield Line(number, offset, lines.offset - offset, texts)


# A carriage return in the middle of a line is one that the csv module would not read outside
# quotes, though it writes it so. While it reads, half a character stands there, which no text has.
_BARE_RETURN = re.compile("\r(?!\n|\\Z)")

_RETURN = "\udc0d"


class _Lines:
    """Lines of a file as text, and how many bytes have been read so far."""

    def __init__(self, file: Iterable[bytes]) -> None:
        self._file = iter(file)
        self.offset = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        text = line.decode("utf-8-sig" if self.offset == 0 else "utf-8", "surrogateescape")
        self.offset += len(line)
        return _BARE_RETURN.sub(_RETURN, text) if "\r" in text else text


@contextmanager
def _wide_fields() -> Iterator[None]:
    """Lets `csv` read long fields; its limit is one for the whole process, so it is put back."""
    with _csv_limit:
        before = csv.field_size_limit(_MOST_CHARACTERS)
        try:
            yield
        finally:
            csv.field_size_limit(before)
