"""One request for a chat completion: its body, its parameters, and its messages as a question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import BaseModel

from ecoalign.gateway._errors import invalid
from ecoalign.gateway._images import ImageRef
from ecoalign.gateway._json import JsonError, parse_json
from ecoalign.gateway.chat._parameters import CAPS, PARAMETERS, ChatParameters, why_refused
from ecoalign.gateway.chat._protocol import (
    MESSAGES,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    AssistantMessage,
    ImagePart,
    Message,
    RefusalPart,
    TextPart,
    ToolMessage,
)
from ecoalign.gateway.chat._validation import checked
from ecoalign.models import SamplingParams

_OWN = frozenset(
    {"messages", "model", "stream", "stream_options", "ecoalign", "n", "modalities", *CAPS}
)
"""Parameters that are never passed on as they are."""

_KEPT = frozenset({"store", "prompt_cache_key", "prompt_cache_retention", "metadata"})
"""Parameters that an answer does not depend on: taken, and not passed on. Calls of a search are not
the client's, and what a server does with metadata (a proxy may read orders in it) is not known."""

_LONGEST_NAME = 128

IMAGE_ALONE = "What does the image show?"
"""The question where the user sends images and not a word, and no earlier turn has any."""

IMAGE_SENT = "Answer what was asked, from the image."
"""The question where the last turn is an image alone and earlier turns have words."""


NOTHING = "(nothing)"
"""The result of a tool that gave none."""


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


def read_parameters(
    body: Mapping[str, object], passes: Mapping[str, int] = MappingProxyType({})
) -> ChatParameters:
    """Everything in a request but its messages.

    Args:
        body: of the request.
        passes: parameters that the operator lists (`GatewayConfig.passes`); they are not read.

    Raises:
        ApiError: 400, naming the parameter.
    """
    if passes:
        body = {name: value for name, value in body.items() if name not in passes}
    read = checked(PARAMETERS, body)
    for name, value in (read.model_extra or {}).items():
        if value is not None and name != "messages":
            shown = name[:_LONGEST_NAME]
            raise invalid(f"{shown} is not taken: {why_refused(name)}", shown, UNSUPPORTED)
    if read.max_tokens and read.max_completion_tokens not in {None, read.max_tokens}:
        raise invalid("max_tokens and max_completion_tokens differ; give one", "max_tokens")
    if read.stream_options is not None and not read.stream:
        raise invalid("stream_options goes with stream: true", "stream_options")
    if read.enable_thinking and not read.thinking_budget:
        raise invalid(
            "enable_thinking needs a thinking_budget: without it nobody here can bound what the "
            "thoughts cost",
            "enable_thinking",
            UNSUPPORTED_VALUE,
        )
    _check_choice(read)
    return read


def _check_choice(read: ChatParameters) -> None:
    """Raises ApiError where the choice among the tools is of none of them."""
    choice = read.tool_choice
    if choice is None or isinstance(choice, str):
        return
    chosen = choice.allowed_tools.tools if choice.allowed_tools else []
    names = [tool.function.name for tool in chosen]
    names += [choice.function.name] if choice.function else []
    known = {tool.function.name for tool in read.tools or ()}
    if not names or not known.issuperset(names):
        raise invalid("tool_choice must name a tool of the request", "tool_choice")


def passed_on(
    read: ChatParameters, body: Mapping[str, object], passes: Mapping[str, int]
) -> dict[str, object]:
    """The parameters that go to the model with a call that writes an answer, on every route.

    Those that are objects have nothing in them but what was read.
    """
    sent: dict[str, object] = {}
    for name, value in body.items():
        if value is None or name in _OWN or name in _KEPT:
            continue
        known = None if name in passes else getattr(read, name, None)
        if name == "service_tier" and known != "flex":
            continue
        if isinstance(known, BaseModel):
            sent[name] = known.model_dump(by_alias=True, exclude_none=True)
        elif name == "tools" and isinstance(known, list):
            sent[name] = [tool.model_dump(by_alias=True, exclude_none=True) for tool in known]
        else:
            sent[name] = value
    return sent


def sampling_of(
    read: ChatParameters,
    body: Mapping[str, object],
    passes: Mapping[str, int] = MappingProxyType({}),
) -> SamplingParams:
    """What is passed on with the calls that write an answer.

    Raises:
        InputError: a parameter can make a call cost more than its bound; `param` names it.
    """
    sent = passed_on(read, body, passes)
    return SamplingParams(read.cap, sent, {name: passes[name] for name in sent if name in passes})


@dataclass(slots=True)
class Conversation:
    """The messages, read.

    Where the place of an image matters, "image N" stands for it among the words, counted from 1
    over all turns: where there are several images, or the only one came with an earlier turn.

    Attributes:
        question: the text of the last user turn.
        images: those of all turns, in order, not loaded yet.
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
    images = [one for index, message in enumerate(messages) for one in images_of(message, index)]
    check_count(images, max_images)
    own = any(images_of(messages[asking], asking))
    numbers = iter(range(1, len(images) + 1)) if len(images) > 1 or not own else None
    read = Conversation(images=images)
    instructions = []
    calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        text = _text_of(message, numbers)
        if message.role in {"system", "developer"}:
            instructions += [text] if text.strip() else []
        elif index == asking:
            read.question = text if message.name is None else f"{message.name}: {text}"
        elif text.strip() or message.role == "tool":
            read.context.append(f"{_speaker(message, calls)}: {text or NOTHING}")
        calls |= _names_of_calls(message)
    read.instructions = "\n\n".join(instructions)
    if not _has_words(messages[asking]):
        if not own:
            where = f"messages[{asking}]"
            raise invalid("the last user turn has no text: there is no question", where)
        _ask_of_image(read)
    return read


def check_count(images: Sequence[ImageRef], most: int) -> None:
    """Raises ApiError where there are more than `most` images."""
    if len(images) > most:
        raise invalid(
            f"the request has {len(images)} images; at most {most} are taken",
            images[most].param,
            "too_many_images",
        )


def _speaker(message: Message, calls: Mapping[str, str]) -> str:
    """Who says an earlier turn; a result also names the call that it is of.

    Args:
        message: the turn.
        calls: the names of the tools that were called before it, by the id of the call.
    """
    told = [] if message.name is None else [message.name]
    call = message.tool_call_id if isinstance(message, ToolMessage) else None
    if call is not None and call in calls:
        told = [calls[call], call]
    return f"{message.role} ({', '.join(told)})" if told else message.role


def _names_of_calls(message: Message) -> dict[str, str]:
    made: dict[str, str] = {}
    for call in (message.tool_calls or ()) if isinstance(message, AssistantMessage) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and isinstance(call.get("id"), str):
            made[call["id"]] = name
    return made


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


def images_of(message: Message, index: int) -> Iterator[ImageRef]:
    """The images of a message."""
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
