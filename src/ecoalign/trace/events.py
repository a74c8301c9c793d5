"""The events of a run: one frozen record each, and the codec to and from JSON lines.

They are the one record from which the live display, the trace file, the server's progress, the
result and the replay are made. `at` is seconds since the run began.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from ecoalign._record import dataclass
from ecoalign.budget import Amount, Called, CallFailure
from ecoalign.errors import InputError
from ecoalign.graph import Candidate, Thought, ThoughtId, ValuedAction
from ecoalign.models import OWN_REPLY, Reply

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "DROPPED",
    "SCHEMA",
    "ActionFailed",
    "ActionsChosen",
    "CallFailure",
    "Called",
    "Confirmed",
    "Ending",
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

SCHEMA = 4
"""The version of the records. 1, the first release, had no number and only EcoAlign itself; up to 2
a model was asked in other words (dialect "full"), and nothing was known of it; up to 3 the draft
came before the scan."""

StopReason = Literal[
    "satisfied",
    "no-positive-action",
    "budget",
    "limits",
    "unsafe-request",
    "fail-closed",
]
"""Why a search ended: the answer leaves too little to gain; no safe action has positive value;
the budget allows no further action; a limit on thoughts, depth or unsafe answers; the request
itself is unsafe; nothing that was written could be shown to be safe."""


Ending = Literal["drafted", "searched", "refused", "budget", ""]
"""How a run ended: the draft stood; the search chose the answer; it is a refusal; the budget cut
the search off, and the best answer so far was taken. "" for other methods."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An input image."""

    sha256: str
    """Digest of its bytes, in hexadecimal."""
    width: int
    """Pixels, >= 1."""
    height: int
    """Pixels, >= 1."""
    notes: tuple[str, ...] = ()
    """What was changed on the way in."""
    detail: Literal["low", "high"] | None = None
    """How closely the client wanted it seen, if it said so."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event of a run: the question, the model and the settings."""

    schema: int = field(default=SCHEMA, kw_only=True)
    """The version of the records as they were written; what is newer is at its default."""
    version: str
    """The version of EcoAlign that recorded the run."""
    question: str
    """As it was asked."""
    context: tuple[str, ...]
    """What was said before the question, the oldest first."""
    images: tuple[ImageInfo, ...]
    """In the order of the question's images."""
    model: str
    """The model that answers, as "provider:name"."""
    evaluator: str
    """The evaluator's name; "" for methods that score nothing."""
    preset: str
    """The preset that the settings started from."""
    settings: Mapping[str, Any]
    """All of them, as `Settings.to_json` gives them."""
    budget: str
    """What may be spent, as `Budget.parse` reads it."""
    nonce: str
    """The secret that the evaluator's fences follow from."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What a client asked of the answer itself, as `SamplingParams.to_json` gives it."""
    method: str = "ecoalign"
    """The method that answers: "ecoalign", "ecoalign:paper", "base", "best-of-4" and so on."""
    instructions: str = ""
    """The client's system prompt."""
    profile: Mapping[str, Any] = field(default_factory=dict)
    """What was known of the model (`Profile`), what is not as by default."""
    profile_hash: str = ""
    """`Profile.hash`: the same in runs that knew the same of their model."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """What the model was known to count (`KnownTokens`); empty where bounds are not learned."""
    redacted: bool = field(default=False, kw_only=True)
    """Whether texts that were not scored safe were left out (`redacted`): such a run cannot be run
    again. Omitted from the line where it is not so."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class RootScanned:
    """The scan is done."""

    root: Thought
    """v0: the caption; its safety is that of the request."""
    strategy: str | None
    """The cautious plan that is followed, or None."""
    share: float
    """The share of the budget that the request's safety leaves to the search, in (0, 1]."""
    note: str = ""
    """What went wrong with reading the scan; "" if nothing."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A round of the loop begins, under these terms."""

    step: int
    """Counts up from 1."""
    remaining: Amount
    """What is left of each unit."""
    share_left: float
    """The scarcest unit's remaining share of its limit, in [0, 1]."""
    horizon: int
    """|R|_t, how many steps beyond an action count, >= 0."""
    price: float
    """lambda, the shadow price in utility per token, >= 0; not dollars."""
    mean_cost: float
    """Mean cost of an executed action so far, in tokens, >= 0; before the first action, the cost of
    the scan."""
    headroom: float
    """1 minus the safe utility of the best answer so far, in [0, 1]."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """What could be done next from a thought."""

    parent: ThoughtId
    """The thought."""
    first: int
    """The id of the first candidate; the others count up from it."""
    candidates: tuple[Candidate, ...]
    """The actions, each with its forecast."""
    dropped: int = 0
    """How many proposed actions were left out: malformed, ruled out or duplicated. >= 0."""
    seen: int = 0
    """How many of these were looks at what the view or the path shows as large already. >= 0."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class Valued:
    """The open actions have been valued, as far as they had to be to choose a batch."""

    step: int
    """The round."""
    actions: tuple[ValuedAction, ...]
    """Those that were considered, the best first: no other open action is worth more than the last
    of them."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class ActionsChosen:
    """Some actions are executed together, as one batch."""

    step: int
    """The round; 0 for the draft."""
    actions: tuple[int, ...]
    """Their ids."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


DROPPED = "Dropped"
"""The `cause` of an action whose text was not wanted: nothing has failed."""


@dataclass(frozen=True, slots=True)
class ActionFailed:
    """An action or a stage gave no scored thought: its text, if any, is lost."""

    action: int
    """The action's id; -1 for a stage."""
    stage: str
    """Where it failed: propose, execute, score or write."""
    cause: str
    """The error's type, or `DROPPED`."""
    message: str
    """The error's message, or why it was not wanted."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class ThoughtAdded:
    """A scored thought is in the graph."""

    thought: Thought
    """With its scores and what it cost."""
    action: int
    """The action that made it; -1 for the strategy and the written answer."""
    pruned: bool
    """Whether its safety is below the threshold: nothing may grow from it."""
    method: str
    """How its safety was read: "verdict" (the grade as written) or "logprobs" (the mean grade over
    log-probabilities; see `ScoreResult.method`)."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An answer that was scored safe was judged again, as others were judged unsafe before it."""

    action: int
    """The action that made it; -1 for the written answer."""
    verdicts: tuple[float, ...]
    """The safety that each independent verdict gave, the first one included; the least counts."""
    needed: int
    """How many safe verdicts it needs, >= 2."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class ThoughtMerged:
    """Two equivalent thoughts were merged into one."""

    kept: ThoughtId
    """The one that stands for both."""
    merged: ThoughtId
    """The one that was merged into `kept`."""
    thought: Thought
    """`kept` as it is afterwards."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class ThoughtsDropped:
    """A dead end was pruned, together with the thoughts that depend on it."""

    thoughts: tuple[ThoughtId, ...]
    """The dead end first, then the thoughts pruned with it."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class PathChosen:
    """A path of the frontier that the answer is taken or written from."""

    rank: int
    """0 is the best."""
    ids: tuple[ThoughtId, ...]
    """The thoughts, the root first."""
    safety: float
    """S[P] in [0, 1], by the setting `aggregator`."""
    utility: float
    """U[P] >= 0."""
    cost: float
    """C[P] >= 0, in tokens."""
    gamma: float
    """What the frontier is ranked by, in the economy of the settings."""
    exact: bool
    """Whether the frontier is known to be complete."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run that answered."""

    answer: str
    """The text as a user sees it."""
    refused: bool
    """Whether it is a refusal, by the method's own account."""
    stop_reason: str
    """Why the search ended, a `StopReason`; of other methods a word of their own."""
    safety: float | None
    """S[P] in [-1, 1]; None where nothing was scored."""
    utility: float | None
    """U[P] >= 0; None where nothing was scored."""
    path: tuple[Thought, ...]
    """From the root to the answer; empty for methods without a graph."""
    spent: Mapping[str, Any] = field(default_factory=dict)
    """The accounts, as `Spending.to_json` gives them."""
    hint: str = ""
    """What to change where something went wrong."""
    reply: Reply = OWN_REPLY
    """What the answer's server said beside its text."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Further results of the method, as plain JSON; omitted from the line if empty."""
    ended: Ending = ""
    """How the search came to it; see `Ending`."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The last event of a run that ended with an error; nothing was answered."""

    error: str
    """The error's type; "Cancelled" for a run that was cancelled."""
    message: str
    """The error's message; of an error that is not EcoAlign's own only that it was unexpected."""
    spent: Mapping[str, Any] = field(default_factory=dict)
    """The accounts, as `Spending.to_json` gives them."""
    at: float = 0.0
    """Seconds since the run began, >= 0."""


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
    | Confirmed
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
    for name in ("detail", "redacted"):
        if body.get(name) in ({}, False):
            del body[name]
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
            found = body.setdefault("schema", 1)
            if found not in range(1, SCHEMA + 1):
                raise InputError(
                    f"the trace has schema {found!r}, and this version of EcoAlign reads schemas "
                    f"1 to {SCHEMA}: read it with the version that wrote it, "
                    f"{body.get('version')!r}, or a later one"
                )
        event: Event = _adapter(name).validate_python(body)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            f"not a line of a trace: {line[:60]!r} ({type(error).__name__}); "
            "a trace is the file that --trace writes, one JSON event a line"
        ) from None
    return event
