"""What the tokens of one model cost in dollars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from ecoalign.errors import InputError
from ecoalign.models import Usage

_MILLION = Decimal(1_000_000)


class Pricing(Protocol):
    """What a call costs. `PriceBook` is one."""

    def __call__(self, model: str, usage: Usage) -> Decimal | None:
        """Dollars >= 0 for `usage` of `model` ("provider:name"), None where unknown.

        Must not fall when `usage.prompt` or `usage.completion` grows or `usage.cached` shrinks.
        """
        ...


def unpriced(model: str, usage: Usage) -> Decimal | None:
    """The `Pricing` that knows no price."""
    return None


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens for prompts of more than `above` tokens. All >= 0 and finite.

    Attributes:
        input: prompt tokens, image tokens included.
        output: completion tokens, hidden reasoning included.
        cached: prompt tokens that the server read from its cache; at most `input`.
        above: the size of a prompt, in tokens, above which these rates are for all its tokens.
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    above: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model.

    Attributes:
        rates: one entry, or several for a price that jumps with the size of the prompt, by
            rising `above`; the first is for prompts of any size.
        request: dollars per call, whatever its size.
        source: where the price comes from, for messages and tests.
    """

    rates: tuple[Rates, ...]
    request: Decimal = Decimal(0)
    source: str = "settings"

    @classmethod
    def parse(cls, table: object, *, name: str = "", source: str = "settings") -> Price:
        """Read {"input": 2.5, "output": 10.0, "cached": 1.25}, dollars per million tokens.

        Args:
            table: the mapping; "cached" may be left out and then costs as much as "input".
            name: the model, for the message.
            source: kept in the price.

        Raises:
            InputError: a key is missing or unknown, or a value is not a finite number >= 0.
        """
        what = f"price of {name!r}" if name else "price"
        if not isinstance(table, Mapping):
            raise InputError(
                f"{what}: give input, output and maybe cached, in dollars per million tokens, "
                f"not {table!r}"
            )
        if unknown := sorted(str(key) for key in table if key not in _KEYS):
            raise InputError(f"{what}: unknown {', '.join(unknown)}; it has {', '.join(_KEYS)}")
        values = {key: _rate(table[key], f"{what}: {key}") for key in _KEYS if key in table}
        for key in _KEYS[:2]:
            if key not in values:
                raise InputError(f"{what}: {key} is missing (dollars per million tokens)")
        cached = values.get("cached", values["input"])
        if cached > values["input"]:
            raise InputError(f"{what}: cached ({cached}) cannot be dearer than input")
        return cls((Rates(values["input"], values["output"], cached),), source=source)

    def cost(self, usage: Usage) -> Decimal:
        """Dollars for one call. Never falls as the prompt or the completion grows, or as less of
        the prompt is cached.
        """
        # A jump to dearer rates is for all tokens of the prompt. The dearest of the rates that
        # have been reached counts, so that a table with a discount for size cannot break a bound.
        cached = min(usage.cached, usage.prompt)
        return (
            self.request
            + max(
                (usage.prompt - cached) * rates.input
                + cached * rates.cached
                + usage.completion * rates.output
                for rates in self.rates
                if usage.prompt > rates.above or rates is self.rates[0]
            )
            / _MILLION
        )

    def to_json(self) -> dict[str, float]:
        """The base rates, as `parse` reads them."""
        base = self.rates[0]
        return {
            "input": float(base.input),
            "output": float(base.output),
            "cached": float(base.cached),
        }


_KEYS = ("input", "output", "cached")


def _rate(value: object, what: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InputError(f"{what} must be a number of dollars per million tokens, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{what} must be finite and 0 or more, not {value!r}")
    return Decimal(str(value))
