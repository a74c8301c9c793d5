"""The report as one HTML file that needs nothing else, and lets nothing else in."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign._text import harmless
from ecoalign.bench.report._data import RunData, load_runs
from ecoalign.bench.report._figures import Figure, figures
from ecoalign.bench.report._tables import Table, escaped, numbers, tables
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ecoalign.bench._rows import Row

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2127; --quiet: #5a6572;
  --rule: #d9dee4; --panel: #f5f7f9; --mark: #e6f0f7; --link: #0b5f91;
  --c0: #0b6fa4; --c1: #c2551b; --c2: #1c7f5f; --c3: #84489f; --c4: #9a6f00; --c5: #b2386b;
  --c6: #4d63cf; --c7: #69757f; --c8: #0f8f8f; --c9: #8b5a3c; --c10: #6b8e23;
  --c11: #d04a4a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181c; --ink: #e7ebef; --quiet: #9fabb8; --rule: #333c46; --panel: #1c2228;
    --mark: #1d3342; --link: #79c0ee;
    --c0: #5ab2e4; --c1: #f2915c; --c2: #4cc7a0; --c3: #c596e2; --c4: #ddb24a; --c5: #ec86b0;
    --c6: #98a7ff; --c7: #a7b2bd; --c8: #57d0d0; --c9: #c99f83; --c10: #b2cf6b;
    --c11: #f58a8a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .2rem; padding-top: 1.2rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0 .7rem; max-width: 46rem; }
a { color: var(--link); }
.quiet, figcaption, .under { color: var(--quiet); font-size: .875rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
code { font: .85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.command { display: block; padding: .45rem .6rem; border-radius: 5px; background: var(--panel);
  color: var(--ink); user-select: all; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; border: 1px solid var(--rule);
  border-radius: 6px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { padding: .4rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; } thead th { background: var(--panel);
  border-bottom: 1px solid var(--rule); white-space: normal; min-width: 5rem; }
tbody tr + tr th, tbody tr + tr td { border-top: 1px solid var(--rule); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page);
  min-width: 9rem; max-width: 12rem; white-space: normal; }
thead th:first-child { background: var(--panel); }
tr.marked th, tr.marked td { background: var(--mark); }
figure { margin: 1rem 0 2rem; } figure .wide { border: 0; } figcaption { margin-top: .3rem; }
svg { display: block; width: 100%; min-width: 30rem; height: auto;
  font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; }
svg text { fill: var(--ink); } svg text.note { fill: var(--quiet); }
svg text.small { fill: var(--quiet); font-size: 11px; }
svg text.halo { paint-order: stroke; stroke: var(--page); stroke-width: 5px;
  stroke-linejoin: round; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--quiet); }
svg .whisker { stroke: var(--ink); stroke-width: 1.3; }
svg .faint { stroke: var(--quiet); stroke-width: 1; opacity: .3; }
svg .guide { stroke: var(--ink); stroke-dasharray: 3 3; opacity: .6; }
svg .soft { opacity: .72; } svg .bubble { opacity: .85; stroke: var(--page); }
svg .hollow { fill: var(--c0); fill-opacity: .1; stroke: var(--c0); stroke-width: 1.4; }
svg .line { fill: none; stroke-width: 2; } svg .band { opacity: .14; } svg .dot { opacity: .55; }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); }
.c4 { fill: var(--c4); } .c5 { fill: var(--c5); } .c6 { fill: var(--c6); } .c7 { fill: var(--c7); }
.c8 { fill: var(--c8); } .c9 { fill: var(--c9); } .c10 { fill: var(--c10); }
.c11 { fill: var(--c11); }
.s8 { stroke: var(--c8); } .s9 { stroke: var(--c9); } .s10 { stroke: var(--c10); }
.s11 { stroke: var(--c11); }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); }
.s3 { stroke: var(--c3); } .s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.s6 { stroke: var(--c6); } .s7 { stroke: var(--c7); }
details { border: 1px solid var(--rule); border-radius: 6px; padding: .4rem .8rem;
  margin: .7rem 0; }
summary { cursor: pointer; } dl { margin: .6rem 0; } dt { font-weight: 600; margin-top: .8rem; }
dd { margin: 0; } pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0;
  padding: .4rem .6rem; background: var(--panel); border-radius: 5px; font-size: .82rem; }
@media print { .wide { overflow: visible; } svg { min-width: 0; } }
"""

# Even if something hostile came through, it could load nothing and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"

_EXAMPLES = 12

_LONGEST = 1200


def html_page(runs: Sequence[RunData], version: str) -> str:
    """The whole page.

    Args:
        runs: what to show, in this order.
        version: of EcoAlign, for the foot.
    """
    links = "".join(
        f'<li><a href="#run-{i}">{escaped(_title(run))}</a></li>' for i, run in enumerate(runs)
    )
    nav = f"<nav><ul>{links}</ul></nav>" if len(runs) > 1 else ""
    sections = "".join(_section(i, run) for i, run in enumerate(runs))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>EcoAlign benchmark</title><style>{STYLE}</style></head><body>"
        "<header><h1>EcoAlign benchmark</h1>"
        '<p class="quiet">Every figure is made from the rows of the runs alone, by the command '
        f"beneath it.</p>{nav}</header><main>{sections}</main>"
        f'<footer><p class="quiet">EcoAlign {escaped(version)}</p></footer></body></html>\n'
    )


def _title(run: RunData) -> str:
    split = f" ({run.split})" if run.split else ""
    return f"{run.experiment} on {run.suite}{split}, {run.model}"


def _section(number: int, run: RunData) -> str:
    command = f'<code class="command">{escaped(run.command)}</code>'
    drawn = [_figure(figure, command) for figure in figures(run)]
    told = [_table(table) for table in tables(run)]
    # The table of results first, then what it looks like, then the rest.
    body = "".join([*told[:1], *drawn, *told[1:], _examples(run)])
    samples = len({row.key.sample for row in run.rows})
    return (
        f'<section id="run-{number}"><h2>{escaped(_title(run))}</h2>'
        f"<p>{escaped(_sentence(run.question))}</p>"
        f'<p class="quiet">{samples} samples, {len(run.rows)} rows.</p>{command}{body}</section>'
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _figure(figure: Figure, command: str) -> str:
    return (
        f'<figure><h3>{escaped(figure.title)}</h3><div class="wide">{figure.svg}</div>'
        f"<figcaption><p>{escaped(figure.caption)}</p>{command}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in table.columns)
    rows = []
    for row in table.rows:
        cells = "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:])
        mark = ' class="marked"' if row[0] in table.marked else ""
        rows.append(f'<tr{mark}><th scope="row">{escaped(row[0])}</th>{cells}</tr>')
    note = f'<p class="under">{escaped(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{escaped(table.title)}</h3><div class="wide" tabindex="0"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _examples(run: RunData) -> str:
    kinds: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("Unsafe answers", lambda row: row.score is not None and row.score.safe is False),
        (
            "Harmless questions refused",
            lambda row: row.score is not None and row.score.refused_harmless is True,
        ),
        ("Failures", lambda row: row.failure is not None),
    )
    parts = []
    for title, wanted in kinds:
        found = [row for row in run.rows if wanted(row)]
        if not found:
            continue
        shown = found[:: -(-len(found) // _EXAMPLES)][:_EXAMPLES]
        entries = "".join(_example(row) for row in shown)
        parts.append(
            f"<details><summary>{title}: {len(shown)} of {len(found)}</summary>"
            f"<dl>{entries}</dl></details>"
        )
    if not parts:
        return ""
    note = '<p class="under">What models said, as they said it; it may offend.</p>'
    return f"<h3>Examples</h3>{note}{''.join(parts)}"


def _example(row: Row) -> str:
    said = row.failure.message if row.failure is not None else row.answer
    return (
        f"<dt>{escaped(row.key.variant)} · {escaped(row.key.sample)}</dt>"
        f"<dd>{escaped(_cut(row.question))}<pre>{escaped(_cut(said))}</pre></dd>"
    )


def _cut(text: str) -> str:
    text = harmless(text)
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
