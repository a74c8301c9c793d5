"""A request for a response as one for a chat completion: its parameters and its messages by their
names there, so that everything is checked, bounded and paid for in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ecoalign.gateway._errors import ApiError, invalid, of_error
from ecoalign.gateway.chat._parameters import LISTABLE, Parameters
from ecoalign.gateway.chat._protocol import UNSUPPORTED, Json
from ecoalign.gateway.chat._validation import checked
from ecoalign.gateway.responses._protocol import (
    REQUEST,
    WORDING,
    FunctionCallItem,
    FunctionOutputItem,
    ImageContent,
    MessageItem,
    ReasoningItem,
    RefusalContent,
    ResponsesRequest,
    ResponseToolChoice,
    TextContent,
)

_OWN = frozenset(ResponsesRequest.model_fields) - frozenset(Parameters.model_fields)
"""Parameters that chat completions do not have, or not in this shape."""

_CHAT: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include, with message.output_text.logprobs",
}
"""What is called otherwise here."""

_WORDS: Mapping[str, str] = {
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
    "verbosity": "text.verbosity",
}
"""The parameters of a chat completion that are made here, by their names in the request."""

_TOKENS = "message.output_text.logprobs"


@dataclass(slots=True)
class Asked:
    """A request, read.

    Attributes:
        request: as the client wrote it.
        body: of the same request for a chat completion.
        places: where the client wrote what stands at a place of that body.
    """

    request: ResponsesRequest
    body: dict[str, object] = field(repr=False)
    places: dict[str, str] = field(default_factory=dict)

    def own(self, error: BaseException) -> ApiError:
        """What the client is told of `error`, by the names of its own request."""
        failure = of_error(error)
        if failure.param is not None and (own := self._place(failure.param)) != failure.param:
            failure.message = failure.message.replace(failure.param, own)
            failure.param = own
        return failure

    def _place(self, param: str) -> str:
        if not param.startswith("messages"):
            name = re.split(r"[.\[]", param, maxsplit=1)[0]
            return _WORDS.get(name, name) + param[len(name) :]
        steps = re.findall(r"\.[^.\[]+|\[\d+\]|^[^.\[]+", param)
        for end in range(len(steps), 0, -1):
            known = self.places.get("".join(steps[:end]))
            if known is not None:
                rest = "".join(steps[end:]).removesuffix(".url")
                return known + rest.replace(".tool_call_id", ".call_id").replace(".function", "")
        return "input"


def read_request(body: Mapping[str, object], passes: Mapping[str, int]) -> Asked:
    """Read a request.

    Args:
        body: of the request.
        passes: parameters that the operator lists; see `GatewayConfig.passes`.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    for name, here in _CHAT.items():
        if body.get(name) is not None and name not in passes:
            raise invalid(f"{name} is not taken here: it is called {here}", name, UNSUPPORTED)
    listed = {n for n in passes if n in body and (n not in _OWN or n in LISTABLE)}
    read = checked(REQUEST, {n: v for n, v in body.items() if n not in listed}, "", WORDING)
    messages, places = _messages(read)
    asked: dict[str, object] = {n: v for n, v in body.items() if n not in _OWN or n in listed}
    asked["messages"] = messages
    asked |= {name: value for name, value in _parameters(read).items() if value is not None}
    if read.stream:
        # A response always ends with its usage.
        asked["stream_options"] = {"include_usage": True}
    return Asked(read, asked, places)


def _parameters(read: ResponsesRequest) -> dict[str, object]:
    """The parameters that have other names there."""
    made: dict[str, object] = {"max_completion_tokens": read.max_output_tokens}
    if read.text is not None:
        made["verbosity"] = read.text.verbosity
        form = read.text.format
        if form is not None:
            told = form.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
            made["response_format"] = {"type": form.type} | (
                {"json_schema": told} if form.type == "json_schema" else {}
            )
    if read.reasoning is not None:
        made["reasoning_effort"] = read.reasoning.effort
    if read.tools is not None:
        made["tools"] = [
            {
                "type": "function",
                "function": tool.model_dump(exclude_none=True, exclude={"type"}),
            }
            for tool in read.tools
        ]
    choice = read.tool_choice
    made["tool_choice"] = _choice(choice) if isinstance(choice, ResponseToolChoice) else choice
    if _TOKENS in (read.include or ()) or read.top_logprobs:
        made["logprobs"] = True
    return made


def _choice(choice: ResponseToolChoice) -> Json:
    if choice.type == "function":
        return {"type": "function", "function": {"name": choice.name or ""}}
    tools = [{"type": "function", "function": {"name": one.name}} for one in choice.tools or ()]
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": choice.mode or "auto", "tools": tools},
    }


def _messages(read: ResponsesRequest) -> tuple[list[Json], dict[str, str]]:
    """The conversation, and where the client wrote each part of it.

    A call belongs to the turn of the assistant before it, where there is one.
    """
    messages: list[Json] = []
    places: dict[str, str] = {}
    if read.instructions:
        places["messages[0]"] = places["messages[0].content"] = "instructions"
        messages.append({"role": "system", "content": read.instructions})
    if isinstance(read.input, str):
        places[f"messages[{len(messages)}]"] = "input"
        return [*messages, {"role": "user", "content": read.input}], places
    for index, item in enumerate(read.input):
        here, at = f"input[{index}]", f"messages[{len(messages)}]"
        match item:
            case ReasoningItem():
                continue
            case FunctionCallItem():
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                calls = messages[-1].setdefault("tool_calls", [])
                at = f"messages[{len(messages) - 1}]"
                places.setdefault(at, here)
                places[f"{at}.tool_calls[{len(calls)}]"] = here
                function = {"name": item.name, "arguments": item.arguments}
                calls.append({"id": item.call_id, "type": "function", "function": function})
            case FunctionOutputItem():
                places |= {at: here, f"{at}.content": f"{here}.output"}
                content = _content(item.output)
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": content})
            case MessageItem():
                places[at] = here
                messages.append({"role": item.role, "content": _content(item.content)})
    return messages, places


def _content(
    content: str | list[TextContent | RefusalContent | ImageContent] | None,
) -> str | list[Json] | None:
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: TextContent | RefusalContent | ImageContent) -> Json:
    match part:
        case TextContent():
            return {"type": "text", "text": part.text}
        case RefusalContent():
            return {"type": "refusal", "refusal": part.refusal}
        case ImageContent():
            image = {"url": part.image_url} | ({"detail": part.detail} if part.detail else {})
            return {"type": "image_url", "image_url": image}
