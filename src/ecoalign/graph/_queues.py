"""What a search wants to know of its graph at every step, kept up to date instead of looked for.

Each of these answers in (amortised) time that does not grow with the graph. They hold ids and
check them against the graph when they are read, so merging and pruning need not tell them.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ecoalign.graph._actions import PendingAction, ValuedAction
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
    _groups: defaultdict[int, list[ThoughtId]] = field(default_factory=lambda: defaultdict(list))

    def add(self, thought: Thought) -> None:
        """A thought that others may be merged into."""
        self._groups[hash(likeness(thought))].append(thought.id)

    def of(
        self, graph: ThoughtGraph, thought: Thought, similarity: Similarity, threshold: float
    ) -> Iterator[ThoughtId]:
        """The thoughts that mean the same as `thought`, the oldest first."""
        for other in self._groups.get(hash(likeness(thought)), ()):
            if graph.is_merged(other) or graph.is_pruned(other) or other == thought.id:
                continue
            if mergeable(graph[other], thought, similarity, threshold):
                yield other


LIVE = 64
"""How many actions compete at once. The default settings rarely have more of them open."""


@dataclass(slots=True)
class ActionQueue:
    """The open actions of one search, of which so many compete while the others wait.

    Iterates over those that compete.

    Args:
        size: how many compete, >= 1; newly proposed ones always do, once.
    """

    size: int = LIVE
    _live: dict[int, PendingAction] = field(default_factory=dict)
    _waiting: list[tuple[float, int, PendingAction]] = field(default_factory=list)
    _concerned: Counter[ThoughtId] = field(default_factory=Counter)

    def __len__(self) -> int:
        """How many actions are open, the waiting ones included."""
        return len(self._live) + len(self._waiting)

    def __iter__(self) -> Iterator[PendingAction]:
        return iter(self._live.values())

    def __getitem__(self, action: int) -> PendingAction:
        """A competing action by its id. Raises KeyError if there is none."""
        return self._live[action]

    @property
    def waiting(self) -> int:
        """How many actions are open and do not compete."""
        return len(self._waiting)

    def add(self, action: PendingAction) -> None:
        """A newly proposed action."""
        self._live[action.id] = action
        self._concerned.update(_needed(action))

    def remove(self, action: int) -> None:
        """Take a competing action out, because it is executed. Raises KeyError if there is none."""
        self._concerned.subtract(_needed(self._live.pop(action)))

    def keep(self, actions: Iterable[PendingAction]) -> None:
        """Drop every competing action that is not among `actions`."""
        kept = {action.id: action for action in actions}
        for number, action in self._live.items():
            if number not in kept:
                self._concerned.subtract(_needed(action))
        self._live = kept

    def concerns(self, thought: ThoughtId) -> bool:
        """Whether an open action would grow from `thought` or fuse it, by the id it had then."""
        return self._concerned[thought] > 0

    def settle(self, ranked: Iterable[ValuedAction]) -> None:
        """Send the least valuable ones to wait while more than `size` compete.

        Args:
            ranked: the competing actions, the best first.
        """
        if len(self._live) <= self.size:
            return
        for one in list(ranked)[self.size :]:
            action = self._live.pop(one.action)
            heapq.heappush(self._waiting, (-one.value, action.id, action))

    def refill(self) -> None:
        """Let waiting actions take the free places, those of the highest last value first."""
        while self._waiting and len(self._live) < self.size:
            _, number, action = heapq.heappop(self._waiting)
            self._live[number] = action

    def call_all(self) -> bool:
        """Let every open action compete once; returns whether any had been waiting."""
        called = bool(self._waiting)
        for _, number, action in sorted(self._waiting, key=lambda entry: entry[1]):
            self._live[number] = action
        self._waiting.clear()
        return called


def _needed(action: PendingAction) -> tuple[ThoughtId, ...]:
    """The thoughts that an action needs."""
    return (action.parent, *action.candidate.partners)
