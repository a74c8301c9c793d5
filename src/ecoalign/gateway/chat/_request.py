"""One request for a chat completion, read and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway._errors import ApiError, invalid, unsupported
from ecoalign.gateway._limits import JsonError, parse_json
from ecoalign.models import SamplingParams

__all__ = [
    "ChatCall",
    "Check",
    "Conversation",
    "EcoOptions",
    "ImageRef",
    "check_parameters",
    "check_raw",
    "image_urls",
    "read_body",
    "read_call",
    "read_head",
    "read_messages",
    "read_options",
    "read_sampling",
]


@dataclass(frozen=True, slots=True)
class EcoOptions:
    """The `ecoalign` object of a request. None is not given.

    Attributes:
        budget: what the answer may spend.
        preset, method: names, as in the settings.
        trace: whether the trace is kept.
    """

    budget: Budget | None = None
    preset: str | None = None
    method: str | None = None
    trace: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as the request names it.

    Attributes:
        url: a `data:` URI or an address.
        param: where it stands in the request.
    """

    url: str = field(repr=False)
    param: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request, read and checked.

    Attributes:
        raw: the JSON body as it came, less `ecoalign`.
        model: as asked for.
        question: the last user turn's text.
        images: the images of all user turns, in order, not loaded yet.
        context: system prompts and the other turns, oldest first, each with its role.
        stream, include_usage: how the answer is sent.
        sampling: what the client asks of the answer itself.
        options: the `ecoalign` object.
    """

    raw: Mapping[str, object] = field(repr=False)
    model: str
    question: str = field(default="", repr=False)
    images: tuple[ImageRef, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = field(default=(), repr=False)
    stream: bool = False
    include_usage: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    options: EcoOptions = field(default_factory=EcoOptions)


_KNOWN = ("budget", "preset", "method", "trace")

_UNITS = ("tokens", "usd", "seconds")


def read_options(value: object) -> EcoOptions:
    """Read the object; None is an empty one.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    if value is None:
        return EcoOptions()
    if not isinstance(value, dict):
        raise invalid("ecoalign must be an object", "ecoalign")
    for name in value:
        if name not in _KNOWN:
            raise invalid(
                f"ecoalign has no option {str(name)[:40]!r}; it has {', '.join(_KNOWN)}",
                f"ecoalign.{str(name)[:40]}",
                "unknown_parameter",
            )
    trace = value.get("trace")
    if trace is not None and not isinstance(trace, bool):
        raise invalid("ecoalign.trace must be true or false", "ecoalign.trace")
    return EcoOptions(
        budget=_budget(value.get("budget")),
        preset=_name(value, "preset"),
        method=_name(value, "method"),
        trace=trace,
    )


def _name(value: Mapping[str, object], name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not 0 < len(text) <= 64:
        raise invalid(f"ecoalign.{name} must be a name", f"ecoalign.{name}")
    return text


def _budget(value: object) -> Budget | None:
    """`8000`, `"8000,$0.02,5s"` or `{"tokens": 8000, "usd": 0.02, "seconds": 5}`."""
    where = "ecoalign.budget._amounts"
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise InputError("budget: it is not a truth value")
        if isinstance(value, int):
            return Budget(tokens=value)
        if isinstance(value, str):
            return Budget.parse(value)
        if not isinstance(value, dict) or not value or not value.keys() <= set(_UNITS):
            raise InputError(f"budget: an object has one or more of {', '.join(_UNITS)}")
        made = Budget(**value)
    except InputError as error:
        raise invalid(f"ecoalign.{error}", where) from None
    if made.is_empty:
        raise invalid(f"{where} bounds nothing", where)
    return made


Check = Callable[[object], bool]

OWN = frozenset({"messages", "model", "stream", "stream_options", "ecoalign", "n"})
"""Read elsewhere, never passed on."""

CAPS = ("max_completion_tokens", "max_tokens")

_MOST_TOKENS = 10**9


def _number(low: float, high: float) -> Check:
    return lambda value: type(value) in {int, float} and low <= float(str(value)) <= high


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _stop(value: object) -> bool:
    texts = [value] if isinstance(value, str) else value
    return (
        isinstance(texts, list)
        and 0 < len(texts) <= 16
        and all(isinstance(text, str) and text for text in texts)
    )


def _format(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _choice(value: object) -> bool:
    return isinstance(value, dict) or value in {"none", "auto", "required"}


def _bias(value: object) -> bool:
    return isinstance(value, dict) and all(type(bias) in {int, float} for bias in value.values())


KNOWN: Mapping[str, tuple[Check, str]] = {
    "temperature": (_number(0, 2), "a number from 0 to 2"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "frequency_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "presence_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "seed": (_whole(-(2**63), 2**63 - 1), "a whole number of 64 bits"),
    "stop": (_stop, "a text or a list of texts"),
    "logprobs": (_flag, "true or false"),
    "top_logprobs": (_whole(0, 20), "a whole number from 0 to 20"),
    "logit_bias": (_bias, "an object of numbers"),
    "response_format": (_format, "an object with a type"),
    "tools": (_objects, "a list of objects"),
    "tool_choice": (_choice, "none, auto, required or an object"),
    "parallel_tool_calls": (_flag, "true or false"),
    "reasoning_effort": (_text, "a text"),
    "verbosity": (_text, "a text"),
    "user": (_text, "a text"),
    "safety_identifier": (_text, "a text"),
    "prompt_cache_key": (_text, "a text"),
    "metadata": (_object, "an object"),
    "store": (_flag, "true or false"),
}
"""Parameters of the API that are checked and passed on, with what they may be."""

_MONEY = "it would spend tokens that no budget can bound"

_ELSEWHERE = "a request cannot choose where it is answered, or with whose key"

REFUSED: Mapping[str, str] = {
    "audio": "no audio is made here",
    "functions": "it is deprecated; use tools",
    "function_call": "it is deprecated; use tool_choice",
    "prediction": _MONEY,
    "web_search_options": _MONEY,
    "moderation": "answers are scored by the evaluator of this server",
    "best_of": "one answer comes out of a search; choose the method best-of-n in ecoalign.method",
    "use_beam_search": _MONEY,
    "plugins": _MONEY,
    "mock_response": "answers are not made up here",
} | dict.fromkeys(
    (
        *("api_base", "api_key", "api_type", "api_version", "azure_endpoint", "base_url"),
        *("custom_llm_provider", "deployment_id", "extra_body", "extra_headers", "extra_query"),
        *("fallbacks", "context_window_fallbacks", "headers", "host", "model_list", "models"),
        *("organization", "provider", "proxy", "route", "router", "url"),
    ),
    _ELSEWHERE,
)
"""Parameters that are never taken, with the reason."""

_TIERS = frozenset({"auto", "default", "flex"})


def check_parameters(body: Mapping[str, object]) -> None:
    """Check every parameter but the messages.

    Raises:
        ApiError: 400, naming the parameter.
    """
    for name, value in body.items():
        if value is None:
            continue
        known = KNOWN.get(name)
        if known is not None:
            if not known[0](value):
                raise invalid(f"{name} must be {known[1]}", name)
        elif name in CAPS:
            if not _whole(1, _MOST_TOKENS)(value):
                raise invalid(f"{name} must be a whole number from 1", name)
        elif name in REFUSED:
            raise unsupported(name, REFUSED[name])
        elif name not in OWN:
            _check_special(name, value)
    _check_own(body)


def read_sampling(body: Mapping[str, object]) -> SamplingParams:
    """What is passed on with the calls that write an answer: checked by `check_parameters`."""
    caps = [cap for name in CAPS if type(cap := body.get(name)) is int]
    params = {
        name: value
        for name, value in body.items()
        if value is not None and name not in OWN and name not in CAPS and name != "modalities"
    }
    return SamplingParams(caps[0] if caps else None, params)


def _check_own(body: Mapping[str, object]) -> None:
    n = body.get("n")
    if n is not None and (type(n) is not int or n != 1):
        raise ApiError(400, "n must be 1: one scored answer", param="n", code="unsupported_value")
    caps = {body[name] for name in CAPS if body.get(name) is not None}
    if len(caps) > 1:
        raise invalid("max_tokens and max_completion_tokens differ; give one", "max_tokens")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid("stream must be true or false", "stream")
    options = body.get("stream_options")
    if options is None:
        return
    if not isinstance(options, dict):
        raise invalid("stream_options must be an object", "stream_options")
    if not stream:
        raise invalid("stream_options goes with stream: true", "stream_options")
    for name, value in options.items():
        param = f"stream_options.{str(name)[:40]}"
        if name not in {"include_usage", "include_obfuscation"}:
            raise invalid("stream_options has no such option", param, "unknown_parameter")
        if value is not None and not isinstance(value, bool):
            raise invalid(f"{param} must be true or false", param)
        if name == "include_obfuscation" and value:
            raise unsupported(param, "an answer is sent whole, so its pieces show nothing")


def _check_special(name: str, value: object) -> None:
    if name == "modalities":
        if value != ["text"]:
            raise ApiError(400, "modalities must be [text]", param=name, code="unsupported_value")
    elif name == "service_tier":
        if value not in _TIERS:
            raise ApiError(
                400,
                f"service_tier must be one of {', '.join(sorted(_TIERS))}: prices of others "
                "are not known",
                param=name,
                code="unsupported_value",
            )
    elif len(name) > 128:
        raise invalid("the name of a parameter is too long", name[:40])


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


_OPTIONS = "ecoalign"


def read_body(body: bytes) -> dict[str, object]:
    """The JSON object of a request.

    Raises:
        ApiError: 400.
    """
    try:
        value = parse_json(body)
    except JsonError as error:
        raise invalid(str(error), None, "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body of the request must be a JSON object", None)
    return value


def read_head(body: Mapping[str, object]) -> ChatCall:
    """Everything but the messages, which may be passed on as they are.

    Raises:
        ApiError: 400, naming the parameter.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("model must name a model; GET /v1/models lists them", "model")
    options = read_options(body.get(_OPTIONS))
    check_parameters(body)
    raw = {name: value for name, value in body.items() if name != _OPTIONS}
    streamed = body.get("stream_options")
    return ChatCall(
        raw=raw,
        model=model,
        stream=body.get("stream") is True,
        include_usage=isinstance(streamed, dict) and streamed.get("include_usage") is True,
        options=options,
    )


def read_call(head: ChatCall, *, most_images: int) -> ChatCall:
    """The whole request.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    talk = read_messages(head.raw.get("messages"), most_images=most_images)
    return ChatCall(
        raw=head.raw,
        model=head.model,
        question=talk.question,
        images=tuple(talk.images),
        context=tuple(talk.context),
        stream=head.stream,
        include_usage=head.include_usage,
        sampling=read_sampling(head.raw),
        options=head.options,
    )
