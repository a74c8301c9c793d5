"""The chat model protocol: typed messages in, a typed completion out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Protocol, runtime_checkable

from ecoalign._record import dataclass


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An encoded image in a message.

    Attributes:
        data: the encoded bytes (PNG or JPEG).
        media_type: "image/png" or "image/jpeg".
        width, height: pixels of the decoded image.
        detail: OpenAI's hint; "low" asks for the cheap fixed-size view.
    """

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    detail: Literal["auto", "low", "high"] = "auto"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[TextPart | ImagePart, ...]

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return "\n".join([part.text for part in self.parts if isinstance(part, TextPart)])

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The image parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        prompt: all input tokens, image tokens included.
        completion: all output tokens, hidden reasoning included.
        image: the part of `prompt` that is image tokens, where known (else 0).
        cached: the part of `prompt` that the server read from its cache, where known.
    """

    prompt: int = 0
    completion: int = 0
    image: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.image + other.image,
            self.cached + other.cached,
        )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One output token."""

    token: str
    """Its text."""
    logprob: float
    """Its natural log-probability, <= 0."""
    top: Mapping[str, float] = field(default_factory=dict)
    """The log-probabilities of the alternatives that the server returned."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a client's tool that a model asks for in place of text, or beside it.

    Attributes:
        id: names the call, for its result.
        name: the tool's.
        arguments: as the model wrote them: JSON if it kept to the rules ("function"), any text
            ("custom").
        kind: "function" or "custom".
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"

    @property
    def text(self) -> str:
        """What an evaluator sees of it; JSON wherever the arguments are."""
        arguments = self.arguments.strip() or "{}"
        if self.kind == "custom":
            arguments = json.dumps(self.arguments, ensure_ascii=False)
        name = json.dumps(self.name, ensure_ascii=False)
        return f'{{"tool_call": {{"name": {name}, "arguments": {arguments}}}}}'

    def to_json(self) -> dict[str, object]:
        """As in the message of a chat completion."""
        holds = "input" if self.kind == "custom" else "arguments"
        call = {"name": self.name, holds: self.arguments}
        return {"id": self.id, "type": self.kind, self.kind: call}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call to a chat model.

    Attributes:
        messages: the conversation, oldest first.
        max_tokens: hard cap on output tokens (>= 1); part of the worst case that is reserved.
        stage: who asks (scan, propose, execute, score, write, ...); spending is summed by it.
        temperature: 0 or more; 0 is greedy.
        schema: a JSON schema the answer must fit, or None for free text.
        top_logprobs: how many alternatives per token to ask for; 0 asks for none.
        seed: passed on where the server takes one.
        extra: further sampling parameters, passed on unchanged.
        client: the sampling parameters that the client set, by their names in the chat completions
            API; they override the fields above, are sent unchanged and are never dropped when a
            server rejects them.
        timeout: seconds this call may take, None for the model's default.
        beyond: tokens that the call may use beyond `max_tokens` (>= 0), which its bound counts:
            hidden reasoning that a server counts apart, and what a parameter is said to cost.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    stage: str
    temperature: float = 0.0
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    client: Mapping[str, object] = field(default_factory=dict)
    timeout: float | None = None
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: the answer's text, as the server gave it.
        usage: the tokens of the call; None where the server did not say (the ledger then
            charges the worst case).
        finish_reason: "stop", "length", "content_filter" or the server's own word; "" where it gave
            none. Read it through `ecoalign.models.ending`, and the text through `visible`.
        logprobs: one entry per output token, or None where not given.
        model: the model that answered, as the server names it.
        seconds: wall-clock of the attempt.
        tool_calls: the calls of tools that the request's client gave.
        raw_logprobs: `logprobs` as the server gave them, where the request's client asked.
        apart: the output tokens of `usage` that were hidden reasoning, as the server says; 0 where
            it does not.
    """

    text: str
    usage: Usage | None
    finish_reason: str = "stop"
    logprobs: tuple[TokenLogprob, ...] | None = None
    model: str = ""
    seconds: float = 0.0
    tool_calls: tuple[ToolCall, ...] = ()
    raw_logprobs: Mapping[str, Any] | None = None
    apart: int = 0


@runtime_checkable
class ChatModel(Protocol):
    """Anything that can answer a `ChatRequest`.

    Attributes:
        name: "provider:name", as the user writes it.
        dialect: the name of the prompt dialect it understands: "full", "small" or "compact".
    """

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> str: ...

    def bound(self, request: ChatRequest) -> Usage:
        """Upper bound of the tokens that one attempt at `request` can use."""
        ...

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer `request` in one attempt.

        Raises:
            ModelError: the server failed; `billed` says whether the attempt may have cost.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. Safe to call twice."""
        ...


def request_key(request: ChatRequest) -> str:
    """SHA-256 (hexadecimal) of everything in a request that an answer can depend on.

    That is the messages with the bytes of their images, the cap, the sampling parameters, a
    client's own included, the schema and the stage. Not the timeout, which varies with the time
    that is left, nor what only the bound depends on.

    Raises:
        TypeError, ValueError: `schema`, `extra` or `client` is not plain JSON.
    """
    # Written out part by part: it is made for every call, and an encoder takes ten times as long.
    client = f'"client":{_canonical(dict(request.client))},' if request.client else ""
    extra = _mapping(request.extra)
    messages = ",".join([_message(message) for message in request.messages])
    schema = "null" if request.schema is None else _canonical(request.schema)
    canonical = (
        f'{{{client}"extra":{extra},"max_tokens":{_number(request.max_tokens)},'
        f'"messages":[{messages}],"schema":{schema},"seed":{_number(request.seed)},'
        f'"stage":{_string(request.stage)},"temperature":{_float(request.temperature)},'
        f'"top_logprobs":{_number(request.top_logprobs)}}}'
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

_string = json.encoder.encode_basestring_ascii


def _number(value: int | None) -> str:
    if value is None:
        return "null"
    return str(value) if type(value) is int else _canonical(value)


def _mapping(values: Mapping[str, object]) -> str:
    pairs = []
    for name in sorted(values):
        value = values[name]
        if not (isinstance(name, str) and isinstance(value, str)):
            return _canonical(dict(values))
        pairs.append(f"{_string(name)}:{_string(value)}")
    return f"{{{','.join(pairs)}}}"


def _float(value: float) -> str:
    value = float(value)
    return repr(value) if math.isfinite(value) else _canonical(value)


def _message(message: Message) -> str:
    parts = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            digest, size = hashlib.sha256(part.data).hexdigest(), [part.width, part.height]
            parts.append(
                _canonical(
                    {"image": digest, "as": part.media_type, "size": size, "at": part.detail}
                )
            )
        else:
            parts.append(f'{{"text":{_string(part.text)}}}')
    return f'{{"parts":[{",".join(parts)}],"role":{_string(message.role)}}}'
