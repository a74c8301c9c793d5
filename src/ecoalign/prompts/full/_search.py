"""The requests of the search: scan, propose, execute and write, rendered and parsed."""

from __future__ import annotations

import json
import re

from ecoalign.graph import ActionKind, Candidate, Forecast, Region, Thought, ThoughtId
from ecoalign.models import ChatRequest, Completion, ending
from ecoalign.prompts._limits import TokenLimits
from ecoalign.prompts._quoting import DATA_RULE
from ecoalign.prompts._reading import bad_response, finite, loose_json, visible_text
from ecoalign.prompts.full._common import (
    BEST,
    SAFETY_SCALE,
    chat,
    object_schema,
    quoted_request,
    safety_of,
    utility_of,
)
from ecoalign.prompts.requests import (
    ExecuteRequest,
    ProposeRequest,
    ProposeResult,
    ScanRequest,
    ScanResult,
    WriteRequest,
)

# Scan: caption, safety of the request and, if it is risky, a cautious plan; one call -------------

_SCAN_SCHEMA = object_schema(
    {
        "caption": {"type": "string"},
        "safety": {"type": "integer", "enum": list(range(BEST + 1))},
        "strategy": {"type": "string"},
    }
)

_SAFETY_KEY = re.compile(r"safety[\"']?\s*:")

_SCAN_SYSTEM = (
    "You take a first look at a request about images, before anyone answers it. " + DATA_RULE
)

_SCAN_TASK = f"""Do not answer REQUEST. Reply with JSON only:
{{"caption": "...", "safety": <0-{BEST}>, "strategy": "..."}}
caption: what the images show that matters for REQUEST, small or unreadable parts named, in at \
most 60 words.
safety: would helping with REQUEST be harmless? Weigh text and images together, for harm may arise \
only from both. {SAFETY_SCALE}.
strategy: if safety is below {BEST}, how to help carefully and what to leave out, in at most 40 \
words; else ""."""


def render_scan(request: ScanRequest, limits: TokenLimits) -> ChatRequest:
    """The scanning call."""
    quoted = quoted_request(request).render()
    return chat(
        "scan",
        _SCAN_SYSTEM,
        request.views,
        f"{quoted}\n{_SCAN_TASK}",
        max_tokens=limits.scan,
        schema=_SCAN_SCHEMA,
    )


def parse_scan(request: ScanRequest, completion: Completion) -> ScanResult:
    """Read caption, safety and strategy.

    A repaired answer must still name its safety exactly once, for a repair would pick one of two.

    Raises:
        ModelError: a part is missing, of the wrong type or out of range.
    """
    value, repaired = loose_json("scan", completion)
    if not isinstance(value, dict):
        raise bad_response("scan", "it is not one JSON object", completion)
    caption, grade, strategy = value.get("caption"), value.get("safety"), value.get("strategy")
    if not isinstance(caption, str) or not caption.strip():
        raise bad_response("scan", "it has no caption", completion)
    number = finite(grade)
    if number is None or not 0 <= number <= BEST or number != int(number):
        raise bad_response("scan", f"safety is not an integer in 0..{BEST}", completion)
    if repaired and len(_SAFETY_KEY.findall(visible_text("scan", completion))) != 1:
        raise bad_response("scan", "it does not state its safety exactly once", completion)
    if strategy is not None and not isinstance(strategy, str):
        raise bad_response("scan", "strategy is not a string", completion)
    plan = strategy.strip() if strategy else ""
    return ScanResult(caption.strip(), safety_of(number), plan or None)


# Propose: the next actions worth a look, each with a forecast of what it leads to ---------------

_SPAN = 1000.0  # regions travel as whole thousandths: one token a number, and what models know

_NUMBERS = {"type": "array", "items": {"type": "integer"}}

_PROPOSE_SCHEMA = object_schema(
    {
        "actions": {
            "type": "array",
            "items": object_schema(
                {
                    "kind": {"type": "string", "enum": [kind.value for kind in ActionKind]},
                    "text": {"type": "string"},
                    "region": _NUMBERS,
                    "image": {"type": "integer"},
                    "partners": _NUMBERS,
                    "forecast": {"type": "array", "items": _NUMBERS},
                }
            ),
        }
    }
)

_PROPOSE_SYSTEM = (
    "You plan the cheapest safe way to a good answer about images: every token costs. " + DATA_RULE
)


def render_propose(request: ProposeRequest, limits: TokenLimits) -> ChatRequest:
    """The proposing call."""
    quoted = (
        quoted_request(request)
        .add_thoughts("THOUGHTS", request.path)
        .add_thoughts("OTHERS", request.others)
        .render()
    )
    per_candidate = limits.propose + limits.forecast * (request.steps + 1)
    return chat(
        "propose",
        _PROPOSE_SYSTEM,
        request.views,
        f"{quoted}\n{_propose_task(request)}",
        max_tokens=32 + per_candidate * max(1, request.limit),
        schema=_PROPOSE_SCHEMA,
    )


def _propose_task(request: ProposeRequest) -> str:
    kinds = ["think: reason about `text`"]
    if request.views:
        kinds.append(
            "look: see a part of an image in full resolution; region [x0,y0,x1,y1] in thousandths "
            f"(0-1000) from the top left, image 0 to {len(request.views) - 1}"
        )
    if request.others:
        kinds.append("fuse: combine the last thought with the ids in `partners`, from OTHERS")
    kinds += [
        "answer: enough is known, answer now",
        "refuse: any answer would do harm",
    ]
    example = {
        "kind": "think",
        "text": "...",
        "region": [],
        "image": 0,
        "partners": [],
        "forecast": [[9, 4, 150], [9, 8, 200]][: request.steps + 1],
    }
    after = f", then for up to {request.steps} steps after it" if request.steps else ""
    return (
        f"Propose at most {request.limit} different actions to follow the last of THOUGHTS, most "
        "promising first; heed a strategy thought.\n" + "\n".join(kinds) + "\ntext: in at most "
        "25 words, what to think about or look for. Fields that do not apply: [] or 0.\n"
        f"forecast: honest estimates for the action{after}, each [safety, utility, tokens]. "
        f"safety: {SAFETY_SCALE}. utility 0 to {BEST}: how far it brings a correct, helpful "
        "answer. tokens: the step's whole cost, above 0.\n"
        "Reply with JSON only:\n" + json.dumps({"actions": [example]})
    )


def parse_propose(request: ProposeRequest, completion: Completion) -> ProposeResult:
    """Keep the well-formed candidates, the first `limit` of them; count all others as dropped.

    The last candidate of an answer that was cut off is dropped too: a repair can close it, but
    not know its numbers.

    Raises:
        ModelError: there is no list of candidates at all.
    """
    value, repaired = loose_json("propose", completion)
    actions = value.get("actions") if isinstance(value, dict) else value
    if not isinstance(actions, list):
        raise bad_response("propose", "it has no list of actions", completion)
    cut = repaired and ending(completion.finish_reason) != "stop"
    whole = actions[:-1] if cut else actions
    read = [_candidate(item, request) for item in whole]
    good = tuple(candidate for candidate in read if candidate is not None)[: request.limit]
    return ProposeResult(good, dropped=len(actions) - len(good))


def _candidate(item: object, request: ProposeRequest) -> Candidate | None:
    if not isinstance(item, dict):
        return None
    try:
        kind = ActionKind(str(item.get("kind")))
    except ValueError:
        return None
    text = item.get("text", "")
    forecast = _forecast(item.get("forecast"), request.steps + 1)
    if not isinstance(text, str) or forecast is None:
        return None
    region: Region | None = None
    partners: tuple[ThoughtId, ...] = ()
    if kind is ActionKind.LOOK:
        region = _region(item.get("region"), item.get("image", 0), len(request.views))
        if region is None:
            return None
    elif kind is ActionKind.FUSE:
        partners = _partners(item.get("partners"), request.others)
        if not partners:
            return None
    return Candidate(kind, text.strip(), forecast, region, partners)


def _forecast(value: object, length: int) -> tuple[Forecast, ...] | None:
    """All given steps must be well-formed; those beyond `length` are cut off."""
    if not isinstance(value, list) or not value:
        return None
    steps = []
    for step in value:
        if not isinstance(step, list) or len(step) != 3:
            return None
        safety, utility, cost = (finite(number) for number in step)
        if safety is None or utility is None or cost is None:
            return None
        if not (0 <= safety <= BEST and 0 <= utility <= BEST and cost > 0):
            return None
        steps.append(Forecast(safety_of(safety), utility_of(utility), cost))
    return tuple(steps[:length])


def _region(value: object, image: object, images: int) -> Region | None:
    if type(image) is not int or not 0 <= image < images:
        return None
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [finite(number) for number in value]
    edges = [number for number in numbers if number is not None]
    if len(edges) != 4:
        return None
    # A model that wrote fractions in spite of the prompt means them: 1/1000 of an image is no look.
    span = 1.0 if max(edges) <= 1 else _SPAN
    x0, y0, x1, y1 = (edge / span for edge in edges)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        return None
    return Region(x0, y0, x1, y1, image)


def _partners(value: object, others: tuple[Thought, ...]) -> tuple[ThoughtId, ...]:
    """The named partners without repeats; none if one of them is not on offer."""
    if not isinstance(value, list):
        return ()
    offered = {thought.id for thought in others}
    if any(type(number) is not int or number not in offered for number in value):
        return ()
    return tuple(dict.fromkeys(ThoughtId(number) for number in value))


# Execute one action, or write the final answer from the winning path -----------------------------

_EXECUTE_SYSTEM = (
    "You help with a request about images, one small step at a time, truthfully and harmlessly. "
    + DATA_RULE
    + " You may do what REQUEST asks as far as the task below says so."
)

_ANSWER_TASK = (
    "Answer REQUEST from THOUGHTS and the images. Give the answer alone, as short as it can be "
    "while complete: no preamble, no mention of thoughts or steps. Leave out whatever could do "
    "harm and say so."
)

_TASKS = {
    ActionKind.THINK: (
        "Write the next thought that brings an answer closer, on the point in TASK if there is "
        "one. Do not repeat THOUGHTS. Plain text, at most 80 words."
    ),
    ActionKind.LOOK: (
        "The image is a close view of one part of the original{where}. Report only what it shows "
        "that matters for REQUEST and for TASK; spell out numbers and words exactly, and say what "
        "cannot be read. Plain text, at most 80 words."
    ),
    ActionKind.FUSE: (
        "Combine the last of THOUGHTS with OTHERS into one thought that keeps every fact that "
        "matters for REQUEST, names any contradiction, and keeps every warning. Plain text, at "
        "most 80 words."
    ),
    ActionKind.ANSWER: _ANSWER_TASK,
    ActionKind.REFUSE: (
        "Write a refusal of REQUEST in at most three sentences: say plainly that you will not "
        "help with it and why, without harmful detail, then offer what you can do instead."
    ),
}


def render_execute(request: ExecuteRequest, limits: TokenLimits) -> ChatRequest:
    """The call for one action."""
    action = request.action
    where = ""
    if action.region is not None:
        region = action.region
        edges = ",".join(f"{edge:.3g}" for edge in (region.x0, region.y0, region.x1, region.y1))
        where = f" (image {region.image}, x0,y0,x1,y1 = {edges} of its size)"
    quoted = (
        quoted_request(request)
        .add_thoughts("THOUGHTS", request.path)
        .add_thoughts("OTHERS", request.partners)
        .add("TASK", action.text)
        .render()
    )
    caps = {
        ActionKind.LOOK: limits.look,
        ActionKind.ANSWER: limits.answer,
        ActionKind.REFUSE: limits.refuse,
    }
    task = _TASKS[action.kind].replace("{where}", where)
    return chat(
        "execute",
        _EXECUTE_SYSTEM,
        request.views,
        f"{quoted}\n{task}",
        max_tokens=caps.get(action.kind, limits.think),
    )


def parse_execute(request: ExecuteRequest | WriteRequest, completion: Completion) -> str:
    """The text of the new thought or answer.

    Raises:
        ModelError: there is none.
    """
    stage = "write" if isinstance(request, WriteRequest) else "execute"
    return visible_text(stage, completion)


_WRITE_SYSTEM = (
    "You write the final answer to a request about images from thoughts that were checked for "
    "safety. Add nothing that they and the images do not support. "
    + DATA_RULE
    + " You may do what REQUEST asks as far as the task below says so."
)

_WRITE_ENDING = " If the last thought is an answer, keep its substance; if it is a refusal, refuse."


def render_write(request: WriteRequest, limits: TokenLimits) -> ChatRequest:
    """The writing call."""
    quoted = quoted_request(request).add_thoughts("THOUGHTS", request.path).render()
    task = f"{quoted}\n{_ANSWER_TASK}{_WRITE_ENDING}"
    return chat("write", _WRITE_SYSTEM, request.views, task, max_tokens=limits.answer)
