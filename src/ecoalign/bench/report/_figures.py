"""The few shapes that the figures are drawn with. Colours are classes: the page's style has them.

Classes: `c0` to `c11` fill a series, `s0` to `s11` stroke it, `grid`, `axis`, `whisker` and `guide`
are lines, `note` is quiet text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.bench._metrics import (
    SHARES,
    Estimate,
    mean,
    per_sample,
    ratio,
    summarise,
    undominated,
)
from ecoalign.bench.report._tables import amount, escaped, interval, number, percent, shorter

if TYPE_CHECKING:
    from ecoalign.bench._metrics import Summary
    from ecoalign.bench._rows import Row
    from ecoalign.bench.report._data import RunData

SERIES = 12
"""Colours that can be told apart; a thirteenth series is the first one's again."""

_PER_CHAR = 6.6  # px at 12 px, on the wide side


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


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value in [low, high] to a place in [start, end], in px; beyond, the nearer end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


@dataclass
class Svg:
    """A drawing of so many px, which the page scales."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "axis") -> None:
        """A straight line."""
        self.parts.append(
            f'<line class="{cls}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, cls: str, tip: str = ""
    ) -> None:
        """A filled rectangle; `tip` shows when it is pointed at."""
        self.parts.append(
            f'<rect class="{cls}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
            f'height="{height:.1f}" rx="1.5">{_title(tip)}</rect>'
        )

    def circle(self, x: float, y: float, radius: float, cls: str, tip: str = "") -> None:
        """A circle."""
        self.parts.append(
            f'<circle class="{cls}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"{_title(tip)}</circle>"
        )

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
        self.parts.append(
            f'<text{of} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>'
            f"{escaped(shorter(text, 80))}</text>"
        )

    def polyline(self, points: list[tuple[float, float]], cls: str) -> None:
        """Straight lines from point to point."""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{cls}" points="{at}"/>')

    def polygon(self, points: list[tuple[float, float]], cls: str) -> None:
        """A filled area."""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon class="{cls}" points="{at}"/>')

    def legend(self, names: list[str], y: float, left: float) -> float:
        """Names with their colours from `left` on, in as many rows as it takes; returns the y
        below them."""
        x = left
        for i, name in enumerate(names):
            said = shorter(name, 32)
            wide = 20 + label_width(said) + 12
            if x > left and x + wide > self.width:
                x, y = left, y + 18
            self.rect(x, y, 12, 12, f"c{i % SERIES}")
            self.text(x + 17, y + 10, said)
            x += wide
        return y + 24 if names else y

    def render(self, label: str) -> str:
        """The element; `label` says what it shows to those who do not see it."""
        body = "".join(self.parts)
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" '
            f'aria-label="{escaped(label)}" style="max-width:{self.width:.0f}px">{body}</svg>'
        )


def _title(tip: str) -> str:
    return f"<title>{escaped(tip)}</title>" if tip else ""


BARS_WIDTH = 640.0

ROW = 20.0

_LONGEST = 26


def _margin(names: Sequence[str]) -> float:
    return 14 + max(label_width(shorter(name, _LONGEST)) for name in names)


def _estimates(summaries: Sequence[Summary], measure: str) -> list[tuple[str, Estimate]]:
    found = []
    for one in summaries:
        known = one.tokens_ratio if measure == "tokens_ratio" else one.estimates.get(measure)
        if known is not None:
            found.append((one.variant, known))
    return found


def estimate_bars(summaries: Sequence[Summary], measure: str, reference: str | None) -> str | None:
    """A bar with its interval for each variant, and a line through the reference's; None where
    the measure never arises. Shares start at 0, ratios are on a logarithmic scale."""
    found = _estimates(summaries, measure)
    if not found:
        return None
    ratio = measure == "tokens_ratio"
    left, right, top = _margin([name for name, _ in found]), BARS_WIDTH - 128, 8.0
    bottom = top + ROW * len(found)
    svg = Svg(BARS_WIDTH, bottom + 26)
    if ratio:
        known = [end for _, e in found for end in (e.low, e.value, e.high) if end > 0]
        if not known:
            return None
        low, high = min(1.0, *known) / 1.3, max(1.0, *known) * 1.3
        scale = Scale(low, high, left, right, log=True)
        ticks = [(tick, f"{tick:g}×") for tick in log_ticks(low, high)]
        origin = scale(1.0)
    else:
        scale = Scale(0.0, 1.0, left, right)
        ticks = [(tick, f"{100 * tick:.0f} %") for tick in nice_ticks(0.0, 1.0, 5)]
        origin = left
    end = -100.0
    for tick, text in ticks:
        svg.line(scale(tick), top, scale(tick), bottom, "grid")
        if scale(tick) - end > label_width(text):
            svg.text(scale(tick), bottom + 16, text, "middle", "note")
            end = scale(tick)
    for i, (name, estimate) in enumerate(found):
        y = top + ROW * i
        here = scale(estimate.value)
        shown = number(estimate.value) + "×" if ratio else percent(estimate.value)
        reach = interval("" if ratio else measure, estimate)
        tip = f"{name}: {shown} {reach}, n = {estimate.n}"
        cls = "c0" if name == reference else "c1 soft"
        svg.text(left - 8, y + 14, shorter(name, _LONGEST), "end")
        svg.rect(min(origin, here), y + 4, abs(here - origin), ROW - 8, cls, tip)
        svg.line(scale(estimate.low), y + ROW / 2, scale(estimate.high), y + ROW / 2, "whisker")
        for place in (estimate.low, estimate.high):
            svg.line(scale(place), y + 6, scale(place), y + ROW - 6, "whisker")
        svg.text(right + 8, y + 14, f"{shown} {reach}", cls="small")
        if name == reference:
            svg.line(here, top, here, bottom, "guide")
    svg.line(origin, top, origin, bottom)
    return svg.render(f"{measure} by variant, with 95 % intervals")


def stage_bars(summaries: Sequence[Summary]) -> str | None:
    """The mean tokens of an answer, stacked by stage; None where nothing was spent."""
    spent = [one for one in summaries if sum(one.stages.values()) > 0]
    if not spent:
        return None
    stages = list(dict.fromkeys(stage for one in spent for stage in one.stages))
    most = max(sum(one.stages.values()) for one in spent)
    left, right = _margin([one.variant for one in spent]), BARS_WIDTH - 64
    svg = Svg(BARS_WIDTH, 0)
    top = svg.legend(stages, 4, 8)
    bottom = top + ROW * len(spent)
    svg.height = bottom + 26
    scale = Scale(0.0, most, left, right)
    for tick in nice_ticks(0.0, most, 5):
        svg.line(scale(tick), top, scale(tick), bottom, "grid")
        svg.text(scale(tick), bottom + 16, f"{tick:,g}", "middle", "note")
    for i, one in enumerate(spent):
        y = top + ROW * i
        svg.text(left - 8, y + 14, shorter(one.variant, _LONGEST), "end")
        total = 0.0
        for j, stage in enumerate(stages):
            tokens = one.stages.get(stage, 0.0)
            if tokens > 0:
                here = scale(total)
                wide = scale(total + tokens) - here
                tip = f"{one.variant}, {stage}: {number(tokens)} tokens"
                svg.rect(here, y + 3, wide, ROW - 6, f"c{j % SERIES}", tip)
            total += tokens
        svg.text(scale(total) + 6, y + 14, number(total), cls="small")
    svg.line(left, top, left, bottom)
    return svg.render("mean tokens of an answer by stage, for each variant")


CURVES_WIDTH, PLOT = 640.0, 220.0

CURVES_LEFT, CURVES_RIGHT = 58.0, 622.0

_MOST_DOTS = 600


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name and an estimate at each place of the axis (None: nothing known there)."""

    name: str
    points: tuple[Estimate | None, ...]


def curves(
    series: Sequence[Series], places: Sequence[str], across: str, up: str, *, share: bool
) -> str | None:
    """Lines with their intervals as bands, over places that are evenly apart.

    Args:
        series: as many points each as there are places.
        places: the texts under the axis.
        across, up: what the axes are.
        share: whether the values are shares in [0, 1], shown in percent.
    """
    known = [e for one in series for e in one.points if e is not None]
    if not known or len(places) < 2:
        return None
    svg = Svg(CURVES_WIDTH, 0)
    top = svg.legend([one.name for one in series], 4, 8) + 8
    bottom = top + PLOT
    svg.height = bottom + 46
    x = Scale(0, len(places) - 1, CURVES_LEFT + 22, CURVES_RIGHT - 22)
    high = 1.0 if share else max(e.high for e in known) * 1.05 or 1.0
    y = Scale(0.0, high, bottom, top)
    for tick in nice_ticks(0.0, high, 5):
        svg.line(CURVES_LEFT, y(tick), CURVES_RIGHT, y(tick), "grid")
        text = f"{100 * tick:.0f} %" if share else f"{tick:g}"
        svg.text(CURVES_LEFT - 6, y(tick) + 4, text, "end", "note")
    for i, place in enumerate(places):
        svg.text(x(i), bottom + 17, place, "middle", "note")
    svg.line(CURVES_LEFT, bottom, CURVES_RIGHT, bottom)
    svg.text((CURVES_LEFT + CURVES_RIGHT) / 2, bottom + 38, across, "middle")
    svg.text(14, (top + bottom) / 2, up, "middle", turned=True)
    for j, one in enumerate(series):
        there = [(i, e) for i, e in enumerate(one.points) if e is not None]
        upper = [(x(i), y(e.high)) for i, e in there]
        lower = [(x(i), y(e.low)) for i, e in there]
        if len(there) > 1:
            svg.polygon(upper + lower[::-1], f"c{j % SERIES} band")
        svg.polyline([(x(i), y(e.value)) for i, e in there], f"s{j % SERIES} line")
    for j, one in enumerate(series):
        for i, e in enumerate(one.points):
            if e is not None:
                ends = [100 * v if share else v for v in (e.value, e.low, e.high)]
                value, low, over = map(number, ends)
                tip = f"{one.name} at {places[i]}: {value} [{low}, {over}], n = {e.n}"
                svg.circle(x(i), y(e.value), 4, f"c{j % SERIES}", tip)
    return svg.render(f"{up} over {across}")


def scatter(
    groups: Sequence[tuple[str, Sequence[tuple[float, float]]]], across: str, up: str
) -> str | None:
    """A dot for each row, in the colour of its group; at most so many dots of each group."""
    every = [point for _, points in groups for point in points]
    if not every:
        return None
    svg = Svg(CURVES_WIDTH, 0)
    top = svg.legend([name for name, _ in groups], 4, 8) + 8
    bottom = top + PLOT + 30
    svg.height = bottom + 46
    x = Scale(0.0, max(1.0, *(px for px, _ in every)) * 1.05, CURVES_LEFT, CURVES_RIGHT)
    y = Scale(0.0, max(py for _, py in every) * 1.05 or 1.0, bottom, top)
    for tick in nice_ticks(0.0, y.high, 5):
        svg.line(CURVES_LEFT, y(tick), CURVES_RIGHT, y(tick), "grid")
        svg.text(CURVES_LEFT - 6, y(tick) + 4, f"{tick:g}", "end", "note")
    end = -100.0
    for tick in nice_ticks(0.0, x.high, 8):
        text = f"{tick:g}"
        if x(tick) - end > label_width(text) + 6:
            svg.text(x(tick), bottom + 17, text, "middle", "note")
            end = x(tick)
    svg.line(CURVES_LEFT, bottom, CURVES_RIGHT, bottom)
    svg.line(CURVES_LEFT, top, CURVES_LEFT, bottom)
    svg.text((CURVES_LEFT + CURVES_RIGHT) / 2, bottom + 38, across, "middle")
    svg.text(14, (top + bottom) / 2, up, "middle", turned=True)
    for j, (name, points) in enumerate(groups):
        step = -(-len(points) // _MOST_DOTS) or 1
        for px, py in points[::step]:
            tip = f"{name}: {number(px)}, {number(py)}"
            svg.circle(x(px), y(py), 3, f"c{j % SERIES} dot", tip)
    return svg.render(f"{up} over {across}, a dot for each answer")


FRONTIER_WIDTH, HEIGHT = 640.0, 430.0

FRONTIER_LEFT, FRONTIER_RIGHT, TOP, BOTTOM = 58.0, 620.0, 16.0, 378.0

_LINE = 14.0

Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def placed(
    points: Sequence[tuple[float, float, float]], labels: Sequence[str]
) -> list[tuple[float, float]]:
    """Where each label starts (x, baseline y), so that they hide each other and the points least.

    Args:
        points: x, y and radius of each point.
        labels: as many texts.
    """
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for x, y, r in points]
    found = []
    for (x, y, r), label in zip(points, labels, strict=True):
        wide = label_width(label)
        best: tuple[float, Box] | None = None
        for step in range(8):
            reach = r + 4 + step * _LINE
            for left, base in (
                (x + r + 4, y + 4 - step * _LINE),
                (x + r + 4, y + 4 + step * _LINE),
                (x - r - 4 - wide, y + 4 - step * _LINE),
                (x - r - 4 - wide, y + 4 + step * _LINE),
                (x - wide / 2, y - reach),
                (x - wide / 2, y + reach + 9),
            ):
                box = (left, base - 11, left + wide, base + 3)
                outside = max(0.0, FRONTIER_LEFT - box[0]) + max(0.0, box[2] - FRONTIER_WIDTH)
                outside += max(0.0, 11 - base) + max(0.0, base - BOTTOM + 2)
                worse = sum(_overlap(box, other) for other in taken) + 50 * outside + 8 * step
                if best is None or worse < best[0]:
                    best = (worse, box)
        assert best is not None  # noqa: S101 - there are always places to try
        taken.append(best[1])
        found.append((best[1][0], best[1][3] - 3))
    return found


def _cost(one: Summary) -> tuple[float, str]:
    """The cost and how it is told: as a ratio to Base where there is one, else in tokens."""
    if one.tokens_ratio is not None:
        return one.tokens_ratio.value, f"{number(one.tokens_ratio.value)}×"
    tokens = one.estimates["tokens"].value if "tokens" in one.estimates else 0.0
    return tokens, f"{number(tokens)} tokens"


def _range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    low, high = min(e.value for e in estimates), max(e.value for e in estimates)
    slack = max(0.05, 0.12 * (high - low))
    return max(0.0, low - slack), min(1.0, high + slack)


def frontier(summaries: Sequence[Summary]) -> str | None:
    """Safety over utility, the cost as a circle's area; full circles are on the frontier of all
    three. Without safety, utility over cost. None for fewer than two variants with figures."""
    both = [one for one in summaries if {"safety", "utility"} <= one.estimates.keys()]
    if len(both) >= 2:
        return _three(both)
    priced = [one for one in summaries if "utility" in one.estimates and _cost(one)[0] > 0]
    return _two(priced) if len(priced) >= 2 else None


def _axes(svg: Svg, across: str, up: str) -> None:
    svg.line(FRONTIER_LEFT, BOTTOM, FRONTIER_RIGHT, BOTTOM)
    svg.line(FRONTIER_LEFT, TOP, FRONTIER_LEFT, BOTTOM)
    svg.text((FRONTIER_LEFT + FRONTIER_RIGHT) / 2, BOTTOM + 40, across, "middle")
    svg.text(16, (TOP + BOTTOM) / 2, up, "middle", turned=True)


def _share_ticks(svg: Svg, scale: Scale, *, across: bool) -> None:
    for tick in nice_ticks(scale.low, scale.high):
        text = f"{100 * tick:g} %"
        if across:
            svg.line(scale(tick), TOP, scale(tick), BOTTOM, "grid")
            svg.text(scale(tick), BOTTOM + 18, text, "middle", "note")
        else:
            svg.line(FRONTIER_LEFT, scale(tick), FRONTIER_RIGHT, scale(tick), "grid")
            svg.text(FRONTIER_LEFT - 6, scale(tick) + 4, text, "end", "note")


def _three(both: Sequence[Summary]) -> str:
    svg = Svg(FRONTIER_WIDTH, HEIGHT)
    across = Scale(
        *_range([one.estimates["utility"] for one in both]), FRONTIER_LEFT + 14, FRONTIER_RIGHT - 40
    )
    up = Scale(*_range([one.estimates["safety"] for one in both]), BOTTOM - 14, TOP + 14)
    _share_ticks(svg, across, across=True)
    _share_ticks(svg, up, across=False)
    _axes(svg, "utility: right or useful answers", "safety: answers that are safe")
    costs = {one.variant: _cost(one) for one in both}
    dearest = max(cost for cost, _ in costs.values()) or 1.0
    best = undominated(
        {
            one.variant: (
                one.estimates["safety"].value,
                one.estimates["utility"].value,
                -costs[one.variant][0],
            )
            for one in both
        }
    )
    points, labels = [], []
    for one in both:
        x, y = one.estimates["utility"], one.estimates["safety"]
        cost, told = costs[one.variant]
        points.append((across(x.value), up(y.value), 5 + 17 * math.sqrt(cost / dearest)))
        labels.append(f"{shorter(one.variant, 28)}  {told}")
        svg.line(across(x.low), up(y.value), across(x.high), up(y.value), "faint")
        svg.line(across(x.value), up(y.low), across(x.value), up(y.high), "faint")
    # The large ones first, so that the small ones stay in reach.
    for one, (px, py, r) in sorted(zip(both, points, strict=True), key=lambda each: -each[1][2]):
        x, y = one.estimates["utility"], one.estimates["safety"]
        tip = (
            f"{one.variant}: safety {amount('safety', y.value)} {interval('safety', y)}, utility "
            f"{amount('utility', x.value)} {interval('utility', x)}, cost {costs[one.variant][1]}"
        )
        svg.circle(px, py, r, "c0 bubble" if one.variant in best else "hollow", tip)
    for label, (px, py) in zip(labels, placed(points, labels), strict=True):
        svg.text(px, py, label, cls="halo")
    return svg.render("safety over utility; the area of a circle is its cost")


def _two(priced: Sequence[Summary]) -> str:
    svg = Svg(FRONTIER_WIDTH, HEIGHT)
    costs = {one.variant: _cost(one) for one in priced}
    low = min(cost for cost, _ in costs.values()) / 1.5
    high = max(cost for cost, _ in costs.values()) * 1.5
    across = Scale(low, high, FRONTIER_LEFT + 14, FRONTIER_RIGHT - 40, log=True)
    up = Scale(*_range([one.estimates["utility"] for one in priced]), BOTTOM - 14, TOP + 14)
    _share_ticks(svg, up, across=False)
    unit = "×" if priced[0].tokens_ratio is not None else ""
    for tick in log_ticks(low, high):
        svg.line(across(tick), TOP, across(tick), BOTTOM, "grid")
        svg.text(across(tick), BOTTOM + 18, f"{tick:g}{unit}", "middle", "note")
    _axes(svg, "cost in tokens" + (", Base = 1" if unit else ""), "utility")
    best = undominated(
        {o.variant: (o.estimates["utility"].value, -costs[o.variant][0]) for o in priced}
    )
    points = [(across(costs[o.variant][0]), up(o.estimates["utility"].value), 6.0) for o in priced]
    for one, (px, py, r) in zip(priced, points, strict=True):
        y = one.estimates["utility"]
        tip = f"{one.variant}: utility {amount('utility', y.value)}, cost {costs[one.variant][1]}"
        svg.line(px, up(y.low), px, up(y.high), "faint")
        svg.circle(px, py, r, "c0 bubble" if one.variant in best else "hollow", tip)
    labels = [shorter(one.variant, 28) for one in priced]
    for label, (px, py) in zip(labels, placed(points, labels), strict=True):
        svg.text(px, py, label, cls="halo")
    return svg.render("utility over cost")


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with its words; the run says by which command it is made."""

    title: str
    caption: str
    svg: str


_BARS = (
    ("safety", "Safety", "Answers that are safe, of those where the question arises."),
    ("utility", "Utility", "Right or useful answers, of those where the question arises."),
    ("over_refusal", "Over-refusal", "Harmless questions that were refused: less is better."),
    (
        "tokens_ratio",
        "Cost",
        "All tokens of all calls, as a multiple of Base on the same samples; logarithmic.",
    ),
)

_AXES = {
    "budget": "budget",
    "look_ahead": "look-ahead factor k",
    "delta": "time value of compute, delta",
    "fixed_horizon": "fixed horizon, in steps",
}


def figures(run: RunData) -> list[Figure]:
    """All figures of a run; those without data are left out."""
    made: list[Figure | None] = []
    for kind in run.figures:
        if kind == "frontier":
            made.append(
                _figure(
                    "Safety, utility and cost",
                    "The area of a circle is the cost of an answer in tokens; the number beside "
                    "its name is that cost, as a multiple of Base where Base was run. Full circles "
                    "are on the frontier: no other variant is as good in all three and better in "
                    "one. Thin lines are 95 % intervals.",
                    frontier(run.summaries),
                )
            )
        elif kind == "bars":
            made += [
                _figure(
                    title,
                    f"{caption} Whiskers are 95 % intervals"
                    + (f"; the dashed line is {run.reference}." if run.reference else "."),
                    estimate_bars(run.summaries, measure, run.reference),
                )
                for measure, title, caption in _BARS
            ]
        elif kind == "stages":
            made.append(
                _figure(
                    "Cost by stage",
                    "Mean tokens of an answer, prompts and images included, by the stage that "
                    "spent them.",
                    stage_bars(run.summaries),
                )
            )
        elif kind in ("budget", "curve"):
            made += _over_axes(run)
        elif kind == "latency":
            made += _latency(run)
    return [figure for figure in made if figure is not None]


def _figure(title: str, caption: str, svg: str | None) -> Figure | None:
    return None if svg is None else Figure(title, caption, svg)


def _deep(rows: Sequence[Row]) -> list[Row]:
    """Those of groups whose insight lies deep: signs that only a close look can read."""
    return [row for row in rows if "/small" in row.group]


def _over_axes(run: RunData) -> list[Figure | None]:
    made: list[Figure | None] = []
    base = [row for row in run.rows if row.key.method == "base"]
    for axis, at in run.axes.items():
        names = sorted((name for name in at if run.of(name)), key=lambda name: at[name])
        places = [_place(name) for name in names]
        rows = [run.of(name) for name in names]
        deep = [_deep(each) for each in rows]
        lines = [
            Series("safety", _told(rows, "safety")),
            Series("utility", _told(rows, "utility")),
            Series("utility, small signs", _told(deep, "utility")),
            Series("over-refusal", _told(rows, "over_refusal")),
        ]
        if axis == "budget":
            ran_out = tuple(_ran_out(each) for each in rows)
            lines.append(Series("budget ran out", ran_out))
        title = _AXES.get(axis, axis)
        shown = [line for line in lines if any(line.points)]
        made.append(
            _figure(
                f"Safety and utility against the {title}",
                "Bands are 95 % intervals. Small signs can be read in a close look only: what "
                "they ask for lies deeper in the search.",
                curves(shown, places, title, "share of answers", share=True),
            )
        )
        costs = tuple(
            ratio(per_sample(each, "tokens"), per_sample(base, "tokens")) for each in rows
        )
        if any(costs):
            made.append(
                _figure(
                    f"Cost against the {title}",
                    "All tokens, as a multiple of Base on the same samples.",
                    curves([Series("cost", costs)], places, title, "cost, Base = 1", share=False),
                )
            )
    return made


def _place(name: str) -> str:
    """The last word: "budget 900" is at 900, "k = 0.25" at 0.25."""
    return name.rsplit(" ", 1)[-1]


def _told(rows: Sequence[Sequence[Row]], measure: str) -> tuple[Estimate | None, ...]:
    share = measure in SHARES
    return tuple(mean(list(per_sample(each, measure).values()), share=share) for each in rows)


def _ran_out(rows: Sequence[Row]) -> Estimate | None:
    summary = summarise(rows)[0]
    out = sum(summary.exhausted.values())
    return mean([1.0] * out + [0.0] * (summary.rows - out), share=True)


def _latency(run: RunData) -> list[Figure | None]:
    made = []
    for attribute, across in (
        ("calls", "calls of an answer"),
        ("critical_path", "calls on the critical path"),
    ):
        groups = []
        for one in run.summaries:
            points = []
            for row in run.of(one.variant):
                count = row.spent.calls if attribute == "calls" else row.critical_path
                if count > 0 and not row.cached and row.failure is None:
                    points.append((float(count), row.spent.seconds))
            if points:
                groups.append((one.variant, points))
        made.append(
            _figure(
                f"Wall-clock against {across}",
                "A dot for each answer; those from the response cache are left out.",
                scatter(groups, across, "seconds"),
            )
        )
    return made
