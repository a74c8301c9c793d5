"""From what pydantic finds wrong with a request to one error of the API, with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ecoalign.gateway._errors import ApiError, invalid
from ecoalign.gateway.chat._parameters import CLOSED, ChatCompletionRequest
from ecoalign.gateway.chat._protocol import (
    CUSTOM,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    AssistantMessage,
    ImagePart,
    ImageUrl,
    Must,
    RefusalPart,
    TextPart,
    ToolMessage,
    UserMessage,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Parsed = TypeVar("Parsed")

Place = tuple[int | str, ...]


@dataclass(frozen=True)
class Wording:
    """How the faults of a request are told, by the names of its API.

    Attributes:
        models: whose fields a fault can be in; of fields with one name the last counts.
        closed: the objects that have nothing but their own fields, by the name of their parameter.
        items: the parameter that holds what is said, in a list.
        kinds: what is said of an entry of `items` that is of no known kind.
        parts: what is said of a part of one, likewise.
        image_is_object: whether an address is a field of its own in `image_url`.
    """

    models: tuple[type[BaseModel], ...]
    closed: Mapping[str, type[BaseModel]]
    items: str
    kinds: str
    parts: str
    image_is_object: bool = False

    @cached_property
    def rules(self) -> Mapping[str, Must]:
        """What each field must be, by its name."""
        return {name: rule for model in self.models for name, rule in _rules_of(model).items()}


CHAT = Wording(
    models=(
        *(ToolMessage, UserMessage, AssistantMessage, ImageUrl, TextPart, RefusalPart, ImagePart),
        ChatCompletionRequest,
    ),
    closed=CLOSED,
    items="messages",
    kinds="a role is one of system, developer, user, assistant, tool",
    parts="a part of a message is text, or in a turn of the user or of a tool an image_url; "
    "nothing else is read",
    image_is_object=True,
)

_OWN_NAMES = frozenset({"ecoalign", "stream_options"})
"""Objects of this API alone: what is not in them is unknown, and not only not taken."""


def checked(
    adapter: TypeAdapter[Parsed], value: object, name: str = "", wording: Wording = CHAT
) -> Parsed:
    """`value`, validated.

    Args:
        adapter: of what it should be.
        value: parsed JSON.
        name: the parameter that it is; "" for the whole body.
        wording: of the API.

    Raises:
        ApiError: 400 for the first thing that is wrong; its `param` is the place, as in
            "messages[0].content[1].image_url.url".
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    # A union reports an error for each of its types: the one that got furthest tells most.
    places = [_place(value, name, one, wording) for one in found]
    first = places[0]
    same = [index for index, place in enumerate(places) if place[: len(first)] == first]
    at = max(same, key=lambda index: len(places[index]))
    raise _refusal(found[at], places[at], wording) from None


def _place(value: object, name: str, error: ErrorDetails, wording: Wording) -> Place:
    """Where an error is, without the names that pydantic gives to the types of a union."""
    place: list[int | str] = [name] if name else []
    loc = error["loc"]
    for index, step in enumerate(loc):
        missing = error["type"] == "missing" and index == len(loc) - 1
        if isinstance(value, dict) and (step in value or missing):
            place.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            place.append(step)
            value = value[step]
    # Where any key may stand, its name says nothing.
    nested = place and (place[0] in wording.closed or place[0] == wording.items)
    return tuple(place) if nested else tuple(place[:1])


def _param(place: Place) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in place)
    return "".join(steps).removeprefix(".")


def _refusal(error: ErrorDetails, place: Place, wording: Wording) -> ApiError:
    kind, last = error["type"], place[-1] if place else ""
    # The address of an image is missed where it would be.
    whole = wording.image_is_object and last == "image_url"
    param = _param((*place, "url") if whole else place)
    if kind == CUSTOM:
        return invalid(error["msg"], param, error.get("ctx", {}).get("code"))
    owner = next((step for step in place[-2::-1] if isinstance(step, str)), "")
    if kind == "extra_forbidden" and owner not in wording.closed:
        return not_known(param)
    if kind == "extra_forbidden":
        names = ", ".join(_rules_of(wording.closed[owner]))
        message = f"no such parameter: {owner} has no option {str(last)[:40]!r}; it has {names}"
        return invalid(message, param, "unknown_parameter" if owner in _OWN_NAMES else UNSUPPORTED)
    if isinstance(last, int) and place[0] == wording.items:
        return _unknown_kind(kind, place, param, wording)
    rules = _rules_of(wording.closed[owner]) if owner in wording.closed else wording.rules
    if last not in rules:
        return _refusal(error, place[:-1], wording) if place else invalid(error["msg"], None)
    rule = rules[str(last)]
    text = f"{param} {rule.text}" if rule.text.startswith("must") else rule.text
    return invalid(text, param, rule.code)


def not_known(param: str) -> ApiError:
    """The refusal of what nobody here knows the effect of."""
    message = f"{param} is not taken: what it does to cost and safety is not known here"
    return invalid(message, param, UNSUPPORTED)


def _unknown_kind(kind: str, place: Place, param: str, wording: Wording) -> ApiError:
    """An entry, or a part of one, that is of no known kind or no object at all."""
    if len(place) > 2:
        return invalid(wording.parts, f"{param}.type", UNSUPPORTED_VALUE)
    if kind.startswith("union_tag"):
        by_role = wording is CHAT
        param = f"{param}.{'role' if by_role else 'type'}"
        return invalid(wording.kinds, param, None if by_role else UNSUPPORTED_VALUE)
    return invalid(f"an entry of {wording.items} must be an object", param)


@cache
def _rules_of(model: type[BaseModel]) -> dict[str, Must]:
    described = model.model_json_schema()["properties"]
    rules: dict[str, Must] = {}
    for name, field in model.model_fields.items():
        own = [one for one in field.metadata if isinstance(one, Must)]
        shown = field.alias or name
        rules[shown] = own[0] if own else Must(f"must be {_described(described[shown])}")
    return rules


def _described(schema: dict[str, Any]) -> str:
    """What a JSON schema asks for, in words."""
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return " or ".join(_described_one(one) for one in options)


def _described_one(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema:
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "string", "minLength": low, "maxLength": high}:
            return f"a text of {low} to {high} characters"
        case {"type": "string"}:
            return "a text"
        case {"type": "number" | "integer" as kind, "minimum": low, "maximum": high}:
            number = "a whole number" if kind == "integer" else "a number"
            return f"{number} from {low} to {high}"
        case {"type": "array", "items": {"type": "string" | "object" as kind}}:
            return "a list of texts" if kind == "string" else "a list of objects"
        case {"type": "array", "items": {"$ref": _}}:
            return "a list of objects"
        case {"type": "array"}:
            return "a list"
        case {"type": "object", "additionalProperties": {"type": "number"}}:
            return "an object of numbers"
    return "an object"
