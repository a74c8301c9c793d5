"""EcoAlign: economical inference-time alignment for vision-language models (arXiv 2511.11301).

    from ecoalign import align

    result = align("photo.png", "What does the sign say?", model="openai:gpt-4o", budget=40_000)

`align` answers one question, `stream` shows its search as it goes, `compare` asks the plain model
and other methods as well, and `Aligner` is what all of them run on, for use with async. What each
takes and gives is in its own help.

The names below are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ecoalign._version import __version__

if TYPE_CHECKING:
    from ecoalign.aligner import Aligner, align, stream
    from ecoalign.budget import Budget, Spending
    from ecoalign.errors import (
        BudgetExceeded,
        BudgetTooSmall,
        EcoAlignError,
        InputError,
        ModelError,
        SettingsError,
        VerdictError,
    )
    from ecoalign.graph import Region, Thought
    from ecoalign.methods import Comparison, compare
    from ecoalign.models.fake import FakeModel
    from ecoalign.query import Picture, Query
    from ecoalign.replay import ReplayModel
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment, Trace

_HOMES = {
    "aligner": "Aligner align stream",
    "budget": "Budget Spending",
    "errors": "BudgetExceeded BudgetTooSmall EcoAlignError InputError ModelError SettingsError "
    "VerdictError",
    "graph": "Region Thought",
    "methods": "Comparison compare",
    "models.fake": "FakeModel",
    "query": "Picture Query",
    "replay": "ReplayModel",
    "settings": "Settings",
    "trace": "Alignment Trace",
}
"""The public names by the module that each is loaded from when it is first used."""

__all__ = [
    "Aligner",
    "Alignment",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "Comparison",
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
    "compare",
    "stream",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(importlib.import_module(f"ecoalign.{home}"), name)
    raise AttributeError(f"module 'ecoalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
