"""One request for a chat completion: its body, its parameters, and its messages as a question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ecoalign.errors import InputError
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
    PassedMessage,
    RefusalPart,
    TextPart,
)
from ecoalign.gateway.chat._validation import checked
from ecoalign.models import SamplingParams

_OWN = frozenset(
    {"messages", "model", "stream", "stream_options", "ecoalign", "n", "modalities", *CAPS}
)
"""Parameters that are never passed on to the model by a method."""

_FREE: Mapping[str, frozenset[object]] = {
    "store": frozenset({False}),
    "prompt_cache_key": frozenset(),
    "prompt_cache_retention": frozenset(),
    "metadata": frozenset(),
    "service_tier": frozenset({"auto", "default"}),
}
"""Parameters that an answer does not depend on, with the values that say no more than their absence
(none listed: any). Calls of a search are not the client's, so they are taken and not passed on."""

_LONGEST_NAME = 128

IMAGE_ALONE = "What does the image show?"
"""The question where the user sends images and not a word, and no earlier turn has any."""

IMAGE_SENT = "Answer what was asked, from the image."
"""The question where the last turn is an image alone and earlier turns have words."""


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
    """What is passed on with the calls that write an answer.

    Raises:
        InputError: a parameter asks for what no method does; `param` names it.
    """
    if parameters.store:
        message = "store must be false: an answer is one of many texts, and none is stored upstream"
        raise InputError(message, param="store")
    params = {
        name: value
        for name, value in body.items()
        if value is not None and name not in _OWN and not _is_free(name, value)
    }
    return SamplingParams(cap_of(parameters), params)


def _is_free(name: str, value: object) -> bool:
    values = _FREE.get(name)
    return values is not None and (not values or value in values)


@dataclass(slots=True)
class Conversation:
    """The messages, read.

    Where the place of an image matters, "image N" stands for it among the words, counted from 1
    over all turns: where there are several images, or the only one came with an earlier turn.

    Attributes:
        question: the text of the last user turn.
        images: those of all user turns, in order, not loaded yet.
        context: the turns before it, oldest first, each with its role.
        instructions: the system and developer messages.
    """

    question: str = field(default="", repr=False)
    images: list[ImageRef] = field(default_factory=list)
    context: list[str] = field(default_factory=list, repr=False)
    instructions: str = field(default="", repr=False)


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
    images = [one for index, message in enumerate(messages) for one in _images_of(message, index)]
    if len(images) > max_images:
        raise invalid(
            f"the request has {len(images)} images; at most {max_images} are taken",
            images[max_images].param,
            "too_many_images",
        )
    own = any(_images_of(messages[asking], asking))
    numbers = iter(range(1, len(images) + 1)) if len(images) > 1 or not own else None
    read = Conversation(images=images)
    instructions = []
    for index, message in enumerate(messages):
        text = _text_of(message, numbers)
        if message.role in {"system", "developer"}:
            instructions += [text] if text.strip() else []
        elif index == asking:
            read.question = text if message.name is None else f"{message.name}: {text}"
        elif text.strip():
            name = message.role if message.name is None else f"{message.role} ({message.name})"
            read.context.append(f"{name}: {text}")
    read.instructions = "\n\n".join(instructions)
    if not _has_words(messages[asking]):
        if not own:
            where = f"messages[{asking}]"
            raise invalid("the last user turn has no text: there is no question", where)
        _ask_of_image(read)
    return read


def _has_words(message: Message) -> bool:
    content = message.content
    if isinstance(content, list):
        return any(not isinstance(part, ImagePart) and _text(part).strip() for part in content)
    return bool(content and content.strip())


def _ask_of_image(read: Conversation) -> None:
    """Give an image that came without words its question: what was asked before it."""
    shown = read.question.strip()
    if read.context:
        asked = IMAGE_SENT
    elif read.instructions:
        # Where nothing else is asked, what the application says is the request.
        asked, read.instructions = read.instructions, ""
    else:
        asked = IMAGE_ALONE
    read.question = f"{shown}\n{asked}".strip()


def passed_images(value: object) -> list[ImageRef]:
    """The images of messages that are passed on as they came.

    Raises:
        ApiError: 400, naming the part that is wrong: none may make the upstream fetch anything.
    """
    messages = checked(PASSED_MESSAGES, value, "messages")
    return [one for i, message in enumerate(messages) for one in _images_of(message, i)]


def _images_of(message: Message | PassedMessage, index: int) -> Iterator[ImageRef]:
    content = message.content
    if isinstance(content, list):
        for at, part in enumerate(content):
            if isinstance(part, ImagePart):
                where = f"messages[{index}].content[{at}].image_url.url"
                yield ImageRef(part.image_url.url, where, part.image_url.detail)


def _text_of(message: Message, numbers: Iterator[int] | None) -> str:
    content = message.content
    if isinstance(content, list):
        content = "\n".join(_texts(content, numbers))
    if not isinstance(message, AssistantMessage):
        return content or ""
    if content is None and isinstance(message.refusal, str):
        content = message.refusal
    calls = (f"called {json.dumps(one, ensure_ascii=False)}" for one in message.tool_calls or ())
    return "\n".join(part for part in (content, *calls) if part)


def _texts(
    parts: Iterable[TextPart | RefusalPart | ImagePart], numbers: Iterator[int] | None
) -> Iterator[str]:
    """The text of each part, with the name of an image after the words that it follows, where the
    images are named."""
    words = ""
    for part in parts:
        if not isinstance(part, ImagePart):
            if words:
                yield words
            words = _text(part)
        elif numbers is not None:
            words = f"{words.rstrip()} image {next(numbers)}".lstrip()
    if words:
        yield words


def _text(part: TextPart | RefusalPart) -> str:
    return part.refusal if isinstance(part, RefusalPart) else part.text
