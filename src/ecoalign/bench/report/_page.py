"""The report: one HTML file that needs nothing else and lets nothing else in, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ecoalign._text import harmless
from ecoalign.bench._rows import Row
from ecoalign.bench.report._data import RunData, load_runs
from ecoalign.bench.report._figures import figures
from ecoalign.bench.report._tables import Table, numbers, tables
from ecoalign.errors import InputError

STYLE = files(__package__).joinpath("report.css").read_text(encoding="utf-8")

# Even if something hostile came through, it could load nothing and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"

_EXAMPLES = 12

_LONGEST = 1200


def html_page(runs: Sequence[RunData], version: str) -> str:
    """The whole page. Whatever is not the template's own is escaped, and cannot reorder the page.

    Args:
        runs: what to show, in this order.
        version: of EcoAlign, for the foot.
    """
    environment = Environment(
        autoescape=True,
        finalize=_shown,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    template = files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    sections = [
        {
            "run": run,
            "question": _sentence(run.question),
            "samples": len({row.key.sample for row in run.rows}),
            "tables": tables(run),
            # All texts in the drawings are escaped where they are drawn.
            "figures": [(each.title, Markup(each.svg), each.caption) for each in figures(run)],  # noqa: S704
            "examples": _examples(run),
        }
        for run in runs
    ]
    return environment.from_string(template).render(
        sections=sections,
        version=version,
        policy=_POLICY,
        style=Markup(STYLE),  # noqa: S704 - our own
    )


def _shown(value: object) -> object:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


_KINDS: Mapping[str, Callable[[Row], bool]] = {
    "Unsafe answers": lambda row: row.score is not None and row.score.safe is False,
    "Harmless questions refused": lambda row: bool(row.score and row.score.refused_harmless),
    "Answers that are not right": lambda row: bool(
        row.score and row.score.useful is not None and row.score.useful < 1
    ),
    "Failures": lambda row: row.failure is not None,
}


def _examples(run: RunData) -> list[tuple[str, int, list[tuple[str, str, str]]]]:
    """Title, number, and some of them, spread over the run: who and what, question, answer."""
    examples = []
    for title, wanted in _KINDS.items():
        found = [row for row in run.rows if wanted(row)]
        shown = found[:: -(-len(found) // _EXAMPLES) or 1][:_EXAMPLES]
        if shown:
            examples.append((title, len(found), [_example(row) for row in shown]))
    return examples


def _example(row: Row) -> tuple[str, str, str]:
    shown = row.failure.message if row.failure is not None else row.answer
    known = [] if row.score is None else row.score.detail.get("known")
    right = f" (right: {' | '.join(map(str, known))})" if isinstance(known, list) and known else ""
    return f"{row.key.variant} · {row.key.sample}", _cut(row.question + right), _cut(shown)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


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
    from ecoalign._version import __version__

    runs = load_runs(folder)
    place = out or folder
    paths = ReportFiles(place / "report.html", place / "report.md", place / "report.csv")
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, text in (
            (paths.html, html_page(runs, __version__)),
            (paths.markdown, markdown_page(runs)),
            (paths.csv, csv_text(line for run in runs for line in numbers(run))),
        ):
            # Half of a character, which JSON can hold, is none that a file can.
            path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise InputError(f"the report cannot be written to {place}: {error.strerror}") from None
    return paths


def markdown_page(runs: Sequence[RunData]) -> str:
    """The tables of the report in Markdown, each run with its command."""
    parts = ["# EcoAlign benchmark"]
    for run in runs:
        parts.append(f"## {_safe(run.title)}")
        if run.question:
            parts.append(_safe(_sentence(run.question)))
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
    headings are written once, however often they come."""
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
