"""Words and numbers of a report. What a model has said is hostile: it is shown, never obeyed."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from ecoalign.hostile_text import harmless

if TYPE_CHECKING:
    from ecoalign.bench.metrics import Estimate

__all__ = [
    "amount",
    "escaped",
    "interval",
    "number",
    "percent",
    "shorter",
    "signed",
    "times",
    "with_interval",
]

NONE = "–"


def escaped(text: str) -> str:
    """`text` as HTML or SVG shows it, in an element or in a quoted attribute."""
    return html.escape(harmless(text), quote=True)


def shorter(text: str, most: int) -> str:
    """`text` on one line of at most `most` characters."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def number(value: float) -> str:
    """Three significant digits, thousands apart, nothing scientific: 0.0123, 1.2, 12,345."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    digits = 3
    while abs(value) < 10.0 ** (2 - digits) and digits < 9:
        digits += 1
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") or "0"


def percent(value: float) -> str:
    """ "97.5"; the sign is in the heading."""
    return f"{100 * value:.1f}"


def signed(value: float, *, share: bool = False) -> str:
    """With its sign; of a share, in percentage points."""
    text = percent(abs(value)) if share else number(abs(value))
    return f"{'−' if value < 0 else '+'}{text}"


def times(value: float) -> str:
    """ "3.1×"."""
    return f"{number(value)}×"


def amount(measure: str, value: float) -> str:
    """A value of a measure, see `ecoalign.bench.metrics.MEASURES`."""
    if measure in {"safety", "utility", "over_refusal"}:
        return percent(value)
    return number(value)


def interval(measure: str, estimate: Estimate) -> str:
    """ "[92.1, 99.0]"."""
    return f"[{amount(measure, estimate.low)}, {amount(measure, estimate.high)}]"


def with_interval(measure: str, estimate: Estimate | None) -> str:
    """ "97.5 [92.1, 99.0]", or a dash."""
    if estimate is None:
        return NONE
    return f"{amount(measure, estimate.value)} {interval(measure, estimate)}"
