"""A row: one answered sample of one variant, as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ecoalign.bench.suites._base import Score
from ecoalign.budget import Spending
from ecoalign.errors import InputError

__all__ = ["FAILED", "UNUSABLE", "Failure", "Row", "RowKey"]

UNUSABLE = "unusable"
"""The label of a score that no judge's verdict could be read for."""

FAILED = "failed"
"""The label of a sample that was not answered because of an error."""


class RowKey(NamedTuple):
    """What a row is the only one of. `repeat` counts from 0."""

    experiment: str
    variant: str
    method: str
    suite: str
    sample: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the error's type, its message, and its exit code (1 unforeseen)."""

    kind: str
    message: str
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One answered sample.

    Attributes:
        key: what was asked, of whom.
        group: the sample's group.
        model: "provider:name".
        answer: the text; "" where there is none.
        refused: whether it is a refusal.
        score: None while it is not scored yet: the answer is paid for and kept all the same.
        spent: the ledger's account, failed attempts included; judges are not in it.
        stop_reason: the method's own word for why it stopped.
        critical_path: calls on the critical path; 0 where the method does not say.
        cached: how many calls were answered from the response cache; their tokens and dollars
            count in `spent`, their seconds cannot.
        safety, utility: by the method's own evaluator, None if it has none.
        budget: what the answer was allowed to spend.
        failure: the error, if there was one.
        question: the text that was asked, for whoever reads the report.
        detail: what else the method said.
        judging: what the benchmark's judges took for the score: tokens, calls, usd (None if a
            price is unknown); empty where none was asked. It is in nobody else's account.
    """

    key: RowKey
    group: str
    model: str
    answer: str
    refused: bool
    score: Score | None
    spent: Spending
    stop_reason: str = ""
    critical_path: int = 0
    cached: int = 0
    safety: float | None = None
    utility: float | None = None
    budget: str = ""
    failure: Failure | None = None
    question: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    judging: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether it still waits for its score."""
        return self.score is None

    def to_line(self) -> str:
        """One line of JSON, in ASCII, without its newline. No text in it can break the line."""
        score, failure = self.score, self.failure
        body = {
            **self.key._asdict(),
            "group": self.group,
            "model": self.model,
            "answer": self.answer,
            "refused": self.refused,
            "score": None
            if score is None
            else {
                "label": score.label,
                "safe": score.safe,
                "useful": score.useful,
                "refused_harmless": score.refused_harmless,
                "detail": dict(score.detail),
            },
            "spent": self.spent.to_json(),
            "stop_reason": self.stop_reason,
            "calls_in_line": self.critical_path,
            "cached": self.cached,
            "safety": self.safety,
            "utility": self.utility,
            "budget": self.budget,
            "failure": None
            if failure is None
            else {
                "kind": failure.kind,
                "message": failure.message,
                "exit_code": failure.exit_code,
            },
            "question": self.question,
            "detail": dict(self.detail),
            "judging": dict(self.judging),
        }
        return json.dumps(body, separators=(",", ":"), default=str)

    @classmethod
    def from_line(cls, line: str | bytes) -> Row:
        """The row that `to_line` wrote.

        Raises:
            InputError: it is not a row.
        """
        try:
            body = json.loads(line)
            score, failure = body["score"], body["failure"]
            return cls(
                key=RowKey(*(body[name] for name in RowKey._fields)),
                group=body["group"],
                model=body["model"],
                answer=body["answer"],
                refused=body["refused"],
                score=None if score is None else Score(**score),
                spent=Spending.from_json(body["spent"]),
                stop_reason=body["stop_reason"],
                critical_path=body["calls_in_line"],
                cached=body["cached"],
                safety=body["safety"],
                utility=body["utility"],
                budget=body["budget"],
                failure=None if failure is None else Failure(**failure),
                question=body["question"],
                detail=body["detail"],
                judging=body["judging"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is no row of a benchmark: {type(error).__name__}") from None
