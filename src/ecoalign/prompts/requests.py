"""The typed questions that the stages ask, and the typed results that they get.

A stage builds one of the requests below; a dialect (`full` for real models, `compact` for the
embedded one) renders it to a `ChatRequest` and parses the `Completion` into the matching result.
Stages never see a prompt, dialects never see the graph or the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ecoalign.graph import Region, Thought, ThoughtId
from ecoalign.models.base import ImagePart

__all__ = [
    "ActionKind",
    "Candidate",
    "ExecuteRequest",
    "ExecuteResult",
    "Forecast",
    "ProposeRequest",
    "ProposeResult",
    "ScanRequest",
    "ScanResult",
    "ScoreRequest",
    "ScoreResult",
    "StageRequest",
    "WriteRequest",
]


class ActionKind(StrEnum):
    """What an agent may do next (the paper's text generation, visual exploration, structure)."""

    THINK = "think"
    LOOK = "look"
    FUSE = "fuse"
    ANSWER = "answer"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Forecast:
    """One simulated step: its expected safety in [-1, 1], utility >= 0 and cost > 0 in tokens."""

    safety: float
    utility: float
    cost: float


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
class ScanRequest:
    """The Global Scanner's look: caption and risk of the request as a whole.

    `views` are low-resolution views of the query's images, one each. `context` holds earlier
    turns and the system prompt, oldest first; it is quoted to the model as data.
    """

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """`risk` is the root's safety s in [-1, 1] (1 is harmless); `strategy` a cautious plan, if
    the model gave one."""

    caption: str
    risk: float
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class ProposeRequest:
    """Ask for at most `limit` next actions from the end of `path` (root first).

    `others` are further thoughts that could be fused with the last one. `steps` is how many
    steps beyond the action each forecast should cover.
    """

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    others: tuple[Thought, ...]
    limit: int
    steps: int
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposeResult:
    """Between 0 and `limit` well-formed candidates; malformed ones are dropped and counted."""

    candidates: tuple[Candidate, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """Carry out one action. `views` holds the crop for LOOK, the low-resolution views otherwise.

    `path` is root first; `partners` are the other parents of a FUSE.
    """

    action: Candidate
    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    partners: tuple[Thought, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Write the final answer from the winning path (root first)."""

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecuteResult:
    """The text of a new thought, or of the written answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score one new thought. `text` is quoted as data behind `fence`, a fresh random word.

    `path` is what it grew from (root first), `kind` what it is; "request" asks for the safety of
    the request itself.
    """

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    kind: str
    text: str
    fence: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Safety s in [-1, 1] and utility u in [0, 1]; `method` says how the numbers were read."""

    safety: float
    utility: float
    method: Literal["verdict", "logprobs"] = "verdict"


StageRequest = ScanRequest | ProposeRequest | ExecuteRequest | WriteRequest | ScoreRequest
