"""The 3 x 3 grid of the world that the compact dialect speaks of."""

from __future__ import annotations

from ecoalign.graph import Region
from ecoalign.models.embedded import CELLS

__all__ = ["CELLS", "cell_region"]


def cell_region(cell: int, margin: float = 0.0) -> Region:
    """The normalised rectangle of a cell, widened by `margin` of a cell on every side."""
    row, column = divmod(cell, 3)
    return Region(
        max(0.0, (column - margin) / 3),
        max(0.0, (row - margin) / 3),
        min(1.0, (column + 1 + margin) / 3),
        min(1.0, (row + 1 + margin) / 3),
    )
