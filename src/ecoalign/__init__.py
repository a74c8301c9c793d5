"""EcoAlign: economical inference-time alignment for vision-language models (arXiv 2511.11301).

    from ecoalign import align
    result = align("photo.png", "What does the sign say?", model="openai:gpt-4o", budget="8000")

The names below are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.aligner import Aligner, align
    from ecoalign.budget._amounts import Budget, Spending
    from ecoalign.errors import (
        BudgetExceeded,
        BudgetTooSmall,
        EcoAlignError,
        InputError,
        ModelError,
        SettingsError,
        VerdictError,
    )
    from ecoalign.graph._thoughts import Region, Thought
    from ecoalign.models.fake import FakeModel
    from ecoalign.query._pictures import Picture
    from ecoalign.query._query import Query
    from ecoalign.replay import ReplayModel
    from ecoalign.settings import Settings
    from ecoalign.trace._alignment import Alignment, Trace

__version__ = "0.1.0"

_HOMES = {
    "Aligner": "aligner",
    "Alignment": "trace._alignment",
    "Budget": "budget._amounts",
    "BudgetExceeded": "errors",
    "BudgetTooSmall": "errors",
    "EcoAlignError": "errors",
    "FakeModel": "models.fake",
    "InputError": "errors",
    "ModelError": "errors",
    "Picture": "query._pictures",
    "Query": "query._query",
    "Region": "graph._thoughts",
    "ReplayModel": "replay",
    "Settings": "settings",
    "SettingsError": "errors",
    "Spending": "budget._amounts",
    "Thought": "graph._thoughts",
    "Trace": "trace._alignment",
    "VerdictError": "errors",
    "align": "aligner",
}

__all__ = [
    "Aligner",
    "Alignment",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "EcoAlignError",
    "FakeModel",
    "InputError",
    "ModelError",
    "Picture",
    "Query",
    "Region",
    "ReplayModel",
    "Settings",
    "SettingsError",
    "Spending",
    "Thought",
    "Trace",
    "VerdictError",
    "__version__",
    "align",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ecoalign' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ecoalign.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
