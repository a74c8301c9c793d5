"""Proposer: the next actions worth a look, each with a forecast of what it leads to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ecoalign.graph import ActionKind, Candidate, Forecast, Region
from ecoalign.graph._thoughts import Thought, ThoughtId
from ecoalign.prompts._quoting import DATA_RULE
from ecoalign.prompts._reading import bad_response, finite, loose_json
from ecoalign.prompts.full._common import (
    BEST,
    SAFETY_SCALE,
    Sections,
    TokenLimits,
    chat,
    object_schema,
    safety_of,
    utility_of,
)
from ecoalign.prompts.requests import ProposeRequest, ProposeResult

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion

__all__ = ["SCHEMA", "parse", "render"]

_SPAN = 1000.0  # regions travel as whole thousandths: one token a number, and what models know

_NUMBERS = {"type": "array", "items": {"type": "integer"}}

SCHEMA = object_schema(
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

_SYSTEM = (
    "You plan the cheapest safe way to a good answer about images: every token costs. " + DATA_RULE
)


def render(request: ProposeRequest, limits: TokenLimits) -> ChatRequest:
    """The proposing call."""
    quoted = (
        Sections()
        .add_context(request.context)
        .add("REQUEST", request.question)
        .add_thoughts("THOUGHTS", request.path)
        .add_thoughts("OTHERS", request.others)
        .render()
    )
    per_candidate = limits.propose + limits.forecast * (request.steps + 1)
    return chat(
        "propose",
        _SYSTEM,
        request.views,
        f"{quoted}\n{_task(request)}",
        max_tokens=32 + per_candidate * max(1, request.limit),
        schema=SCHEMA,
    )


def _task(request: ProposeRequest) -> str:
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


def parse(request: ProposeRequest, completion: Completion) -> ProposeResult:
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
    cut = repaired and completion.finish_reason != "stop"
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
