"""Requests to an OpenAI-compatible server: the JSON body, and what to leave out of it. No I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from enum import StrEnum

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest, ImagePart, Message, TextPart

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
    JSON_SCHEMA = "json_schema"  # without it, json_object
    JSON_OBJECT = "json_object"  # without it, the schema in the prompt only


_BLAME = {
    Feature.TEMPERATURE: re.compile(r"temperature", re.I),
    Feature.LOGPROBS: re.compile(r"log_?probs", re.I),
    Feature.SEED: re.compile(r"\bseed\b", re.I),
    Feature.CAP: re.compile(r"max_(completion_)?tokens", re.I),
}

# The other name of the output cap is tried only where this one is not known. A server that finds
# the cap too large may ignore the other name, and would then write without any cap.
_CAP_UNKNOWN = re.compile(
    r"(un|not |isn't )(supported|known|recogni[sz]ed|expected|permitted|allowed)|extra|instead",
    re.I,
)

_BLAME_SCHEMA = re.compile(
    r"response_format|json|schema|structured.?output|guided|grammar|constrained", re.I
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
    return frozenset(used)


def next_to_drop(message: str, left: frozenset[Feature]) -> Feature | None:
    """Which of the features still in use a rejected request should be sent without.

    `message` is what the server said. A message that names no known parameter is attributed to the
    JSON output, the feature that servers lack most often; None says that nothing is worth another
    try.
    """
    for feature, pattern in _BLAME.items():
        if feature not in left or pattern.search(message) is None:
            continue
        if feature is not Feature.CAP or _CAP_UNKNOWN.search(message) is not None:
            return feature
    if _BLAME_SCHEMA.search(message) is None and _FINAL.search(message) is not None:
        return None
    return next((f for f in (Feature.JSON_SCHEMA, Feature.JSON_OBJECT) if f in left), None)


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
    messages = [_message(message) for message in request.messages]
    body: dict[str, object] = {"model": model, "messages": messages, cap: request.max_tokens}
    if Feature.TEMPERATURE not in dropped:
        body["temperature"] = request.temperature
    if request.seed is not None and Feature.SEED not in dropped:
        body["seed"] = request.seed
    if request.top_logprobs > 0 and Feature.LOGPROBS not in dropped:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.schema is not None:
        if Feature.JSON_SCHEMA not in dropped:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(request.schema)},
            }
        else:
            body["messages"] = [_message(m) for m in _with_schema(request)]
            if Feature.JSON_OBJECT not in dropped:
                body["response_format"] = {"type": "json_object"}
    return body | dict(request.extra) | dict(request.client)


def _with_schema(request: ChatRequest) -> tuple[Message, ...]:
    """The messages with the schema written out at the end of the last one."""
    schema = json.dumps(request.schema, ensure_ascii=False)
    text = f"Answer with one JSON object and nothing else. It must fit this JSON schema: {schema}"
    last = request.messages[-1]
    return (*request.messages[:-1], Message(last.role, (*last.parts, TextPart(text))))


def _clean(text: str) -> str:
    """`text` without lone surrogates, which cannot be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _message(message: Message) -> dict[str, object]:
    if not message.images:  # plain strings: some servers take nothing else for text
        return {"role": message.role, "content": _clean(message.text)}
    return {"role": message.role, "content": [_part(part) for part in message.parts]}


def _part(part: TextPart | ImagePart) -> dict[str, object]:
    if isinstance(part, ImagePart):
        data = base64.b64encode(part.data).decode("ascii")
        url = f"data:{part.media_type};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url, "detail": part.detail}}
    return {"type": "text", "text": _clean(part.text)}
