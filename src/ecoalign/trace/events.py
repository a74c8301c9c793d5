"""The events of a run: one frozen record each, and the codec to and from JSON lines.

They are the one record from which the live display, the trace file, the server's progress, the
viewer and the replay are drawn. `at` is seconds since the run began.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from ecoalign.budget import Amount, Called, CallFailure
from ecoalign.errors import InputError
from ecoalign.graph import Candidate, ValuedAction
from ecoalign.graph._thoughts import Thought, ThoughtId
from ecoalign.models import OWN_REPLY, Reply

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "SCHEMA",
    "ActionFailed",
    "ActionsChosen",
    "CallFailure",
    "Called",
    "Event",
    "Finished",
    "ImageInfo",
    "PathChosen",
    "Proposed",
    "RootScanned",
    "RunFailed",
    "RunStarted",
    "StepStarted",
    "StopReason",
    "ThoughtAdded",
    "ThoughtMerged",
    "ThoughtsDropped",
    "Valued",
    "from_json",
    "to_json",
]

SCHEMA = 2
"""The version of the records. 1, the first release, had no number and only EcoAlign itself."""

StopReason = Literal[
    "satisfied",
    "no-positive-action",
    "budget",
    "limits",
    "unsafe-request",
    "fail-closed",
]
"""Why a search ended: the answer leaves too little to gain; no safe action has positive value;
the budget allows no further action; a limit on thoughts or depth; the request itself is unsafe;
nothing that was written could be shown to be safe."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An input image: digest of its bytes, pixels, and what was changed on the way in."""

    sha256: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunStarted:
    """What was asked, of whom, under which settings. `nonce` seeds the fences of the evaluator;
    `sampling` is what a client asked of the answer itself, as `SamplingParams.to_json` gives it."""

    version: str
    question: str
    context: tuple[str, ...]
    images: tuple[ImageInfo, ...]
    model: str
    evaluator: str
    preset: str
    settings: Mapping[str, Any]
    budget: str
    nonce: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    method: str = "ecoalign"
    schema: int = SCHEMA
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class RootScanned:
    """The root v0, its risk (the root's safety) and the share of the budget that it leaves.

    Its text is empty where a draft sufficed and nothing was scanned.
    """

    root: Thought
    strategy: str | None
    share: float
    note: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The terms of one round: what is left, how far to look ahead, what a token is worth."""

    step: int
    remaining: Amount
    share_left: float
    horizon: int
    price: float
    mean_cost: float
    headroom: float
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Proposed:
    """What could be done next from `parent`; `first` is the id of the first candidate."""

    parent: ThoughtId
    first: int
    candidates: tuple[Candidate, ...]
    dropped: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Valued:
    """All open actions with their values, the best first."""

    step: int
    actions: tuple[ValuedAction, ...]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ActionsChosen:
    """The actions executed together as one batch."""

    step: int
    actions: tuple[int, ...]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ActionFailed:
    """An action gave no scored thought: its text, if any, is lost. `action` is -1 for a stage."""

    action: int
    stage: str
    cause: str
    message: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ThoughtAdded:
    """A scored thought. `action` is what made it, -1 for the strategy and the written answer."""

    thought: Thought
    action: int
    pruned: bool
    method: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ThoughtMerged:
    """`merged` said the same as `kept`; `thought` is the representative afterwards."""

    kept: ThoughtId
    merged: ThoughtId
    thought: Thought
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ThoughtsDropped:
    """A dead end was pruned: nothing of worth could grow from it. First it, then what fell too."""

    thoughts: tuple[ThoughtId, ...]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class PathChosen:
    """A path of the frontier that the answer is taken from; `rank` 0 is the best."""

    rank: int
    ids: tuple[ThoughtId, ...]
    safety: float
    utility: float
    cost: float
    gamma: float
    exact: bool
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer and the accounts. `hint` says what to change where something went wrong; `reply`
    is what the answer's server said beside its text."""

    answer: str
    refused: bool
    stop_reason: str
    safety: float | None
    utility: float | None
    path: tuple[Thought, ...]
    spent: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    reply: Reply = OWN_REPLY
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ended with an error; nothing was answered."""

    error: str
    message: str
    spent: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


Event = (
    RunStarted
    | Called
    | RootScanned
    | StepStarted
    | Proposed
    | Valued
    | ActionsChosen
    | ActionFailed
    | ThoughtAdded
    | ThoughtMerged
    | ThoughtsDropped
    | PathChosen
    | Finished
    | RunFailed
)

# Half of a character that a model wrote: no UTF-8, but JSON has a way to say it.
_SURROGATE = re.compile("[\ud800-\udfff]")

_TYPES = {kind.__name__: kind for kind in get_args(Event)}


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_TYPES[name])


def to_json(event: Event) -> str:
    """One line of JSON, without the newline. The same event gives the same bytes."""
    name = type(event).__name__
    body = {"event": name, **_adapter(name).dump_python(event, mode="json")}
    if body.get("detail") == {}:
        del body["detail"]
    try:
        line = _dumped(body)
    except ValueError:
        # JSON knows no infinity, and other readers than Python's would choke on it.
        line = _dumped(_finite(body))
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _dumped(body: object) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    """`value` with what JSON has no number for as text; reading it gives the number back."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def from_json(line: str) -> Event:
    """The event of one line.

    Raises:
        InputError: the line is no event, or one of a later version.
    """
    try:
        body = json.loads(line)
        name = body.pop("event")
        if name == RunStarted.__name__:
            found = body.pop("schema", 1)
            if found not in (1, SCHEMA):
                raise InputError(
                    f"the trace has schema {found!r}, and this version of EcoAlign reads schemas "
                    f"1 to {SCHEMA}: read it with the version that wrote it, "
                    f"{body.get('version')!r}, or a later one"
                )
        event: Event = _adapter(name).validate_python(body)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"not a line of a trace: {line[:60]!r} ({type(error).__name__}); "
            "a trace is the file that --trace writes, one JSON event a line"
        ) from None
    return event
