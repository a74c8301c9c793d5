"""Thoughts and the graph that they form, its economy, merging, and the extraction of the best path.

Pure functions and plain data: no I/O, no clock, no randomness that is not passed in.
"""

from __future__ import annotations

from ecoalign.graph._actions import ActionKind, Candidate, Forecast, PendingAction, ValuedAction
from ecoalign.graph._equivalence import Similarity, text_similarity
from ecoalign.graph._queues import ActionQueue, BestAnswer, DuplicateIndex, ExpansionQueue
from ecoalign.graph._thought_graph import ThoughtGraph
from ecoalign.graph._thoughts import ENDS, ROOT, Region, Thought, ThoughtId, ThoughtKind

__all__ = [
    "ENDS",
    "ROOT",
    "ActionKind",
    "ActionQueue",
    "BestAnswer",
    "Candidate",
    "DuplicateIndex",
    "ExpansionQueue",
    "Forecast",
    "PendingAction",
    "Region",
    "Similarity",
    "Thought",
    "ThoughtGraph",
    "ThoughtId",
    "ThoughtKind",
    "ValuedAction",
    "text_similarity",
]
