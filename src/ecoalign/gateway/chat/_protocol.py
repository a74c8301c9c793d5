"""The API as pydantic models, from which OpenAPI is generated: messages and responses.

Requests are validated strictly: "1" is no number, and true is no 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
)
from pydantic_core import PydanticCustomError

Json = dict[str, Any]

CUSTOM = "ecoalign"
"""The type of errors whose message is shown as it is."""

UNSUPPORTED = "unsupported_parameter"

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


def wrong(message: str, code: str | None = None) -> PydanticCustomError:
    """An error that is shown to the client as it is."""
    return PydanticCustomError(CUSTOM, "{message}", {"message": message, "code": code})


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class Closed(BaseModel):
    """An object that has what is declared and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")


# -- messages --------------------------------------------------------------------------------------

_MAX_URL = 4096
"""Characters of the address of an image."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def bounded_url(url: str) -> str:
    """`url`, of an image; refused where it is too long for an address."""
    if len(url) > _MAX_URL and url[:5].lower() != "data:":
        if _BASE64.fullmatch(url[:_MAX_URL]):
            raise wrong("the URL of the image is bare base64: put data:image/png;base64, before it")
        raise wrong("the URL of the image is too long")
    return url


def _image_url(value: object) -> object:
    """Some clients send the address itself in place of the object."""
    return {"url": value} if isinstance(value, str) else value


Detail = Literal["auto", "low", "high", "original"]

_NEEDS_URL = Must("an image needs a url")


class ImageUrl(_Part):
    """Where an image is: a data: URI of a PNG, JPEG, GIF or WebP file, or an http(s) address where
    the server is set to fetch images."""

    url: Annotated[str, Field(min_length=1), AfterValidator(bounded_url), _NEEDS_URL]
    detail: Detail | None = None


class TextPart(_Part):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(_Part):
    """A refusal in an earlier turn."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(_Part):
    """An image in a turn of the user, or in the result of a tool."""

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
    content: Annotated[str | _Texts | None, _CONTENT]


class UserMessage(_Message):
    """A turn of the user; the text of the last one is the question."""

    role: Literal["user"]
    content: Annotated[str | _Parts | None, _CONTENT]


class AssistantMessage(_Message):
    """An earlier answer: context of the question."""

    role: Literal["assistant"]
    content: Annotated[str | _Texts | None, _CONTENT] = None
    refusal: Any = Field(None, description="The text of a refusal.")
    tool_calls: list[Any] | None = Field(None, description="Calls of the application's tools.")


class ToolMessage(_Message):
    """The result of a tool: context of the question."""

    role: Literal["tool"]
    content: Annotated[str | _Parts | None, _CONTENT]
    tool_call_id: str | None = Field(None, description="The call that it is the result of.")


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Discriminator("role")
]

MESSAGE_LIST = Annotated[
    list[Message],
    Field(
        min_length=1,
        description="The conversation, oldest first; it has a turn of the user and does not end "
        "with one of the assistant.",
        examples=[[{"role": "user", "content": "How do I open the gate?"}]],
    ),
    Must("must be a list with at least one message"),
]

MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(MESSAGE_LIST)
"""The messages of a request that a method answers."""


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
