"""What may be spent and what was: budgets, the ledger, prices, and the metered client.

No call to a model is made before its worst case is reserved.
"""

from __future__ import annotations

from ecoalign.budget._accounts import impossible
from ecoalign.budget._amounts import (
    Amount,
    Budget,
    BudgetLike,
    Spending,
    StageSpending,
    least_of,
)
from ecoalign.budget._ledger import Ledger, Reservation
from ecoalign.budget._metered_client import (
    PATIENCE,
    Called,
    CallFailure,
    MeteredClient,
    false_usage,
)
from ecoalign.budget._money import Money
from ecoalign.budget._price import Price, Pricing, unpriced
from ecoalign.budget._price_book import PriceBook

__all__ = [
    "PATIENCE",
    "Amount",
    "Budget",
    "BudgetLike",
    "CallFailure",
    "Called",
    "Ledger",
    "MeteredClient",
    "Money",
    "Price",
    "PriceBook",
    "Pricing",
    "Reservation",
    "Spending",
    "StageSpending",
    "false_usage",
    "impossible",
    "least_of",
    "unpriced",
]
