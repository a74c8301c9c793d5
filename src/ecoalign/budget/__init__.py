"""What may be spent and what was: budgets, the ledger, prices, and the metered client.

No call to a model is made before its worst case is reserved.
"""

from __future__ import annotations

from ecoalign.budget._amounts import Amount, Budget, Spending
from ecoalign.budget._fleet import Pace
from ecoalign.budget._ledger import Ledger, Pricing, Reservation, unpriced
from ecoalign.budget._metered_client import Called, CallFailure, MeteredClient
from ecoalign.budget._money import NANO, dollars, nano
from ecoalign.budget._pricing import Price, PriceBook

__all__ = [
    "NANO",
    "Amount",
    "Budget",
    "CallFailure",
    "Called",
    "Ledger",
    "MeteredClient",
    "Pace",
    "Price",
    "PriceBook",
    "Pricing",
    "Reservation",
    "Spending",
    "dollars",
    "nano",
    "unpriced",
]
