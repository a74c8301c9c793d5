"""The typed questions that the methods ask beside the engine, and the typed results they get.

As in `requests`: a method builds a request, a `MethodDialect` renders it and parses what comes
back; methods never see a prompt. `views` are the query's images, one each; `context` holds
earlier turns, oldest first, and is quoted to the model as data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecoalign.models.base import ImagePart
from ecoalign.reply import HOUSE, Reply

__all__ = [
    "AnswerRequest",
    "AnswerResult",
    "BlindRequest",
    "CaptionRequest",
    "CaptionResult",
    "CarefulRequest",
    "CheckRequest",
    "DirectRequest",
    "DraftRequest",
    "GateRequest",
    "MethodRequest",
    "ReasonRequest",
    "VerdictRequest",
]


@dataclass(frozen=True, slots=True)
class DirectRequest:
    """The plain model, asked as it is."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CarefulRequest:
    """The plain model under a system prompt that leans towards refusing."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasonRequest:
    """Chain of thought: reason in full sentences, then a marked final answer."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """Chain of Draft (arXiv 2502.18600): a few words a step, then a marked final answer."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """Describe the images as far as they matter for the question; do not answer it."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlindRequest:
    """Answer from a caption alone, without the images."""

    question: str
    caption: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateRequest:
    """Judge the request by its text and a caption, without the images.

    `fence` is a fresh random word, as for `ScoreRequest`.
    """

    question: str
    caption: str
    fence: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Judge an answer. `text` is quoted as data behind `fence`, a fresh random word."""

    question: str
    views: tuple[ImagePart, ...]
    text: str
    fence: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """What the model said.

    Attributes:
        text: the final answer as a user would see it; may be empty.
        whole: everything that was said, the reasoning included.
        note: "" if it ended by itself, "length" if it was cut off, "withheld" if the server's
            content filter kept it back (`text` is empty), "empty" if nothing is left to see.
        reply: what goes with `text`.
    """

    text: str
    whole: str
    note: Literal["", "length", "withheld", "empty"] = ""
    reply: Reply = HOUSE


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """A caption, never empty.

    Attributes:
        text: what the images show.
        safety: s of the request in [-1, 1] where the dialect judges it in the same call; None
            where it does not, and where the verdict cannot be read.
    """

    text: str
    safety: float | None = None


AnswerRequest = DirectRequest | CarefulRequest | ReasonRequest | DraftRequest | BlindRequest
VerdictRequest = GateRequest | CheckRequest
MethodRequest = AnswerRequest | CaptionRequest | VerdictRequest
