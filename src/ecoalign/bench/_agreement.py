"""How far two judges agree: raw agreement and Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ecoalign.bench.suites._base import Score

__all__ = ["Agreement", "agreement", "cohens_kappa", "judge_agreement", "raw_agreement"]

Verdict = str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on one question.

    Attributes:
        pairs: answers on which both gave a usable verdict; `raw` and `kappa` are over these.
        unusable: answers on which at least one did not.
        raw: share of equal verdicts in [0, 1]; None without pairs.
        kappa: Cohen's kappa in [-1, 1]; None where it is not defined.
    """

    pairs: int
    unusable: int
    raw: float | None
    kappa: float | None


def _usable(first: Sequence[Verdict], second: Sequence[Verdict]) -> list[tuple[str, str]]:
    if len(first) != len(second):
        raise ValueError(f"two judges with {len(first)} and {len(second)} verdicts: give as many")
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]


def raw_agreement(first: Sequence[Verdict], second: Sequence[Verdict]) -> float | None:
    """Share of equal verdicts among the answers on which both are usable (not None).

    Returns:
        p_o in [0, 1], or None if there is no such answer.

    Raises:
        ValueError: the judges have not as many verdicts each.
    """
    pairs = _usable(first, second)
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def cohens_kappa(first: Sequence[Verdict], second: Sequence[Verdict]) -> float | None:
    """Agreement beyond chance: kappa = (p_o - p_e) / (1 - p_e), over usable pairs.

    p_e is the agreement of two judges who draw independently with the frequencies of these two.

    Returns:
        kappa in [-1, 1]; None without pairs, and where p_e is 1 (both judges say one and the
        same thing throughout, so that nothing is left beyond chance).

    Raises:
        ValueError: the judges have not as many verdicts each.
    """
    pairs = _usable(first, second)
    if not pairs:
        return None
    count = len(pairs)
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    # In whole numbers, so that 1 - p_e is 0 only where it is.
    by_chance = sum(times * right[verdict] for verdict, times in left.items())
    if by_chance == count * count:
        return None
    equal = sum(a == b for a, b in pairs) * count
    return (equal - by_chance) / (count * count - by_chance)


def agreement(first: Sequence[Verdict], second: Sequence[Verdict]) -> Agreement:
    """Both measures, with the number of answers that they rest on.

    Raises:
        ValueError: the judges have not as many verdicts each.
    """
    pairs = len(_usable(first, second))
    return Agreement(
        pairs, len(first) - pairs, raw_agreement(first, second), cohens_kappa(first, second)
    )


def judge_agreement(
    scores: Iterable[Score], judges: Sequence[str]
) -> dict[str, dict[tuple[str, str], Agreement]]:
    """The agreement of every two judges, by what they were asked.

    Args:
        scores: as the suites give them, with `detail["verdicts"]`: by question, one per judge.
            Scores that needed no judge have none and are passed over.
        judges: the judges' names, in the order of the verdicts.
    """
    asked: dict[str, list[Sequence[Verdict]]] = {}
    for score in scores:
        for question, verdicts in score.detail.get("verdicts", {}).items():
            if len(verdicts) == len(judges):
                asked.setdefault(question, []).append(verdicts)
    return {
        question: {
            (judges[i], judges[j]): agreement([row[i] for row in rows], [row[j] for row in rows])
            for i, j in combinations(range(len(judges)), 2)
        }
        for question, rows in asked.items()
    }
