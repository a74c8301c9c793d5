"""The API of responses as pydantic models: requests, and what is answered.

Like those of chat completions, requests are a list of what is known: what is not declared is
refused by name. Null counts as not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from ecoalign.gateway.chat._parameters import (
    CLOSED,
    Cap,
    Effort,
    Parameters,
    Schema,
    ToolName,
    Verbosity,
    only_functions,
)
from ecoalign.gateway.chat._protocol import (
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    Closed,
    Detail,
    EcoAlignResult,
    Json,
    Must,
    bounded_url,
)
from ecoalign.gateway.chat._validation import Wording

# -- what is said ----------------------------------------------------------------------------------


class _Entry(BaseModel):
    """An item, or a part of one: null counts as not given, and nothing else than its fields is in
    it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: entry for name, entry in value.items() if entry is not None}


class TextContent(_Entry):
    """A piece of text, of whoever says it."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: Any = Field(None, description="Of an earlier answer; left out.")
    logprobs: Any = Field(None, description="Of an earlier answer; left out.")


class RefusalContent(_Entry):
    """A refusal in an earlier answer."""

    type: Literal["refusal"]
    refusal: str


class ImageContent(_Entry):
    """An image in a turn of the user, or in the result of a tool."""

    type: Literal["input_image"]
    image_url: Annotated[
        str,
        Field(min_length=1),
        AfterValidator(bounded_url),
        Must("an image needs an image_url: a data: URI, or an address; no files are kept here"),
    ]
    detail: Detail | None = None


_Part = Annotated[TextContent | RefusalContent | ImageContent, Discriminator("type")]

_CONTENT = Must("must be text or a list of parts")

_Content = Annotated[str | list[_Part] | None, _CONTENT]


class MessageItem(_Entry):
    """A turn."""

    type: Literal["message"] | None = None
    role: Annotated[
        Literal["user", "assistant", "system", "developer"],
        Must("must be one of user, assistant, system, developer"),
    ]
    content: _Content = None
    id: Any = Field(None, description="Of an earlier answer; left out.")
    status: Any = Field(None, description="Likewise.")
    phase: Any = Field(None, description="Likewise.")


class FunctionCallItem(_Entry):
    """A call of one of the application's tools in an earlier answer."""

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    arguments: str
    id: Any = Field(None, description="Left out: the call is known by its call_id.")
    status: Any = Field(None, description="Likewise.")


class FunctionOutputItem(_Entry):
    """The result of a tool."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1)]
    output: _Content = None
    id: Any = Field(None, description="Left out: the call is known by its call_id.")
    status: Any = Field(None, description="Likewise.")


class ReasoningItem(BaseModel):
    """Hidden reasoning that came with an earlier answer: left out."""

    model_config = ConfigDict(extra="allow")

    type: Literal["reasoning"]


def _kind(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    kind = value.get("type")
    if kind is None and "role" in value:
        return "message"
    return kind if isinstance(kind, str) else None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
]

# -- parameters ------------------------------------------------------------------------------------


class ResponseTool(Closed):
    """A tool that the client calls itself."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: Schema = Field(None, description="A JSON schema.")
    strict: bool | None = None


class ResponseChosenTool(Closed):
    """A tool by its name."""

    type: Literal["function"]
    name: ToolName


class ResponseToolChoice(Closed):
    """The tool to call, or those that may be called."""

    type: Literal["function", "allowed_tools"]
    name: ToolName | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[ResponseChosenTool], Field(max_length=128)] | None = None


class TextFormat(Closed):
    """The form of the answer, passed on to the model."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Schema = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(Closed):
    """How the text of the answer is to be."""

    format: TextFormat | None = None
    verbosity: Verbosity | None = None


_Summary = Literal["auto", "concise", "detailed"]


class ResponseReasoning(Closed):
    """Hidden reasoning. No summary of it is shown: nobody scored it."""

    effort: Effort | None = None
    summary: _Summary | None = None
    generate_summary: _Summary | None = None


_STATELESS = "nothing is kept between requests: send the whole conversation as input"


class ResponsesRequest(Parameters):
    """A request for a response. Parameters not listed here are refused."""

    input: Annotated[
        str | list[Item],
        Field(
            description="The question, or the conversation, oldest first.",
            examples=["How do I open the gate?"],
        ),
        Must("must be a text or a list of items"),
    ]
    instructions: str | None = Field(None, description="As a system prompt before the input.")
    max_output_tokens: Cap | None = Field(
        None,
        description="The maximum number of output tokens of each call that writes an answer, "
        "hidden reasoning included.",
    )
    max_tool_calls: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="Of a server's own tools, which are none here."
    )
    text: TextOptions | None = None
    reasoning: ResponseReasoning | None = None
    tools: (
        Annotated[
            list[Annotated[ResponseTool, BeforeValidator(only_functions)]], Field(max_length=128)
        ]
        | None
    ) = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    include: Annotated[
        list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None,
        Must(
            "must be a list with message.output_text.logprobs: there is nothing else to include",
            UNSUPPORTED_VALUE,
        ),
    ] = Field(None, description="Hidden reasoning is never there to be included.")
    truncation: Annotated[
        Literal["disabled"] | None,
        Must("must be disabled: nothing of a conversation is dropped", UNSUPPORTED_VALUE),
    ] = None
    background: Annotated[
        Literal[False] | None,
        Must("must be false: an answer is waited for, or streamed", UNSUPPORTED),
    ] = None
    previous_response_id: Annotated[None, Must(_STATELESS, UNSUPPORTED)] = None
    conversation: Annotated[None, Must(_STATELESS, UNSUPPORTED)] = None
    prompt: Annotated[None, Must("no prompts are kept here: send the text", UNSUPPORTED)] = None


REQUEST: TypeAdapter[ResponsesRequest] = TypeAdapter(ResponsesRequest)

WORDING = Wording(
    models=(
        *(TextContent, RefusalContent, ImageContent, MessageItem, FunctionCallItem),
        *(FunctionOutputItem, ResponsesRequest),
    ),
    closed={
        **{
            name: CLOSED[name]
            for name in ("ecoalign", "stream_options", "thinking", "chat_template_kwargs")
        },
        "text": TextOptions,
        "format": TextFormat,
        "tools": ResponseTool,
        "tool_choice": ResponseToolChoice,
        "reasoning": ResponseReasoning,
    },
    items="input",
    kinds="an item is a message, a function_call, a function_call_output or a reasoning; nothing "
    "else is read",
    parts="a part is input_text, output_text or refusal, or in a turn of the user or the output of "
    "a tool an input_image; nothing else is read",
)

# -- what is answered ------------------------------------------------------------------------------


class OutputText(BaseModel):
    """The words of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Json] = Field(description="Always empty.")
    logprobs: list[Json]


class OutputRefusal(BaseModel):
    """A refusal, in place of the words, where JSON was asked for."""

    type: Literal["refusal"] = "refusal"
    refusal: str


Status = Literal["in_progress", "completed", "incomplete"]


class OutputMessage(BaseModel):
    """The answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Status
    content: list[OutputText | OutputRefusal]


class OutputCall(BaseModel):
    """A call of one of the client's tools."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str
    name: str
    arguments: str = Field(description="JSON.")


class InputDetails(BaseModel):
    """What the input tokens are."""

    cached_tokens: int
    image_tokens: int


class OutputDetails(BaseModel):
    """What the output tokens are."""

    reasoning_tokens: int = Field(
        description="Always 0: hidden reasoning is counted, and not told apart."
    )


class ResponseUsage(BaseModel):
    """All tokens that were spent for the answer: the search, the evaluator and failed attempts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseObject(BaseModel):
    """A scored answer with its evidence."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(description="Seconds since the epoch.")
    completed_at: int | None = Field(description="Likewise; null while it is not whole.")
    status: Status
    error: None = None
    incomplete_details: IncompleteDetails | None
    model: str = Field(description="As the client asked for it.")
    output: list[OutputMessage | OutputCall]
    usage: ResponseUsage | None
    ecoalign: EcoAlignResult | None = Field(None, description="Missing where the method is base.")
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Json
    parallel_tool_calls: bool
    previous_response_id: None = None
    reasoning: Json
    store: Literal[False] = False
    background: Literal[False] = False
    temperature: float | None
    text: Json
    tool_choice: str | Json
    tools: list[Json]
    top_logprobs: int | None
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    user: str | None
