"""What a search wants to know of its graph at every step, kept up to date instead of looked for.

Each of these answers in (amortised) time that does not grow with the graph. They hold ids and
check them against the graph when they are read, so merging and pruning need not tell them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ecoalign.graph._actions import PendingAction
from ecoalign.graph._equivalence import Similarity, likeness, mergeable
from ecoalign.graph._thought_graph import ThoughtGraph
from ecoalign.graph._thoughts import Thought, ThoughtId


@dataclass(slots=True)
class ExpansionQueue:
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
        """max of max(0, S[P]) * min(1, u) over the answers, in [0, 1]; 0 if there is none."""
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
    return max(0.0, graph.path_safety(thought)) * min(1.0, graph[thought].utility)


@dataclass(slots=True)
class DuplicateIndex:
    """Finds the thoughts that a new one may be merged into, without comparing it with all."""

    # By the hash of their likeness, which may be as long as a text: `mergeable` looks closely.
    _groups: dict[int, tuple[ThoughtId, ...]] = field(default_factory=dict)

    def add(
        self, graph: ThoughtGraph, thought: Thought, similarity: Similarity, threshold: float
    ) -> list[ThoughtId]:
        """Enter a thought, so that others may be merged into it.

        Returns:
            The older thoughts that mean the same, the oldest first.
        """
        key = hash(likeness(thought))
        group = [
            other
            for other in self._groups.get(key, ())
            if not (graph.is_merged(other) or graph.is_pruned(other))
        ]
        self._groups[key] = (*group, thought.id)
        return [one for one in group if mergeable(graph[one], thought, similarity, threshold)]


Worth = Callable[[PendingAction], float | None]
"""The value V of an open action; None if it can no longer be done."""


@dataclass(slots=True)
class ActionQueue:
    """The open actions of one search: `best_first` finds the best without valuing all of them.

    Iterates over all, those that can no longer be done included.
    """

    _open: dict[int, PendingAction] = field(default_factory=dict)
    _by_thought: dict[ThoughtId, list[int]] = field(default_factory=dict)
    # Each open action is in one of these: just proposed; not bounded; minus its bound, and its id.
    _new: list[int] = field(default_factory=list)
    _unbounded: list[int] = field(default_factory=list)
    _heap: list[tuple[float, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[PendingAction]:
        return iter(self._open.values())

    def __getitem__(self, action: int) -> PendingAction:
        """An open action by its id. Raises KeyError if there is none."""
        return self._open[action]

    def add(self, action: PendingAction) -> None:
        """A newly proposed action."""
        self._open[action.id] = action
        self._new.append(action.id)
        for thought in (action.parent, *action.candidate.partners):
            self._by_thought.setdefault(thought, []).append(action.id)

    def remove(self, action: int) -> None:
        """Take an action out. Raises KeyError if there is none."""
        gone = self._open.pop(action)
        for thought in (gone.parent, *gone.candidate.partners):
            self._by_thought[thought].remove(action)
            if not self._by_thought[thought]:
                del self._by_thought[thought]

    def concerning(self, thought: ThoughtId) -> list[PendingAction]:
        """The open actions that would grow from `thought` or fuse it, by the id it had then."""
        return [self._open[action] for action in self._by_thought.get(thought, ())]

    def forget_bounds(self) -> None:
        """Something may have raised a value above its bound."""
        self._new.clear()
        self._heap.clear()
        self._unbounded = [*self._open]

    def best_first(self, value: Worth, bound: Worth) -> Iterator[tuple[PendingAction, float]]:
        """Actions and their values, the best first, of equals the older: what sorting all of them
        by value would give. Those that can no longer be done are taken out.

        It values only as many as it must for those that are asked for, which is lazy evaluation as
        in Minoux's greedy algorithm (1978): an action whose bound is below a value that was found
        cannot be better. The queue must not be changed until no more are asked for.

        Args:
            value: V now.
            bound: what V is at most, from now until `forget_bounds` is called.
        """
        heap = self._heap
        valued: list[tuple[float, int]] = []
        self._push(heap, self._unbounded, bound)
        # What was just proposed is valued at once: most of it is the best there is.
        self._unbounded, self._new = self._new, []
        self._push(valued, self._unbounded, value)
        while heap or valued:
            if heap and not (valued and valued[0] < heap[0]):
                number = heapq.heappop(heap)[1]
                self._unbounded.append(number)
                self._push(valued, (number,), value)
            else:
                worth, number = heapq.heappop(valued)
                yield self._open[number], -worth

    def _push(self, heap: list[tuple[float, int]], numbers: Iterable[int], worth: Worth) -> None:
        """Enter the actions that are open and can still be done in a heap."""
        for number in numbers:
            if (action := self._open.get(number)) is None:
                continue
            if (most := worth(action)) is None:
                self.remove(number)
            else:
                heapq.heappush(heap, (-most, number))
