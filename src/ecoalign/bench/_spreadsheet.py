"""Predictions as VLMEvalKit's xlsx. Needs the extra `bench`."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.bench.suites._base import Sample

MOST_CHARACTERS = 32_767
"""The most that a cell can hold."""

_FIRST = ("index", "question")

_LAST = "prediction"

# Characters that XML cannot hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def prediction_rows(
    answered: Iterable[tuple[Sample, str, str]],
) -> list[dict[str, object]]:
    """Rows for `write_predictions`: index, question, the truth and its categories, prediction.

    Args:
        answered: samples, each with the question as it was put and the answer to it. What a suite
            itself calls the question comes before what was put.
    """
    return [
        {
            "index": sample.facts.get("index", sample.id),
            "question": question,
            **{name: value for name, value in sample.facts.items() if name != "index"},
            _LAST: answer,
        }
        for sample, question, answer in answered
    ]


def write_predictions(path: str | Path, rows: Sequence[Mapping[str, object]]) -> int:
    """Write one row a prediction, as VLMEvalKit's own runs do, so that it can score them.

    Text stays text: "=1+1" is no formula. Lists are written as Python writes them, digits-only
    indexes as numbers, characters that a spreadsheet cannot hold as "?". The file appears whole
    or not at all.

    Args:
        path: the file, ending in .xlsx.
        rows: by column; each with `index`, `question` and `prediction`.

    Returns:
        How many cells had to be cut at `MOST_CHARACTERS` characters.

    Raises:
        InputError: openpyxl is not installed, the file cannot be written, or a row lacks a column.
    """
    target = Path(path)
    if target.suffix.lower() != ".xlsx":
        raise InputError(f"predictions are written as .xlsx, not as {target.name!r}")
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError:
        raise InputError(
            "xlsx files need openpyxl, which is not installed: pip install 'ecoalign[bench]'"
        ) from None
    columns = _columns(rows)
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append(list(columns))
    cut = 0
    for row in rows:
        cells = []
        for column in columns:
            value = _value(column, row.get(column))
            cell = WriteOnlyCell(sheet)
            if isinstance(value, str):
                cut += len(value) > MOST_CHARACTERS
                cell.value = value[:MOST_CHARACTERS]
                cell.data_type = "s"
            else:
                cell.value = value
            cells.append(cell)
        sheet.append(cells)
    whole = io.BytesIO()
    book.save(whole)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(whole.getvalue())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {str(target)!r}: {error.strerror}") from None
    return cut


def _columns(rows: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    for number, row in enumerate(rows):
        missing = [name for name in (*_FIRST, _LAST) if name not in row]
        if missing:
            raise InputError(f"prediction {number} has no {', '.join(missing)}")
    seen = dict.fromkeys(name for row in rows for name in row)
    between = [name for name in seen if name not in {*_FIRST, _LAST}]
    return (*_FIRST, *between, _LAST)


def _value(column: str, value: object) -> str | int | float | None:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float):
        return value if value is None or math.isfinite(value) else None
    text = _FORBIDDEN.sub("?", value if isinstance(value, str) else str(value))
    # VLMEvalKit's indexes are numbers where they look like numbers.
    digits = column == "index" and text.isascii() and text.isdigit() and len(text) < 16
    return int(text) if digits else text
