"""The messages of a request that is passed on: what was read of them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecoalign.gateway._errors import invalid
from ecoalign.gateway._images import ImageRef
from ecoalign.gateway.chat._protocol import (
    MESSAGES,
    AssistantMessage,
    ImagePart,
    Json,
    Message,
    RefusalPart,
    TextPart,
)
from ecoalign.gateway.chat._request import check_count, images_of
from ecoalign.gateway.chat._validation import checked, not_known
from ecoalign.models import THOUGHT_FIELDS

_KNOWN = frozenset({"role", "content", "name", "refusal", "tool_calls", "tool_call_id"})

_SAID = frozenset(
    {"annotations", "audio", "function_call", "index", "provider_specific_fields"}
    | {"thinking_blocks", *THOUGHT_FIELDS}
)
"""What servers put into an answer, and clients send back with it: left out."""

_PART = frozenset({"type", "text", "refusal", "image_url"})

_IMAGE = frozenset({"url", "detail"})


def passed_messages(value: object, *, max_images: int) -> tuple[list[Json], list[ImageRef]]:
    """The messages as they are sent, and their images.

    Raises:
        ApiError: 400, naming what is wrong, or what nobody here knows the cost of: a hint to a
            cache, or pixels of an image. None may make the upstream fetch anything.
    """
    messages = checked(MESSAGES, value, "messages")
    images = [one for index, message in enumerate(messages) for one in images_of(message, index)]
    check_count(images, max_images)
    given: Any = value
    sent = [_sent(one, given[index], f"messages[{index}]") for index, one in enumerate(messages)]
    return sent, images


def _sent(message: Message, given: Mapping[str, object], where: str) -> Json:
    _only(given, _KNOWN | _SAID, where)
    sent: Json = {"role": message.role}
    content = message.content
    if isinstance(content, list):
        parts: Any = given["content"]
        sent["content"] = [
            _part(part, parts[index], f"{where}.content[{index}]")
            for index, part in enumerate(content)
        ]
    elif isinstance(message, AssistantMessage):
        sent |= {"content": content} if "content" in given else {}
    else:
        # Null is none, which servers do not take from others than the assistant.
        sent["content"] = content or ""
    for name in ("name", "refusal", "tool_call_id"):
        if given.get(name) is not None:
            sent[name] = _text(given[name], f"{where}.{name}")
    if isinstance(message, AssistantMessage) and message.tool_calls:
        sent["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    return sent


def _part(part: TextPart | RefusalPart | ImagePart, given: object, where: str) -> Json:
    _only(given, _PART, where)
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, RefusalPart):
        return {"type": "refusal", "refusal": part.refusal}
    image = given["image_url"] if isinstance(given, Mapping) else None
    if isinstance(image, Mapping):
        _only(image, _IMAGE, f"{where}.image_url")
    detail = part.image_url.detail
    return {
        "type": "image_url",
        "image_url": {"url": part.image_url.url} | ({"detail": detail} if detail else {}),
    }


def _call(call: object, where: str) -> Json:
    fields = call if isinstance(call, Mapping) else {}
    function = fields.get("function")
    if fields.get("type", "function") != "function" or not isinstance(function, Mapping):
        raise invalid(f"{where} must be the call of a function tool", where)
    return {
        "id": _text(fields.get("id"), f"{where}.id"),
        "type": "function",
        "function": {
            name: _text(function.get(name), f"{where}.function.{name}")
            for name in ("name", "arguments")
        },
    }


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"{where} must be a text", where)
    return value


def _only(given: object, known: frozenset[str], where: str) -> None:
    for name, value in given.items() if isinstance(given, Mapping) else ():
        if name not in known and value is not None:
            raise not_known(f"{where}.{str(name)[:40]}")
