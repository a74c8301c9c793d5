"""One request for a chat completion: its body, its parameters, and its messages as a question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ecoalign.gateway._errors import ApiError, invalid
from ecoalign.gateway._images import ImageRef
from ecoalign.gateway._limits import JsonError, parse_json
from ecoalign.gateway.chat._protocol import (
    CAPS,
    MESSAGES,
    PARAMETERS,
    PASSED_MESSAGES,
    REFUSED,
    AssistantMessage,
    ChatParameters,
    ImagePart,
    Message,
    RefusalPart,
    TextPart,
)
from ecoalign.gateway.chat._validation import checked
from ecoalign.models import SamplingParams

_OWN = frozenset(
    {"messages", "model", "stream", "stream_options", "ecoalign", "n", "modalities", *CAPS}
)
"""Parameters that are never passed on to the model by a method."""

_LONGEST_NAME = 128


def read_body(content: bytes) -> dict[str, object]:
    """The JSON object of a request.

    Raises:
        ApiError: 400.
    """
    try:
        value = parse_json(content)
    except JsonError as error:
        raise invalid(str(error), None, "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body of the request must be a JSON object", None)
    return value


def read_parameters(body: Mapping[str, object]) -> ChatParameters:
    """Everything in a request but its messages.

    Raises:
        ApiError: 400, naming the parameter.
    """
    read = checked(PARAMETERS, body)
    for name, value in (read.model_extra or {}).items():
        if value is None:
            continue
        if name in REFUSED:
            message = f"{name}: {REFUSED[name]}"
            raise ApiError(400, message, param=name, code="unsupported_parameter")
        if len(name) > _LONGEST_NAME:
            raise invalid("the name of a parameter is too long", name[:40])
    caps = {cap for cap in (read.max_tokens, read.max_completion_tokens) if cap is not None}
    if len(caps) > 1:
        raise invalid("max_tokens and max_completion_tokens differ; give one", "max_tokens")
    if read.stream_options is not None and not read.stream:
        raise invalid("stream_options goes with stream: true", "stream_options")
    return read


def cap_of(parameters: ChatParameters) -> int | None:
    """The most tokens of an answer that the client asks for."""
    return parameters.max_completion_tokens or parameters.max_tokens


def sampling_of(parameters: ChatParameters, body: Mapping[str, object]) -> SamplingParams:
    """What is passed on with the calls that write an answer."""
    params = {n: value for n, value in body.items() if value is not None and n not in _OWN}
    return SamplingParams(cap_of(parameters), params)


@dataclass(slots=True)
class Conversation:
    """The messages, read.

    Attributes:
        question: the text of the last user turn.
        images: those of all user turns, in order, not loaded yet.
        context: all other turns, oldest first, each with its role.
    """

    question: str = field(default="", repr=False)
    images: list[ImageRef] = field(default_factory=list)
    context: list[str] = field(default_factory=list, repr=False)


def read_messages(value: object, *, max_images: int) -> Conversation:
    """Read the messages of a request that a method answers.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    given = value if isinstance(value, list) else []
    if all(isinstance(one, dict) and one.get("role") != "user" for one in given) and given:
        raise invalid("messages has no turn of the user: there is no question", "messages")
    messages = checked(MESSAGES, value, "messages")
    if messages[-1].role == "assistant":
        raise invalid(
            "the last message is the assistant's: an answer cannot be continued here, as all of "
            "it has to be scored",
            f"messages[{len(messages) - 1}].role",
        )
    asking = max(index for index, one in enumerate(messages) if one.role == "user")
    read = Conversation()
    for index, message in enumerate(messages):
        text = _text_of(message)
        read.images += _images_of(message.content, index)
        if index == asking:
            read.question = text
        elif text.strip():
            role = "system" if message.role == "developer" else message.role
            name = role if message.name is None else f"{role} ({message.name})"
            read.context.append(f"{name}: {text}")
    if not read.question.strip():
        where = f"messages[{asking}]"
        raise invalid("the last user turn has no text: there is no question", where)
    if len(read.images) > max_images:
        raise invalid(
            f"the request has {len(read.images)} images; at most {max_images} are taken",
            read.images[max_images].param,
            "too_many_images",
        )
    return read


def passed_images(value: object) -> list[ImageRef]:
    """The images of messages that are passed on as they came.

    Raises:
        ApiError: 400, naming the part that is wrong: none may make the upstream fetch anything.
    """
    messages = checked(PASSED_MESSAGES, value, "messages")
    return [one for i, message in enumerate(messages) for one in _images_of(message.content, i)]


def _images_of(content: object, index: int) -> Iterator[ImageRef]:
    if isinstance(content, list):
        for at, part in enumerate(content):
            if isinstance(part, ImagePart):
                where = f"messages[{index}].content[{at}].image_url.url"
                yield ImageRef(part.image_url.url, where)


def _text_of(message: Message) -> str:
    content = message.content
    if isinstance(content, list):
        content = "\n".join(_text(part) for part in content if not isinstance(part, ImagePart))
    if not isinstance(message, AssistantMessage):
        return content or ""
    if content is None and isinstance(message.refusal, str):
        content = message.refusal
    calls = (f"called {json.dumps(one, ensure_ascii=False)}" for one in message.tool_calls or ())
    return "\n".join(part for part in (content, *calls) if part)


def _text(part: TextPart | RefusalPart) -> str:
    return part.refusal if isinstance(part, RefusalPart) else part.text
