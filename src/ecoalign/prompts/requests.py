"""The typed questions that the stages ask, and the typed results that they get.

A stage builds one of the requests below; a dialect (`full` for real models, `compact` for the
embedded one) renders it to a `ChatRequest` and parses the `Completion` into the matching result.
Stages never see a prompt, dialects never see the graph or the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecoalign.graph import Candidate
from ecoalign.graph._thoughts import Thought
from ecoalign.models import OWN_REPLY, ImagePart, Reply

__all__ = [
    "AnswerRequest",
    "AnswerResult",
    "AnswerStyle",
    "CaptionRequest",
    "CaptionResult",
    "CheckRequest",
    "ExecuteRequest",
    "ExecuteResult",
    "GateRequest",
    "MethodRequest",
    "PromptRequest",
    "ProposeRequest",
    "ProposeResult",
    "ScanRequest",
    "ScanResult",
    "ScoreRequest",
    "ScoreResult",
    "StageRequest",
    "VerdictRequest",
    "WriteRequest",
]


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
    """`request_safety` is the root's safety s in [-1, 1] (1 is harmless); `strategy` a cautious
    plan, if the model gave one."""

    caption: str
    request_safety: float
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
"""What the stages of the search ask."""

AnswerStyle = Literal["plain", "careful", "cot", "cod", "blind"]


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Ask for an answer in one call, as the methods that EcoAlign is compared with do.

    `style` says how:

    - "plain": the question as it is;
    - "careful": under a system prompt that leans towards refusing;
    - "cot": chain of thought, reasoning in full sentences and then a marked final answer;
    - "cod": Chain of Draft (arXiv 2502.18600), a few words a step and then a marked final answer;
    - "blind": from `caption` alone, without the images (arXiv 2403.09572). `views` are not sent.
    """

    question: str
    views: tuple[ImagePart, ...]
    style: AnswerStyle = "plain"
    context: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """Describe the images as far as they matter for the question; do not answer it."""

    question: str
    views: tuple[ImagePart, ...]
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
    reply: Reply = OWN_REPLY


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


VerdictRequest = GateRequest | CheckRequest

MethodRequest = AnswerRequest | CaptionRequest | VerdictRequest
"""What the methods other than EcoAlign ask."""

PromptRequest = StageRequest | MethodRequest
"""Everything that a dialect renders."""
