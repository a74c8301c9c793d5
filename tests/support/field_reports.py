"""Answers of servers in the field, as public reports and the references of their APIs show them,
and what a client of the gateway has to get of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

USAGE: Mapping[str, object] = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}

SAFE: Mapping[str, object] = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "violence")
}

CAUGHT: Mapping[str, object] = {"hate": {"filtered": True, "severity": "high"}}

JSON_FORM = {"type": "json_object"}


@dataclass(frozen=True, slots=True)
class Report:
    """One answer.

    Attributes:
        name: what is odd about it.
        source: where it was reported, or whose reference shows it.
        message: of the answer.
        finish: its finish reason; what is no text is sent as it is.
        choice: further fields of the choice.
        body: further fields of the body.
        usage: as the server gives it; None for none.
        chunks: the stream, where it is the stream that is odd: the choices of each chunk, or a
            whole chunk. Where there are any, the answer is asked for as a stream only.
        done: whether the stream says that it is over.
        asked: further parameters of the request.
        status: of the response of the server; where it is none of success, `body` is all of it.
        content, refusal, calls, reason: what the client gets. `reason` None means an error.
        total: the tokens that are told; None where nobody knows.
    """

    name: str
    source: str
    message: Mapping[str, object] = field(default_factory=lambda: {"content": "Harbour."})
    finish: object = "stop"
    choice: Mapping[str, object] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    usage: object = field(default_factory=lambda: dict(USAGE))
    chunks: Sequence[Mapping[str, object]] = ()
    done: bool = True
    asked: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    content: str = "Harbour."
    refusal: str = ""
    calls: Sequence[tuple[str, str]] = ()
    reason: str | None = "stop"
    total: int | None = 47

    def whole(self) -> dict[str, Any]:
        """The body of the server's response."""
        if self.status != 200:
            return dict(self.body)
        choice = {
            "index": 0,
            "message": {"role": "assistant", **self.message},
            "finish_reason": self.finish,
            **self.choice,
        }
        usage = {} if self.usage is None else {"usage": self.usage}
        return {"object": "chat.completion", "choices": [choice], **usage, **self.body}

    def stream(self, *, with_usage: bool) -> bytes:
        """The same as server-sent events."""
        done = b"data: [DONE]\n\n" if self.done else b""
        return b"".join(_event(chunk) for chunk in self._chunks(with_usage=with_usage)) + done

    def _chunks(self, *, with_usage: bool) -> Iterator[Mapping[str, object]]:
        if self.chunks:
            yield from self.chunks
            return
        if self.status != 200:
            yield self.body
            return
        delta = {"role": "assistant", **self.message}
        words = delta.pop("content", None)
        pieces = words.split(" ") if isinstance(words, str) else [words]
        for number, piece in enumerate(pieces):
            more = "" if number + 1 == len(pieces) or not isinstance(piece, str) else " "
            text = piece if piece is None or not isinstance(piece, str) else piece + more
            first = delta if number == 0 else {}
            yield choices({**first, "content": text})
        yield {
            "choices": [{"index": 0, "delta": {}, "finish_reason": self.finish, **self.choice}],
            **self.body,
        }
        if with_usage and self.usage is not None:
            yield {"choices": [], "usage": self.usage}


def choices(delta: object, finish: object = None, **more: object) -> dict[str, object]:
    """A chunk with one choice."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def _event(chunk: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _call(name: str, arguments: object, **more: object) -> dict[str, object]:
    function: dict[str, object] = {"name": name}
    if arguments is not ...:
        function["arguments"] = arguments
    return {"id": "call_1", "type": "function", "function": function, **more}


def _piece(index: object, arguments: object, **more: object) -> dict[str, object]:
    """A piece of a call."""
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    made = {"function": function, **more}
    return made if index is ... else {"index": index, **made}


def _calling(*chunks: Sequence[Mapping[str, object]], finish: str = "tool_calls") -> Any:
    return (
        *(choices({"tool_calls": list(pieces)}) for pieces in chunks),
        choices({}, finish),
        {"choices": [], "usage": USAGE},
    )


def _said(*words: str) -> Any:
    return tuple(choices({"content": word}) for word in words)


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("look", "read")
]

ASKS_TOOLS: Mapping[str, object] = {"tools": TOOLS}

LOOKED = {"content": "", "calls": [("look", '{"x": 1}')], "reason": "tool_calls"}

TWICE = {
    "content": "",
    "calls": [("look", '{"x": 1}'), ("look", '{"x": 2}')],
    "reason": "tool_calls",
}

_TOOL: Any = {"asked": ASKS_TOOLS, **LOOKED}

_TWO: Any = {"asked": ASKS_TOOLS, **TWICE}

_END = (choices({}, "stop"), {"choices": [], "usage": USAGE})

REPORTS: Sequence[Report] = (
    # -- ends -----------------------------------------------------------------------------------
    Report("eos", "together: vespa#33327", finish="eos"),
    Report("end", "Ollama and LM Studio: pi#2116", finish="end"),
    Report("end_turn", "proxies of Anthropic: litellm#12481", finish="end_turn"),
    Report("normal", "Baidu Qianfan, API reference", finish="normal"),
    Report("COMPLETE", "Cohere, API reference", finish="COMPLETE"),
    Report("STOP", "Gemini, native word", finish="STOP"),
    Report("a name in words", "SDK objects printed by proxies", finish="FinishReason.STOP"),
    Report("max_tokens", "proxies of Anthropic", finish="max_tokens", reason="length"),
    Report("model_length", "Mistral, API reference", finish="model_length", reason="length"),
    Report("max_output", "MiniMax, API reference", finish="max_output", reason="length"),
    Report("unknown word", "vercel/ai#1832", finish="who-knows", reason="length"),
    Report("repetition", "vLLM", finish="repetition", reason="length"),
    Report("pause_turn", "proxies of Anthropic", finish="pause_turn", reason="length"),
    Report(
        "malformed_function_call", "litellm#21348", finish="malformed_function_call",
        reason="length",
    ),
    Report(
        "function_call_filter", "Gemini's OpenAI endpoint",
        finish="function_call_filter: MALFORMED_FUNCTION_CALL", reason="length",
    ),
    Report("no reason", "litellm proxy #19", finish=None, reason="length"),
    Report("empty reason", "sglang#3912, ollama#4357", finish="", reason="length"),
    Report("the word null", "AIShell#350 (KoboldCpp)", finish="null", reason="length"),
    Report("a number for a reason", "servers of one's own", finish=2, reason="length"),
    Report("error", "pydantic-ai#2844 (OpenRouter)", finish="error", reason=None),
    Report("abort", "pi#1509 (z.ai), vLLM", finish="abort", reason=None),
    Report("network_error", "pydantic-ai#7816 (z.ai)", finish="network_error", reason=None),
    Report(
        "insufficient_system_resource", "DeepSeek, API reference",
        finish="insufficient_system_resource", reason=None,
    ),
    Report(
        "an error beside the choice", "genkit#6259, promptfoo#9872",
        choice={"error": {"code": 502, "message": "upstream lost"}}, reason=None,
    ),
    Report(
        "stop, and the provider's own word", "OpenRouter, native_finish_reason",
        choice={"native_finish_reason": "MAX_TOKENS"}, reason="length",
    ),
    Report(
        "stop, and a natural word of the provider's", "OpenRouter, native_finish_reason",
        choice={"native_finish_reason": "end_turn"},
    ),
    Report(
        "stop, and a word of the provider's that nobody knows", "OpenRouter",
        choice={"native_finish_reason": "completed_ok"},
    ),
    # -- filters --------------------------------------------------------------------------------
    Report(
        "SAFETY without a text", "Vibe-Trading#308", {"content": None}, "SAFETY", content="",
        reason="content_filter",
    ),
    Report(
        "two words", "hermes-agent#53610 (Gemini)", {"content": None},
        "content_filter: PROHIBITED_CONTENT", content="", reason="content_filter",
    ),
    Report("sensitive", "opencode#44092", {"content": ""}, "sensitive", content="",
           reason="content_filter"),
    Report("guardrail_intervened", "pydantic-ai#7816 (Bedrock)", {"content": ""},
           "guardrail_intervened", content="", reason="content_filter"),
    Report("refusal as a reason", "proxies of Anthropic", {"content": ""}, "refusal", content="",
           reason="content_filter"),
    Report("recitation", "MacPaw/OpenAI#312 (Gemini)", {"content": ""}, "recitation", content="",
           reason="content_filter"),
    Report("filtered beside stop", "Azure OpenAI, content filtering", {"content": ""},
           choice={"content_filter_results": CAUGHT}, content="", reason="content_filter"),
    Report("nothing filtered", "Azure OpenAI, content filtering",
           choice={"content_filter_results": SAFE}),
    Report("stop, and SAFETY natively", "OpenRouter, native_finish_reason", {"content": ""},
           choice={"native_finish_reason": "SAFETY"}, content="", reason="content_filter"),
    *(
        Report(f"400: {name}", source, status=400, body={"error": error}, reason=None)
        for name, source, error in (
            ("content_filter", "Azure OpenAI", {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's "
                "content management policy.", "code": "content_filter", "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
            ("data_inspection_failed", "DashScope", {
                "code": "data_inspection_failed",
                "message": "Input data may contain inappropriate content."}),
            ("Content Exists Risk", "DeepSeek", {"message": "Content Exists Risk"}),
            ("1301", "Zhipu", {"code": "1301", "message": "系统检测到输入可能包含敏感内容"}),
            ("high risk", "Moonshot", {
                "message": "The request was rejected because it was considered high risk",
                "type": "content_filter"}),
        )
    ),
    # -- refusals -------------------------------------------------------------------------------
    Report("a refusal of its own", "openai: Structured Outputs",
           {"content": None, "refusal": "No."}, asked={"response_format": JSON_FORM}, content="",
           refusal="No."),
    Report("prose in place of JSON", "pydantic-ai#4310", {"content": "I cannot help with that."},
           asked={"response_format": JSON_FORM}, content="", refusal="I cannot help with that."),
    Report("a refusal beside the same prose", "pydantic-ai#4310",
           {"content": "I cannot help.", "refusal": "I cannot help."},
           asked={"response_format": JSON_FORM}, content="", refusal="I cannot help."),
    Report("JSON where it was asked for", "openai: Structured Outputs",
           {"content": 'Here: {"a": 1}'}, asked={"response_format": JSON_FORM},
           content='Here: {"a": 1}'),
    # -- thoughts -------------------------------------------------------------------------------
    *(
        Report(f"thoughts: {name}", source, message)
        for name, source, message in (
            ("in tags", "vllm#31045", {"content": "<think>secret</think>\n\nHarbour."}),
            ("in a field", "vLLM, SGLang, DeepSeek", {
                "content": "Harbour.", "reasoning_content": "secret"}),
            ("in another field", "OpenRouter, Groq", {
                "content": "Harbour.", "reasoning": "secret",
                "reasoning_details": [{"type": "reasoning.text", "text": "secret"}]}),
            ("in a part", "Mistral, Magistral", {"content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "secret"}]},
                {"type": "text", "text": "Harbour."}]}),
            ("in brackets", "Magistral on llama.cpp", {
                "content": "[THINK]secret[/THINK]Harbour."}),
            ("in channels", "gpt-oss", {
                "content": "<|channel|>analysis<|message|>secret<|end|><|start|>assistant"
                "<|channel|>final<|message|>Harbour.<|return|>"}),
            ("and a box", "GLM-4.5V", {
                "content": "<think>secret</think><|begin_of_box|>Harbour.<|end_of_box|>"}),
            ("and the mark of the end", "llama.cpp, TabbyAPI", {"content": "Harbour.<|im_end|>"}),
        )
    ),
    Report("nothing but thoughts, cut", "qwen-code#8818", {"content": "<think>secret and"},
           "length", content="", reason="length"),
    # -- contents -------------------------------------------------------------------------------
    Report("a list of parts", "Mistral, Databricks",
           {"content": [{"type": "text", "text": "Harb"}, {"type": "text", "text": "our."}]}),
    # -- usage ----------------------------------------------------------------------------------
    Report("no usage", "older and embedded servers", usage=None, total=None),
    Report("empty usage", "litellm#1571", usage={}, total=None),
    Report("usage of nothing", "servers that do not count",
           usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, total=None),
    Report("names of Anthropic", "proxies", usage={"input_tokens": 40, "output_tokens": 7}),
    Report("a cache counted apart", "proxies of Anthropic",
           usage={"input_tokens": 10, "cache_read_input_tokens": 20,
                  "cache_creation_input_tokens": 10, "output_tokens": 7}),
    Report("details that are null", "autogen#4878 (Gemini)",
           usage={**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}),
    Report("thoughts beside the completion", "Gemini's OpenAI endpoint, xAI",
           usage={"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 47}),
    Report("numbers with a point", "proxies in JavaScript",
           usage={"prompt_tokens": 40.0, "completion_tokens": 7.0, "total_tokens": 47.0}),
    Report("no tokens for a text", "servers that do not count",
           usage={"prompt_tokens": 40, "completion_tokens": 0, "total_tokens": 40}, total=None),
    Report("a cache at the top", "OmniRoute#9750 (Moonshot, DeepSeek)",
           usage={**USAGE, "cached_tokens": 20, "prompt_cache_hit_tokens": 20}),
    # -- calls of tools -------------------------------------------------------------------------
    Report("a call", "openai", {"content": None, "tool_calls": [_call("look", '{"x": 1}')]},
           "tool_calls", **_TOOL),
    Report("a call that ends with stop", "litellm#10485, ailoy#334 (Gemini)",
           {"content": None, "tool_calls": [_call("look", '{"x": 1}', id="")]}, "stop", **_TOOL),
    Report("a call without an id", "litellm#11262 (Ollama)",
           {"content": "", "tool_calls": [{"function": {"name": "look", "arguments": '{"x": 1}'}}]},
           "stop", **_TOOL),
    Report("arguments as an object", "Ollama",
           {"content": "", "tool_calls": [_call("look", {"x": 1})]}, "tool_calls", **_TOOL),
    *(
        Report(f"arguments: {name}", source,
               {"content": None, "tool_calls": [_call("look", arguments)]}, "tool_calls",
               asked=ASKS_TOOLS, content="", calls=[("look", "{}")], reason="tool_calls")
        for name, source, arguments in (
            ("empty", "vllm#19419, aichat#1217", ""),
            ("null", "vllm#28806", None),
            ("missing", "vllm#28806", ...),
        )
    ),
    Report("the older form", "servers that know functions only",
           {"content": None, "function_call": {"name": "look", "arguments": '{"x": 1}'}},
           "function_call", **_TOOL),
    Report("tool_calls without any", "mastra#14187", finish="tool_calls", asked=ASKS_TOOLS),
    Report("an empty list", "foundry-local#221", {"content": "Harbour.", "tool_calls": []},
           asked=ASKS_TOOLS),
    Report("a call that was cut", "openai",
           {"content": None, "tool_calls": [_call("look", '{"x": 1}')]}, "length",
           **{**_TOOL, "reason": "length"}),
    Report("two calls", "sglang#7117",
           {"content": None, "tool_calls": [_call("look", '{"x": 1}'),
                                            _call("look", '{"x": 2}', id="call_2")]},
           "tool_calls", **_TWO),
    Report("a call of no tool", "models that make one up",
           {"content": None, "tool_calls": [_call("delete", "{}")]}, "tool_calls",
           asked=ASKS_TOOLS, reason=None),
    # -- streams: the text ----------------------------------------------------------------------
    Report("a chunk of filters first", "brave#40902, autogen#6465 (Azure)", chunks=(
        {"choices": [], "prompt_filter_results": [{"content_filter_results": SAFE}]},
        *_said("Harb", "our."),
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE,
                      "content_filter_offsets": {"check_offset": 44}}]},
        *_END)),
    Report("filtered amid the stream", "Azure OpenAI, asynchronous filter", chunks=(
        {"choices": [{"index": 0, "delta": {}, "content_filter_results": CAUGHT}]},
        {"choices": [{"index": 0, "delta": {}, "content_filter_results": SAFE}]},
        *_END), content="", reason="content_filter"),
    Report("a filter, and then stop", "Azure OpenAI", chunks=(
        choices({"content": ""}, "content_filter"), *_END), content="", reason="content_filter"),
    Report("length, and then stop", "proxies", chunks=(
        choices({"content": "Harbour."}, "length"), *_END), reason="length"),
    Report("null as a word until the end", "AIShell#350 (KoboldCpp), DashScope", chunks=(
        choices({"content": "Harbour."}, "null"), *_END)),
    Report("an empty reason until the end", "sglang#3912", chunks=(
        choices({"content": "Harbour."}, ""), *_END)),
    Report("unspecified until the end", "Vertex AI", chunks=(
        choices({"content": "Harbour."}, "FINISH_REASON_UNSPECIFIED"), *_END)),
    Report("no reason at all", "pi#7441",
           chunks=(*_said("Harbour."), {"choices": [], "usage": USAGE}), done=False,
           reason="length"),
    Report("DONE without a reason", "planet#10281 (Gemini)",
           chunks=(*_said("Harbour."), {"choices": [], "usage": USAGE}), reason="length"),
    Report("delta and message at once", "foundry-local#144", chunks=(
        {"choices": [{"index": 197, "delta": {"content": "Harb"}, "message": {"content": "Harb"}}]},
        {"choices": [{"index": 198, "delta": {"content": "our."}, "message": {"content": "our."}}]},
        *_END)),
    Report("the whole message at the end", "proxies of DashScope", chunks=(
        *_said("Harb", "our."),
        {"choices": [{"index": 0, "delta": {}, "message": {"content": "Harbour."},
                      "finish_reason": "stop"}], "usage": USAGE})),
    Report("a message in place of deltas", "servers that do not stream", chunks=(
        {"choices": [{"index": 0, "message": {"content": "Harbour."}, "finish_reason": "stop"}],
         "usage": USAGE},)),
    Report("content null beside thoughts", "pi#2782 (MiniMax, GLM)", chunks=(
        choices({"content": None, "reasoning_content": "secret"}),
        choices({"content": "", "reasoning_content": "secret"}),
        *_said("Harbour."), *_END)),
    Report("tags cut in two", "mlx-omni-server#114",
           chunks=(*_said("<th", "ink>secret</", "think>", "\n\nHarb", "our."), *_END)),
    Report("parts in a stream", "Mistral, Magistral", chunks=(
        choices({"content": [{"type": "thinking", "thinking": "secret"}]}),
        choices({"content": [{"type": "text", "text": "Harbour."}]}), *_END)),
    Report("a refusal in pieces", "langchain#39747", chunks=(
        choices({"refusal": "I can"}), choices({"refusal": "not."}), *_END),
        asked={"response_format": JSON_FORM}, content="", refusal="I cannot."),
    Report("prose in pieces where JSON was asked for", "pydantic-ai#4310", chunks=(
        *_said("I can", "not", "."), *_END),
        asked={"response_format": JSON_FORM}, content="", refusal="I cannot."),
    Report("JSON in pieces after a word", "openai", chunks=(*_said("So: ", '{"a"', ": 1}"), *_END),
           asked={"response_format": JSON_FORM}, content='So: {"a": 1}'),
    # -- streams: the usage ---------------------------------------------------------------------
    Report("usage with the reason", "Mistral, DeepSeek",
           chunks=(*_said("Harbour."), choices({}, "stop", usage=USAGE))),
    Report("usage in each chunk", "vLLM, continuous_usage_stats", chunks=(
        choices({"content": "Harb"}, usage={**USAGE, "completion_tokens": 3, "total_tokens": 43}),
        choices({"content": "our."}, usage=USAGE), choices({}, "stop", usage=USAGE))),
    Report("usage, and then none", "litellm#1571", chunks=(
        *_said("Harbour."), choices({}, "stop", usage=USAGE), {"choices": [], "usage": {}},
        {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}})),
    Report("usage null in all but the last", "openai, include_usage", chunks=(
        choices({"content": "Harbour."}, usage=None), choices({}, "stop", usage=None), _END[-1])),
    Report("usage beside an empty delta", "OmniRoute#9750",
           chunks=(*_said("Harbour."), _END[0], choices({}, usage=USAGE))),
    Report("usage without choices", "ATOM#1711",
           chunks=(*_said("Harbour."), _END[0], {"usage": USAGE})),
    Report("usage in x_groq", "Groq", chunks=(
        *_said("Harbour."), choices({}, "stop", x_groq={"id": "r", "usage": USAGE}))),
    Report("usage in the choice", "pi#2017 (Moonshot)", chunks=(
        *_said("Harbour."),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]})),
    # -- streams: calls of tools ----------------------------------------------------------------
    Report("a call in pieces", "openai", chunks=_calling(
        [_piece(0, "", id="a", name="look")], [_piece(0, '{"x"')], [_piece(0, ": 1}")]), **_TOOL),
    Report("pieces without an index", "openai-python#3246 (Gemini)", chunks=_calling(
        [_piece(..., "", id="a", name="look")], [_piece(..., '{"x"')], [_piece(..., ": 1}")]),
        **_TOOL),
    Report("an index from 1", "Anthropic's blocks through proxies", chunks=_calling(
        [_piece(1, "", id="a", name="look")], [_piece(1, '{"x"')], [_piece(1, ": 1}")]), **_TOOL),
    Report("an empty id again", "experiential#742 (DashScope)", chunks=_calling(
        [_piece(0, "", id="a", name="look")], [_piece(0, '{"x"', id="")],
        [_piece(0, ": 1}", id="", name=None)]), **_TOOL),
    Report("the name again", "servers that repeat it", chunks=_calling(
        [_piece(0, "", id="a", name="look")], [_piece(0, '{"x"', id="a", name="look")],
        [_piece(0, ": 1}", id="a", name="look")]), **_TOOL),
    Report("a new id in every piece", "litellm#11262", chunks=_calling(
        [_piece(0, '{"x"', id="a", name="look")], [_piece(0, ": 1}", id="b")]), **_TOOL),
    Report("the name in pieces", "openai", chunks=_calling(
        [_piece(0, "", id="a", name="lo")], [_piece(0, '{"x": 1}', name="ok")]), **_TOOL),
    Report("an object for arguments", "Ollama", chunks=_calling(
        [_piece(0, {"x": 1}, id="a", name="look")], finish="stop"), **_TOOL),
    Report("two calls", "openai", chunks=_calling(
        [_piece(0, "", id="a", name="look")], [_piece(0, '{"x": 1}')],
        [_piece(1, "", id="b", name="look")], [_piece(1, '{"x": 2}')]), **_TWO),
    Report("two calls, all with 0", "ollama#15457, maka#1976, dynamo#4723", chunks=_calling(
        [_piece(0, '{"x": 1}', id="a", name="look")],
        [_piece(0, '{"x": 2}', id="b", name="look")]), **_TWO),
    Report("two calls, all with 0, without ids", "gcli2api#406 (Gemini)", chunks=_calling(
        [_piece(0, '{"x": 1}', id="", name="look")],
        [_piece(0, '{"x": 2}', id="", name="look")], finish="stop"), **_TWO),
    Report("two calls without an index", "opik#8362 (Mistral), CLIProxyAPI#5058", chunks=_calling(
        [_piece(..., '{"x": 1}', id="a", name="look"),
         _piece(..., '{"x": 2}', id="b", name="look")]), **_TWO),
    Report("two calls at once", "term-llm#314", chunks=_calling(
        [_piece(0, '{"x": 1}', id="a", name="look"), _piece(1, '{"x": 2}', id="b", name="look")]),
        **_TWO),
    Report("two calls, interleaved", "openai", chunks=_calling(
        [_piece(0, '{"x"', id="a", name="look")], [_piece(1, '{"x"', id="b", name="look")],
        [_piece(0, ": 1}")], [_piece(1, ": 2}")]), **_TWO),
    Report("no arguments", "vllm#47901", chunks=_calling(
        [_piece(0, "", id="a", name="look")], [_piece(1, '{"x": 1}', id="b", name="read")]),
        asked=ASKS_TOOLS, content="", calls=[("look", "{}"), ("read", '{"x": 1}')],
        reason="tool_calls"),
    Report("the older form in pieces", "servers that know functions only", chunks=(
        choices({"function_call": {"name": "look", "arguments": ""}}),
        choices({"function_call": {"arguments": '{"x": 1}'}}), choices({}, "function_call"),
        {"choices": [], "usage": USAGE}), **_TOOL),
)  # fmt: skip
