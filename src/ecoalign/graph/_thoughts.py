"""What a thought is: its kind, its scores, where it looked."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NewType

from ecoalign._record import dataclass

ThoughtId = NewType("ThoughtId", int)

ROOT = ThoughtId(0)


class ThoughtKind(StrEnum):
    """What a thought is. Only `ANSWER` and `REFUSAL` may end a winning path."""

    ROOT = "root"
    STRATEGY = "strategy"
    THINK = "think"
    LOOK = "look"
    FUSE = "fuse"
    ANSWER = "answer"
    REFUSAL = "refusal"


ENDS = frozenset({ThoughtKind.ANSWER, ThoughtKind.REFUSAL})
"""The kinds that may end a winning path."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of one image in normalised coordinates: 0 <= x0 < x1 <= 1, the same for y.

    The origin is the top left corner of the upright (EXIF-rotated) image; `image` is its index.

    Raises:
        ValueError: the rectangle is empty, outside the image or not a number.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    image: int = 0

    def __post_init__(self) -> None:
        if not (0.0 <= self.x0 < self.x1 <= 1.0 and 0.0 <= self.y0 < self.y1 <= 1.0):
            raise ValueError(
                "A region needs 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1, "
                f"not ({self.x0}, {self.y0}, {self.x1}, {self.y1})."
            )
        if self.image < 0:
            raise ValueError(f"A region's image must be >= 0, not {self.image}.")


@dataclass(frozen=True, slots=True)
class Thought:
    """One node of the graph (arXiv 2511.11301, "thought").

    Attributes:
        id: index in the graph; the root is 0.
        kind: what it is.
        text: its content.
        safety: s in [-1, 1]; of a fused thought the effective one (see the module).
        utility: u >= 0.
        cost: c >= 0, tokens processed to make and score it.
        parents: ids of the thoughts that it was made from; several for a fused or merged one.
        region: where it looked, for `LOOK`.

    Raises:
        ValueError: a score is out of its range or not a number.
    """

    id: ThoughtId
    kind: ThoughtKind
    text: str
    safety: float
    utility: float
    cost: float
    parents: tuple[ThoughtId, ...] = ()
    region: Region | None = None

    def __post_init__(self) -> None:
        if not -1.0 <= self.safety <= 1.0:
            raise ValueError(f"Thought {self.id}: safety must be in [-1, 1], not {self.safety}.")
        for name, value in (("utility", self.utility), ("cost", self.cost)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"Thought {self.id}: {name} must be finite and >= 0, not {value}.")
