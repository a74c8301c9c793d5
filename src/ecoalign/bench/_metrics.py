"""Figures with intervals, from rows alone. Pure functions.

Intervals are 95 % percentile bootstrap intervals over samples (repeats of a sample are averaged
first), 2,000 resamples, with a fixed seed. Where every value of a share is 0, or every one 1, no
resample can differ; the interval is then the exact binomial one (Clopper and Pearson) for so
many samples without an exception.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ecoalign.bench._rows import Row

SEED = 251111301

RESAMPLES = 2000

LEVEL = 0.95

_AT_ONCE = 2_000_000  # numbers drawn together, to bound the memory

_Floats = Sequence[float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval [low, high], from `n` samples."""

    value: float
    low: float
    high: float
    n: int


Cell = str | float | Estimate
"""A cell of a table of an experiment's own: a text, a figure, or a share with its interval."""


@dataclass(frozen=True, slots=True)
class OwnTable:
    """What an experiment shows in place of the usual table.

    Attributes:
        title, note: above and below it.
        rows: the cells by their headings; the first one is the row's name.
    """

    title: str
    rows: Sequence[Mapping[str, Cell]]
    note: str = ""


def _interval(
    n: int, statistic: Callable[[NDArray[np.intp]], NDArray[np.float64]]
) -> tuple[float, float]:
    """The percentiles of a statistic over index arrays of shape (some, n)."""
    rng = np.random.default_rng(SEED)
    parts = []
    left = RESAMPLES
    while left > 0:
        some = min(left, max(1, _AT_ONCE // n))
        parts.append(statistic(rng.integers(0, n, (some, n))))
        left -= some
    drawn = np.concatenate(parts)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(drawn, (tail, 1.0 - tail))
    return float(low), float(high)


def mean(values: _Floats, *, share: bool = False) -> Estimate | None:
    """The mean of one value per sample; None of none.

    Args:
        values: one per sample.
        share: they are shares in [0, 1]: where all are 0, or all 1, see the module.
    """
    data = np.asarray(values, dtype=np.float64)
    n = int(data.size)
    if n == 0:
        return None
    value = float(data.mean())
    if share and data.min() == data.max() and value in (0.0, 1.0):
        reach = ((1.0 - LEVEL) / 2.0) ** (1.0 / n)
        return Estimate(value, 0.0 if value == 0.0 else reach, 1.0 if value else 1.0 - reach, n)
    low, high = _interval(n, lambda index: data[index].mean(axis=1))
    return Estimate(value, low, high, n)


def ratio(
    over: Mapping[str, float],
    under: Mapping[str, float],
) -> Estimate | None:
    """mean(over) / mean(under) on the samples that both have, resampled together.

    None if they share no sample, or if `under` has a mean of 0 there.
    """
    common = [name for name in over if name in under]
    if not common:
        return None
    top = np.asarray([over[name] for name in common], dtype=np.float64)
    bottom = np.asarray([under[name] for name in common], dtype=np.float64)
    if bottom.mean() == 0:
        return None

    def statistic(index: NDArray[np.intp]) -> NDArray[np.float64]:
        below = bottom[index].mean(axis=1)
        # A resample of zeros alone has no ratio and is left out.
        quotient: NDArray[np.float64] = np.divide(
            top[index].mean(axis=1), below, out=np.full(below.shape, np.nan), where=below != 0
        )
        return quotient

    low, high = _interval(len(common), statistic)
    return Estimate(float(top.mean() / bottom.mean()), low, high, len(common))


def difference(
    one: Mapping[str, float],
    other: Mapping[str, float],
) -> Estimate | None:
    """The mean of one - other over the samples that both have (paired); None if there is none."""
    return mean([one[name] - other[name] for name in one if name in other])


def binomial(count: int, n: int) -> Estimate | None:
    """The share count / n with Wilson's 95 % score interval; None for n = 0.

    Args:
        count: of n independent trials, 0 to n.
        n: how many.
    """
    if n == 0:
        return None
    z = 1.959964
    share, spread = count / n, z * z / n
    centre = (share + spread / 2.0) / (1.0 + spread)
    reach = z * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n)) / (1.0 + spread)
    return Estimate(share, max(0.0, centre - reach), min(1.0, centre + reach), n)


# -- what is measured of a row -------------------------------------------------------------------
ENDINGS = ("drafted", "searched", "refused", "budget")
"""How a search comes to its answer; see `Alignment.ended`."""

JUDGING_STAGES = frozenset({"score", "gate", "check"})


def _ended(ending: str) -> Callable[[Row], float | None]:
    return lambda row: float(row.ended == ending) if row.ended else None


MEASURES: Mapping[str, Callable[[Row], float | None]] = {
    "safety": lambda row: row.score.safe if row.score else None,
    "utility": lambda row: row.score.useful if row.score else None,
    "over_refusal": lambda row: row.score.refused_harmless if row.score else None,
    "tokens": lambda row: row.spent.tokens.total,
    "output_tokens": lambda row: row.spent.tokens.completion,
    "usd": lambda row: row.spent.usd,
    "seconds": lambda row: None if row.cached or row.failure else row.spent.seconds,
    "calls": lambda row: row.spent.calls,
    "critical_path": lambda row: row.critical_path or None,
    "verdicts": lambda row: sum(
        entry.calls for stage, entry in row.spent.by_stage.items() if stage in JUDGING_STAGES
    ),
    **{f"ended_{ending}": _ended(ending) for ending in ENDINGS},
}
"""What is measured of a row, by name; None where it does not arise. Shares are in [0, 1]. Dollars
and tokens are those of the whole answer; seconds are left out where the cache answered. Verdicts
are the method's own calls to a judge, attempts that failed included."""

SCORED = ("safety", "utility", "over_refusal")
"""The measures that the suite's score gives."""

SHARES = frozenset({*SCORED, *(f"ended_{ending}" for ending in ENDINGS)})


def per_sample(rows: Iterable[Row], measure: str) -> dict[str, float]:
    """The measure by sample, the mean over its repeats; samples without it are left out."""
    measured = MEASURES[measure]
    found: dict[str, list[float]] = {}
    for row in rows:
        value = measured(row)
        if value is not None:
            found.setdefault(row.key.sample, []).append(value)
    return {sample: sum(values) / len(values) for sample, values in found.items()}


def exhausted_by(row: Row) -> str | None:
    """The stage that took most of a budget that ran out; None if it did not run out.

    "nothing" where the budget did not even suffice for a first call.
    """
    if row.stop_reason not in {"budget", "budget-too-small"}:
        return None
    stages = row.spent.by_stage
    return max(stages, key=lambda name: stages[name].tokens) if stages else "nothing"


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of one variant.

    Attributes:
        variant: its name.
        rows, samples: how many.
        failed: rows without an answer because of an error, those of a budget too small excluded.
        too_small: rows without an answer because the budget allowed none; scored as empty answers.
        unusable: rows whose verdict could not be read; in no share.
        pending: rows that wait for their score; in no share.
        cached: rows with calls from the response cache; in no time.
        estimates: by name, see `MEASURES`; a measure that never arises is not there.
        tokens_ratio, output_ratio: to Base on the same samples, all tokens and output tokens.
        differences: to the reference on the same samples, by measure.
        stages: mean tokens of a row by stage.
        stops: rows by stop reason.
        exhausted: rows whose budget ran out, by the stage that took most of it.
        groups: by group, the estimates of the shares.
    """

    variant: str
    rows: int
    samples: int
    failed: int
    too_small: int
    unusable: int
    pending: int
    cached: int
    estimates: Mapping[str, Estimate]
    tokens_ratio: Estimate | None
    output_ratio: Estimate | None
    differences: Mapping[str, Estimate]
    stages: Mapping[str, float]
    stops: Mapping[str, int]
    exhausted: Mapping[str, int]
    groups: Mapping[str, Mapping[str, Estimate]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an interval is {"value", "low", "high", "n"}."""
        body = asdict(self)
        del body["groups"]
        estimates = body.pop("estimates")
        return body | {name: estimates.get(name) for name in MEASURES}


def _estimates(rows: Sequence[Row], names: Iterable[str]) -> dict[str, Estimate]:
    found = {name: mean([*per_sample(rows, name).values()], share=name in SHARES) for name in names}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def summarise(
    rows: Iterable[Row], reference: str | None = None, base: str = "base"
) -> list[Summary]:
    """A summary of each variant, in the order in which they first come.

    Args:
        rows: of one experiment on one suite.
        reference: the variant that the others are compared with; None for no comparison.
        base: the method whose cost is 1.
    """
    variants: dict[str, list[Row]] = {}
    for row in rows:
        variants.setdefault(row.key.variant, []).append(row)
    basis = next((each for each in variants.values() if each[0].key.method == base), [])
    compared = variants.get(reference or "", [])
    return [_summary(name, each, basis, compared) for name, each in variants.items()]


def _summary(
    name: str, rows: Sequence[Row], basis: Sequence[Row], compared: Sequence[Row]
) -> Summary:
    def against(measure: str) -> Estimate | None:
        return ratio(per_sample(rows, measure), per_sample(basis, measure))

    others = [] if compared and compared[0].key.variant == name else compared
    differences = {
        measure: found
        for measure in MEASURES
        if (found := difference(per_sample(rows, measure), per_sample(others, measure))) is not None
    }
    stages: Counter[str] = Counter()
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
        for stage, entry in row.spent.by_stage.items():
            stages[stage] += entry.tokens
    too_small = sum(row.stop_reason == "budget-too-small" for row in rows)
    return Summary(
        variant=name,
        rows=len(rows),
        samples=len({row.key.sample for row in rows}),
        failed=sum(row.failure is not None for row in rows) - too_small,
        too_small=too_small,
        unusable=sum(row.unusable for row in rows),
        pending=sum(row.pending for row in rows),
        cached=sum(row.cached > 0 for row in rows),
        estimates=_estimates(rows, MEASURES),
        tokens_ratio=against("tokens"),
        output_ratio=against("output_tokens"),
        differences=differences,
        stages={stage: tokens / len(rows) for stage, tokens in stages.items()},
        stops=dict(Counter(row.stop_reason or "answered" for row in rows)),
        exhausted=dict(Counter(on for row in rows if (on := exhausted_by(row)))),
        groups={group: _estimates(each, SCORED) for group, each in groups.items()},
    )


# -- comparisons between figures ------------------------------------------------------------------
def undominated(points: Mapping[str, Sequence[float]]) -> set[str]:
    """The names of which no other point is as good in all coordinates and better in one.

    Greater is better; give costs negated. Equal points do not dominate each other.
    """
    return {
        name
        for name, point in points.items()
        if not any(
            all(a >= b for a, b in zip(rival, point, strict=True))
            and any(a > b for a, b in zip(rival, point, strict=True))
            for rival in points.values()
        )
    }


def correlation(xs: _Floats, ys: _Floats) -> float | None:
    """Pearson's r in [-1, 1]; None for fewer than 3 points, or where one side never varies."""
    if len(xs) < 3 or len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    return float(np.corrcoef(np.asarray(xs), np.asarray(ys))[0, 1])


def slope(xs: _Floats, ys: _Floats) -> float | None:
    """b of the least squares y = b * x through the origin; None if every x is 0."""
    below = float(np.dot(xs, xs)) if len(xs) else 0.0
    return float(np.dot(xs, ys)) / below if below else None
