"""Words on a terminal: nothing that a model or a file says may steer it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from ecoalign._text import amount, counted, harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["amount", "counted", "print_json", "rich_console", "rich_table", "say", "table", "tell"]

_PIPED_WIDTH = 140


def say(text: str) -> None:
    """Print a line on standard error, on a terminal broken between words. Does nothing if standard
    error is closed."""
    if sys.stderr is None:
        return
    try:
        shown = _encodable(harmless(text), sys.stderr.encoding)
        print(_broken(shown) if sys.stderr.isatty() else shown, file=sys.stderr, flush=True)
    except OSError:
        return


def _broken(text: str) -> str:
    """Lines no wider than the terminal, the further ones of each indented."""
    wrap = TextWrapper(
        width=max(20, _width()),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return "\n".join(wrap.fill(line) for line in text.split("\n"))


def _width() -> int:
    """Columns of the terminal behind standard error, which standard output need not share."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def tell(text: str) -> None:
    """Print what was asked for on standard output.

    Raises:
        OSError: it cannot be written.
    """
    print(_encodable(harmless(text), sys.stdout.encoding), flush=True)


def print_json(body: object) -> None:
    """Print one JSON object on standard output; what the encoding lacks is escaped."""
    text = json.dumps(body, ensure_ascii=False, indent=2)
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeError:
        text = json.dumps(body, ensure_ascii=True, indent=2)
    print(text, flush=True)


def _encodable(text: str, encoding: str | None) -> str:
    known = encoding or "ascii"
    return text.encode(known, "replace").decode(known)


def table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Lines with the cells of each row in columns, harmless; `align` has "<" or ">" for each."""
    cells = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def rich_console() -> Console:
    """Standard output, as wide as the terminal; no colour where it is none."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _PIPED_WIDTH
    return Console(width=width, highlight=False)


def rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose cells are folded, not cut, and can steer nothing."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(harmless(cell), overflow="fold") for cell in row))
    return table
