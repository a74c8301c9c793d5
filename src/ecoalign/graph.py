"""Thoughts and the graph they form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

__all__ = ["ROOT", "Region", "Thought", "ThoughtId", "ThoughtKind"]

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


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of one image in normalised coordinates: 0 <= x0 < x1 <= 1, the same for y.

    The origin is the top left corner of the upright (EXIF-rotated) image.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    image: int = 0


@dataclass(frozen=True, slots=True)
class Thought:
    """One node of the graph (arXiv 2511.11301, "thought").

    Attributes:
        id: index in the graph; the root is 0.
        kind: what it is.
        text: its content.
        safety: s in [-1, 1].
        utility: u >= 0.
        cost: c >= 0, tokens processed to make and score it.
        parents: ids of the thoughts that it was made from; several for a fused one.
        region: where it looked, for `LOOK`.
    """

    id: ThoughtId
    kind: ThoughtKind
    text: str
    safety: float
    utility: float
    cost: float
    parents: tuple[ThoughtId, ...] = ()
    region: Region | None = None
