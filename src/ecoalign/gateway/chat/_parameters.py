"""The parameters of a request: which are taken, what each may be, and why others are not.

A parameter is taken where it is known what it does to the cost and to the safety of a call; it is
declared here, from which OpenAPI is generated. All others are refused by name, unless who runs the
server lists them and says what they cost (`GatewayConfig.passes`). Null counts as not given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    model_validator,
)

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway.chat._protocol import (
    MESSAGE_LIST,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    Closed,
    Json,
    Must,
    wrong,
)
from ecoalign.models import DEARER

# -- ecoalign --------------------------------------------------------------------------------------

_Tokens = Annotated[int, Field(ge=1, le=10**15)]


class BudgetUnits(Closed):
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
        raise wrong(f"ecoalign.{error}") from None


_BudgetText = Annotated[str, Field(examples=["8000", "$0.02", "8000,$0.02,5s"])]

_Name = Annotated[str, Field(min_length=1, max_length=64)]


class EcoAlignOptions(Closed):
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

# -- the form of the answer ------------------------------------------------------------------------


def _no_obfuscation(value: bool | None) -> bool | None:
    if value:
        raise wrong(
            "stream_options.include_obfuscation: an answer is sent whole, so its pieces show "
            "nothing",
            UNSUPPORTED,
        )
    return value


class StreamOptions(Closed):
    """What is sent in a stream beside the answer."""

    include_usage: bool | None = Field(None, description="Send the usage in the last chunk.")
    include_obfuscation: Annotated[bool | None, AfterValidator(_no_obfuscation)] = Field(
        None, description="Only false: an answer is sent whole, so its pieces show nothing."
    )


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name in {"$ref", "$dynamicRef", "$recursiveRef"} and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for entry in schema:
            yield from _references(entry)


def _closed_schema(schema: Json | None) -> Json | None:
    if any(not reference.startswith("#") for reference in _references(schema)):
        raise wrong(
            "a JSON schema may refer to its own parts only ($ref from #): nothing is fetched",
            UNSUPPORTED_VALUE,
        )
    return schema


Schema = Annotated[Json | None, AfterValidator(_closed_schema)]


class JsonSchema(Closed):
    """A JSON schema that the answer must fit."""

    name: str | None = None
    description: str | None = None
    schema_: Schema = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Closed):
    """The form of the answer, passed on to the model."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: Schema = Field(None, alias="schema", description="As some servers take it.")

    @property
    def is_json(self) -> bool:
        """Whether a client will read the answer as JSON."""
        return self.type != "text"


# -- tools -----------------------------------------------------------------------------------------

ToolName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/-]+$")]


class Function(Closed):
    """What a tool is called and takes."""

    name: ToolName
    description: str | None = None
    parameters: Schema = Field(None, description="A JSON schema.")
    strict: bool | None = None


def only_functions(value: object) -> object:
    """`value`, a tool; refused where its server would carry it out."""
    if isinstance(value, Mapping) and value.get("type") != "function":
        raise wrong(
            "only function tools are taken: what a server does by its own tools (web search, code, "
            "files, MCP, computers) and what that costs, nobody here can score or bound",
            UNSUPPORTED,
        )
    return value


class FunctionTool(Closed):
    """A tool that the client calls itself."""

    type: Literal["function"]
    function: Function


Tool = Annotated[FunctionTool, BeforeValidator(only_functions)]


class ChosenFunction(Closed):
    """The name of a tool."""

    name: ToolName


class ChosenTool(Closed):
    """A tool by its name."""

    type: Literal["function"]
    function: ChosenFunction


class AllowedTools(Closed):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenTool], Field(max_length=128)]


class ToolChoice(Closed):
    """The tool to call, or those that may be called."""

    type: Literal["function", "allowed_tools"]
    function: ChosenFunction | None = None
    allowed_tools: AllowedTools | None = None


# -- hidden reasoning ------------------------------------------------------------------------------

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]

_Budget = Annotated[int, Field(ge=0, le=10**7)]

_WITHIN = "Tokens; they count within the cap on the output."


class ThinkingOption(Closed):
    """Hidden reasoning as Anthropic and others take it."""

    type: Literal["enabled", "disabled"]
    budget_tokens: _Budget | None = Field(None, description=_WITHIN)

    @model_validator(mode="after")
    def _bounded(self) -> ThinkingOption:
        if self.type == "enabled" and self.budget_tokens is None:
            raise wrong(
                "thinking.budget_tokens is missing: without it nobody here can bound what the "
                "thoughts cost",
                UNSUPPORTED_VALUE,
            )
        return self


class ReasoningOption(Closed):
    """Hidden reasoning as OpenRouter and others take it."""

    effort: Effort | None = None
    max_tokens: _Budget | None = Field(None, description=_WITHIN)
    enabled: bool | None = None
    exclude: bool | None = Field(None, description="It is left out of every answer.")


class TemplateOptions(Closed):
    """Switches of the chat template of vLLM, SGLang and llama.cpp, whose caps hold for thoughts and
    answer together."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


# -- all of them -----------------------------------------------------------------------------------

CAPS = ("max_completion_tokens", "max_tokens")

Cap = Annotated[int, Field(ge=1, le=10**9)]

Verbosity = Literal["low", "medium", "high"]

_CAP = (
    "The maximum number of output tokens of each call that writes an answer, hidden reasoning "
    "included."
)

_Penalty = Annotated[float, Field(ge=-2, le=2)]

_Share = Annotated[float, Field(ge=0, le=1)]

_Factor = Annotated[float, Field(ge=0, le=10)]

_Nonempty = Annotated[str, Field(min_length=1)]

_Who = Annotated[str, Field(max_length=512)]


def _only_null(schema: Json) -> None:
    schema["additionalProperties"] = {
        "type": "null",
        "description": "What is not listed here is refused, but for what the server's operator "
        "lists.",
    }


class Parameters(BaseModel):
    """What a request may have on every route, beside what is asked."""

    model_config = ConfigDict(strict=True, extra="allow", json_schema_extra=_only_null)

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
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Field(ge=-1, le=10**6)] | None = None
    top_a: _Share | None = None
    min_p: _Share | None = None
    typical_p: _Share | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    repetition_penalty: _Factor | None = None
    repeat_penalty: _Factor | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Nonempty | Annotated[list[_Nonempty], Field(min_length=1, max_length=16)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Of the alternatives, only the token itself is told: no other was scored."
    )
    logit_bias: (
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    thinking: ThinkingOption | None = None
    enable_thinking: bool | None = Field(None, description="True with a thinking_budget only.")
    thinking_budget: _Budget | None = Field(None, description=_WITHIN)
    thinking_token_budget: _Budget | None = Field(None, description=_WITHIN)
    chat_template_kwargs: TemplateOptions | None = None
    user: _Who | None = None
    safety_identifier: _Who | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: Json | None = None
    store: Annotated[
        Literal[False] | None,
        Must(
            "must be false: an answer is one of many texts, and none is stored upstream",
            UNSUPPORTED,
        ),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex"] | None,
        Must("must be auto, default or flex: no other prices are known", UNSUPPORTED_VALUE),
    ] = None

    @property
    def options(self) -> EcoAlignOptions:
        """The `ecoalign` object; an empty one where there is none."""
        return self.ecoalign or _NO_OPTIONS


class ChatParameters(Parameters):
    """Everything in a request for a chat completion but its messages."""

    max_tokens: Cap | None = Field(None, description=_CAP)
    max_completion_tokens: Cap | None = Field(None, description=_CAP)
    n: Annotated[
        Annotated[int, Field(ge=1, le=1)] | None,
        Must("must be 1: one scored answer", UNSUPPORTED_VALUE),
    ] = None
    logprobs: bool | None = Field(
        None, description="Of the tokens that are shown; of no alternatives to them."
    )
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    reasoning_effort: Effort | None = None
    reasoning: ReasoningOption | None = None
    verbosity: Verbosity | None = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None,
        Must("must be [text]", UNSUPPORTED_VALUE),
    ] = None

    @property
    def wants_json(self) -> bool:
        """Whether the answer is to be JSON, so that a refusal has to be told apart from it."""
        return self.response_format is not None and self.response_format.is_json

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def cap(self) -> int | None:
        """The most tokens of an answer that the client asks for."""
        return self.max_completion_tokens or self.max_tokens


class ChatCompletionRequest(ChatParameters):
    """A chat to answer. Parameters not listed here are refused."""

    messages: MESSAGE_LIST


PARAMETERS: TypeAdapter[ChatParameters] = TypeAdapter(ChatParameters)

CLOSED: Mapping[str, type[BaseModel]] = {
    "ecoalign": EcoAlignOptions,
    "stream_options": StreamOptions,
    "response_format": ResponseFormat,
    "json_schema": JsonSchema,
    "tools": FunctionTool,
    "function": Function,
    "tool_choice": ToolChoice,
    "allowed_tools": AllowedTools,
    "thinking": ThinkingOption,
    "reasoning": ReasoningOption,
    "chat_template_kwargs": TemplateOptions,
}
"""The objects among them, by the name of the parameter or of the part that they are."""

# -- what is refused -------------------------------------------------------------------------------

_ELSEWHERE = "a request cannot choose where it is answered, or with whose key"

_WHY: Mapping[str, str] = {
    **DEARER,
    **{
        name: why
        for why, names in {
            _ELSEWHERE: """
                api_base api_key api_type api_version azure_endpoint base_url custom_llm_provider
                deployment_id extra_body extra_headers extra_query default_headers fallbacks
                context_window_fallbacks context_window_fallback_dict content_policy_fallbacks
                headers host model_list models organization provider proxy route router url preset
                transforms bootstrap_host bootstrap_port bootstrap_room kv_transfer_params lora
                lora_path
            """,
            "this server tries again, and waits, as its settings say": """
                num_retries max_retries retry_policy request_timeout timeout mock_response
                mock_tool_calls mock_timeout mock_delay mock_testing_fallbacks
            """,
            "a request cannot change what its server filters, logs or keeps": """
                safety_settings safe_prompt guardrails guardrail_config callbacks cache
            """,
            "it changes what the model is asked, or what it has to answer": """
                chat_template add_generation_prompt continue_final_message add_special_tokens echo
                prefix guided_json guided_regex guided_choice guided_grammar structured_outputs
                grammar json_schema regex ebnf allowed_token_ids bad_words skip_special_tokens
            """,
            "the cap on an answer is max_completion_tokens": """
                max_new_tokens max_output_tokens num_predict n_predict
            """,
            "audio output is not supported": "audio",
            "it is deprecated; use tools": "functions",
            "it is deprecated; use tool_choice": "function_call",
            "answers are scored by the evaluator of this server": "moderation",
            "a search gives one answer; choose the method best-of-n in ecoalign.method": "best_of",
            "what is predicted is charged whether it comes or not": "prediction",
        }.items()
        for name in names.split()
    },
}
"""Why a parameter that is often met is refused."""

_UNKNOWN = "what it does to cost and safety is not known here; who runs this server may allow it"

LISTABLE = frozenset(
    {"thinking", "reasoning", "enable_thinking", "thinking_budget", "thinking_token_budget"}
    | {"chat_template_kwargs", "reasoning_effort", "verbosity"}
)
"""Parameters declared above that an operator may list as well, so that they pass unread."""


def why_refused(name: str) -> str:
    """Why a parameter that is not declared is not taken."""
    return _WHY.get(name.lower(), _UNKNOWN)


def parse_pass(text: str) -> tuple[str, int]:
    """A parameter that the operator lists, and the tokens that it may cost a call beyond its cap.

    Args:
        text: "NAME", "NAME=free" or "NAME=tokens=N".

    Raises:
        InputError: it is none of these, or no such parameter can be listed.
    """
    name, _, cost = text.strip().partition("=")
    unit, _, number = cost.partition("=")
    if cost not in {"", "free"} and not (unit == "tokens" and re.fullmatch(r"\d{1,9}", number)):
        raise InputError(
            f"--pass {text[:80]}: what a parameter costs is free, or tokens=N: the most tokens "
            "that it adds to a call"
        )
    return check_pass(name), int(number or 0)


def check_pass(name: str) -> str:
    """`name`, if an operator can list it.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
        raise InputError(f"{name[:80]!r} is no name of a parameter")
    if name == "messages" or (name in ChatParameters.model_fields and name not in LISTABLE):
        raise InputError(f"the parameter {name} cannot be listed: it is read by the gateway itself")
    if _WHY.get(name.lower()) == _ELSEWHERE:
        raise InputError(f"the parameter {name} cannot be listed: {_ELSEWHERE}")
    return name
