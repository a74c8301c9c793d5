"""What tokens cost in dollars: a table of one's own first, then the bundled one of `genai-prices`.

Nothing here uses the network; `genai-prices` is imported at the first look-up that needs it. Three
rules keep a budget in dollars hard:

- an unknown price is unknown, never 0. A model behind an address that the table does not know (a
  server of one's own, a proxy) has no known price, whatever the model is called;
- where a table has several rates for one kind of token (writing to a cache, images, reasoning,
  hours of the day), the dearest one counts: the sum shown may be above the bill, never below;
- an image is billed as the input tokens that it takes.

The embedded model is the one exception with a price of exactly 0: it runs inside this process and
nobody sends a bill for it.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from ecoalign.errors import InputError, UnpricedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from ecoalign.models import Usage

__all__ = ["EMBEDDED", "Price", "PriceBook", "Rates"]

EMBEDDED = "embedded"

_MILLION = Decimal(1_000_000)


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
        source: where it comes from, for `ecoalign doctor`.
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


_NO_BILL = Price(
    (Rates(Decimal(0), Decimal(0), Decimal(0)),), source="runs in this process, no bill"
)


class PriceBook:
    """Prices by model name. An instance is a `Pricing` for the ledger.

    Args:
        overrides: prices of one's own by model, named as in the settings ("openai:gpt-4o") or by
            the bare name; they come before everything else, the embedded model's included.
        base_url: address of the server behind "openai:..."; None is the official client's own
            choice, the environment variable OPENAI_BASE_URL or else OpenAI.

    Raises:
        InputError: an override cannot be read.
    """

    def __init__(
        self, overrides: Mapping[str, object] | None = None, *, base_url: str | None = None
    ) -> None:
        self._overrides = {
            model: table if isinstance(table, Price) else Price.parse(table, name=model)
            for model, table in (overrides or {}).items()
        }
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        # Looked up once a run: the price of a call cannot change before it is billed.
        self._known: dict[str, Price | None] = {}

    @classmethod
    def from_toml(cls, path: Path, *, base_url: str | None = None) -> PriceBook:
        """Read a file of tables, ["openai:qwen-vl-max"] input = 0.8, output = 3.2.

        Raises:
            InputError: the file is missing, is not TOML or has a wrong entry.
        """
        try:
            with path.open("rb") as file:
                tables = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"prices: cannot read {path}: {error}") from error
        return cls(tables, base_url=base_url)

    def __call__(self, model: str, usage: Usage) -> Decimal | None:
        """Dollars of a call, None where the price is unknown."""
        price = self.lookup(model)
        return None if price is None else price.cost(usage)

    def lookup(self, model: str) -> Price | None:
        """The price of `model` ("provider:name"), None where unknown."""
        if model not in self._known:
            self._known[model] = self._find(model)
        return self._known[model]

    def require(self, model: str) -> Price:
        """The price of `model`.

        Raises:
            UnpricedModelError: it is not known; the message says how to give one.
        """
        price = self.lookup(model)
        if price is None:
            raise UnpricedModelError(model)
        return price

    def _find(self, model: str) -> Price | None:
        provider, _, name = model.partition(":")
        for key in (model, name):
            if key in self._overrides:
                return self._overrides[key]
        if provider == EMBEDDED:
            return _NO_BILL
        if provider == "openai" and name:
            from ecoalign.budget._price_table import bundled

            return bundled(name, self._base_url)
        return None
