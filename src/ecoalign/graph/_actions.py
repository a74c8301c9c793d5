"""Actions: what may be done next, with a forecast of what it leads to."""

from __future__ import annotations

from enum import StrEnum

from ecoalign._record import dataclass
from ecoalign.graph._thoughts import Region, ThoughtId


class ActionKind(StrEnum):
    """What an agent may do next (the paper's text generation, visual exploration, structure)."""

    THINK = "think"
    LOOK = "look"
    FUSE = "fuse"
    ANSWER = "answer"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Forecast:
    """One simulated step: its expected safety in [-1, 1], utility >= 0 and cost >= 0 in tokens; a
    cost of 0.0 is not known, as models are not asked for it."""

    safety: float
    utility: float
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed action.

    Attributes:
        kind: what to do.
        text: what to think about, or why to look there; may be empty.
        region: where to look; required for `LOOK`, else None.
        partners: other thoughts to fuse with; required for `FUSE`, else empty.
        forecast: the first entry is the action itself, the rest the steps that would follow.
    """

    kind: ActionKind
    text: str
    forecast: tuple[Forecast, ...]
    region: Region | None = None
    partners: tuple[ThoughtId, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingAction:
    """A candidate that waits in the pool.

    Attributes:
        id: counts up from 0 in the order of the proposals.
        parent: the thought that it would grow from.
        candidate: what to do.
    """

    id: int
    parent: ThoughtId
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class ValuedAction:
    """An open action with its value V under the terms of a step."""

    action: int
    """Its id, >= 0."""
    parent: ThoughtId
    """The thought that it would grow from."""
    kind: ActionKind
    """What it does."""
    value: float
    """V in utility; -inf if it is forecast to be unsafe."""
    affordable: bool
    """Whether its worst case fits what is left of the budget."""
