"""The report's files: HTML, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.bench.report.data import RunData, load_runs
from ecoalign.bench.report.page import html_page
from ecoalign.bench.report.tables import Table, numbers, tables
from ecoalign.errors import InputError
from ecoalign.hostile_text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["ReportFiles", "csv_text", "markdown_page", "write_report"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$&])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where the report is."""

    html: Path
    markdown: Path
    csv: Path


def write_report(folder: Path, out: Path | None = None) -> ReportFiles:
    """Write the report of the run in `folder`, or of the runs right beneath it.

    Args:
        folder: where the rows are.
        out: where the files go; `folder` if None. Existing ones are replaced.

    Raises:
        InputError: there are no rows, or a file cannot be written.
    """
    from ecoalign import __version__

    runs = load_runs(folder)
    place = out or folder
    files = ReportFiles(place / "report.html", place / "report.md", place / "report.csv")
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, text in (
            (files.html, html_page(runs, __version__)),
            (files.markdown, markdown_page(runs)),
            (files.csv, csv_text(line for run in runs for line in numbers(run))),
        ):
            # Half of a character, which JSON can hold, is none that a file can.
            path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise InputError(f"the report cannot be written to {place}: {error.strerror}") from None
    return files


def markdown_page(runs: Sequence[RunData]) -> str:
    """The tables of the report in Markdown, each run with its command."""
    parts = ["# EcoAlign benchmark"]
    for run in runs:
        split = f" ({run.split})" if run.split else ""
        title = f"{run.experiment} on {run.suite}{split}, {run.model}"
        parts.append(f"## {_safe(title)}")
        if run.question:
            parts.append(f"{_safe(run.question[:1].upper() + run.question[1:])}.")
        # Indented code cannot be ended from within.
        parts.append("    " + " ".join(harmless(run.command).split()))
        parts += [_markdown(table) for table in tables(run)]
    return "\n\n".join(parts) + "\n"


def _safe(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(harmless(text).split()))


def _markdown(table: Table) -> str:
    lines = [
        f"### {_safe(table.title)}",
        "",
        _line(table.columns),
        "|" + " --- |" + " ---: |" * (len(table.columns) - 1),
        *(_line(row) for row in table.rows),
    ]
    if table.note:
        lines += ["", _safe(table.note)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_safe(cell) for cell in cells) + " |"


def csv_text(lines: Iterable[Sequence[str]]) -> str:
    """Comma-separated values; no cell is one that a spreadsheet would take for a formula. The
    headings are told once, however often they come."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head: Sequence[str] | None = None
    for line in lines:
        if head is None:
            head = line
        elif line == head:
            continue
        writer.writerow([_inert(cell) for cell in line])
    return out.getvalue()


def _inert(cell: str) -> str:
    text = harmless(cell)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
