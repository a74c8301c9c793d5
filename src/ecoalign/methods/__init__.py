"""EcoAlign and every baseline behind one interface, all paid from one ledger.

    method = open_method("ecso", settings)
    answer = await method.answer(query, model, Ledger(Budget(tokens=8000)))

The names below are loaded when they are first used, so that listing a package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.methods._answerer import Answerer
    from ecoalign.methods._base import Method
    from ecoalign.methods._baseline import FUND, Baseline
    from ecoalign.methods._best_of_n import BestOfN
    from ecoalign.methods._compare import Comparison, compare
    from ecoalign.methods._direct import DIRECT
    from ecoalign.methods._estimate import Estimate, estimate
    from ecoalign.methods._refusals import is_refusal
    from ecoalign.methods._registry import METHODS, is_method, open_method, with_preset

_HOMES = {
    "Answerer": "ecoalign.methods._answerer",
    "Comparison": "ecoalign.methods._compare",
    "DIRECT": "ecoalign.methods._direct",
    "FUND": "ecoalign.methods._baseline",
    "Baseline": "ecoalign.methods._baseline",
    "BestOfN": "ecoalign.methods._best_of_n",
    "Estimate": "ecoalign.methods._estimate",
    "METHODS": "ecoalign.methods._registry",
    "Method": "ecoalign.methods._base",
    "compare": "ecoalign.methods._compare",
    "estimate": "ecoalign.methods._estimate",
    "is_method": "ecoalign.methods._registry",
    "is_refusal": "ecoalign.methods._refusals",
    "open_method": "ecoalign.methods._registry",
    "with_preset": "ecoalign.methods._registry",
}

__all__ = [
    "DIRECT",
    "FUND",
    "METHODS",
    "Answerer",
    "Baseline",
    "BestOfN",
    "Comparison",
    "Estimate",
    "Method",
    "compare",
    "estimate",
    "is_method",
    "is_refusal",
    "open_method",
    "with_preset",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ecoalign.methods' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
