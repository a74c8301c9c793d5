"""Requests to an OpenAI-compatible server: the JSON body, and what to leave out of it. No I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Literal

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest, ImagePart, Message, TextPart
from ecoalign.models._parameters import NESTED, thinking_budgets, why_dearer
from ecoalign.models._profile import Profile

# These would change what is reserved, or the shape of the answer.
RESERVED = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "stream"}
)


class Feature(StrEnum):
    """A part of a request that some servers reject, and that can be done without."""

    TEMPERATURE = "temperature"
    LOGPROBS = "logprobs"
    SEED = "seed"
    CAP = "cap"  # the usual name of the output cap; without it, the other one is used
    SCHEMA_BOUNDS = "schema_bounds"  # without them, lists and texts in JSON have no end
    JSON_SCHEMA = "json_schema"  # without it, json_object
    JSON_OBJECT = "json_object"  # without it, the schema in the prompt only
    SYSTEM = "system"  # the role; without it, the text is in the user's turn
    SYSTEM_WITH_IMAGES = "system_with_images"  # likewise, beside images only
    DETAIL = "detail"  # of an image
    EFFORT = "reasoning_effort"

    @property
    def words(self) -> str:
        """What a notice calls it."""
        return _WORDS[self]


_WORDS: Mapping[Feature, str] = {
    Feature.TEMPERATURE: "a temperature",
    Feature.LOGPROBS: "log-probabilities",
    Feature.SEED: "a seed",
    Feature.CAP: "the usual name of the output cap",
    Feature.SCHEMA_BOUNDS: "bounds in a JSON schema",
    Feature.JSON_SCHEMA: "response_format json_schema",
    Feature.JSON_OBJECT: "response_format json_object",
    Feature.SYSTEM: "the system role",
    Feature.SYSTEM_WITH_IMAGES: "the system role beside images",
    Feature.DETAIL: "an image's detail",
    Feature.EFFORT: "reasoning_effort",
}


_SYSTEM = re.compile(
    r"\bsystem\W{0,3}(role|message|prompt|instruction|turn)|\broles?\b.{0,60}\bsystem\b"
    r"|roles must alternate|incompatible with system|developer instruction",
    re.I | re.S,
)

_BLAME: Mapping[Feature, re.Pattern[str]] = {
    Feature.TEMPERATURE: re.compile(r"temperature", re.I),
    Feature.LOGPROBS: re.compile(r"log_?probs|log[ -]probabilit", re.I),
    Feature.SEED: re.compile(r"\bseed\b", re.I),
    Feature.CAP: re.compile(r"max_(completion_)?tokens", re.I),
    Feature.DETAIL: re.compile(
        r"image_url\W{1,3}detail|['\"`.]detail\b|\bdetail\b.{0,40}image", re.I
    ),
    Feature.EFFORT: re.compile(r"reasoning[_. ]effort", re.I),
    Feature.SYSTEM: _SYSTEM,
    Feature.SYSTEM_WITH_IMAGES: _SYSTEM,
}
"""What a server calls a feature that it blames. The dropped JSON modes are `_BLAME_SCHEMA`."""

# The other name of the output cap is tried only where this one is not known. A server that finds
# the cap too large may ignore the other name, and would then write without any cap.
_UNKNOWN = re.compile(
    r"(un|not |isn't )(supported|known|recogni[sz]ed|expected|permitted|allowed)|extra|instead",
    re.I,
)

_BLAME_SCHEMA = re.compile(
    r"response_?format|json.?(schema|object|mode)|\bschema|structured.?(output|gen|decod)"
    r"|guided|grammar|constrained|xgrammar|outlines",
    re.I,
)

_BOUNDS = frozenset({"maxItems", "minItems", "maxLength", "minLength", "minimum", "maximum"})
"""Keywords of a JSON schema that some strict modes do not know."""

_BLAME_BOUNDS = re.compile(
    rf"{'|'.join(_BOUNDS)}|(un|not |isn't )(supported|permitted|allowed).{{0,40}}(keyword|feature)"
    r"|(keyword|feature)s?\b.{0,40}(un|not |isn't )(supported|permitted|allowed)",
    re.I | re.S,
)

# A refusal of the content or of its length: sending it again differently is no use.
_FINAL = re.compile(
    r"content.?(filter|policy|management)|moderation|context.?(length|window|size)|too (long|large)"
    r"|quota|billing|invalid.?image|unsupported.?image|image_url",
    re.I,
)

# Servers blame a parameter in words of their own.
_CLIENT_WORDS: Mapping[str, str] = {
    "tools": r"tools?|functions?|tool[ _-]?call\w*",
    "tool_choice": r"tool[ _-]?choice",
    "response_format": r"response[ _-]?format|json[ _-]?\w*|structured[ _-]?outputs?|schema",
    "logprobs": r"(top[ _-]?)?log[ _-]?probs?",
    "top_logprobs": r"(top[ _-]?)?log[ _-]?probs?",
    "stop": r"stop([ _-]?(sequence|word|token)s?)?",
}

# What every request has, whoever asks.
_OURS = re.compile(r"max_(completion_)?tokens|messages|\bmodel\b", re.I)


EFFORT = "reasoning_effort"


def under(request: ChatRequest, profile: Profile) -> ChatRequest:
    """`request` as it is sent to a model of this profile; what is sent is what is bounded."""
    extra = {**profile.extra_body, **request.extra}
    if profile.reasoning_effort is not None:
        extra = {EFFORT: profile.reasoning_effort, **extra}
    messages = request.messages
    if profile.detail is not None:
        messages = tuple(with_detail(message, profile.detail) for message in messages)
    most = min(request.top_logprobs, profile.logprobs)
    return replace(request, messages=messages, top_logprobs=most, extra=extra)


def with_detail(message: Message, detail: Literal["auto", "low", "high"]) -> Message:
    """The message, with its images in this detail."""
    parts = message.parts
    return replace(
        message,
        parts=tuple(replace(p, detail=detail) if isinstance(p, ImagePart) else p for p in parts),
    )


def lacking(profile: Profile) -> frozenset[Feature]:
    """What a server of this profile is never sent."""
    never: set[Feature] = set()
    if profile.schema_mode != "json_schema":
        never.add(Feature.JSON_SCHEMA)
    if profile.schema_mode == "prompt":
        never.add(Feature.JSON_OBJECT)
    if not profile.seed:
        never.add(Feature.SEED)
    if profile.system == "user":
        never |= {Feature.SYSTEM, Feature.SYSTEM_WITH_IMAGES}
    return frozenset(never)


_SECRETS = frozenset(
    {"api_key", "apikey", "api-key", "authorization", "access_token", "password", "secret"}
)
"""Names of what is not to be in a trace or a profile."""


def check_extra_body(extra: Mapping[str, object], thinking: int) -> None:
    """Name an operator's own parameters that can cost more than is reserved.

    Args:
        extra: the `extra_body` of a profile or of the settings.
        thinking: tokens of hidden reasoning for which the caps leave room.

    Raises:
        InputError: there is one, or one that holds a key.
    """
    if (secret := _secret_in(extra)) is not None:
        raise InputError(
            f"extra_body sets {secret}: keys are not settings, which are printed and saved in "
            "traces; set an environment variable, and give its name as an endpoint's key_env"
        )
    for name, value in extra.items():
        if (why := why_dearer(name, value)) is not None:
            raise InputError(
                f"extra_body sets {name}, with which a call can cost more than its bound: {why}. "
                "Leave it out"
            )
        if name.lower() in NESTED and isinstance(value, Mapping):
            check_extra_body(value, thinking)
    for _, name, tokens in thinking_budgets(extra):
        if not 0 <= tokens <= thinking:  # below 0 it is as much as the model likes
            raise InputError(
                f"extra_body sets {name} to {tokens} tokens of hidden reasoning, but every cap "
                f"leaves room for {thinking}: set thinking = {tokens}, or a smaller budget"
            )


def _secret_in(value: object) -> str | None:
    """The name, anywhere in the parameters, under which a key is given; None where none is."""
    if isinstance(value, list):
        return next(filter(None, map(_secret_in, value)), None)
    if not isinstance(value, Mapping):
        return None
    for name, entry in value.items():
        if str(name).lower() in _SECRETS and isinstance(entry, str) and entry:
            return str(name)
        if (found := _secret_in(entry)) is not None:
            return found
    return None


def features_of(request: ChatRequest) -> frozenset[Feature]:
    """The features that `request` uses and can do without: not what its client asked for."""
    asked = request.client.keys()
    used = {Feature.CAP}
    if "temperature" not in asked:
        used.add(Feature.TEMPERATURE)
    if request.top_logprobs > 0 and not asked & {"logprobs", "top_logprobs"}:
        used.add(Feature.LOGPROBS)
    if request.seed is not None and "seed" not in asked:
        used.add(Feature.SEED)
    if request.schema is not None and "response_format" not in asked:
        used |= {Feature.JSON_SCHEMA, Feature.JSON_OBJECT}
        if _unbounded(request.schema) != request.schema:
            used.add(Feature.SCHEMA_BOUNDS)
    if EFFORT in request.extra and EFFORT not in asked:
        used.add(Feature.EFFORT)
    images = [image for message in request.messages for image in message.images]
    if any(message.role == "system" for message in request.messages):
        used.add(Feature.SYSTEM_WITH_IMAGES if images else Feature.SYSTEM)
    if images:
        used.add(Feature.DETAIL)
    return frozenset(used)


def next_to_drop(message: str, left: frozenset[Feature]) -> Feature | None:
    """Which of the features still in use a rejected request should be sent without.

    `message` is what the server said. Only what it names is dropped: an error that blames nothing
    says nothing about any feature. None says that nothing is worth another try.
    """
    for feature, pattern in _BLAME.items():
        if feature not in left or pattern.search(message) is None:
            continue
        if feature is not Feature.CAP or unknown_name(message):
            return feature
    if _BLAME_SCHEMA.search(message) is None:
        return None
    if {Feature.SCHEMA_BOUNDS, Feature.JSON_SCHEMA} <= left and _BLAME_BOUNDS.search(message):
        return Feature.SCHEMA_BOUNDS
    return next((f for f in (Feature.JSON_SCHEMA, Feature.JSON_OBJECT) if f in left), None)


def unknown_name(message: str) -> bool:
    """Whether a server that blames a parameter does not know it, rather than its value."""
    return _UNKNOWN.search(message) is not None


def to_blame(message: str, param: str, client: Mapping[str, object]) -> str | None:
    """Which of a client's parameters a server rejected, by what it said.

    Args:
        message: all that it said.
        param: the parameter that it named in a field of its own; "" if none.
        client: the parameters that it was sent.

    Returns:
        The parameter's name; all of them, joined by ", ", where the server blames none; None where
        it blames something else.
    """
    exact = re.split(r"[.\[]", param)[0]
    if exact in client:
        return exact
    if not client or _FINAL.search(message) is not None:
        return None
    named = [name for name in client if _names(message, name)]
    if named:
        return max(named, key=len)
    return None if _OURS.search(message) is not None else ", ".join(sorted(client))


def _names(words: str, name: str) -> bool:
    pattern = _CLIENT_WORDS.get(name) or re.escape(name).replace("_", "[ _-]?")
    return re.search(rf"(?<![A-Za-z0-9_]){pattern}(?![A-Za-z0-9_])", words, re.I) is not None


_RUN = re.compile(r"[^\W\d_]+|\d{1,3}")


def least_tokens(request: ChatRequest, profile: Profile) -> int:
    """The fewest tokens that a model can make of the request's text and of its images.

    No tokenizer in use joins two runs of letters, or more than three digits; where the bytes a
    token were measured, a fifth is left for what is not English. The least image tokens are those
    of a cell of 28 pixels each, up to the 64 of the most thrifty families; Llama 3.2 attends to an
    image beside its prompt, which holds one token for it.
    """
    texts = [message.text for message in request.messages]
    words = sum(len(_RUN.findall(text)) for text in texts)
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    rate = profile.bytes_per_token
    measured = 0.8 * size / rate if rate > 1.0 else 0.0
    most = 1 if profile.family == "llama-vision" else 64
    images = (image for message in request.messages for image in message.images)
    cells = sum(min(most, (i.width // 28) * (i.height // 28)) for i in images)
    return max(words, int(measured)) + cells


def body_of(
    request: ChatRequest, model: str, *, dropped: frozenset[Feature], cap: str
) -> dict[str, object]:
    """The JSON body of `request`, without the `dropped` features.

    `cap` is the usual name of the output cap here, "max_tokens" or "max_completion_tokens".

    Raises:
        InputError: `extra` or `client` sets a parameter that EcoAlign itself accounts for.
    """
    clash = RESERVED & (request.extra.keys() | request.client.keys())
    if clash:
        raise InputError(
            f"extra parameters may not set {', '.join(sorted(clash))}: the budget rests on them"
        )
    if Feature.CAP in dropped:
        cap = "max_tokens" if cap == "max_completion_tokens" else "max_completion_tokens"
    written = request.schema is not None and Feature.JSON_SCHEMA in dropped
    given = _with_schema(request) if written else request.messages
    if dropped & {Feature.SYSTEM, Feature.SYSTEM_WITH_IMAGES} & features_of(request):
        given = _folded(given)
    messages = [_message(message, detail=Feature.DETAIL not in dropped) for message in given]
    body: dict[str, object] = {"model": model, "messages": messages, cap: request.max_tokens}
    if Feature.TEMPERATURE not in dropped:
        body["temperature"] = request.temperature
    if request.seed is not None and Feature.SEED not in dropped:
        body["seed"] = request.seed
    if request.top_logprobs > 0 and Feature.LOGPROBS not in dropped:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        if Feature.JSON_SCHEMA not in dropped:
            bare = Feature.SCHEMA_BOUNDS in dropped
            schema = _unbounded(request.schema) if bare else dict(request.schema)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        elif Feature.JSON_OBJECT not in dropped:
            body["response_format"] = {"type": "json_object"}
    extra = dict(request.extra)
    if Feature.EFFORT in dropped:
        extra.pop(EFFORT, None)
    return body | extra | dict(request.client)


def _unbounded(schema: object) -> object:
    """A JSON schema without `_BOUNDS`; properties of these names stay."""
    if isinstance(schema, list):
        return [_unbounded(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        name: {key: _unbounded(inner) for key, inner in value.items()}
        if name == "properties" and isinstance(value, Mapping)
        else _unbounded(value)
        for name, value in schema.items()
        if name not in _BOUNDS
    }


def _with_schema(request: ChatRequest) -> tuple[Message, ...]:
    """The messages with the schema written out at the end of the last one."""
    schema = json.dumps(request.schema, ensure_ascii=False)
    text = f"Answer with one JSON object and nothing else. It must fit this JSON schema: {schema}"
    last = request.messages[-1]
    return (*request.messages[:-1], Message(last.role, (*last.parts, TextPart(text))))


def _folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without a system role: its text begins the user's first turn."""
    system = tuple(p for m in messages if m.role == "system" for p in m.parts)
    rest = [message for message in messages if message.role != "system"]
    at = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if at is None:
        return (Message("user", system), *rest)
    rest[at] = Message("user", (*system, *rest[at].parts))
    return tuple(rest)


def _clean(text: str) -> str:
    """`text` without lone surrogates, which cannot be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _message(message: Message, *, detail: bool) -> dict[str, object]:
    if not message.images:  # plain strings: some servers take nothing else for text
        return {"role": message.role, "content": _clean(message.text)}
    parts: list[TextPart | ImagePart] = []
    for part in message.parts:
        if parts and isinstance(part, TextPart) and isinstance(parts[-1], TextPart):
            # Templates write parts one after the other; a line break is what `text` has there.
            parts[-1] = TextPart(f"{parts[-1].text}\n{part.text}")
        else:
            parts.append(part)
    return {"role": message.role, "content": [_part(part, detail=detail) for part in parts]}


def _part(part: TextPart | ImagePart, *, detail: bool) -> dict[str, object]:
    if isinstance(part, ImagePart):
        data = base64.b64encode(part.data).decode("ascii")
        image = {"url": f"data:{part.media_type};base64,{data}"}
        return {
            "type": "image_url",
            "image_url": {**image, "detail": part.detail} if detail else image,
        }
    return {"type": "text", "text": _clean(part.text)}
