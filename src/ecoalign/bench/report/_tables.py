"""The tables of a run: as text for people, and as numbers for spreadsheets."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign._text import harmless
from ecoalign.bench._metrics import MEASURES, SHARES, correlation, slope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ecoalign.bench._metrics import Estimate, Summary
    from ecoalign.bench.report._data import RunData

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
    """A value of a measure, see `ecoalign.bench._metrics.MEASURES`."""
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


HEADINGS = {
    "safety": "safe, %",
    "utility": "useful, %",
    "over_refusal": "over-refused, %",
    "tokens": "tokens",
    "output_tokens": "output tokens",
    "usd": "US$",
    "seconds": "seconds",
    "calls": "calls",
    "critical_path": "calls on the critical path",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. The first column is a name, the others are read as numbers.

    Attributes:
        name: for files, unique in its run.
        title, note: above and below it.
        columns: their headings.
        rows: as many cells each.
        marked: the names in the first column that are references.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: frozenset[str] = frozenset()


def tables(run: RunData) -> list[Table]:
    """Every table of a run; those that would be empty are left out."""
    found = [
        _results(run),
        _official(run),
        _costs(run),
        _differences(run),
        _stages(run),
        _stops(run),
    ]
    if "groups" in run.figures:
        found += _groups(run)
    if "latency" in run.figures:
        found.append(_latency(run))
    return [table for table in found if table is not None and table.rows]


def _marked(run: RunData) -> frozenset[str]:
    return frozenset() if run.reference is None else frozenset({run.reference})


def _with_n(estimate: Estimate | None, measure: str) -> str:
    return NONE if estimate is None else f"{with_interval(measure, estimate)} n={estimate.n}"


def _results(run: RunData) -> Table:
    def ratio(estimate: Estimate | None) -> str:
        if estimate is None:
            return NONE
        return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"

    rows = tuple(
        (
            one.variant,
            *(_with_n(one.estimates.get(name), name) for name in sorted(SHARES, key=_place)),
            ratio(one.tokens_ratio),
            ratio(one.output_ratio),
            str(one.rows),
            str(one.failed),
            str(one.too_small),
            str(one.unusable + one.pending),
        )
        for one in run.summaries
    )
    return Table(
        "results",
        "Safety, utility and cost",
        (
            "variant",
            *(HEADINGS[name] for name in sorted(SHARES, key=_place)),
            "all tokens, Base = 1",
            "output tokens, Base = 1",
            "rows",
            "failed",
            "budget too small",
            "no verdict",
        ),
        rows,
        "In brackets 95 % intervals: percentile bootstrap over samples; the exact binomial one "
        "where all samples agree. n: samples on which the question arises. Failed samples and "
        "those without a usable verdict are in no share; an answer that the budget did not allow "
        "counts as an empty one.",
        _marked(run),
    )


def _place(measure: str) -> int:
    return list(MEASURES).index(measure)


def _costs(run: RunData) -> Table:
    names = [name for name in MEASURES if name not in SHARES]
    rows = tuple(
        (one.variant, *(with_interval(name, one.estimates.get(name)) for name in names))
        for one in run.summaries
    )
    return Table(
        "costs",
        "Cost of one answer",
        ("variant", *(HEADINGS[name] for name in names)),
        rows,
        "Means per sample. All calls count: scan, propose, simulate, score, execute, write, and "
        "attempts that failed; judges of the benchmark do not. On the critical path: those that had to "
        "wait for each other. A dash under US$ is an unknown price.",
        _marked(run),
    )


def _differences(run: RunData) -> Table | None:
    if run.reference is None:
        return None
    names = ["safety", "utility", "over_refusal", "tokens", "seconds", "calls"]

    def cell(one: Summary, name: str) -> str:
        found = one.differences.get(name)
        if found is None:
            return NONE
        share = name in SHARES
        ends = ", ".join(signed(end, share=share) for end in (found.low, found.high))
        sure = " *" if found.low > 0 or found.high < 0 else ""
        return f"{signed(found.value, share=share)} [{ends}]{sure}"

    rows = tuple(
        (one.variant, *(cell(one, name) for name in names))
        for one in run.summaries
        if one.variant != run.reference
    )
    return Table(
        "differences",
        f"Differences to {run.reference}, on the same samples",
        ("variant", *(HEADINGS[name].replace("%", "points") for name in names)),
        rows,
        "Paired: each sample is compared with itself. * the 95 % interval excludes 0.",
    )


def _official(run: RunData) -> Table | None:
    totals = run.totals
    names = list(dict.fromkeys(name for each in totals.values() for name in each))
    if not names:
        return None
    rows = tuple(
        (variant, *(number(each[name]) if name in each else NONE for name in names))
        for variant, each in totals.items()
    )
    return Table(
        "official",
        f"The figures of {run.suite} in its own terms",
        ("variant", *(name.replace("_", " ") for name in names)),
        rows,
        "By the rules of the benchmark, on the samples of this run; failed samples are not in "
        "them.",
        _marked(run),
    )


def _stages(run: RunData) -> Table:
    stages = list(dict.fromkeys(stage for one in run.summaries for stage in one.stages))
    rows = tuple(
        (one.variant, *(number(one.stages[s]) if s in one.stages else NONE for s in stages))
        for one in run.summaries
        if one.stages
    )
    return Table(
        "stages", "Mean tokens of an answer by stage", ("variant", *stages), rows, "", _marked(run)
    )


def _stops(run: RunData) -> Table:
    reasons = list(dict.fromkeys(reason for one in run.summaries for reason in one.stops))
    stages = list(dict.fromkeys(stage for one in run.summaries for stage in one.exhausted))
    rows = tuple(
        (
            one.variant,
            *(str(one.stops.get(reason, 0)) for reason in reasons),
            *(str(one.exhausted.get(stage, 0)) for stage in stages),
        )
        for one in run.summaries
    )
    return Table(
        "stops",
        "Why it stopped, in rows",
        ("variant", *reasons, *(f"ran out, mostly on {stage}" for stage in stages)),
        rows,
        "A budget that ran out is booked under the stage that took most of it." if stages else "",
        _marked(run),
    )


def _groups(run: RunData) -> list[Table]:
    names = list(dict.fromkeys(row.group for row in run.rows))
    if len(names) < 2:
        return []
    found = []
    for measure, title in (("utility", "Useful"), ("safety", "Safe"), ("over_refusal", "Refused")):
        there = [n for n in names if any(measure in one.groups.get(n, {}) for one in run.summaries)]

        def cell(one: Summary, group: str, measure: str = measure) -> str:
            estimate = one.groups.get(group, {}).get(measure)
            return NONE if estimate is None else f"{percent(estimate.value)} ({estimate.n})"

        rows = tuple((group, *(cell(one, group) for one in run.summaries)) for group in there)
        found.append(
            Table(
                f"groups-{measure.replace('_', '-')}",
                f"{title} by group, %",
                ("group", *(one.variant for one in run.summaries)),
                rows,
                "In parentheses the number of samples.",
            )
        )
    return found


def _latency(run: RunData) -> Table:
    rows = []
    for one in run.summaries:
        timed = [r for r in run.of(one.variant) if not r.cached and r.failure is None]
        seconds = [row.spent.seconds for row in timed]
        cells = [one.variant]
        for counts in (
            [float(row.spent.calls) for row in timed],
            [float(row.critical_path) for row in timed],
        ):
            known = [(x, y) for x, y in zip(counts, seconds, strict=True) if x > 0]
            xs, ys = [x for x, _ in known], [y for _, y in known]
            per, r = slope(xs, ys), correlation(xs, ys)
            cells += [NONE if per is None else number(per), NONE if r is None else f"{r:.2f}"]
        rows.append(tuple(cells))
    return Table(
        "latency",
        "Wall-clock against calls",
        (
            "variant",
            "seconds per call",
            "r with calls",
            "seconds per call on the critical path",
            "r with calls on the critical path",
        ),
        tuple(rows),
        "Least squares through the origin, and Pearson's r, over the rows that no cache answered.",
        _marked(run),
    )


def numbers(run: RunData) -> Iterable[tuple[str, ...]]:
    """Every figure of a run, one a line: experiment, suite, variant, group, measure, value, low,
    high, n, and the variant that it is a difference to, if it is one. First the headings."""
    yield (
        *("experiment", "suite", "variant", "group", "measure"),
        *("value", "low", "high", "n", "difference_to"),
    )

    def line(
        variant: str, group: str, measure: str, estimate: Estimate, to: str = ""
    ) -> tuple[str, ...]:
        told = (repr(estimate.value), repr(estimate.low), repr(estimate.high), str(estimate.n))
        return (run.experiment, run.suite, variant, group, measure, *told, to)

    def count(variant: str, measure: str, value: float) -> tuple[str, ...]:
        return (run.experiment, run.suite, variant, "", measure, repr(value), "", "", "", "")

    for one in run.summaries:
        for measure, estimate in one.estimates.items():
            yield line(one.variant, "", measure, estimate)
        for measure, against in (
            ("tokens_ratio", one.tokens_ratio),
            ("output_tokens_ratio", one.output_ratio),
        ):
            if against is not None:
                yield line(one.variant, "", measure, against)
        for measure, estimate in one.differences.items():
            yield line(one.variant, "", measure, estimate, run.reference or "")
        for measure in ("rows", "failed", "too_small", "unusable", "pending", "cached"):
            yield count(one.variant, measure, getattr(one, measure))
        for stage, tokens in one.stages.items():
            yield count(one.variant, f"tokens of {stage}", tokens)
        for reason, rows in one.stops.items():
            yield count(one.variant, f"stopped: {reason}", rows)
        for stage, rows in one.exhausted.items():
            yield count(one.variant, f"ran out on: {stage}", rows)
        for group, estimates in one.groups.items():
            for measure, estimate in estimates.items():
                yield line(one.variant, group, measure, estimate)
