"""Settings that are more than a number or a word: budgets, prices, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator, StringConstraints

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.prices import Price

__all__ = ["BudgetValue", "Name", "PriceTable", "Url"]


def _read_budget(value: object) -> Budget:
    try:
        budget = _any_budget(value)
    except InputError as error:
        # Only a ValueError is reported together with the name of the setting.
        raise ValueError(str(error)) from None
    if budget.is_empty:
        raise ValueError("a budget must bound tokens, usd or seconds")
    return budget


def _any_budget(value: object) -> Budget:
    if isinstance(value, Budget):
        return value
    if isinstance(value, str):
        return Budget.parse(value)
    if isinstance(value, int):
        return Budget(tokens=value)
    if isinstance(value, Mapping) and value.keys() <= {"tokens", "usd", "seconds"}:
        return Budget(value.get("tokens"), value.get("usd"), value.get("seconds"))
    raise ValueError(
        'give tokens (8000), text ("8000,$0.02,5s") or a table of tokens, usd, seconds'
    )


def _read_prices(value: object) -> dict[str, Price]:
    if not isinstance(value, Mapping):
        raise ValueError('give a table, [prices."openai:name"] input = 2.5, output = 10.0')
    try:
        return {
            str(model): table if isinstance(table, Price) else Price.parse(table, name=str(model))
            for model, table in value.items()
        }
    except InputError as error:
        raise ValueError(str(error)) from None


def _show_prices(prices: Mapping[str, Price]) -> dict[str, dict[str, float]]:
    return {model: price.to_json() for model, price in prices.items()}


def _read_url(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("it is a text")
    try:
        parts = urlsplit(value.strip())
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("it looks like http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ValueError(
            "an address holds no user, password or query: settings are printed and saved; give "
            "the key in the environment variable OPENAI_API_KEY"
        )
    return value.strip()


BudgetValue = Annotated[Budget, PlainValidator(_read_budget), PlainSerializer(str)]
PriceTable = Annotated[
    Mapping[str, Price], PlainValidator(_read_prices), PlainSerializer(_show_prices)
]
Url = Annotated[str | None, PlainValidator(_read_url)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
