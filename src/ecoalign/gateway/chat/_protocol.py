"""The API as pydantic models: requests, responses and errors, from which OpenAPI is generated.

Requests are validated strictly: "1" is no number, and true is no 1. A parameter that is null counts
as not given; one that is not declared here is passed on to the model. `checked` turns what pydantic
finds into an error of the API, whose `param` is the place ("messages[0].content[1].image_url.url").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway._errors import ApiError, invalid

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "CAPS",
    "MESSAGES",
    "PARAMETERS",
    "PASSED_MESSAGES",
    "REFUSED",
    "AssistantMessage",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatParameters",
    "EcoAlignOptions",
    "EcoAlignResult",
    "ImagePart",
    "Message",
    "ModelInfo",
    "ModelList",
    "Status",
    "Usage",
    "checked",
]

Parsed = TypeVar("Parsed")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Must:
    """Says what a field must be, for the message of an error.

    Attributes:
        text: the message; where it begins with "must", the name of the field goes before it.
        code: the error's code, if it has one.
    """

    text: str
    code: str | None = None


_CUSTOM = "ecoalign"

_UNSUPPORTED = "unsupported_value"


def _wrong(message: str, code: str | None = None) -> PydanticCustomError:
    """An error whose message is told as it is."""
    return PydanticCustomError(_CUSTOM, "{message}", {"message": message, "code": code})


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Closed(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


# -- messages --------------------------------------------------------------------------------------

_MAX_URL = 4096
"""Characters of the address of an image."""


def _bounded_url(url: str) -> str:
    if len(url) > _MAX_URL and url[:5].lower() != "data:":
        raise _wrong("the URL of the image is too long")
    return url


def _image_url(value: object) -> object:
    """Some clients send the address itself in place of the object."""
    return {"url": value} if isinstance(value, str) else value


class ImageUrl(_Part):
    """Where an image is."""

    url: Annotated[
        str,
        Field(
            min_length=1,
            description="A data: URI of a PNG, JPEG, GIF or WebP file, or an http(s) address where "
            "the server is set to fetch images.",
        ),
        AfterValidator(_bounded_url),
        Must("an image needs a url"),
    ]
    detail: Annotated[
        Literal["auto", "low", "high", "original"] | None,
        Must("must be auto, low, high or original"),
    ] = None


class TextPart(_Part):
    """A piece of text."""

    type: Literal["text"]
    text: Annotated[str, Must("the part has no text")]


class RefusalPart(_Part):
    """A refusal in an earlier turn."""

    type: Literal["refusal"]
    refusal: Annotated[str, Must("the part has no refusal")]


class ImagePart(_Part):
    """An image in a turn of the user."""

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_image_url), Must("an image needs a url")]


_CONTENT = Must("must be text or a list of parts: a message needs content")

_TextParts = list[Annotated[TextPart | RefusalPart, Discriminator("type")]]

_UserParts = list[Annotated[TextPart | RefusalPart | ImagePart, Discriminator("type")]]


class _Message(_Part):
    name: Annotated[
        str | None,
        Field(min_length=1, max_length=64, description="Who speaks, where several do."),
        Must("must have 1 to 64 characters"),
    ] = None


class SystemMessage(_Message):
    """Instructions of the application: context of the question."""

    role: Literal["system", "developer"]
    content: Annotated[str | _TextParts, _CONTENT]


class UserMessage(_Message):
    """A turn of the user; the text of the last one is the question."""

    role: Literal["user"]
    content: Annotated[str | _UserParts, _CONTENT]


class AssistantMessage(_Message):
    """An earlier answer: context of the question."""

    role: Literal["assistant"]
    content: Annotated[str | _TextParts | None, _CONTENT] = None
    refusal: Any = Field(None, description="The text of a refusal.")
    tool_calls: Annotated[
        list[Any] | None,
        Field(description="Calls of tools that the answer asked for."),
        Must("must be a list"),
    ] = None


class ToolMessage(_Message):
    """The result of a tool: context of the question."""

    role: Literal["tool"]
    content: Annotated[str | _TextParts, _CONTENT]


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Discriminator("role")
]

_Messages = Annotated[
    list[Message],
    Field(
        min_length=1,
        description="The conversation, oldest first; it has a turn of the user and does not end "
        "with one of the assistant.",
        examples=[[{"role": "user", "content": "What does the sign say?"}]],
    ),
    Must("must be a list with at least one message"),
]

MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(_Messages)
"""The messages of a request that a method answers."""


class OtherPart(_Part):
    """A part that is passed on unread."""

    type: Literal["text", "refusal", "input_audio"]


class PassedMessage(_Part):
    """A message that is passed on: of its content, only the types of the parts are checked."""

    content: Annotated[
        Annotated[list[Annotated[ImagePart | OtherPart, Discriminator("type")]], Tag("parts")]
        | Annotated[Any, Tag("other")],
        Discriminator(lambda content: "parts" if isinstance(content, list) else "other"),
    ] = None


PASSED_MESSAGES: TypeAdapter[list[PassedMessage]] = TypeAdapter(
    Annotated[list[PassedMessage], Field(min_length=1)]
)
"""The messages of a request that is passed on as it came."""


# -- parameters ------------------------------------------------------------------------------------


class BudgetUnits(_Closed):
    """A budget by unit; each unit that is given is a hard bound."""

    tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    usd: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None


def _budget(value: object) -> Budget | None:
    """`8000`, `"8000,$0.02,5s"` or `{"tokens": 8000, "usd": 0.02, "seconds": 5}`."""
    try:
        match value:
            case None:
                return None
            case bool():
                raise InputError("budget: it is not a truth value")
            case int():
                return Budget(tokens=value)
            case str():
                return Budget.parse(value)
            case dict() if value and value.keys() <= BudgetUnits.model_fields.keys():
                made = Budget(**value)
            case _:
                names = ", ".join(BudgetUnits.model_fields)
                raise InputError(f"budget: an object has one or more of {names}")
    except InputError as error:
        raise _wrong(f"ecoalign.{error}") from None
    if made.is_empty:
        raise _wrong("ecoalign.budget bounds nothing")
    return made


_Name = Annotated[str | None, Field(min_length=1, max_length=64), Must("must be a name")]

_Flag = Annotated[bool | None, Must("must be true or false")]


class EcoAlignOptions(_Closed):
    """How the answer is found. A key may not be allowed to choose all of it."""

    budget: Annotated[
        Budget | None,
        PlainValidator(
            _budget,
            json_schema_input_type=Annotated[int, Field(ge=1, le=10**15)]
            | Annotated[str, Field(examples=["8000", "$0.02", "8000,$0.02,5s"])]
            | Annotated[BudgetUnits, Field(json_schema_extra={"minProperties": 1})]
            | None,
        ),
        Field(description="The most that the answer may spend, hard in each unit that is given."),
    ] = None
    preset: Annotated[_Name, Field(description="A preset of the settings.")] = None
    method: Annotated[
        _Name, Field(description='How to answer: "ecoalign", "best-of-4", "base" and others.')
    ] = None
    trace: Annotated[_Flag, Field(description="Whether the trace of the run is kept.")] = None


def _no_obfuscation(value: bool | None) -> bool | None:
    if value:
        raise _wrong(
            "stream_options.include_obfuscation: an answer is sent whole, so its pieces show "
            "nothing",
            "unsupported_parameter",
        )
    return value


class StreamOptions(_Closed):
    """What is sent in a stream beside the answer."""

    include_usage: Annotated[
        _Flag, Field(description="Send the usage in a chunk of its own, the last one.")
    ] = None
    include_obfuscation: Annotated[
        _Flag,
        AfterValidator(_no_obfuscation),
        Field(description="Only false: an answer is sent whole, so its pieces show nothing."),
    ] = None


class ResponseFormat(_Part):
    """The form of the answer, passed on to the model."""

    type: Annotated[str, Must("must be a text")]


_MONEY = "it would spend tokens that no budget can bound"

_ELSEWHERE = "a request cannot choose where it is answered, or with whose key"

REFUSED: Mapping[str, str] = {
    "audio": "no audio is made here",
    "functions": "it is deprecated; use tools",
    "function_call": "it is deprecated; use tool_choice",
    "prediction": _MONEY,
    "web_search_options": _MONEY,
    "moderation": "answers are scored by the evaluator of this server",
    "best_of": "a search gives one answer; choose the method best-of-n in ecoalign.method",
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

CAPS = ("max_completion_tokens", "max_tokens")


def _describe_refused(schema: Json) -> None:
    for name, why in REFUSED.items():
        schema["properties"][name] = {"type": "null", "description": f"Not taken: {why}."}


_Object = Annotated[Json | None, Must("must be an object")]

_Text = Annotated[str | None, Must("must be a text")]

_Penalty = Annotated[float | None, Field(ge=-2, le=2), Must("must be a number from -2 to 2")]

_Cap = Annotated[
    int | None,
    Field(ge=1, le=10**9, description="The most tokens of a call that writes an answer."),
    Must("must be a whole number from 1"),
]

_Nonempty = Annotated[str, Field(min_length=1)]


class ChatParameters(BaseModel):
    """Everything in a request but its messages. Parameters not listed here go to the model."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[
        str,
        Field(min_length=1, description="A name of GET /v1/models.", examples=["ecoalign"]),
        Must("must name a model; GET /v1/models lists them"),
    ]
    ecoalign: Annotated[EcoAlignOptions | None, Must("must be an object")] = None
    stream: Annotated[_Flag, Field(description="Send the answer as server-sent events.")] = None
    stream_options: Annotated[StreamOptions | None, Must("must be an object")] = None
    max_tokens: _Cap = None
    max_completion_tokens: _Cap = None
    n: Annotated[
        int | None, Field(ge=1, le=1), Must("must be 1: one scored answer", _UNSUPPORTED)
    ] = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2), Must("must be a number from 0 to 2")
    ] = None
    top_p: Annotated[float | None, Field(ge=0, le=1), Must("must be a number from 0 to 1")] = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    seed: Annotated[
        int | None,
        Field(ge=-(2**63), le=2**63 - 1),
        Must("must be a whole number of 64 bits"),
    ] = None
    stop: Annotated[
        _Nonempty | Annotated[list[_Nonempty], Field(min_length=1, max_length=16)] | None,
        Must("must be a text or a list of texts"),
    ] = None
    logprobs: _Flag = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20), Must("must be a whole number from 0 to 20")
    ] = None
    logit_bias: Annotated[dict[str, float] | None, Must("must be an object of numbers")] = None
    response_format: Annotated[ResponseFormat | None, Must("must be an object with a type")] = None
    tools: Annotated[list[Json] | None, Must("must be a list of objects")] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | Json | None,
        Must("must be none, auto, required or an object"),
    ] = None
    parallel_tool_calls: _Flag = None
    reasoning_effort: _Text = None
    verbosity: _Text = None
    user: _Text = None
    safety_identifier: _Text = None
    prompt_cache_key: _Text = None
    metadata: _Object = None
    store: _Flag = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None,
        Must("must be [text]", _UNSUPPORTED),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex"] | None,
        Must(
            "must be one of auto, default, flex: prices of others are not known",
            _UNSUPPORTED,
        ),
    ] = None


class ChatCompletionRequest(ChatParameters):
    """A chat to answer. Parameters not listed here are passed on to the model."""

    model_config = ConfigDict(json_schema_extra=_describe_refused)

    messages: _Messages


PARAMETERS: TypeAdapter[ChatParameters] = TypeAdapter(ChatParameters)


# -- errors ----------------------------------------------------------------------------------------

_RULES: Mapping[str, Must] = {
    name: rule
    for model in (
        *(ImageUrl, TextPart, RefusalPart, ImagePart, UserMessage, AssistantMessage),
        *(EcoAlignOptions, StreamOptions, ResponseFormat, ChatCompletionRequest),
    )
    for name, field in model.model_fields.items()
    for rule in field.metadata
    if isinstance(rule, Must)
}


def checked(adapter: TypeAdapter[Parsed], value: object, name: str = "") -> Parsed:
    """`value`, validated.

    Args:
        adapter: of what it should be.
        value: parsed JSON.
        name: the parameter that it is; "" for the whole body.

    Raises:
        ApiError: 400 for the first thing that is wrong, by its place.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    # A union reports an error for each of its types: the one that got furthest tells most.
    places = [_place(value, name, one) for one in found]
    at = max(range(len(found)), key=lambda i: (len(places[i]), -i))
    raise _refusal(found[at], places[at]) from None


Place = tuple[int | str, ...]

_OPTIONS: Mapping[str, type[BaseModel]] = {
    "ecoalign": EcoAlignOptions,
    "stream_options": StreamOptions,
}

_UNKNOWN_PART = "a part of a message is text, or in a turn of the user an image_url"


def _place(value: object, name: str, error: ErrorDetails) -> Place:
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
    return tuple(place)


def _param(place: Place) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step[:40]}" for step in place)
    return "".join(steps).removeprefix(".")


def _refusal(error: ErrorDetails, place: Place) -> ApiError:
    kind, last = error["type"], place[-1] if place else ""
    # The address of an image is missed where it would be.
    param = _param((*place, "url") if last == "image_url" else place)
    if kind == _CUSTOM:
        return invalid(error["msg"], param, error.get("ctx", {}).get("code"))
    if kind == "extra_forbidden":
        owner = str(place[-2])
        names = ", ".join(_OPTIONS[owner].model_fields)
        message = f"no such parameter: {owner} has no option {str(last)[:40]!r}; it has {names}"
        return invalid(message, param, "unknown_parameter")
    if isinstance(last, int) and place[0] == "messages":
        # A message or one of its parts is of no known kind, or no object at all.
        if "content" in place:
            return invalid(f"{_UNKNOWN_PART}; nothing else is read", f"{param}.type", _UNSUPPORTED)
        if kind.startswith("union_tag"):
            roles = ", ".join(("system", "developer", "user", "assistant", "tool"))
            return invalid(f"a role is one of {roles}", f"{param}.role")
        return invalid("a message must be an object", param)
    if last not in _RULES:
        return _refusal(error, place[:-1]) if place else invalid(error["msg"], None)
    rule = _RULES[str(last)]
    text = f"{param} {rule.text}" if rule.text.startswith("must") else rule.text
    return invalid(text, param, rule.code)


# -- responses -------------------------------------------------------------------------------------

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class PromptTokens(BaseModel):
    """What the prompt tokens are."""

    cached_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """All tokens that were spent for the answer: the search, the evaluator and failed attempts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class EcoAlignResult(BaseModel):
    """How the answer was found, and what it is worth."""

    method: str
    preset: str | None = Field(description="Of the settings; null for other methods than EcoAlign.")
    refused: bool
    safety: float | None = Field(description="From -1 to 1; null where nothing was scored.")
    utility: float | None = Field(description="0 or more; null where nothing was scored.")
    stop_reason: str
    hint: str = Field(description="What to change where something went wrong.")
    spent: Json = Field(description="Tokens by kind and by stage, dollars, seconds and calls.")
    budget: Json = Field(description="What the answer was allowed to spend, by unit.")
    trace: str | None = Field(description="The name of the trace, where it is kept.")


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[Json] | None = None


class Choice(BaseModel):
    """The one answer, and why it ends where it does."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: Json | None
    finish_reason: FinishReason


class _Envelope(BaseModel):
    id: str
    created: int = Field(description="Seconds since the epoch.")
    model: str = Field(description="As the client asked for it.")


class ChatCompletion(_Envelope):
    """A scored answer with its evidence."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[Choice]
    usage: Usage | None = None
    ecoalign: EcoAlignResult | None = Field(None, description="Missing where the method is base.")


class Delta(BaseModel):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[Json] | None = None


class ChunkChoice(BaseModel):
    """A piece of the one answer."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: Json | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Envelope):
    """An event of a stream."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChunkChoice]
    usage: Usage | None = None
    ecoalign: EcoAlignResult | None = None


class ModelInfo(BaseModel):
    """A name by which the model can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the server started, in seconds since the epoch.")
    owned_by: Literal["ecoalign"] = "ecoalign"


class ModelList(BaseModel):
    """All names by which the model can be asked for."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Status(BaseModel):
    """The state of the server."""

    status: Literal["ok", "ready"]
