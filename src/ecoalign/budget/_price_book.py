"""What tokens cost in dollars: a table of one's own first, then the bundled one of `genai-prices`.

Nothing here uses the network; `genai-prices` is imported at the first look-up that needs it. Three
rules keep a budget in dollars hard:

- an unknown price is unknown, never 0. A model behind an address that the table does not know (a
  server of one's own, a proxy) has no known price, whatever the model is called;
- where a table has several rates for one kind of token (writing to a cache, images, reasoning,
  hours of the day), the dearest one counts: the sum shown may be above the bill, never below;
- an image is billed as the input tokens that it takes.

The embedded model is the one exception with a price of exactly 0: it runs inside this process and
nothing is billed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from ecoalign.budget._price import Price, Rates
from ecoalign.errors import UnpricedModelError
from ecoalign.models import PROVIDERS, Usage, base_url_of_environment

_EMBEDDED = "embedded"

_NO_BILL = Price(
    (Rates(Decimal(0), Decimal(0), Decimal(0)),), source="runs in this process, no bill"
)


class PriceBook:
    """Prices by model name. An instance is a `Pricing` for the ledger.

    Args:
        overrides: prices of one's own by model, named as in the settings ("openai:gpt-4o") or by
            the bare name; they come before everything else, the embedded model's included.
        base_url: address of the server behind "openai:..."; None for the environment
            variable OPENAI_BASE_URL or else OpenAI.
        elsewhere: addresses of models by their full names, which are asked there.

    Raises:
        InputError: an override cannot be read.
    """

    def __init__(
        self,
        overrides: Mapping[str, object] | None = None,
        *,
        base_url: str | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self._overrides = {
            model: table if isinstance(table, Price) else Price.parse(table, name=model)
            for model, table in (overrides or {}).items()
        }
        self._base_url = base_url or base_url_of_environment() or None
        self._elsewhere = dict(elsewhere or {})
        # Looked up once a run: the price of a call cannot change before it is billed.
        self._known: dict[str, Price | None] = {}

    def __call__(self, model: str, usage: Usage) -> Decimal | None:
        """Dollars of a call, None where the price is unknown."""
        price = self.lookup(model)
        return None if price is None else price.cost(usage)

    def lookup(self, model: str) -> Price | None:
        """The price of `model` ("provider:name"), None where unknown."""
        try:
            return self._known[model]
        except KeyError:
            price = self._known[model] = self._find(model)
            return price

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
        if provider == _EMBEDDED:
            return _NO_BILL
        if provider not in PROVIDERS or not name:
            return None
        from ecoalign.budget._price_table import bundled

        address = self._elsewhere.get(model) or (self._base_url if provider == "openai" else None)
        if address is not None:
            return bundled(name, address)
        seller = PROVIDERS[provider].prices
        return bundled(name, None, seller) if seller else None
