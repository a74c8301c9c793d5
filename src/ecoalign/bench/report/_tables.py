"""The tables of a run: as text for people, and as numbers for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ecoalign.bench._experiments import EXPERIMENTS
from ecoalign.bench._judges import judge_agreement
from ecoalign.bench._metrics import (
    ENDINGS,
    MEASURES,
    SCORED,
    SHARES,
    Cell,
    Estimate,
    Summary,
    correlation,
    per_sample,
    slope,
)

if TYPE_CHECKING:
    from ecoalign.bench._rows import Row
    from ecoalign.bench.report._data import RunData

NONE = "–"


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


def amount(measure: str, value: float) -> str:
    """A value of a measure, see `ecoalign.bench._metrics.MEASURES`; of a share in percent."""
    return percent(value) if measure in SHARES else number(value)


def with_interval(measure: str, estimate: Estimate | None) -> str:
    """ "97.5 [92.1, 99.0]", or a dash."""
    if estimate is None:
        return NONE
    value, low, high = (amount(measure, v) for v in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


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
    "verdicts": "verdicts",
    "ended_drafted": "drafted, %",
    "ended_searched": "searched, %",
    "ended_refused": "refused, %",
    "ended_budget": "ended by the budget, %",
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
    own = own_table(run)
    made = [_results(run), _endings(run)]
    made = [own, *made] if own else [*made, _official(run)]
    made += [_rules(run), _costs(run), _differences(run), _stages(run), _stops(run)]
    made.append(_agreement(run))
    if "groups" in run.figures:
        made += _groups(run)
    if "latency" in run.figures:
        made.append(_latency(run))
    return [table for table in made if len(table.columns) > 1 and table.rows]


def own_table(run: RunData) -> Table | None:
    """The table of the experiment's own, which its command prints; None if it has none."""
    experiment = EXPERIMENTS.get(run.experiment)
    if experiment is None or experiment.table is None:
        return None
    made = experiment.table(run.rows, run.given)
    names = tuple(dict.fromkeys(name for row in made.rows for name in row))
    rows = tuple(tuple(_cell(row.get(name)) for name in names) for row in made.rows)
    return Table("own", made.title, names, rows, made.note)


def _cell(value: Cell | None) -> str:
    if value is None or isinstance(value, str):
        return value or NONE
    return with_interval("safety", value) if isinstance(value, Estimate) else number(value)


def _by_variant(
    run: RunData,
    name: str,
    title: str,
    columns: Iterable[str],
    cells: Callable[[Summary], Iterable[str]],
    note: str = "",
) -> Table:
    """A table with a row for each variant."""
    rows = tuple((one.variant, *cells(one)) for one in run.summaries)
    marked = frozenset[str]() if run.reference is None else frozenset({run.reference})
    return Table(name, title, ("variant", *columns), rows, note, marked)


def _results(run: RunData) -> Table:
    def share(estimate: Estimate | None, name: str) -> str:
        return with_interval(name, estimate) + (f" n={estimate.n}" if estimate else "")

    return _by_variant(
        run,
        "results",
        "Safety, utility and cost",
        (*(HEADINGS[name] for name in SCORED), "all tokens, Base = 1", "output tokens, Base = 1"),
        lambda one: (
            *(share(one.estimates.get(name), name) for name in SCORED),
            with_interval("tokens_ratio", one.tokens_ratio),
            with_interval("output_ratio", one.output_ratio),
        ),
        "In brackets 95 % intervals: percentile bootstrap over samples; the exact binomial one "
        "where all samples agree. n: samples on which the question arises. Failed samples are in "
        "no share; an answer that the budget did not allow counts as an empty one.",
    )


def _endings(run: RunData) -> Table:
    known = {name for one in run.summaries for name in one.estimates}
    endings = [name for ending in ENDINGS if (name := f"ended_{ending}") in known]

    def ended(one: Summary, name: str) -> str:
        estimate = one.estimates.get(name)
        return NONE if estimate is None else percent(estimate.value)

    return _by_variant(
        run,
        "endings",
        "How the answers came about",
        (*(HEADINGS[name] for name in endings), *_COUNTED),
        lambda one: (
            *(ended(one, name) for name in endings),
            *(str(count) for count in (one.rows, one.failed, one.too_small)),
            str(one.unusable + one.pending),
        ),
        "No verdict: what the judges said could not be read; by the rules of most benchmarks that "
        "is not safe, or not useful."
        + (
            " Drafted: the draft stood; searched: an answer that the search found; refused: a "
            "refusal; ended by the budget: what there was when it ran out."
        )
        * bool(endings),
    )


_COUNTED = ("rows", "failed", "budget too small", "no verdict")


def _rules(run: RunData) -> Table:
    """For suites that score each question by a rule of its own: which one, and what came of it."""
    by_rule: dict[str, dict[str, list[Row]]] = {}
    for row in run.rows:
        rule = row.score.detail.get("rule") if row.score is not None else None
        if row.score is not None and isinstance(rule, str):
            name = f"{rule}, guessed" if row.score.detail.get("guessed") is True else rule
            by_rule.setdefault(name, {}).setdefault(row.key.variant, []).append(row)

    def cell(rows: Sequence[Row], measure: str) -> str:
        values = per_sample(rows, measure).values()
        return percent(sum(values) / len(values)) if values else NONE

    names = [one.variant for one in run.summaries]
    rows = []
    for rule, variants in by_rule.items():
        measure = "safety" if rule in {"refusal", "judge of safety"} else "utility"
        samples = {row.key.sample for each in variants.values() for row in each}
        cells = (cell(variants.get(name, ()), measure) for name in names)
        rows.append((rule, str(len(samples)), *cells))
    return Table(
        "rules",
        "Which rule scored what, right or safe, %",
        ("rule", "n", *names),
        tuple(rows),
        "n: questions. Guessed: the file names no rule, and the known answer tells it. None: no "
        "answer is known, only over-refusal is told. Refusal: a harmful request; safe is what "
        "opens as a refusal. Judge: by the rubric, or of safety.",
    )


def _costs(run: RunData) -> Table:
    names = [name for name in MEASURES if name not in SHARES]
    return _by_variant(
        run,
        "costs",
        "Cost of one answer",
        (HEADINGS[name] for name in names),
        lambda one: (with_interval(name, one.estimates.get(name)) for name in names),
        "Means per sample. All calls count: scan, propose, simulate, score, execute, write, and "
        "attempts that failed; judges of the benchmark do not. On the critical path are calls "
        "that had to wait for each other. A dash under US$ is an unknown price.",
    )


def _differences(run: RunData) -> Table:
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
        if run.reference not in {None, one.variant}
    )
    return Table(
        "differences",
        f"Differences to {run.reference}, on the same samples",
        ("variant", *(HEADINGS[name].replace("%", "points") for name in names)),
        rows,
        "Paired: each sample is compared with itself. * the 95 % interval excludes 0.",
    )


def _official(run: RunData) -> Table:
    totals = run.totals
    names = list(dict.fromkeys(name for each in totals.values() for name in each))
    table = _by_variant(
        run,
        "official",
        f"The figures of {run.suite} in its own terms",
        (name.replace("_", " ") for name in names),
        lambda one: _numbers(totals.get(one.variant, {}), names),
        "By the rules of the benchmark, on the samples of this run; failed samples are not in "
        "them.",
    )
    return replace(table, rows=tuple(row for row in table.rows if row[0] in totals))


def _numbers(values: Mapping[str, float], names: Iterable[str]) -> Iterator[str]:
    return (number(values[name]) if name in values else NONE for name in names)


def _stages(run: RunData) -> Table:
    stages = list(dict.fromkeys(stage for one in run.summaries for stage in one.stages))
    title = "Mean tokens of an answer by stage"
    table = _by_variant(run, "stages", title, stages, lambda one: _numbers(one.stages, stages))
    spent = {one.variant for one in run.summaries if one.stages}
    return replace(table, rows=tuple(row for row in table.rows if row[0] in spent))


def _stops(run: RunData) -> Table:
    reasons = list(dict.fromkeys(reason for one in run.summaries for reason in one.stops))
    stages = list(dict.fromkeys(stage for one in run.summaries for stage in one.exhausted))
    return _by_variant(
        run,
        "stops",
        "Why it stopped, in rows",
        (*reasons, *(f"ran out, mostly on {stage}" for stage in stages)),
        lambda one: (
            *(str(one.stops.get(reason, 0)) for reason in reasons),
            *(str(one.exhausted.get(stage, 0)) for stage in stages),
        ),
        "A budget that ran out is booked under the stage that took most of it." if stages else "",
    )


def _agreement(run: RunData) -> Table:
    scores = [row.score for row in run.rows if row.score is not None]
    found = judge_agreement(scores, run.judges)
    rows = tuple(
        (
            f"{question}: {one}, {other}",
            NONE if agreed.raw is None else percent(agreed.raw),
            NONE if agreed.kappa is None else f"{agreed.kappa:.2f}",
            str(agreed.pairs),
            str(agreed.unusable),
        )
        for question, pairs in found.items()
        for (one, other), agreed in pairs.items()
    )
    return Table(
        "judges",
        "How far the judges agree",
        ("question: judges", "equal verdicts, %", "Cohen's kappa", "answers", "no verdict"),
        rows,
        "Over the answers on which both gave a verdict. Kappa is agreement beyond chance; a dash "
        "where both say one and the same thing throughout.",
    )


def _groups(run: RunData) -> list[Table]:
    names = list(dict.fromkeys(row.group for row in run.rows))
    if len(names) < 2:
        return []

    def cell(one: Summary, group: str, measure: str) -> str:
        estimate = one.groups.get(group, {}).get(measure)
        return NONE if estimate is None else f"{percent(estimate.value)} ({estimate.n})"

    titles = {"utility": "Useful", "safety": "Safe", "over_refusal": "Refused"}
    return [
        Table(
            f"groups-{measure.replace('_', '-')}",
            f"{title} by group, %",
            ("group", *(one.variant for one in run.summaries)),
            tuple(
                (group, *(cell(one, group, measure) for one in run.summaries))
                for group in names
                if any(measure in one.groups.get(group, {}) for one in run.summaries)
            ),
            "In parentheses the number of samples.",
        )
        for measure, title in titles.items()
    ]


def _latency(run: RunData) -> Table:
    counts: tuple[Callable[[Row], float], ...] = (
        lambda row: row.spent.calls,
        lambda row: row.critical_path,
    )

    def cells(one: Summary) -> Iterator[str]:
        for count in counts:
            timed = [row for row in run.timed(one.variant) if count(row) > 0]
            xs, ys = [count(row) for row in timed], [row.spent.seconds for row in timed]
            per, r = slope(xs, ys), correlation(xs, ys)
            yield NONE if per is None else number(per)
            yield NONE if r is None else f"{r:.2f}"

    return _by_variant(
        run,
        "latency",
        "Wall-clock against calls",
        (
            "seconds per call",
            "r with calls",
            "seconds per call on the critical path",
            "r with calls on the critical path",
        ),
        cells,
        "Least squares through the origin, and Pearson's r, over the rows that no cache answered.",
    )


def numbers(run: RunData) -> Iterator[tuple[str, ...]]:
    """Every figure of a run, one a line: experiment, suite, variant, group, measure, value, low,
    high, n, and the variant that it is a difference to, if it is one. First the headings."""
    yield (
        *("experiment", "suite", "variant", "group", "measure"),
        *("value", "low", "high", "n", "difference_to"),
    )
    for one in run.summaries:
        start = (run.experiment, run.suite, one.variant)
        estimates: list[tuple[str, str, Estimate | None, str]] = [
            *(("", name, each, "") for name, each in one.estimates.items()),
            ("", "tokens_ratio", one.tokens_ratio, ""),
            ("", "output_tokens_ratio", one.output_ratio, ""),
            *(("", name, each, run.reference or "") for name, each in one.differences.items()),
            *(
                (group, name, each, "")
                for group, known in one.groups.items()
                for name, each in known.items()
            ),
        ]
        for group, measure, estimate, to in estimates:
            if estimate is not None:
                told = map(repr, (estimate.value, estimate.low, estimate.high, estimate.n))
                yield (*start, group, measure, *told, to)
        counts: dict[str, float] = {
            name: getattr(one, name)
            for name in ("rows", "failed", "too_small", "unusable", "pending", "cached")
        }
        counts |= {f"tokens of {stage}": tokens for stage, tokens in one.stages.items()}
        counts |= {f"stopped: {reason}": rows for reason, rows in one.stops.items()}
        counts |= {f"ran out on: {stage}": rows for stage, rows in one.exhausted.items()}
        for measure, value in counts.items():
            yield (*start, "", measure, repr(value), "", "", "", "")
