"""Thoughts and the graph they form: directed, acyclic by construction, flat cost per operation.

Two kinds of several parents, and what each means for safety:

- A **fused** thought needs all its parents (AND). Its safety is the least of its own and of the
  floors of all its parents, where the floor of a thought is the least safety over itself and all
  its ancestors, the root excluded. A path runs through one parent only; without this, one
  through a safe parent would not see the unsafe one.
- A **merged** thought has alternative derivations (OR): a path may take any of its parents and
  inherits the safety of that one only, path by path. Its own safety is the least of the merged.
  The children that it has at the merge grew from one of the alternatives: where the other one is
  safer they keep the floor of their own, so that no thought is cleared by a history that is not
  its own. Later children grow from `path_to`, which takes the safest alternative.

Floors take the least over every ancestor, alternatives included: conservative, and the reason why
merging two fused thoughts needs no bookkeeping per derivation (the least of both is the least over
all the parents of both). A floor never rises; where a merge lowers one, it is passed on to the
descendants, and the safety of the fused ones among them falls with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, KeysView, Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import pairwise

from ecoalign.errors import EcoAlignError
from ecoalign.graph._thoughts import ENDS, ROOT, Region, Thought, ThoughtId, ThoughtKind
from ecoalign.graph.economics import SafetyAggregator, path_safety


class PrunedError(EcoAlignError):
    """Something was to grow from a pruned thought; `thought` is its id."""

    def __init__(self, thought: ThoughtId) -> None:
        super().__init__(f"Thought {thought} is pruned: nothing may be added beneath it.")
        self.thought = thought


class _State(Enum):
    LIVE = auto()
    PRUNED = auto()
    MERGED = auto()


class ThoughtGraph:
    """The dynamic graph of thoughts under one root. Ids are list indexes and never reused.

    A merged id stays valid wherever an id is taken: it means its representative.

    Args:
        text: the root's content, v0: the caption of the image.
        safety: the risk of the request, s of v0 in [-1, 1]. It is in no path's S, prunes
            nothing.
        utility, cost: the root's own; in no path's U or C.
        threshold: a thought that makes its path less safe is pruned at once; in [0, 1], 0 in the
            paper.
        aggregator: what a path's safety is. By the weakest link a thought below the threshold is
            pruned; by the average, one with which the average falls below it; by the last thought,
            only an end is, as a path is no safer and no less safe for what leads to it.
    """

    def __init__(
        self,
        text: str,
        *,
        safety: float = 1.0,
        utility: float = 0.0,
        cost: float = 0.0,
        threshold: float = 0.0,
        aggregator: SafetyAggregator = SafetyAggregator.MIN,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], not {threshold}.")
        self.threshold = threshold
        self.aggregator = aggregator
        self._thoughts = [Thought(ROOT, ThoughtKind.ROOT, text, safety, utility, cost)]
        self._children: list[dict[ThoughtId, None]] = [{}]
        self._state = [_State.LIVE]
        self._floor = [1.0]
        # Longest distance from the root, kept right under merges: a parent's is always smaller.
        self._rank = [0]
        self._into: dict[ThoughtId, ThoughtId] = {}
        self._open: dict[ThoughtId, None] = {ROOT: None}
        self._ends: dict[ThoughtId, None] = {}

    # Reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many thoughts were ever added, pruned and merged ones included."""
        return len(self._thoughts)

    def __getitem__(self, thought: ThoughtId) -> Thought:
        """The representative's record of an id. Raises ValueError for an unknown one."""
        return self._thoughts[self.resolve(thought)]

    def __iter__(self) -> Iterator[Thought]:
        """The live thoughts in the order of their ids, the root first."""
        return (t for t in self._thoughts if self._state[t.id] is _State.LIVE)

    def newest(self, among: int) -> Iterator[Thought]:
        """The live ones of the `among` thoughts that were added last, the newest first."""
        return (t for t in self._thoughts[: -among - 1 : -1] if self._state[t.id] is _State.LIVE)

    @property
    def root(self) -> Thought:
        """v0."""
        return self._thoughts[ROOT]

    @property
    def open(self) -> KeysView[ThoughtId]:
        """A live view of the thoughts that may still be expanded, oldest first."""
        return self._open.keys()

    @property
    def ends(self) -> KeysView[ThoughtId]:
        """A live view of the thoughts that may end a winning path, oldest first."""
        return self._ends.keys()

    def resolve(self, thought: ThoughtId) -> ThoughtId:
        """The representative of an id: itself, or what it was merged into."""
        if not 0 <= thought < len(self._thoughts):
            raise ValueError(f"There is no thought {thought}: the graph has {len(self)}.")
        if thought not in self._into:
            return thought
        top = self._into[thought]
        while top in self._into:
            top = self._into[top]
        while thought != top:  # shorten the chain for the next time
            self._into[thought], thought = top, self._into[thought]
        return top

    def is_pruned(self, thought: ThoughtId) -> bool:
        """Whether a thought (its representative) is pruned."""
        return self._state[self.resolve(thought)] is _State.PRUNED

    def is_merged(self, thought: ThoughtId) -> bool:
        """Whether a thought was merged into another one."""
        return self.resolve(thought) != thought

    def parents(self, thought: ThoughtId) -> tuple[ThoughtId, ...]:
        """Ids of the parents, pruned ones included."""
        return self[thought].parents

    def children(self, thought: ThoughtId) -> tuple[ThoughtId, ...]:
        """Ids of the children, pruned ones included, in the order of their edges."""
        return tuple(self._children[self.resolve(thought)])

    def floor(self, thought: ThoughtId) -> float:
        """The least safety over a thought and all its ancestors; 1 for the root."""
        return self._floor[self.resolve(thought)]

    def path_safety(self, thought: ThoughtId) -> float:
        """S[P] of the path to a thought by the aggregator; by the weakest link, of all of them."""
        if self.aggregator is SafetyAggregator.MIN:
            return self.floor(thought)
        return path_safety((t.safety for t in self.path_to(thought)[1:]), self.aggregator)

    def topological(self) -> list[Thought]:
        """The live thoughts, each after all its parents; the root first."""
        return sorted(self, key=lambda t: (self._rank[t.id], t.id))

    def path_to(self, thought: ThoughtId) -> tuple[Thought, ...]:
        """One path from the root to a thought: the context in which it is to be seen.

        It goes through the live parent with the highest floor, the first of equals; beneath
        pruned thoughts only, through a pruned one. It costs as much as the path is long.
        """
        at, thoughts = self[thought], self._thoughts
        steps = [at]
        while parents := at.parents:
            best = parents[0]
            if len(parents) > 1:
                best = max(parents, key=lambda p: (self._live(p), self._floor[p]))
            at = thoughts[best]
            steps.append(at)
        steps.reverse()
        return tuple(steps)

    def path(self, ids: Sequence[ThoughtId]) -> tuple[Thought, ...]:
        """The thoughts of a path given by its ids, root first.

        Raises:
            ValueError: it does not start at the root, or two neighbours are not parent and child.
        """
        thoughts = tuple(self[i] for i in ids)
        if not thoughts or thoughts[0].id != ROOT:
            raise ValueError("A path starts at the root.")
        for above, below in pairwise(thoughts):
            if above.id not in below.parents:
                raise ValueError(f"There is no edge from thought {above.id} to {below.id}.")
        return thoughts

    # Growing ---------------------------------------------------------------------------------

    def add(
        self,
        kind: ThoughtKind,
        text: str,
        *,
        parent: ThoughtId,
        safety: float,
        utility: float,
        cost: float,
        region: Region | None = None,
    ) -> Thought:
        """Add a thought under one parent. It is pruned at once where it makes its path unsafe.

        Raises:
            PrunedError: the parent is pruned.
            ValueError: a score is out of range, the parent unknown, or the kind ROOT or FUSE.
        """
        if kind in (ThoughtKind.ROOT, ThoughtKind.FUSE):
            raise ValueError(
                f"A thought of kind {kind} cannot be added; the root is, fuse() fuses."
            )
        ground = (self._ground(parent),)
        return self._add(Thought(self._next, kind, text, safety, utility, cost, ground, region))

    def fuse(
        self,
        parents: Iterable[ThoughtId],
        text: str,
        *,
        safety: float,
        utility: float,
        cost: float,
    ) -> Thought:
        """Add a thought made from several parents; it is no safer than the path to any of them.

        Parents that were merged meanwhile count once.

        Raises:
            PrunedError: a parent is pruned.
            ValueError: fewer than two parents, the root among them, or a score out of range.
        """
        given = tuple(dict.fromkeys(parents))
        if len(given) < 2 or ROOT in given:
            raise ValueError(f"Fusing needs two or more thoughts beneath the root, not {given}.")
        grounds = tuple(dict.fromkeys(self._ground(parent) for parent in given))
        kind = ThoughtKind.FUSE
        return self._add(Thought(self._next, kind, text, safety, utility, cost, grounds))

    def expanded(self, thought: ThoughtId) -> None:
        """Note that a thought has been expanded: it leaves `open`. Safe to call twice."""
        self._open.pop(self.resolve(thought), None)

    def prune(self, thought: ThoughtId) -> tuple[ThoughtId, ...]:
        """Prune a thought and whatever cannot stand without it; returns the ids newly pruned.

        With it go, down the graph, every fused thought that was made from it and every other
        thought that has no live parent left. Prune dead ends only where nothing of worth grew.

        Raises:
            ValueError: it is the root.
        """
        start = self.resolve(thought)
        if start == ROOT:
            raise ValueError("The root cannot be pruned.")
        pruned: list[ThoughtId] = []
        todo = [start]
        while todo:
            node = todo.pop()
            if not self._live(node):
                continue
            self._drop(node, _State.PRUNED)
            pruned.append(node)
            for child in self._children[node]:
                record = self._thoughts[child]
                if record.kind is ThoughtKind.FUSE or not any(map(self._live, record.parents)):
                    todo.append(child)
        return tuple(pruned)

    def merge(self, keep: ThoughtId, duplicate: ThoughtId) -> bool:
        """Merge `duplicate` into `keep`; False if that is not possible, and nothing changes.

        The representative keeps the least safety, the greatest utility and its own cost (what the
        duplicate has cost is paid, and on no path), and takes over the parents (as alternatives)
        and the children. Refused: the root, a pruned thought, a thought with itself, two kinds, and
        an ancestor with its descendant, which would make a cycle. Whether two thoughts mean the
        same is not decided here: see `ecoalign.graph._equivalence`.
        """
        one, two = self.resolve(keep), self.resolve(duplicate)
        kept, gone = self._thoughts[one], self._thoughts[two]
        if one == two or kept.kind is not gone.kind or not (self._live(one) and self._live(two)):
            return False
        if self._above(one, two) or self._above(two, one):
            return False
        self._drop(two, _State.MERGED)
        self._into[two] = one
        self._keep_history(one, self._floor[two])
        self._keep_history(two, self._floor[one])
        for parent in gone.parents:
            del self._children[parent][two]
            self._children[parent][one] = None
        for child in self._children[two]:
            record = self._thoughts[child]
            moved = dict.fromkeys(one if p == two else p for p in record.parents)
            self._thoughts[child] = replace(record, parents=tuple(moved))
            self._children[one][child] = None
        self._children[two] = {}
        self._thoughts[one] = replace(
            kept,
            safety=min(kept.safety, gone.safety),
            utility=max(kept.utility, gone.utility),
            parents=tuple(dict.fromkeys(kept.parents + gone.parents)),
        )
        self._floor[one] = min(self._floor[one], self._floor[two])
        self._rank[one] = max(self._rank[one], self._rank[two])
        self._settle(one)
        return True

    # Inside ----------------------------------------------------------------------------------

    @property
    def _next(self) -> ThoughtId:
        return ThoughtId(len(self._thoughts))

    def _live(self, thought: ThoughtId) -> bool:
        return self._state[thought] is _State.LIVE

    def _ground(self, parent: ThoughtId) -> ThoughtId:
        top = self.resolve(parent)
        if not self._live(top):
            raise PrunedError(top)
        return top

    def _drop(self, thought: ThoughtId, state: _State) -> None:
        self._state[thought] = state
        self._open.pop(thought, None)
        self._ends.pop(thought, None)

    def _add(self, thought: Thought) -> Thought:
        parents, kind = thought.parents, thought.kind
        ground = min(self._floor[p] for p in parents)
        if kind is ThoughtKind.FUSE:
            least = min(map(self.path_safety, parents))
            thought = replace(thought, safety=min(thought.safety, least))
        live = self._safe(thought)
        self._thoughts.append(thought)
        self._children.append({})
        self._state.append(_State.LIVE if live else _State.PRUNED)
        self._floor.append(min(thought.safety, ground))
        self._rank.append(1 + max(self._rank[p] for p in parents))
        for parent in parents:
            self._children[parent][thought.id] = None
        if live:
            (self._ends if kind in ENDS else self._open)[thought.id] = None
        return thought

    def _safe(self, thought: Thought) -> bool:
        """Whether the path to a new thought is safe enough to go on."""
        if self.aggregator is SafetyAggregator.MEAN:
            path = *self.path_to(thought.parents[0])[1:], thought
            return path_safety((t.safety for t in path), self.aggregator) >= self.threshold
        if self.aggregator is SafetyAggregator.LAST and thought.kind not in ENDS:
            return True
        return thought.safety >= self.threshold

    def _above(self, ancestor: ThoughtId, thought: ThoughtId) -> bool:
        """Whether one is an ancestor of the other; looks only at the ranks between the two."""
        todo, seen = [thought], {thought}
        while todo:
            for parent in self._thoughts[todo.pop()].parents:
                if parent == ancestor:
                    return True
                if parent not in seen and self._rank[parent] > self._rank[ancestor]:
                    seen.add(parent)
                    todo.append(parent)
        return False

    def _keep_history(self, parent: ThoughtId, alternative: float) -> None:
        """Hold the children of a thought to its floor where an alternative to it is safer."""
        floor = self._floor[parent]
        if alternative > floor and self.aggregator is SafetyAggregator.MIN:
            for child in self._children[parent]:
                record = self._thoughts[child]
                self._thoughts[child] = replace(record, safety=min(record.safety, floor))

    def _settle(self, start: ThoughtId) -> None:
        """Pass a lowered floor and a raised rank on to the descendants that they change.

        In the order of the ranks before the merge, which every edge but those from `start`
        respects, so that each descendant is settled once.
        """
        todo = [(-1, start)]
        queued = {start}
        while todo:
            _, node = heapq.heappop(todo)
            for child in self._children[node]:
                floor = min(self._floor[child], self._floor[node])
                rank = max(self._rank[child], self._rank[node] + 1)
                if floor == self._floor[child] and rank == self._rank[child]:
                    continue
                if child not in queued:
                    queued.add(child)
                    heapq.heappush(todo, (self._rank[child], child))
                self._floor[child], self._rank[child] = floor, rank
                record = self._thoughts[child]
                fused = record.kind is ThoughtKind.FUSE and self.aggregator is SafetyAggregator.MIN
                if fused and floor < record.safety:
                    self._thoughts[child] = replace(record, safety=floor)
