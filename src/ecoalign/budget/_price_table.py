"""Prices from the table that comes with `genai-prices`. Imported only when a price is looked up."""

from __future__ import annotations

from decimal import Decimal

from genai_prices import Usage, calc_price
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices, TimeOfDateConstraint

from ecoalign.budget._price import Price, Rates

# What a prompt token can cost (plain, written to a cache, part of an image), one read from a
# cache, and a completion token (plain, hidden reasoning): the dearest counts, as the usage does
# not tell them apart.
_INPUT = ("input_mtok", "cache_write_mtok", "input_image_mtok")

_CACHED = ("cache_read_mtok", "cache_image_read_mtok")

_OUTPUT = ("output_mtok", "output_reasoning_mtok")


def bundled(name: str, base_url: str | None, seller: str = "openai") -> Price | None:
    """The price of the model `name`, None where the table does not know it.

    Args:
        name: as its server calls it.
        base_url: the server; None for the seller's own. A server that the table does not know has
            no known prices.
        seller: what the table calls who sells it.
    """
    try:
        if base_url is None:
            found = calc_price(Usage(), name, provider_id=seller)
        else:
            found = calc_price(Usage(), name, provider_api_url=base_url)
    except (LookupError, ValueError):
        # Not there, or an entry that contradicts itself: unknown either way.
        return None
    tables = [found.model_price, *_other_hours(found.model)]
    if not all(_is_whole(table) for table in tables):
        return None
    return Price(
        _rates(tables),
        request=max(_rate(table, "requests_kcount", 0) or Decimal(0) for table in tables) / 1000,
        source=f"genai-prices: {found.provider.id}/{found.model.id}",
    )


def _other_hours(model: ModelInfo) -> list[ModelPrice]:
    """Where prices go by the hour of the day: all of them, as a run may cross the hour."""
    if isinstance(model.prices, ModelPrice):
        return []
    if not any(isinstance(entry.constraint, TimeOfDateConstraint) for entry in model.prices):
        return []
    return [
        entry.prices
        for entry in model.prices
        if entry.constraint is None or isinstance(entry.constraint, TimeOfDateConstraint)
    ]


def _is_whole(table: ModelPrice) -> bool:
    """Whether both directions have a price: a missing one is unknown, not free."""
    return all(_rate(table, key, 0) is not None for key in ("input_mtok", "output_mtok"))


def _rates(tables: list[ModelPrice]) -> tuple[Rates, ...]:
    keys = (*_INPUT, *_CACHED, *_OUTPUT)
    starts = {0}
    for value in (getattr(table, key, None) for table in tables for key in keys):
        if isinstance(value, TieredPrices):
            starts |= {tier.start for tier in value.tiers}
    return tuple(_rates_above(tables, start) for start in sorted(starts))


def _rates_above(tables: list[ModelPrice], start: int) -> Rates:
    prompt = _dearest(tables, _INPUT, start)
    if any(_rate(table, "cache_read_mtok", start) is None for table in tables):
        cached = prompt
    else:
        cached = _dearest(tables, _CACHED, start)
    # A cache that is dearer than none would break the bound, which foresees none.
    return Rates(max(prompt, cached), _dearest(tables, _OUTPUT, start), cached, start)


def _dearest(tables: list[ModelPrice], keys: tuple[str, ...], start: int) -> Decimal:
    rates = (_rate(table, key, start) for table in tables for key in keys)
    return max(rate for rate in rates if rate is not None)


def _rate(table: ModelPrice, key: str, start: int) -> Decimal | None:
    """The rate for prompts just above `start` tokens."""
    value: Decimal | TieredPrices | None = getattr(table, key, None)
    if isinstance(value, TieredPrices):
        rate = value.base
        for tier in value.tiers:
            if tier.start <= start and tier.start > 0:
                rate = tier.price
        return rate
    return value
