"""The report as one HTML file that needs nothing else, and lets nothing else in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.bench.report.figures import Figure, figures
from ecoalign.bench.report.style import STYLE
from ecoalign.bench.report.tables import Table, tables
from ecoalign.bench.report.text import escaped
from ecoalign.hostile_text import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ecoalign.bench.report.data import RunData
    from ecoalign.bench.rows import Row

__all__ = ["html_page"]

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
