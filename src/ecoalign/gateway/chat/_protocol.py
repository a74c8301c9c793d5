"""The API as pydantic models, from which OpenAPI is generated: requests, responses.

Requests are validated strictly: "1" is no number, and true is no 1. A parameter that is null counts
as not given; one that is not declared here is passed on to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
)
from pydantic_core import PydanticCustomError

from ecoalign.budget import Budget
from ecoalign.errors import InputError

Json = dict[str, Any]

CUSTOM = "ecoalign"
"""The type of errors whose message is shown as it is."""

UNSUPPORTED_VALUE = "unsupported_value"


@dataclass(frozen=True, slots=True)
class Must:
    """The message of an error, where the JSON schema of a field does not say enough.

    Attributes:
        text: where it begins with "must", the name of the field goes before it.
        code: the error's code, if it has one.
    """

    text: str
    code: str | None = None


def _wrong(message: str, code: str | None = None) -> PydanticCustomError:
    return PydanticCustomError(CUSTOM, "{message}", {"message": message, "code": code})


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Closed(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


# -- messages --------------------------------------------------------------------------------------

_MAX_URL = 4096
"""Characters of the address of an image."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def _bounded_url(url: str) -> str:
    if len(url) > _MAX_URL and url[:5].lower() != "data:":
        if _BASE64.fullmatch(url[:_MAX_URL]):
            raise _wrong(
                "the URL of the image is bare base64: put data:image/png;base64, before it"
            )
        raise _wrong("the URL of the image is too long")
    return url


def _image_url(value: object) -> object:
    """Some clients send the address itself in place of the object."""
    return {"url": value} if isinstance(value, str) else value


_NEEDS_URL = Must("an image needs a url")


class ImageUrl(_Part):
    """Where an image is: a data: URI of a PNG, JPEG, GIF or WebP file, or an http(s) address where
    the server is set to fetch images."""

    url: Annotated[str, Field(min_length=1), AfterValidator(_bounded_url), _NEEDS_URL]
    detail: Literal["auto", "low", "high", "original"] | None = None


class TextPart(_Part):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(_Part):
    """A refusal in an earlier turn."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(_Part):
    """An image in a turn of the user."""

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_image_url), _NEEDS_URL]


_CONTENT = Must("must be text or a list of parts: a message needs content")

_Texts = list[Annotated[TextPart | RefusalPart, Discriminator("type")]]

_Parts = list[Annotated[TextPart | RefusalPart | ImagePart, Discriminator("type")]]


class _Message(_Part):
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="The name of the participant."
    )


class SystemMessage(_Message):
    """Instructions of the application: context of the question."""

    role: Literal["system", "developer"]
    content: Annotated[str | _Texts, _CONTENT]


class UserMessage(_Message):
    """A turn of the user; the text of the last one is the question."""

    role: Literal["user"]
    content: Annotated[str | _Parts, _CONTENT]


class AssistantMessage(_Message):
    """An earlier answer: context of the question."""

    role: Literal["assistant"]
    content: Annotated[str | _Texts | None, _CONTENT] = None
    refusal: Any = Field(None, description="The text of a refusal.")
    tool_calls: list[Any] | None = Field(None, description="Calls of the application's tools.")


class ToolMessage(_Message):
    """The result of a tool: context of the question."""

    role: Literal["tool"]
    content: Annotated[str | _Texts, _CONTENT]


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Discriminator("role")
]

_Messages = Annotated[
    list[Message],
    Field(
        min_length=1,
        description="The conversation, oldest first; it has a turn of the user and does not end "
        "with one of the assistant.",
        examples=[[{"role": "user", "content": "How do I open the gate?"}]],
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

_Tokens = Annotated[int, Field(ge=1, le=10**15)]


class BudgetUnits(_Closed):
    """A budget by unit; each unit that is given is a hard bound."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    tokens: _Tokens | None = None
    usd: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None


def _budget(value: Any) -> Budget | None:
    """`8000`, `"8000,$0.02,5s"` or `{"tokens": 8000, "usd": 0.02, "seconds": 5}`."""
    try:
        return None if value is None else Budget.of(value)
    except InputError as error:
        raise _wrong(f"ecoalign.{error}") from None


_BudgetText = Annotated[str, Field(examples=["8000", "$0.02", "8000,$0.02,5s"])]

_Name = Annotated[str, Field(min_length=1, max_length=64)]


class EcoAlignOptions(_Closed):
    """How the answer is found. A key may not be allowed to choose all of it."""

    budget: Annotated[
        Budget | None,
        PlainValidator(_budget, json_schema_input_type=_Tokens | _BudgetText | BudgetUnits | None),
    ] = Field(None, description="The most that the answer may spend, hard in each unit given.")
    preset: _Name | None = Field(None, description="A preset of the settings.")
    method: _Name | None = Field(
        None, description='How to answer: "ecoalign", "best-of-4", "base" and others.'
    )
    trace: bool | None = Field(None, description="Whether the trace of the run is kept.")


_NO_OPTIONS = EcoAlignOptions.model_validate({})


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

    include_usage: bool | None = Field(None, description="Send the usage in the last chunk.")
    include_obfuscation: Annotated[bool | None, AfterValidator(_no_obfuscation)] = Field(
        None, description="Only false: an answer is sent whole, so its pieces show nothing."
    )


class ResponseFormat(_Part):
    """The form of the answer, passed on to the model."""

    type: str

    @property
    def is_json(self) -> bool:
        """Whether a client will read the answer as JSON."""
        return self.type in {"json_schema", "json_object"}


_MONEY = "it would use tokens that the budget cannot bound"

_ELSEWHERE = "a request cannot choose where it is answered, or with whose key"

REFUSED: Mapping[str, str] = {
    "audio": "audio output is not supported",
    "functions": "it is deprecated; use tools",
    "function_call": "it is deprecated; use tool_choice",
    "prediction": _MONEY,
    "web_search_options": _MONEY,
    "moderation": "answers are scored by the evaluator of this server",
    "best_of": "a search gives one answer; choose the method best-of-n in ecoalign.method",
    "use_beam_search": _MONEY,
    "plugins": _MONEY,
    "mock_response": "mock responses are not supported",
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
        schema["properties"][name] = {"type": "null", "description": f"Rejected: {why}."}


_Cap = Annotated[int, Field(ge=1, le=10**9)]

_CAP = (
    "The maximum number of output tokens of each call that writes an answer, hidden reasoning "
    "included."
)

_Penalty = Annotated[float, Field(ge=-2, le=2)]

_Nonempty = Annotated[str, Field(min_length=1)]


class ChatParameters(BaseModel):
    """Everything in a request but its messages. Parameters not listed here go to the model."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[
        str,
        Field(
            min_length=1, description="A model id listed by GET /v1/models.", examples=["ecoalign"]
        ),
        Must("must name a model; GET /v1/models lists them"),
    ]
    ecoalign: EcoAlignOptions | None = None
    stream: bool | None = Field(None, description="Send the answer as server-sent events.")
    stream_options: StreamOptions | None = None
    max_tokens: _Cap | None = Field(None, description=_CAP)
    max_completion_tokens: _Cap | None = Field(None, description=_CAP)
    n: Annotated[
        Annotated[int, Field(ge=1, le=1)] | None,
        Must("must be 1: one scored answer", UNSUPPORTED_VALUE),
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Nonempty | Annotated[list[_Nonempty], Field(min_length=1, max_length=16)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Json] | None = None
    tool_choice: Literal["none", "auto", "required"] | Json | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: Json | None = None
    store: bool | None = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None,
        Must("must be [text]", UNSUPPORTED_VALUE),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex"] | None,
        Must("must be auto, default or flex: no other prices are known", UNSUPPORTED_VALUE),
    ] = None

    @property
    def options(self) -> EcoAlignOptions:
        """The `ecoalign` object; an empty one where there is none."""
        return self.ecoalign or _NO_OPTIONS

    @property
    def wants_json(self) -> bool:
        """Whether the answer is to be JSON, so that a refusal has to be told apart from it."""
        return self.response_format is not None and self.response_format.is_json

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True


class ChatCompletionRequest(ChatParameters):
    """A chat to answer. Parameters not listed here are passed on to the model."""

    model_config = ConfigDict(json_schema_extra=_describe_refused)

    messages: _Messages


PARAMETERS: TypeAdapter[ChatParameters] = TypeAdapter(ChatParameters)


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
    ended: str = Field(
        description='"drafted", "searched", "refused" or "budget"; empty for other methods.'
    )
    hint: str = Field(description="What to change if something went wrong;  otherwise.")
    spent: Json = Field(description="Tokens by kind and by stage, dollars, seconds and calls.")
    budget: Json = Field(description="What the answer was allowed to spend, by unit.")
    trace: str | None = Field(
        description="The id for GET /v1/traces/{id}; null if the trace was not kept."
    )


class AnswerMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = Field(
        None, description="A refusal, in place of the content, where JSON was asked for."
    )
    tool_calls: list[Json] | None = None


class Choice(BaseModel):
    """The one answer, and why it ends where it does."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: Json | None
    finish_reason: FinishReason


class _Envelope(BaseModel):
    id: str
    object: str
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
    refusal: str | None = None
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
