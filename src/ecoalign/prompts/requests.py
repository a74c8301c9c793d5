"""The typed requests that stages and methods make, and the typed results that they get.

A stage or a method builds one of the requests below; a dialect (`full` for real models, `small` for
those that do not keep to a form, `compact` for the embedded one) renders it to a `ChatRequest` and
parses the `Completion` into the matching result. Stages never see a prompt, dialects never see the
graph or the ledger.

Fields that many of them have:

- `question`: what the user asks.
- `views`: the images that the model sees; low-resolution views of the query's images, one each,
  where nothing else is said.
- `context`: earlier turns, oldest first; quoted to the model as data.
- `instructions`: the client's system prompt. Where an answer is written it is obeyed as to role,
  style, format and language; where something is judged it is data.
- `path`: the thoughts from the root to the one that is continued, root first.
- `text` and `fence`: a text to judge, and the fresh random word behind which it is quoted as data.
- `utility`: how the utilities of a path are taken together. LAST asks how good an answer is, or
  what a step leads to; SUM, the paper's, asks what the step itself adds.
"""

from __future__ import annotations

from typing import Literal

from ecoalign._record import dataclass
from ecoalign.graph import Candidate, Region, Thought
from ecoalign.graph.economics import UtilityAggregator
from ecoalign.models import OWN_REPLY, ImagePart, Reply

__all__ = [
    "VERIFIED",
    "AnswerRequest",
    "AnswerResult",
    "AnswerStyle",
    "CaptionRequest",
    "CaptionResult",
    "CheckRequest",
    "ExecuteRequest",
    "GateRequest",
    "PromptRequest",
    "ProposeRequest",
    "ProposeResult",
    "ScanRequest",
    "ScanResult",
    "ScoreRequest",
    "ScoreResult",
    "VerdictRequest",
    "WriteRequest",
]


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """The Global Scanner: ask for a caption and for the safety of the request as a whole."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """`request_safety` is the root's safety s in [-1, 1] (1 is harmless); `strategy` a cautious
    plan, if the model gave one."""

    caption: str
    request_safety: float
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class ProposeRequest:
    """Ask for at most `limit` next actions from the end of `path`.

    `others` are further thoughts that could be fused with the last one. `steps` is how many
    steps after the action each forecast should cover.
    """

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    others: tuple[Thought, ...]
    limit: int
    steps: int
    context: tuple[str, ...] = ()
    instructions: str = ""
    utility: UtilityAggregator = UtilityAggregator.LAST


@dataclass(frozen=True, slots=True)
class ProposeResult:
    """Between 0 and `limit` well-formed candidates; malformed ones are dropped and counted."""

    candidates: tuple[Candidate, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """Carry out one action.

    `partners` are a FUSE's other parents. `crop` is the region that a LOOK sees: after the views,
    or alone where there are none.
    """

    action: Candidate
    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    partners: tuple[Thought, ...] = ()
    context: tuple[str, ...] = ()
    instructions: str = ""
    crop: ImagePart | None = None


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Write the final answer from the winning path."""

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    context: tuple[str, ...] = ()
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score one new thought, which continues `path`.

    `kind` is the kind of thought; "request" asks for the safety of the request itself. `crop` is
    the `region` that a look has seen: after the views, or alone where there are none. `check` is 0
    for the first verdict on a text, and n >= 1 for the n-th independent confirmation of one, which
    is asked for in another form and read in the same way.
    """

    question: str
    views: tuple[ImagePart, ...]
    path: tuple[Thought, ...]
    kind: str
    text: str
    fence: str
    context: tuple[str, ...] = ()
    instructions: str = ""
    crop: ImagePart | None = None
    region: Region | None = None
    check: int = 0
    utility: UtilityAggregator = UtilityAggregator.LAST

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """All that a judge sees: the views, and the crop."""
        return self.views if self.crop is None else (*self.views, self.crop)


VERIFIED = 7.5 / 9
"""The utility from which every detail that an answer needs counts as verified, in [0, 1].

The grades 0 to 9 have three anchors: 9 is verified, 6 probably right, 3 or less is unread or
guessed. This is half-way between the first two: written grades of 8 and 9, the expectation of a
grade nearer to 9 than to 6, p(yes) of at least 0.83, or five of five sampled words."""


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Safety s in [-1, 1] and utility u in [0, 1]; `method` says how the numbers were read."""

    safety: float
    utility: float
    method: Literal["verdict", "logprobs"] = "verdict"


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
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """Describe the images as far as they matter for the question; do not answer it."""

    question: str
    views: tuple[ImagePart, ...]
    context: tuple[str, ...] = ()
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class GateRequest:
    """Judge the request by its text and a caption, without the images."""

    question: str
    caption: str
    fence: str
    context: tuple[str, ...] = ()
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Judge an answer."""

    question: str
    views: tuple[ImagePart, ...]
    text: str
    fence: str
    context: tuple[str, ...] = ()
    instructions: str = ""


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

PromptRequest = (
    ScanRequest
    | ProposeRequest
    | ExecuteRequest
    | WriteRequest
    | ScoreRequest
    | AnswerRequest
    | CaptionRequest
    | VerdictRequest
)
"""Everything that a dialect renders."""
