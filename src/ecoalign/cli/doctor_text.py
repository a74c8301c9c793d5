"""The doctor's findings for a person."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from ecoalign.hostile_text import harmless

if TYPE_CHECKING:
    from ecoalign.cli.doctor import Health

__all__ = ["show"]

_PIPED_WIDTH = 140


def show(health: Health) -> None:
    """Print the findings on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _PIPED_WIDTH
    console = Console(width=width, highlight=False)

    def line(text: str) -> None:
        console.print(Text(harmless(text)))

    line("versions: " + ", ".join(f"{name} {text}" for name, text in health.versions.items()))
    for name, facts in health.providers.items():
        details = {key: value for key, value in facts.items() if key != "usable"}
        rest = "; ".join(f"{key}: {value}" for key, value in details.items())
        state = "usable" if facts["usable"] else "not usable here"
        line(f"provider {name}: {state}" + (f" ({rest})" if rest else ""))
    line(f"preset: {health.preset}")
    table = Table("setting", "value", "range", "from", box=None, pad_edge=False)
    for row in health.settings:
        cells = (row.name, row.value, row.range, row.origin)
        table.add_row(*(Text(harmless(cell), overflow="fold") for cell in cells))
    console.print(table)
    for problem in health.problems:
        line(f"problem: {problem}")
    if not health.problems:
        line("all is well")
