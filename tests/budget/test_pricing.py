"""Dollar prices: the bundled table, one's own, and what is not known."""

from __future__ import annotations

import socket
from decimal import Decimal
from typing import TYPE_CHECKING

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Budget, Ledger, Price, PriceBook
from ecoalign.budget import _price_table as price_table
from ecoalign.budget._price import Rates
from ecoalign.errors import InputError, UnpricedModelError
from ecoalign.models import Usage

if TYPE_CHECKING:
    pass

OWN = {"openai:qwen-vl-max": {"input": 0.8, "output": 3.2, "cached": 0.2}}


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a price look-up opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("_offline")
def test_a_kncustom_model_costs_what_the_bundled_table_says() -> None:
    usage = Usage(1000, 100, 700, 200)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=100),
        "gpt-4o",
        provider_id="openai",
    )
    assert PriceBook()("openai:gpt-4o", usage) == theirs.total_price > 0


def test_images_cost_as_much_as_the_tokens_they_take() -> None:
    book = PriceBook(OWN)
    assert book("openai:qwen-vl-max", Usage(1000, 0, 1000)) == Decimal("0.0008")


@pytest.mark.parametrize(
    "model",
    [
        *(
            "openai:no-such-model",
            "openai:",
            "hf:some/model",
            "fake",
            "replay:gpt-4o",
            "gpt-4o",
            "",
        ),
        # Known to the table, but with a price for one direction or for none.
        *("openai:text-embedding-3-small", "openai:omni-moderation-latest"),
    ],
)
def test_an_unknown_price_is_unknown(model: str) -> None:
    book = PriceBook()
    assert book(model, Usage(1, 1)) is None
    with pytest.raises(UnpricedModelError, match="input = ") as refused:
        book.require(model)
    assert refused.value.model == model


def test_the_embedded_model_costs_exactly_nothing() -> None:
    book = PriceBook()
    assert book("embedded", Usage(10**9, 10**9)) == 0
    assert "no bill" in book.require("embedded").source
    ledger = Ledger(Budget(usd=0.01), book)
    ledger.reserve("scan", Usage(10**9, 1), "embedded").settle(Usage(5, 1))
    assert ledger.spent.usd == 0.0


def test_the_price_goes_with_the_server_and_not_with_the_name() -> None:
    gemini = PriceBook(base_url="https://generativelanguage.googleapis.com/v1beta/openai/")
    assert "google/gemini" in gemini.require("openai:gemini-2.5-flash").source
    assert gemini.lookup("openai:gpt-4o") is None
    assert PriceBook(base_url="http://localhost:11434/v1").lookup("openai:gpt-4o") is None
    assert PriceBook(base_url="https://api.openai.com/v1").lookup("openai:gpt-4o") is not None


def test_the_server_that_the_official_client_would_use_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert PriceBook().lookup("openai:gpt-4o") is None
    assert PriceBook(base_url="https://api.openai.com/v1").lookup("openai:gpt-4o") is not None


def test_ones_own_price_comes_first() -> None:
    own = {"openai:gpt-4o": {"input": 1, "output": 2}, "embedded": {"input": 3, "output": 3}}
    book = PriceBook(own, base_url="http://localhost:1/v1")
    assert book("openai:gpt-4o", Usage(10**6, 10**6)) == 3
    # Without a price of its own, a cached token costs as much as any.
    assert book("openai:gpt-4o", Usage(10**6, 0, 0, 10**6)) == 1
    assert book("embedded", Usage(10**6, 0)) == 3
    assert PriceBook({"qwen": OWN["openai:qwen-vl-max"]}).lookup("openai:qwen") is not None


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"input": 1.0}, "output is missing"),
        ({"output": 1.0}, "input is missing"),
        ({"input": 1.0, "output": 1.0, "image": 1.0}, "unknown image"),
        ({"input": -1.0, "output": 1.0}, "input must be finite and 0 or more"),
        ({"input": float("nan"), "output": 1.0}, "input must be finite"),
        ({"input": 1.0, "output": float("inf")}, "output must be finite"),
        ({"input": "1", "output": 1.0}, "must be a number"),
        ({"input": True, "output": 1.0}, "must be a number"),
        ({"input": 1.0, "output": 1.0, "cached": 2.0}, "cannot be dearer"),
        (2.5, "give input, output"),
        (None, "give input, output"),
    ],
)
def test_a_wrong_price_is_refused_by_name(table: object, what: str) -> None:
    with pytest.raises(InputError, match=f"'my:model'.*{what}"):
        PriceBook({"my:model": table})


def test_a_price_survives_its_own_table() -> None:
    price = Price.parse(OWN["openai:qwen-vl-max"])
    assert Price.parse(price.to_json()) == price


# -- where a table has several rates, the dearest counts ------------------------------------------


def _table(prices: ModelPrice | list[ConditionalPrice]) -> Provider:
    model = ModelInfo(id="m", match=ClauseEquals(equals="m"), prices=prices)
    return Provider(id="openai", name="o", api_pattern="https://o", models=[model])


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[Provider]:
    """A bundled table of our own making."""
    from genai_prices import data_snapshot

    shown: list[Provider] = []
    snapshot = data_snapshot.DataSnapshot(providers=shown, from_auto_update=False)
    monkeypatch.setattr(data_snapshot, "_custom_snapshot", snapshot)
    return shown


@pytest.mark.parametrize(
    ("rates", "dearest"),
    [
        ({"cache_read_mtok": 1, "cache_write_mtok": 5}, Rates(Decimal(5), Decimal(8), Decimal(1))),
        (
            {"cache_read_mtok": 1, "input_image_mtok": 6, "cache_image_read_mtok": 2},
            Rates(Decimal(6), Decimal(8), Decimal(2)),
        ),
        ({"input_image_mtok": 3}, Rates(Decimal(4), Decimal(8), Decimal(4))),
        ({"output_reasoning_mtok": 9}, Rates(Decimal(4), Decimal(9), Decimal(4))),
        ({"output_reasoning_mtok": 7}, Rates(Decimal(4), Decimal(8), Decimal(4))),
    ],
)
def test_writing_to_a_cache_images_and_reasoning_may_cost_more(
    table: list[Provider], rates: dict[str, int], dearest: Rates
) -> None:
    all_rates = {"input_mtok": 4, "output_mtok": 8, **rates}
    table.append(_table(ModelPrice(**{key: Decimal(rate) for key, rate in all_rates.items()})))
    assert PriceBook().require("openai:m").rates == (dearest,)


def test_a_price_per_call_is_added(table: list[Provider]) -> None:
    one = Decimal(1)
    table.append(_table(ModelPrice(input_mtok=one, output_mtok=one, requests_kcount=Decimal(7))))
    assert PriceBook().require("openai:m").cost(Usage(0, 0)) == Decimal("0.007")


def test_a_jump_with_the_size_of_the_prompt_is_for_all_its_tokens(table: list[Provider]) -> None:
    jump = TieredPrices(base=Decimal(1), tiers=[Tier(start=100, price=Decimal(2))])
    table.append(_table(ModelPrice(input_mtok=jump, output_mtok=Decimal(10))))
    price = PriceBook().require("openai:m")
    assert price.cost(Usage(100, 0)) * 10**6 == 100
    assert price.cost(Usage(101, 0)) * 10**6 == 202
    assert price.cost(Usage(101, 1)) * 10**6 == 212


def test_a_discount_for_size_is_not_counted_on(table: list[Provider]) -> None:
    jump = TieredPrices(base=Decimal(2), tiers=[Tier(start=100, price=Decimal(1))])
    table.append(_table(ModelPrice(input_mtok=jump, output_mtok=Decimal(0))))
    assert PriceBook().require("openai:m").cost(Usage(200, 0)) * 10**6 == 400


def test_a_table_that_contradicts_itself_knows_nothing(table: list[Provider]) -> None:
    dear = Decimal(1)
    rates = {"input_mtok": dear, "output_mtok": dear, "input_image_mtok": dear}
    table.append(_table(ModelPrice(**rates, cache_read_mtok=dear)))
    assert PriceBook().lookup("openai:m") is None


def test_the_dearest_hour_of_the_day_counts(table: list[Provider]) -> None:
    from datetime import UTC, time

    def at(rate: int, start: int, end: int) -> ConditionalPrice:
        hours = TimeOfDateConstraint(time(start, tzinfo=UTC), time(end, tzinfo=UTC))
        prices = ModelPrice(input_mtok=Decimal(rate), output_mtok=Decimal(10 - rate))
        return ConditionalPrice(hours, prices=prices)

    table.append(_table([at(1, 0, 8), at(5, 8, 16), at(3, 16, 0)]))
    assert PriceBook().require("openai:m").rates == (Rates(Decimal(5), Decimal(9), Decimal(5)),)


def test_a_cache_that_is_dearer_than_none_raises_the_bound(table: list[Provider]) -> None:
    rates = {"input_mtok": Decimal(1), "cache_read_mtok": Decimal(2), "output_mtok": Decimal(1)}
    table.append(_table(ModelPrice(**rates)))
    assert PriceBook().require("openai:m").rates == (Rates(Decimal(2), Decimal(1), Decimal(2)),)


ALL = sorted({model.id for provider in providers for model in provider.models})
some = st.integers(0, 400_000)


@given(st.sampled_from(ALL), some, some, some, some)
def test_no_price_falls_when_more_is_used(
    name: str, prompt: int, completion: int, more: int, cached: int
) -> None:
    price = price_table.bundled(name, None)
    if price is None:
        return
    least = price.cost(Usage(prompt, completion, 0, min(cached, prompt)))
    assert 0 <= least <= price.cost(Usage(prompt, completion))
    assert price.cost(Usage(prompt, completion)) <= price.cost(Usage(prompt + more, completion))
    assert price.cost(Usage(prompt, completion)) <= price.cost(Usage(prompt, completion + more))


def test_no_model_is_priced_below_the_bundled_table() -> None:
    checked = 0
    for model in next(p for p in providers if p.id == "openai").models:
        price = price_table.bundled(model.id, None)
        if price is None:
            continue
        for prompt, cached, completion in ((1000, 0, 100), (300_000, 1000, 5000), (10, 10, 0)):
            usage = genai_prices.Usage(
                input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion
            )
            theirs = genai_prices.calc_price(usage, model.id, provider_id="openai").total_price
            assert price.cost(Usage(prompt, completion, 0, cached)) >= theirs
        checked += 1
    assert checked > 20
