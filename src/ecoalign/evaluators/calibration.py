"""How far an evaluator's scores can be trusted, and monotone maps that make them probabilities.

`truths` are booleans, True where the thought really was safe. Fit on one set and report on
another: an isotonic map always looks perfect on the pairs that it was fitted to.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Calibration",
    "IsotonicMap",
    "PlattMap",
    "auc",
    "calibrate",
    "ece",
    "fit_isotonic",
    "fit_platt",
]


class _Map(Protocol):
    def __call__(self, score: float) -> float: ...


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """A rising step function from scores to P(safe) in [0, 1].

    Attributes:
        starts: the least score of each step, rising.
        values: the probability of each step, rising. Below the first step its value holds.
    """

    starts: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, score: float) -> float:
        """P(safe) for `score`."""
        return self.values[max(0, bisect_right(self.starts, score) - 1)]


@dataclass(frozen=True, slots=True)
class PlattMap:
    """P(safe) = 1 / (1 + exp(-(slope * score + offset))), slope >= 0."""

    slope: float
    offset: float

    def __call__(self, score: float) -> float:
        """P(safe) for `score`."""
        return _sigmoid(self.slope * score + self.offset)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Figures of one evaluator on one set.

    Attributes:
        pairs: how many (score, truth) pairs.
        auc: chance that a safe thought scores above an unsafe one, ties counted half, in [0, 1].
        ece_before: expected calibration error of (s + 1) / 2 read as P(safe), in [0, 1].
        ece_after: the same of the fitted map.
    """

    pairs: int
    auc: float
    ece_before: float
    ece_after: float


def _check(scores: Sequence[float], truths: Sequence[bool]) -> None:
    if len(scores) != len(truths) or not scores:
        raise ValueError(f"{len(scores)} scores for {len(truths)} truths: give as many, at least 1")
    for score in scores:
        if not math.isfinite(score):
            raise ValueError(f"the score {score} is not a finite number")


def auc(scores: Sequence[float], truths: Sequence[bool]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half.

    Raises:
        ValueError: lengths differ, a score is not finite, or all truths are the same.
    """
    _check(scores, truths)
    safe = sum(truths)
    unsafe = len(truths) - safe
    if not safe or not unsafe:
        raise ValueError("AUC needs both safe and unsafe examples")
    wins = below = 0.0
    ordered = sorted(zip(scores, truths, strict=True))
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        kinds = [truth for _, truth in group]
        safe_here = sum(kinds)
        unsafe_here = len(kinds) - safe_here
        wins += safe_here * (below + unsafe_here / 2)
        below += unsafe_here
    return wins / (safe * unsafe)


def ece(probabilities: Sequence[float], truths: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and frequency over equal-width bins.

    Raises:
        ValueError: lengths differ, a probability is not in [0, 1], or `bins` < 1.
    """
    _check(probabilities, truths)
    if bins < 1 or any(not 0 <= probability <= 1 for probability in probabilities):
        raise ValueError("ECE needs probabilities in [0, 1] and at least one bin")
    gaps = [0.0] * bins
    for probability, truth in zip(probabilities, truths, strict=True):
        gaps[min(int(probability * bins), bins - 1)] += probability - truth
    return sum(abs(gap) for gap in gaps) / len(truths)


def fit_isotonic(scores: Sequence[float], truths: Sequence[bool]) -> IsotonicMap:
    """The rising step function of least squared error (pool adjacent violators).

    Raises:
        ValueError: lengths differ or a score is not finite.
    """
    _check(scores, truths)
    steps: list[tuple[float, float, int]] = []  # least score, sum of truths, count
    ordered = sorted(zip(scores, truths, strict=True))
    for score, group in groupby(ordered, key=lambda pair: pair[0]):
        kinds = [truth for _, truth in group]
        step = (score, float(sum(kinds)), len(kinds))
        while steps and steps[-1][1] * step[2] >= step[1] * steps[-1][2]:
            start, total, count = steps.pop()
            step = (start, total + step[1], count + step[2])
        steps.append(step)
    return IsotonicMap(
        tuple(start for start, _, _ in steps), tuple(total / count for _, total, count in steps)
    )


def fit_platt(scores: Sequence[float], truths: Sequence[bool], rounds: int = 100) -> PlattMap:
    """A logistic map by Newton's method on smoothed targets, which keeps separable sets finite.

    Where the scores run against the truth the slope is 0: the map never turns them round.

    Raises:
        ValueError: lengths differ or a score is not finite.
    """
    _check(scores, truths)
    safe = sum(truths)
    high, low = (safe + 1) / (safe + 2), 1 / (len(truths) - safe + 2)
    targets = [high if truth else low for truth in truths]
    mean = sum(targets) / len(targets)
    slope, offset = 0.0, math.log(mean / (1 - mean))
    loss = _loss(slope, offset, scores, targets)
    for _ in range(rounds):
        # The ridge keeps the step defined when all scores are equal.
        g0 = g1 = h01 = 0.0
        h00 = h11 = 1e-9
        for score, target in zip(scores, targets, strict=True):
            probability = _sigmoid(slope * score + offset)
            weight = probability * (1 - probability)
            g0 += (probability - target) * score
            g1 += probability - target
            h00 += weight * score * score
            h01 += weight * score
            h11 += weight
        determinant = h00 * h11 - h01 * h01
        step0 = (h11 * g0 - h01 * g1) / determinant
        step1 = (h00 * g1 - h01 * g0) / determinant
        size = 1.0
        while size > 1e-8:
            trial = _loss(slope - size * step0, offset - size * step1, scores, targets)
            if trial < loss:
                break
            size /= 2
        else:
            break
        slope, offset, loss = slope - size * step0, offset - size * step1, trial
    if slope < 0:
        return PlattMap(0.0, math.log(mean / (1 - mean)))
    return PlattMap(slope, offset)


def calibrate(
    scores: Sequence[float],
    truths: Sequence[bool],
    fit: Callable[[Sequence[float], Sequence[bool]], _Map] = fit_isotonic,
) -> Calibration:
    """Fit on the even-numbered pairs and report on the odd-numbered ones.

    Args:
        scores: safety in [-1, 1].
        truths: True where safe; the odd-numbered ones must hold both kinds.
        fit: `fit_isotonic` or `fit_platt`.

    Raises:
        ValueError: fewer than two pairs, a score out of range, or one kind of truth only.
    """
    _check(scores, truths)
    if len(scores) < 2 or any(not -1 <= score <= 1 for score in scores):
        raise ValueError("calibration needs two pairs or more, with safety in [-1, 1]")
    fitted = fit(scores[::2], truths[::2])
    held_scores, held_truths = scores[1::2], truths[1::2]
    return Calibration(
        pairs=len(held_scores),
        auc=auc(held_scores, held_truths),
        ece_before=ece([(score + 1) / 2 for score in held_scores], held_truths),
        ece_after=ece([fitted(score) for score in held_scores], held_truths),
    )


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    grown = math.exp(value)
    return grown / (1 + grown)


def _loss(slope: float, offset: float, scores: Sequence[float], targets: Sequence[float]) -> float:
    """Cross-entropy, written so that no exponential overflows."""
    total = 0.0
    for score, target in zip(scores, targets, strict=True):
        value = slope * score + offset
        total += max(value, 0.0) - value * target + math.log1p(math.exp(-abs(value)))
    return total
