"""What may be spent and what was: budgets, amounts and spending. Values only, nothing acts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from decimal import Decimal
from numbers import Integral
from typing import Any, TypeAlias, TypeVar

from ecoalign._record import dataclass
from ecoalign._text import short
from ecoalign.budget._money import Money
from ecoalign.budget._spelling import ACCEPTED, Item, complaint, readings
from ecoalign.errors import InputError
from ecoalign.models import Usage

_MOST_TOKENS = 10**15

_ANSWER_SHARE = 20

_Number = TypeVar("_Number", int, float)


_MOST_BITS = 1000
"""Of a whole number: what has more can be no float, and may be too long to be told."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one answer may spend. Each unit that is given is a hard bound of its own.

    Attributes:
        tokens: prompt and completion tokens of all calls together, a whole number from 1 to 10^15.
        usd: United States dollars, above 0.
        seconds: wall-clock, above 0.

    Raises:
        InputError: a value is not a finite number above 0 (`tokens`: not a whole number).
    """

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for unit, value in (("tokens", self.tokens), ("usd", self.usd), ("seconds", self.seconds)):
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise InputError(f"budget: {unit} is too large; {ACCEPTED}")
        if self.tokens is not None and (
            type(self.tokens) is not int or not 1 <= self.tokens <= _MOST_TOKENS
        ):
            raise InputError(
                "budget: tokens must be a whole number from 1 to 10^15, not "
                f"{short(repr(self.tokens))}; {ACCEPTED}"
            )
        for unit, value in (("usd", self.usd), ("seconds", self.seconds)):
            if value is None:
                continue
            if type(value) not in {int, float} or not math.isfinite(value) or value <= 0:
                raise InputError(
                    f"budget: {unit} must be a finite number above 0, not {value!r}; {ACCEPTED}"
                )

    @classmethod
    def of(cls, value: BudgetLike) -> Budget:
        """The budget that a value stands for: tokens (8000), a text that `parse` reads, a table of
        "tokens", "usd" and "seconds", or a Budget.

        Raises:
            InputError: it is none of these, or it bounds nothing.
        """
        match value:
            case Budget():
                budget = value
            case str():
                budget = cls.parse(value)
            case bool():
                raise InputError(f"budget: it cannot be true or false; {ACCEPTED}")
            case Integral():
                budget = cls(tokens=int(value))
            case Mapping() if value and value.keys() <= {"tokens", "usd", "seconds"}:
                budget = cls(value.get("tokens"), value.get("usd"), value.get("seconds"))
            case _:
                raise InputError(
                    f"budget: {short(repr(value))} is none: give tokens (8000), text "
                    '("8000,$0.02,5s") or a table of tokens, usd, seconds'
                )
        if budget.is_empty:
            raise InputError(f"budget: it must bound tokens, usd or seconds; {ACCEPTED}")
        return budget

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget as people write it: "8000", "8k", "8,000", "$0.02", "0.02usd", "5 cents",
        "5s", "500ms", "2m", "1m30s", "1h", or several of them, separated by commas.

        Raises:
            InputError: the text is none of these, names a unit twice, or may be read in two ways,
                as "$1,500" or "1,5s".
        """
        found: dict[Budget, bool] = {}
        wrong: InputError | None = None
        for items in readings(text):
            try:
                budget = _budget(items)
            except InputError as error:
                wrong = wrong or error
            else:
                found[budget] = found.get(budget, True) and any(item.comma for item in items)
        if len(found) == 1 and not any(found.values()):
            return next(iter(found))
        shown = f"budget {short(text)!r}"
        if len(found) > 1:
            ways = " or ".join(f"'{budget}'" for budget in found)
            raise InputError(f"{shown} can be read in several ways: write {ways}, as you mean it")
        if found:
            raise InputError(f"{shown} has a comma in a number: write '{next(iter(found))}'")
        raise wrong or InputError(f"{shown}: {complaint(text)}")

    @property
    def is_empty(self) -> bool:
        """Whether no unit is bounded at all. A `Ledger` refuses such a budget."""
        return self.tokens is None and self.usd is None and self.seconds is None

    def answer_cap(self, usual: int) -> int | None:
        """The most tokens that a client may ask for in an answer; None where nothing bounds it.

        That is the twentieth part of a budget in tokens: an answer is written, scored at several
        times its length, and perhaps once more. The price of a token is not known here, so a
        budget in dollars alone allows no more than `usual`, the cap where nobody asks.
        """
        if self.tokens is not None:
            return max(usual, self.tokens // _ANSWER_SHARE)
        return None if self.usd is None else usual

    def __str__(self) -> str:
        """The text that `parse` reads back to an equal budget."""
        parts = []
        if self.tokens is not None:
            parts.append(str(self.tokens))
        if self.usd is not None:
            parts.append(f"${_plain(self.usd)}")
        if self.seconds is not None:
            parts.append(f"{_plain(self.seconds)}s")
        # "800,5s" might be 800.5 seconds.
        few = self.usd is None and self.tokens is not None and self.tokens < 1000
        return (", " if few else ",").join(parts)


BudgetLike: TypeAlias = "Budget | int | str | Mapping[str, Any]"
"""A budget as `Budget.of` reads it: 8000, "8000,$0.02,5s", {"tokens": 8000, "usd": 0.02}."""


def least_of(one: Budget, other: Budget) -> Budget:
    """The tighter bound of each unit."""

    def least(a: _Number | None, b: _Number | None) -> _Number | None:
        return min((bound for bound in (a, b) if bound is not None), default=None)

    return Budget(
        least(one.tokens, other.tokens),
        least(one.usd, other.usd),
        least(one.seconds, other.seconds),
    )


def _budget(items: Sequence[Item]) -> Budget:
    """Raises InputError if a value is out of its range."""
    values = {item.unit: item.value for item in items}
    tokens, usd, seconds = (values.get(unit) for unit in ("tokens", "usd", "seconds"))
    if tokens is not None and tokens != int(tokens):
        raise InputError(f"budget: tokens must be a whole number, not {tokens}; {ACCEPTED}")
    return Budget(
        None if tokens is None else int(tokens),
        None if usd is None else float(usd),
        None if seconds is None else float(seconds),
    )


def _plain(value: float) -> str:
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").removesuffix(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of each budgeted unit; None where the budget has no such unit. May be 0.

    Attributes:
        tokens: tokens.
        usd: dollars.
        seconds: seconds.
    """

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def covers(self, *needs: Amount) -> bool:
        """Whether all of `needs` together fit, unit by unit; of time, whether any is left."""
        if self.tokens is not None and sum([need.tokens or 0 for need in needs]) > self.tokens:
            return False
        if self.usd is not None:
            cost = sum((Money.up(need.usd or 0.0) for need in needs), Money())
            if cost > Money.down(self.usd):
                return False
        return self.seconds is None or self.seconds > 0


@dataclass(frozen=True, slots=True)
class StageSpending:
    """What one stage of the pipeline has spent.

    Attributes:
        tokens: tokens charged.
        calls: attempts that were, or may have been, billed.
        seconds: sum of the attempts' durations; may pass the wall-clock when they overlap.
        usd: dollars, None if the price of any of its calls is unknown.
    """

    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Spending:
    """What has been spent so far.

    Attributes:
        tokens: tokens charged, by kind; `tokens.total` counts against the budget.
        by_stage: the same by stage of the pipeline.
        usd: dollars, None if the price of any call is unknown: unknown is never 0.
        seconds: wall-clock since the ledger was opened.
        calls: attempts that were, or may have been, billed.
    """

    tokens: Usage = field(default_factory=Usage)
    by_stage: Mapping[str, StageSpending] = field(default_factory=dict)
    usd: float | None = 0.0
    seconds: float = 0.0
    calls: int = 0

    @property
    def dearest(self) -> list[tuple[str, StageSpending]]:
        """The stages, the one with the most tokens first: no race of calls changes the order."""
        return sorted(self.by_stage.items(), key=lambda row: (-row[1].tokens, row[0]))

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Spending:
        """The spending that `to_json` wrote."""
        tokens = Usage(**{name: n for name, n in body["tokens"].items() if name != "total"})
        stages = {name: StageSpending(**entry) for name, entry in body["by_stage"].items()}
        return cls(tokens, stages, body["usd"], body["seconds"], body["calls"])

    def to_json(self) -> dict[str, object]:
        """The `spent` object of `ecoalign ask --json`."""
        return {
            "tokens": asdict(self.tokens) | {"total": self.tokens.total},
            "by_stage": {stage: asdict(entry) for stage, entry in self.by_stage.items()},
            "usd": self.usd,
            "seconds": self.seconds,
            "calls": self.calls,
        }
