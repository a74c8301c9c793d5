"""From the messages of a request to a question, its images and what came before."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ecoalign.gateway.chat.call import ImageRef
from ecoalign.gateway.errors import ApiError, invalid

__all__ = ["Conversation", "check_raw", "image_urls", "read_messages"]

ROLES = ("system", "developer", "user", "assistant", "tool")
_MOST_URL = 4096


@dataclass(slots=True)
class Conversation:
    """The messages, read.

    Attributes:
        question: the text of the last user turn.
        images: those of all user turns, in order.
        context: all other turns, oldest first, each with its role.
    """

    question: str = ""
    images: list[ImageRef] = field(default_factory=list)
    context: list[str] = field(default_factory=list)


def read_messages(value: object, *, most_images: int) -> Conversation:
    """Read the messages.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    messages = _messages(value)
    asking = max((i for i, one in enumerate(messages) if one.get("role") == "user"), default=-1)
    if asking < 0:
        raise invalid("messages has no turn of the user: there is no question", "messages")
    if messages[-1].get("role") == "assistant":
        raise invalid(
            "the last message is the assistant's: an answer cannot be continued here, as all of "
            "it has to be scored",
            f"messages[{len(messages) - 1}].role",
        )
    read = Conversation()
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        role = _role(message, where)
        text = _content(message, role, where, read)
        if place == asking:
            read.question = text
            if not text.strip():
                raise invalid("the last user turn has no text: there is no question", where)
        else:
            calls = _tool_calls(message, where) if role == "assistant" else ""
            said = "\n".join(part for part in (text, calls) if part)
            if said.strip():
                read.context.append(f"{_named(message, role, where)}: {said}")
    if len(read.images) > most_images:
        raise invalid(
            f"the request has {len(read.images)} images; at most {most_images} are taken",
            read.images[most_images].param,
            "too_many_images",
        )
    return read


def check_raw(value: object) -> list[ImageRef]:
    """Check what is passed on as it came: no part of it may make the upstream fetch anything.

    Returns:
        The images that are addresses and not data.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    addresses: list[ImageRef] = []
    for place, message in enumerate(_messages(value)):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            where = f"messages[{place}].content[{index}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "image_url":
                url = _image_url(part, where)
                if url[:5].lower() != "data:":
                    addresses.append(ImageRef(url, f"{where}.image_url.url"))
            elif kind not in {"text", "refusal", "input_audio"}:
                raise _unknown_part(where)
    return addresses


def image_urls(value: object) -> list[str]:
    """The URLs of all images of messages that `check_raw` has passed."""
    urls = []
    for message in _messages(value):
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "image_url":
                urls.append(_image_url(part, "messages"))
    return urls


def _messages(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list) or not value:
        raise invalid("messages must be a list with at least one message", "messages")
    for place, message in enumerate(value):
        if not isinstance(message, dict):
            raise invalid("a message must be an object", f"messages[{place}]")
    return value


def _role(message: dict[str, object], where: str) -> str:
    role = message.get("role")
    if role not in ROLES:
        raise invalid(f"a role is one of {', '.join(ROLES)}", f"{where}.role")
    return str(role)


def _named(message: dict[str, object], role: str, where: str) -> str:
    name = message.get("name")
    if name is None:
        return "system" if role == "developer" else role
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise invalid("a name has 1 to 64 characters", f"{where}.name")
    return f"{'system' if role == 'developer' else role} ({name})"


def _content(message: dict[str, object], role: str, where: str, read: Conversation) -> str:
    content = message.get("content")
    if content is None:
        refusal = message.get("refusal")
        if role == "assistant" and isinstance(refusal, str):
            return refusal
        if role == "assistant" and message.get("tool_calls"):
            return ""
        raise invalid("a message needs content", f"{where}.content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid("content is text or a list of parts", f"{where}.content")
    texts = []
    for index, part in enumerate(content):
        place = f"{where}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in {"text", "refusal"}:
            text = part.get(kind)
            if not isinstance(text, str):
                raise invalid(f"the part has no {kind}", f"{place}.{kind}")
            texts.append(text)
        elif kind == "image_url" and role == "user":
            read.images.append(ImageRef(_image_url(part, place), f"{place}.image_url.url"))
        else:
            raise _unknown_part(place)
    return "\n".join(texts)


def _image_url(part: dict[str, object], where: str) -> str:
    image = part.get("image_url")
    # Some clients send the address itself in place of the object.
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url:
        raise invalid("an image needs a url", f"{where}.image_url.url")
    if url[:5].lower() != "data:" and len(url) > _MOST_URL:
        raise invalid("the URL of the image is too long", f"{where}.image_url.url")
    detail = image.get("detail") if isinstance(image, dict) else None
    if detail not in {None, "auto", "low", "high", "original"}:
        raise invalid("detail is auto, low, high or original", f"{where}.image_url.detail")
    return url


def _tool_calls(message: dict[str, object], where: str) -> str:
    calls = message.get("tool_calls")
    if calls is None:
        return ""
    if not isinstance(calls, list):
        raise invalid("tool_calls must be a list", f"{where}.tool_calls")
    return "\n".join(f"called {json.dumps(call, ensure_ascii=False)}" for call in calls)


def _unknown_part(where: str) -> ApiError:
    return invalid(
        "a part of a message is text, or in a turn of the user an image_url; nothing else is read",
        f"{where}.type",
        "unsupported_value",
    )
