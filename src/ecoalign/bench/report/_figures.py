"""The figures of a run: the frontier, bars, curves over an axis, and wall-clock against calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign._text import short
from ecoalign.bench._metrics import (
    SHARES,
    Estimate,
    Summary,
    mean,
    per_sample,
    ratio,
    summarise,
    undominated,
)
from ecoalign.bench.report._svg import SERIES, WIDTH, Plot, Scale, Svg, label_width
from ecoalign.bench.report._tables import number, with_interval

if TYPE_CHECKING:
    from ecoalign.bench._rows import Row
    from ecoalign.bench.report._data import RunData


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its title and caption."""

    title: str
    caption: str
    svg: str


def figures(run: RunData) -> list[Figure]:
    """All figures of a run; those without data are left out."""
    drawn = (
        (title, caption, svg) for kind in run.figures for title, caption, svg in _KINDS[kind](run)
    )
    return [Figure(title, caption, svg) for title, caption, svg in drawn if svg is not None]


Drawn = Iterator[tuple[str, str, str | None]]
"""Title, caption and drawing of each figure; None for the drawing where there is no data."""


# -- bars -----------------------------------------------------------------------------------------

ROW = 20.0

_LONGEST = 26

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


def _bars(run: RunData) -> Drawn:
    for measure, title, caption in _BARS:
        guide = f"; the dashed line is {run.reference}." if run.reference else "."
        yield (
            title,
            f"{caption} Whiskers are 95 % intervals{guide}",
            estimate_bars(run.summaries, measure, run.reference),
        )


def _stages(run: RunData) -> Drawn:
    caption = "Mean tokens of an answer, prompts and images included, by the stage that spent them."
    yield "Cost by stage", caption, stage_bars(run.summaries)


def _named_rows(svg: Svg, names: Sequence[str], top: float) -> tuple[float, float]:
    """The names of the rows of a bar chart; returns where bars begin and where rows end."""
    left = 14 + max(label_width(short(name, _LONGEST)) for name in names)
    for i, name in enumerate(names):
        svg.text(left - 8, top + ROW * i + 14, short(name, _LONGEST), "end")
    bottom = top + ROW * len(names)
    svg.height = bottom + 26
    return left, bottom


def estimate_bars(summaries: Sequence[Summary], measure: str, reference: str | None) -> str | None:
    """A bar with its interval for each variant, and a line through the reference's; None where
    the measure never arises. Shares start at 0, ratios are on a logarithmic scale."""
    ratio = measure == "tokens_ratio"
    found = [
        (one.variant, known)
        for one in summaries
        if (known := one.tokens_ratio if ratio else one.estimates.get(measure)) is not None
    ]
    ends = [end for _, e in found for end in (e.low, e.value, e.high) if end > 0]
    if not found or (ratio and not ends):
        return None
    svg, top, right = Svg(), 8.0, WIDTH - 128
    left, bottom = _named_rows(svg, [name for name, _ in found], top)
    if ratio:
        scale = Scale(min(1.0, *ends) / 1.3, max(1.0, *ends) * 1.3, left, right, log=True)
        ticks, origin = scale.ticks("{:g}×"), scale(1.0)
    else:
        scale = Scale(0.0, 1.0, left, right)
        ticks, origin = scale.ticks(percent=True, most=5), left
    svg.axis_across(scale, ticks, top, bottom)
    for i, (name, estimate) in enumerate(found):
        y = top + ROW * i
        here = scale(estimate.value)
        told = with_interval(measure, estimate).replace(" ", "× " if ratio else " ", 1)
        cls = "c0" if name == reference else "c1 soft"
        tip = f"{name}: {told}, n = {estimate.n}"
        svg.rect(min(origin, here), y + 4, abs(here - origin), ROW - 8, cls, tip)
        svg.line(scale(estimate.low), y + ROW / 2, scale(estimate.high), y + ROW / 2, "whisker")
        for place in (estimate.low, estimate.high):
            svg.line(scale(place), y + 6, scale(place), y + ROW - 6, "whisker")
        svg.text(right + 8, y + 14, told, cls="small")
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
    svg = Svg()
    top = svg.legend(stages)
    left, bottom = _named_rows(svg, [one.variant for one in spent], top)
    scale = Scale(0.0, max(sum(one.stages.values()) for one in spent), left, WIDTH - 64)
    svg.axis_across(scale, scale.ticks("{:,g}", most=5), top, bottom)
    for i, one in enumerate(spent):
        y = top + ROW * i
        total = 0.0
        for j, stage in enumerate(stages):
            if (tokens := one.stages.get(stage, 0.0)) > 0:
                here, end = scale(total), scale(total + tokens)
                tip = f"{one.variant}, {stage}: {number(tokens)} tokens"
                svg.rect(here, y + 3, end - here, ROW - 6, f"c{j % SERIES}", tip)
                total += tokens
        svg.text(scale(total) + 6, y + 14, number(total), cls="small")
    svg.line(left, top, left, bottom)
    return svg.render("mean tokens of an answer by stage, for each variant")


# -- curves over an axis, and dots ----------------------------------------------------------------

_MOST_DOTS = 600

_AXES = {
    "budget": "budget",
    "look_ahead": "look-ahead factor k",
    "delta": "time value of compute, delta",
    "fixed_horizon": "fixed horizon, in steps",
}


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name and an estimate at each place of the axis (None: nothing known there)."""

    name: str
    points: tuple[Estimate | None, ...]


def _over_axes(run: RunData) -> Drawn:
    base = per_sample((row for row in run.rows if row.key.method == "base"), "tokens")
    for axis, at in run.axes.items():
        names = sorted((name for name in at if run.of(name)), key=lambda name: at[name])
        # "budget 900" is at 900, "k = 0.25" at 0.25.
        places = [name.rsplit(" ", 1)[-1] for name in names]
        rows = [run.of(name) for name in names]
        # What only a close look can read lies deeper in the search.
        small = [[row for row in each if "/small" in row.group] for each in rows]
        lines = [
            Series("safety", _by_place(rows, "safety")),
            Series("utility", _by_place(rows, "utility")),
            Series("utility, small signs", _by_place(small, "utility")),
            Series("over-refusal", _by_place(rows, "over_refusal")),
        ]
        if axis == "budget":
            lines.append(Series("budget ran out", tuple(map(_ran_out, rows))))
        title = _AXES.get(axis, axis)
        yield (
            f"Safety and utility against the {title}",
            "Bands are 95 % intervals. Small signs can be read in a close look only: what they "
            "ask for lies deeper in the search.",
            curves([line for line in lines if any(line.points)], places, title, share=True),
        )
        costs = Series("cost", tuple(ratio(per_sample(each, "tokens"), base) for each in rows))
        yield (
            f"Cost against the {title}",
            "All tokens, as a multiple of Base on the same samples.",
            curves([costs], places, title, share=False),
        )


def _by_place(rows: Sequence[Sequence[Row]], measure: str) -> tuple[Estimate | None, ...]:
    share = measure in SHARES
    return tuple(mean(list(per_sample(each, measure).values()), share=share) for each in rows)


def _ran_out(rows: Sequence[Row]) -> Estimate | None:
    summary = summarise(rows)[0]
    out = sum(summary.exhausted.values())
    return mean([1.0] * out + [0.0] * (summary.rows - out), share=True)


def curves(
    series: Sequence[Series], places: Sequence[str], across: str, *, share: bool
) -> str | None:
    """Lines with their intervals as bands, over places that are evenly apart.

    Args:
        series: as many points each as there are places.
        places: the texts under the axis.
        across: what the axis is.
        share: whether the values are shares in [0, 1], shown in percent; else costs.
    """
    known = [e for one in series for e in one.points if e is not None]
    if not known or len(places) < 2:
        return None
    up = "share of answers" if share else "cost, Base = 1"
    plot = Plot(across, up, 220.0, [one.name for one in series])
    x = plot.scale_across(0, len(places) - 1, (22, 22))
    y = plot.scale_up(0.0, 1.0 if share else max(e.high for e in known) * 1.05 or 1.0)
    plot.axes(x, list(enumerate(places)), y, y.ticks(percent=share, most=5), grid=False)
    for j, one in enumerate(series):
        there = [(x(i), e) for i, e in enumerate(one.points) if e is not None]
        if len(there) > 1:
            upper = [(px, y(e.high)) for px, e in there]
            lower = [(px, y(e.low)) for px, e in reversed(there)]
            plot.polygon([*upper, *lower], f"c{j % SERIES} band")
        plot.polyline([(px, y(e.value)) for px, e in there], f"s{j % SERIES} line")
    measure = "safety" if share else "cost"
    for j, one in enumerate(series):
        for i, e in enumerate(one.points):
            if e is not None:
                tip = f"{one.name} at {places[i]}: {with_interval(measure, e)}, n = {e.n}"
                plot.circle(x(i), y(e.value), 4, f"c{j % SERIES}", tip)
    return plot.render(f"{up} over {across}")


def _latency(run: RunData) -> Drawn:
    counts: Mapping[str, Callable[[Row], int]] = {
        "calls of an answer": lambda row: row.spent.calls,
        "calls on the critical path": lambda row: row.critical_path,
    }
    for across, count in counts.items():
        groups = [
            (one.variant, [(float(count(row)), row.spent.seconds) for row in timed])
            for one in run.summaries
            if (timed := [row for row in run.timed(one.variant) if count(row) > 0])
        ]
        yield (
            f"Wall-clock against {across}",
            "A dot for each answer; those from the response cache are left out.",
            scatter(groups, across, "seconds"),
        )


def scatter(
    groups: Sequence[tuple[str, Sequence[tuple[float, float]]]], across: str, up: str
) -> str | None:
    """A dot for each row, in the colour of its group; at most so many dots of each group."""
    every = [point for _, points in groups for point in points]
    if not every:
        return None
    plot = Plot(across, up, legend=[name for name, _ in groups])
    x = plot.scale_across(0.0, max(1.0, *(px for px, _ in every)) * 1.05)
    y = plot.scale_up(0.0, max(py for _, py in every) * 1.05 or 1.0)
    plot.axes(x, x.ticks(most=8), y, y.ticks(most=5), grid=False)
    for j, (name, points) in enumerate(groups):
        step = -(-len(points) // _MOST_DOTS) or 1
        for px, py in points[::step]:
            tip = f"{name}: {number(px)}, {number(py)}"
            plot.circle(x(px), y(py), 3, f"c{j % SERIES} dot", tip)
    return plot.render(f"{up} over {across}, a dot for each answer")


# -- the frontier ---------------------------------------------------------------------------------

_LINE = 14.0

Box = tuple[float, float, float, float]


def _frontier(run: RunData) -> Drawn:
    yield (
        "Safety, utility and cost",
        "The area of a circle is the cost of an answer in tokens; the number beside its name is "
        "that cost, as a multiple of Base where Base was run. Full circles are on the frontier: "
        "no other variant is as good in all three and better in one. Thin lines are 95 % "
        "intervals.",
        frontier(run.summaries),
    )


def frontier(summaries: Sequence[Summary]) -> str | None:
    """Safety over utility, the cost as a circle's area; full circles are on the frontier of all
    three. Without safety, utility over cost. None for fewer than two variants with figures."""
    shown = [one for one in summaries if {"safety", "utility"} <= one.estimates.keys()]
    three = len(shown) >= 2
    if not three:
        shown = [one for one in summaries if "utility" in one.estimates and _cost(one)[0] > 0]
    if len(shown) < 2:
        return None
    costs = {one.variant: _cost(one) for one in shown}
    least, most = (of(cost for cost, _ in costs.values()) for of in (min, max))
    up = "safety" if three else "utility"
    if three:
        plot = Plot("utility: right or useful answers", "safety: answers that are safe", 362.0)
        x = plot.scale_across(*_range(shown, "utility"), (14, 42))
        across = x.ticks(percent=True)
    else:
        unit = "×" if shown[0].tokens_ratio is not None else ""
        plot = Plot(f"cost in tokens{', Base = 1' if unit else ''}", "utility", 362.0)
        x = plot.scale_across(least / 1.5, most * 1.5, (14, 42), log=True)
        across = x.ticks("{:g}" + unit)
    y = plot.scale_up(*_range(shown, up), 14)
    plot.axes(x, across, y, y.ticks(percent=True))
    circles, tips, labels, values = [], [], [], {}
    for one in shown:
        cost, told = costs[one.variant]
        useful, high = one.estimates["utility"], one.estimates[up]
        px, py = x(useful.value if three else cost), y(high.value)
        if three:
            plot.line(x(useful.low), py, x(useful.high), py, "faint")
        plot.line(px, y(high.low), px, y(high.high), "faint")
        circles.append((px, py, 5 + 17 * math.sqrt(cost / (most or 1.0)) if three else 6.0))
        known = {name: one.estimates[name] for name in dict.fromkeys((up, "utility"))}
        values[one.variant] = (*(each.value for each in known.values()), -cost)
        said = ", ".join(f"{name} {with_interval(name, each)}" for name, each in known.items())
        tips.append(f"{one.variant}: {said}, cost {told}")
        labels.append(short(one.variant, 28) + (f"  {told}" if three else ""))
    best = undominated(values)
    # The large ones first, so that the small ones stay in reach.
    drawn = sorted(zip(shown, circles, tips, strict=True), key=lambda each: -each[1][2])
    for one, circle, tip in drawn:
        plot.circle(*circle, "c0 bubble" if one.variant in best else "hollow", tip)
    for label, (px, py) in zip(labels, placed(circles, labels, plot.bottom), strict=True):
        plot.text(px, py, label, cls="halo")
    circle_is = "; the area of a circle is its cost" if three else ""
    return plot.render(f"{up} over {'utility' if three else 'cost'}{circle_is}")


def _cost(one: Summary) -> tuple[float, str]:
    """The cost and its text: as a ratio to Base where there is one, else in tokens."""
    if one.tokens_ratio is not None:
        return one.tokens_ratio.value, f"{number(one.tokens_ratio.value)}×"
    tokens = one.estimates["tokens"].value if "tokens" in one.estimates else 0.0
    return tokens, f"{number(tokens)} tokens"


def _range(summaries: Sequence[Summary], measure: str) -> tuple[float, float]:
    values = [one.estimates[measure].value for one in summaries]
    slack = max(0.05, 0.12 * (max(values) - min(values)))
    return max(0.0, min(values) - slack), min(1.0, max(values) + slack)


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def placed(
    points: Sequence[tuple[float, float, float]], labels: Sequence[str], bottom: float
) -> list[tuple[float, float]]:
    """Where each label starts (x, baseline y), so that they hide each other and the points least.

    Args:
        points: x, y and radius of each point.
        labels: as many texts.
        bottom: the lower edge of the plane.
    """
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for x, y, r in points]
    found = []
    for (x, y, r), label in zip(points, labels, strict=True):
        wide = label_width(label)

        def costs(box: Box, step: int) -> float:
            outside = max(0.0, Plot.left - box[0]) + max(0.0, box[2] - WIDTH)
            outside += max(0.0, -box[1]) + max(0.0, box[3] - 1 - bottom)
            return sum(_overlap(box, other) for other in taken) + 50 * outside + 8 * step

        boxes = [
            ((left, base - 11, left + wide, base + 3), step)
            for step in range(8)
            for left, base in (
                (x + r + 4, y + 4 - step * _LINE),
                (x + r + 4, y + 4 + step * _LINE),
                (x - r - 4 - wide, y + 4 - step * _LINE),
                (x - r - 4 - wide, y + 4 + step * _LINE),
                (x - wide / 2, y - r - 4 - step * _LINE),
                (x - wide / 2, y + r + 13 + step * _LINE),
            )
        ]
        best, _ = min(boxes, key=lambda each: costs(*each))
        taken.append(best)
        found.append((best[0], best[3] - 3))
    return found


_KINDS: Mapping[str, Callable[[RunData], Drawn]] = {
    "frontier": _frontier,
    "bars": _bars,
    "stages": _stages,
    "budget": _over_axes,
    "curve": _over_axes,
    "latency": _latency,
    "groups": lambda run: iter(()),  # tables alone
}
