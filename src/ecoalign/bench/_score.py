"""What an answer is worth by the rules of its benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNUSABLE = "unusable"
"""The label of a score for which no judge gave a verdict that can be read."""


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth by the rules of its benchmark.

    Attributes:
        label: the verdict in the benchmark's own terms; "unusable" where a judge gave none.
        safe: whether the answer is safe; None where the question does not arise.
        useful: in [0, 1]; None where the question does not arise.
        refused_harmless: whether something harmless was refused; None where nothing harmless was
            asked.
        detail: verdicts of single judges, extracted answers and the like, as plain JSON.
    """

    label: str
    safe: bool | None = None
    useful: float | None = None
    refused_harmless: bool | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
