"""The search: what its stages share, its state and its loop, and one file a stage of the paper.

(arXiv 2511.11301: Global Scanner, Graph Engine, Valuator, Executor, Pareto Tracker.)
"""

from __future__ import annotations

from ecoalign.search.context import RunContext
from ecoalign.search.loop import search
from ecoalign.search.state import SearchState

__all__ = ["RunContext", "SearchState", "search"]
