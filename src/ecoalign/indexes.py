"""What a search wants to know of its graph at every step, kept up to date instead of looked for.

Each of these answers in (amortised) time that does not grow with the graph. They hold ids and
check them against the graph when they are read, so merging and pruning need not tell them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.merging import likeness, mergeable
from ecoalign.thoughts import Thought, ThoughtId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ecoalign.graph import ThoughtGraph
    from ecoalign.merging import Likeness, Similarity

__all__ = ["BestAnswer", "Openings", "Twins"]


@dataclass(slots=True)
class Openings:
    """The open thoughts, the most promising first; of equals the newest.

    Args:
        deepest: thoughts so many steps from the root are not expanded.
    """

    deepest: int
    _heap: list[tuple[float, int]] = field(default_factory=list)

    def add(self, thought: ThoughtId, promise: float) -> None:
        """A new open thought."""
        heapq.heappush(self._heap, (-promise, -thought))

    def first(self, graph: ThoughtGraph) -> tuple[ThoughtId | None, float]:
        """The thought to expand next and its promise, or None. It stays first until expanded."""
        while self._heap:
            promise, thought = -self._heap[0][0], ThoughtId(-self._heap[0][1])
            if thought in graph.open and len(graph.path_to(thought)) - 1 < self.deepest:
                return thought, promise
            heapq.heappop(self._heap)
        return None, 0.0


@dataclass(slots=True)
class BestAnswer:
    """The safe utility of the best answer so far."""

    _heap: list[tuple[float, ThoughtId]] = field(default_factory=list)

    def note(self, graph: ThoughtGraph, thought: ThoughtId) -> None:
        """A thought that may be an answer is new, or was merged with another."""
        if thought in graph.ends:
            heapq.heappush(self._heap, (-_safe_utility(graph, thought), thought))

    def value(self, graph: ThoughtGraph) -> float:
        """max of max(0, floor) * min(1, u) over the answers, in [0, 1]; 0 if there is none."""
        best = self.thought(graph)
        return 0.0 if best is None else _safe_utility(graph, best)

    def thought(self, graph: ThoughtGraph) -> ThoughtId | None:
        """The answer that has this value, or None."""
        while self._heap:
            noted, thought = self._heap[0]
            now = -_safe_utility(graph, thought) if thought in graph.ends else 0.0
            if thought in graph.ends and now == noted:
                return thought
            # A merge has lowered it, or put another in its place, which was noted then.
            heapq.heappop(self._heap)
            if thought in graph.ends:
                heapq.heappush(self._heap, (now, thought))
        return None


def _safe_utility(graph: ThoughtGraph, thought: ThoughtId) -> float:
    return max(0.0, graph.floor(thought)) * min(1.0, graph[thought].utility)


@dataclass(slots=True)
class Twins:
    """Finds the thoughts that a new one may be merged into, without comparing it with all."""

    _groups: defaultdict[Likeness, list[ThoughtId]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, thought: Thought) -> None:
        """A thought that others may be merged into."""
        self._groups[likeness(thought)].append(thought.id)

    def of(
        self, graph: ThoughtGraph, thought: Thought, similarity: Similarity, threshold: float
    ) -> Iterator[ThoughtId]:
        """The thoughts that mean the same as `thought`, the oldest first."""
        for other in self._groups.get(likeness(thought), ()):
            if graph.is_merged(other) or graph.is_pruned(other) or other == thought.id:
                continue
            if mergeable(graph[other], thought, similarity, threshold):
                yield other
