"""The shapes that the figures are drawn with, and their axes.

Colours are classes that the page's style knows: `c0` to `c11` fill a series, `s0` to `s11` stroke
it, `grid`, `axis`, `whisker` and `guide` are lines, `note` is quiet text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ecoalign._text import harmless, short

SERIES = 12
"""Colours that can be distinguished; a thirteenth series is the first one's again."""

WIDTH = 640.0
"""Of every figure, in px, which the page scales."""

_PER_CHAR = 6.6  # px at 12 px, on the wide side

Point = tuple[float, float]

Tick = tuple[float, str]
"""A place on an axis and its label."""


def escaped(text: str) -> str:
    """`text` as HTML or SVG shows it, in an element or in a quoted attribute."""
    return html.escape(harmless(text), quote=True)


def label_width(text: str) -> float:
    """About how wide a label is, in px."""
    return _PER_CHAR * len(text)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in [low, high], evenly apart; just `low` where the two are equal."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    size: float = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten in [low, high] (above 0), or only the powers if they are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = (1, 2, 5) if last - first <= 3 else (1,)
    every = [m * 10.0**e for e in range(first, last + 1) for m in marks]
    return [tick for tick in every if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


class Scale:
    """From a value in [low, high] to a place in [start, end], in px; beyond, the nearer end."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, log: bool = False
    ) -> None:
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, form: str = "{:g}", *, percent: bool = False, most: int = 6) -> list[Tick]:
        """Round values with their labels; of shares in percent."""
        found = (
            log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, most)
        )
        return [(v, f"{100 * v:.4g} %" if percent else form.format(v)) for v in found]


class Svg:
    """A drawing. `height` is in px and may be set until it is rendered."""

    def __init__(self, height: float = 0.0) -> None:
        self.height = height
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "axis") -> None:
        """A straight line."""
        self._add(f'<line class="{cls}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def rect(
        self, x: float, y: float, width: float, height: float, cls: str, tip: str = ""
    ) -> None:
        """A filled rectangle; `tip` shows when it is pointed at."""
        self._add(
            f'<rect class="{cls}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
            f'height="{height:.1f}" rx="1.5">{_title(tip)}</rect>'
        )

    def circle(self, x: float, y: float, radius: float, cls: str, tip: str = "") -> None:
        """A circle."""
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"'
        self._add(f'<circle class="{cls}" {place}>{_title(tip)}</circle>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: str = "start",
        cls: str = "",
        *,
        turned: bool = False,
    ) -> None:
        """A line of text; `anchor` is start, middle or end; `turned` reads upwards."""
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        of = f' class="{cls}"' if cls else ""
        said = escaped(short(text, 80))
        self._add(f'<text{of} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{said}</text>')

    def polyline(self, points: Sequence[Point], cls: str) -> None:
        """Straight lines from point to point."""
        self._add(f'<polyline class="{cls}" points="{_places(points)}"/>')

    def polygon(self, points: Sequence[Point], cls: str) -> None:
        """A filled area."""
        self._add(f'<polygon class="{cls}" points="{_places(points)}"/>')

    def legend(self, names: Sequence[str], y: float = 4.0, left: float = 8.0) -> float:
        """Names with their colours from `left` on, in as many rows as it takes; returns the y
        below them."""
        x = left
        for i, name in enumerate(names):
            said = short(name, 32)
            wide = 20 + label_width(said) + 12
            if x > left and x + wide > WIDTH:
                x, y = left, y + 18
            self.rect(x, y, 12, 12, f"c{i % SERIES}")
            self.text(x + 17, y + 10, said)
            x += wide
        return y + 24 if names else y

    def axis_across(
        self, scale: Scale, ticks: Sequence[Tick], top: float, bottom: float, *, grid: bool = True
    ) -> None:
        """Labels under `bottom`, those left out that would touch the one before, and the grid."""
        end = -100.0
        for value, label in ticks:
            x = scale(value)
            if grid:
                self.line(x, top, x, bottom, "grid")
            if x - label_width(label) / 2 > end:
                self.text(x, bottom + 17, label, "middle", "note")
                end = x + label_width(label) / 2 + 2

    def axis_up(self, scale: Scale, ticks: Sequence[Tick], left: float, right: float) -> None:
        """Labels to the left of `left`, and the grid."""
        for value, label in ticks:
            self.line(left, scale(value), right, scale(value), "grid")
            self.text(left - 6, scale(value) + 4, label, "end", "note")

    def render(self, label: str) -> str:
        """The element; `label` says what it shows to those who do not see it."""
        body = "".join(self._parts)
        return (
            f'<svg viewBox="0 0 {WIDTH:.0f} {self.height:.0f}" role="img" '
            f'aria-label="{escaped(label)}" style="max-width:{WIDTH:.0f}px">{body}</svg>'
        )

    def _add(self, part: str) -> None:
        self._parts.append(part)


class Plot(Svg):
    """A plane between two axes with titles, and a legend above it.

    Args:
        across, up: what the axes are.
        height: of the plane, in px.
        legend: the names of the series.

    Attributes:
        left, right, top, bottom: the edges of the plane.
    """

    left, right = 58.0, 622.0

    def __init__(
        self, across: str, up: str, height: float = 250.0, legend: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.top = self.legend(legend) + 8
        self.bottom = self.top + height
        self.height = self.bottom + 46
        self.text((self.left + self.right) / 2, self.bottom + 38, across, "middle")
        self.text(14, (self.top + self.bottom) / 2, up, "middle", turned=True)

    def scale_across(
        self, low: float, high: float, inset: Point = (0.0, 0.0), *, log: bool = False
    ) -> Scale:
        """A scale from the left edge to the right one, or so many px inside of each."""
        return Scale(low, high, self.left + inset[0], self.right - inset[1], log=log)

    def scale_up(self, low: float, high: float, inset: float = 0.0) -> Scale:
        """A scale from the bottom edge to the top one, or so many px inside of each."""
        return Scale(low, high, self.bottom - inset, self.top + inset)

    def axes(
        self,
        x: Scale,
        across: Sequence[Tick],
        y: Scale,
        up: Sequence[Tick],
        *,
        grid: bool = True,
    ) -> None:
        """The two axes; `grid`: whether the one across has grid lines."""
        self.axis_up(y, up, self.left, self.right)
        self.axis_across(x, across, self.top, self.bottom, grid=grid)
        self.line(self.left, self.bottom, self.right, self.bottom)
        self.line(self.left, self.top, self.left, self.bottom)


def _title(tip: str) -> str:
    return f"<title>{escaped(tip)}</title>" if tip else ""


def _places(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
