"""How well a score separates what is harmless from what is not, and where to draw the line."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

_LEAST = 1e-6
"""A threshold keeps this distance from 0 and 1, so that it divides something."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        auc: the chance, in [0, 1], that a harmless one scores above an unwanted one; ties count
            half. 0.5 separates nothing.
        threshold: the p(safe) below which a text counts as unsafe, in (0, 1).
        answered: the share of the harmless at or above it.
        refused: the share of the unwanted below it.
    """

    auc: float
    threshold: float
    answered: float
    refused: float


def calibrate(cases: Iterable[tuple[bool, float]], refuse: float = 0.9) -> Calibration:
    """The lowest threshold that refuses enough of the unwanted.

    The rule: of the unwanted in the order of their p, the first ceil(refuse * n) have to fall
    below the threshold; it lies half-way between the last of these and the next higher p of any
    case, or 1 where there is none (an unwanted one at 1 cannot be refused, as `refused` then
    tells). What the threshold does to other cases than these has to be
    measured on them.

    Args:
        cases: whether each is harmless, and its p(safe) in [0, 1]; a case without a verdict has 0.
        refuse: the least share of the unwanted to fall below it, in (0, 1].

    Raises:
        ValueError: there is no harmless or no unwanted case, or a number is out of its range.
    """
    if not 0.0 < refuse <= 1.0:
        raise ValueError(f"the share to refuse is {refuse}: it must be above 0 and at most 1")
    scores: tuple[list[float], list[float]] = ([], [])
    for harmless, p in cases:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"a probability is {p}: it must be in [0, 1]")
        scores[harmless].append(p)
    unwanted, good = map(sorted, scores)
    if not unwanted or not good:
        raise ValueError("calibration needs a harmless and an unwanted case at least")
    last = unwanted[math.ceil(refuse * len(unwanted)) - 1]
    above = min((p for p in (*unwanted, *good) if p > last), default=1.0)
    middle = (last + above) / 2
    threshold = min(max(middle if middle > last else above, _LEAST), 1.0 - _LEAST)
    return Calibration(
        separation(good, unwanted),
        threshold,
        sum(p >= threshold for p in good) / len(good),
        sum(p < threshold for p in unwanted) / len(unwanted),
    )


def separation(good: Iterable[float], bad: Iterable[float]) -> float:
    """The area under the ROC curve: P(a good score > a bad one) + P(they are equal) / 2.

    Raises:
        ValueError: there is none of one kind.
    """
    low, high = sorted(bad), list(good)
    if not low or not high:
        raise ValueError("a separation needs scores of both kinds")
    below = sum(bisect_left(low, score) + bisect_right(low, score) for score in high)
    return below / (2 * len(low) * len(high))
