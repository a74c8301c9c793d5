"""Where thoughts are drawn: a layered tree, packed by contours.

Each thought is in the layer of its depth, beside its siblings in the order in which they came, and
in the middle of what grew from it (Reingold and Tilford, "Tidier Drawings of Trees", 1981, with
contours by layer). Only the first parent places a thought; the edges from others are drawn across.
So a thought that is added later never changes the order of its elders, and a drawing that grows
does not jump about, as it does where crossings are minimised anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["layout"]


class Placed(Protocol):
    """What `layout` has to know of a thought; `Node` has it."""

    @property
    def id(self) -> str: ...

    @property
    def depth(self) -> int: ...

    @property
    def parents(self) -> list[str]: ...


def layout(nodes: Iterable[Placed]) -> dict[str, tuple[float, float]]:
    """A place for each node in unit cells: x is its depth, y its row, >= 0 and 1 or more apart.

    Args:
        nodes: with unique ids, parents before their children. A node whose parents are not among
            them stands alone, below the others.

    Time is O(n * depth).
    """
    every = list(nodes)
    children: dict[str, list[Placed]] = {}
    tops: list[Placed] = []
    above: dict[str, str] = {}
    for node in every:
        # One that came later is the parent of a thought that was merged into this one.
        parent = next((parent for parent in node.parents if parent in children), None)
        if parent is None:
            tops.append(node)
        else:
            above[node.id] = parent
            children[parent].append(node)
        children[node.id] = []
    rows: dict[str, float] = {}
    contours: dict[str, dict[int, tuple[float, float]]] = {}
    shifts: dict[str, float] = {}
    # Children have come after their parents: backwards, all subtrees of a node are ready before it.
    for node in reversed(every):
        below = children[node.id]
        contour = _packed(below, contours, shifts)
        row = sum(shifts[c.id] + rows[c.id] for c in (below[0], below[-1])) / 2 if below else 0.0
        low, high = contour.get(node.depth, (row, row))
        contour[node.depth] = min(low, row), max(high, row)
        rows[node.id], contours[node.id] = row, contour
    _packed(tops, contours, shifts)
    moved: dict[str, float] = {}
    for node in every:
        parent = above.get(node.id)
        moved[node.id] = shifts[node.id] + (0.0 if parent is None else moved[parent])
    first = min((moved[node.id] + rows[node.id] for node in every), default=0.0)
    return {
        node.id: (float(node.depth), round(moved[node.id] + rows[node.id] - first, 3))
        for node in every
    }


def _packed(
    subtrees: list[Placed],
    contours: dict[str, dict[int, tuple[float, float]]],
    shifts: dict[str, float],
) -> dict[int, tuple[float, float]]:
    """Subtrees side by side, 1 apart in every layer that they share: their common contour. Where
    each was moved goes into `shifts`."""
    whole: dict[int, tuple[float, float]] = {}
    for tree in subtrees:
        contour = contours[tree.id]
        shared = [whole[d][1] + 1.0 - low for d, (low, _) in contour.items() if d in whole]
        # Where no layer is shared, below what is there: it must not stand in the way of an edge.
        shift = max(shared, default=max((high + 1.0 for _, high in whole.values()), default=0.0))
        shifts[tree.id] = shift
        for depth, (low, high) in contour.items():
            first, last = whole.get(depth, (low + shift, high + shift))
            whole[depth] = min(first, low + shift), max(last, high + shift)
    return whole
