"""Answers of an OpenAI-compatible server: completions and error texts, both distrusted. No I/O."""

from __future__ import annotations

import json
import math
import re
import secrets
import string
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

from ecoalign.errors import ModelError
from ecoalign.models._base import Completion, TokenLogprob, ToolCall, Usage
from ecoalign.models._speech import (
    THOUGHT_FIELDS,
    both_ends,
    broke_off,
    content_of,
    ending,
    is_known,
    visible,
    withheld,
)

# More than any context window; a larger count is an error of the server, not a usage.
MAX_TOKENS = 100_000_000

_SECRET = re.compile(r"\b[sp]k-[A-Za-z0-9*._-]{6,}|\bBearer\s+\S+", re.I)

_ID = string.ascii_letters + string.digits

_SHORTEST_KEY = 8

_STATUSES = range(100, 600)
"""Numbers that a `code` only repeats from the status line."""
"""A shorter one is no secret, and its letters stand in many a word."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _error_in(data: bytes) -> object:
    """The error object of a body; raises ValueError or RecursionError if it is no JSON."""
    return _error_of(json.loads(data))


def _error_of(body: object) -> object:
    outer = body[0] if isinstance(body, list) and body else body
    return _mapping(outer).get("error", outer)


def named(data: bytes) -> str:
    """The parameter that an error body names in a field of its own; "" if it names none."""
    try:
        fields = _mapping(_error_in(data))
    except (ValueError, RecursionError):
        return ""
    param = fields.get("param")
    if isinstance(param, str):
        return param
    places = [_items(_mapping(item).get("loc")) for item in _items(fields.get("detail"))]
    # FastAPI: ("body", "temperature", ...)
    return next((str(place[1]) for place in places if len(place) > 1), "")


def said(data: bytes) -> str:
    """What an error body says: its messages, code and parameter, without echoed input."""
    try:
        error = _error_in(data)
    except (ValueError, RecursionError):
        text = data[:2000].decode("utf-8", "replace")
        return "an HTML page" if text.lstrip()[:1] == "<" else text
    return _said(error)


def _said(error: object) -> str:
    if isinstance(error, str):
        return error
    fields = _mapping(error)
    words = [
        str(fields[key])
        for key in ("message", "code", "param")
        if fields.get(key) and fields[key] not in _STATUSES
    ]
    inner = _mapping(fields.get("innererror") or fields.get("inner_error"))
    words += [str(inner["code"])] if inner.get("code") else []
    detail = fields.get("detail")
    if isinstance(detail, str):
        words.append(detail)
    for item in _items(detail):
        entry = _mapping(item)
        words.append(f"{'.'.join(map(str, _items(entry.get('loc'))))}: {entry.get('msg', '')}")
    return "; ".join(words)


def scrub(text: str, key: str) -> str:
    """Server text made fit for a message: one line, short, without `key` or anything like one."""
    kept = text.replace(key, "[key]") if len(key) >= _SHORTEST_KEY else text
    kept = _CONTROL.sub(" ", _SECRET.sub("[key]", kept)).strip()
    return kept if len(kept) <= 300 else kept[:297] + "..."


def parse(
    data: bytes,
    *,
    seconds: float,
    key: str = "",
    client: Mapping[str, object] | None = None,
    thinks: bool = False,
) -> Completion:
    """The completion in a response body; see `completion_of`. `key` is kept out of error messages.

    Raises:
        ModelError: the body is no chat completion, or holds no text.
    """
    try:
        body: object = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad(f"the server's answer is not JSON but {scrub(_looks(data), key)}") from None
    return completion_of(body, seconds=seconds, key=key, client=client, thinks=thinks)


def completion_of(
    body: object,
    *,
    seconds: float = 0.0,
    key: str = "",
    client: Mapping[str, object] | None = None,
    thinks: bool = False,
    blank: bool = False,
) -> Completion:
    """The completion in the JSON of a response body. `key` is kept out of error messages.

    Where a model `thinks`, and may begin inside its thoughts, a text that was cut and holds no mark
    of their end is nothing but thoughts, unless the server tells those apart, by a field of their
    own or by counting them.

    A refusal in its own field (structured output) becomes the text, with finish reason
    "refusal". An empty text is accepted where it may be `blank`, where a content filter took it, or
    beside calls of tools. Those, and log-probabilities as they came, are read only where `client`,
    the parameters that a client asked for, has them. Half an answer, of a server that gave up amid
    it, is none.

    Raises:
        ModelError: the body is not a chat completion, or it holds no text ("bad-response"), or it
            says in place of one that a content filter refused the request ("filtered"). Its `usage`
            is what the body reports all the same.
    """
    used = usage_of(reported_usage(body), "")
    choices = _items(_mapping(body).get("choices"))
    if not choices:
        words = _said(_error_of(body))
        if withheld(words) or withheld_by(body):
            raise filtered(f"the content filter refused the request: {scrub(words, key)}", used)
        if _mapping(body).get("error"):
            raise _bad(f"the server answered with an error: {scrub(words, key)}", used)
        raise _bad("the server's answer has no choices; is this a chat completions endpoint?", used)
    choice = _mapping(choices[0])
    message = _mapping(choice.get("message"))
    reason = choice.get("finish_reason")
    finish = reason if isinstance(reason, str) else ""
    native = choice.get("native_finish_reason")
    if (
        isinstance(native, str)
        and is_known(native)
        and ending(native) not in {"stop", "tool_calls"}
    ):
        # OpenRouter keeps the provider's own word beside its own, which may be "stop".
        withdrawn = ending(native) in {"content_filter", "refusal"}
        finish = "content_filter" if withdrawn else both_ends(native, finish)
    text, refusal = content_of(message.get("content")), message.get("refusal")
    if not text and isinstance(refusal, str) and refusal:
        text, finish = refusal, "refusal"
    elif ending(finish) == "refusal" or withheld_by(choice):
        # Anthropic's word for an answer that a classifier stopped; Azure says so beside any word.
        finish = "content_filter"
    trouble = _said(choice["error"]) if choice.get("error") else ""
    if withheld(trouble):
        finish = "content_filter"
    elif trouble or (broke_off(finish) and ending(finish) == "unknown"):
        raise _bad(
            f"the server broke off amid its answer (finish reason {finish!r}): "
            f"{scrub(trouble, key) or 'it gave no reason'}",
            used,
        )
    asked = client or {}
    calls = tool_calls(_calls_in(message), asked["tools"], used) if asked.get("tools") else ()
    end = ending(finish)
    lost = thinks and end == "length" and text == visible(text).text
    details = _mapping(_mapping(reported_usage(body)).get("completion_tokens_details"))
    apart = "reasoning_tokens" in details or any(message.get(field) for field in THOUGHT_FIELDS)
    if lost and not apart:
        text = ""
    if not blank and not text.strip() and not calls and end != "content_filter":
        if end == "length":
            raise _bad(
                "the model used its whole output cap without writing any text (hidden reasoning "
                "counts): allow more output tokens or lower its reasoning effort",
                used,
            )
        raise _bad(f"the server's answer has no text (finish reason {finish!r})", used)
    model = _mapping(body).get("model")
    raw = choice.get("logprobs") if asked.get("logprobs") else None
    written = text + "".join(call.text for call in calls)
    return Completion(
        text=text,
        usage=used if used is None or used.completion or not written else None,
        finish_reason=finish,
        logprobs=_logprobs(choice.get("logprobs")),
        model=model if isinstance(model, str) else "",
        seconds=seconds,
        tool_calls=calls,
        raw_logprobs=dict(raw) if isinstance(raw, Mapping) else None,
        apart=apart_of(reported_usage(body)),
    )


def _calls_in(message: Mapping[str, object]) -> object:
    """The calls in a message; the one call of servers that know the older form only."""
    calls, older = message.get("tool_calls"), message.get("function_call")
    return calls if calls or not isinstance(older, dict) else [{"function": older}]


def tool_calls(value: object, tools: object, usage: Usage | None) -> tuple[ToolCall, ...]:
    """The calls in a message, their known fields alone.

    Their names are those of the client's tools. Their ids are made here, as nobody scores those of
    a server; nine letters and digits are what every server takes for one (Mistral takes no other).

    Args:
        value: of the message's `tool_calls`.
        tools: what the client gave.
        usage: of the call, for the error.

    Raises:
        ModelError: one of them is none, or of no tool that was given: a part of the answer that
            nobody could score.
    """
    calls: list[ToolCall] = []
    names = {_mapping(tool.get(kind)).get("name") for tool in map(_mapping, _items(tools))
             for kind in ("function", "custom")}  # fmt: skip
    for entry in map(_mapping, _items(value)):
        kind: Literal["function", "custom"] = "custom" if "custom" in entry else "function"
        fields = _mapping(entry.get(kind))
        name, given = fields.get("name"), fields.get("input" if kind == "custom" else "arguments")
        if not isinstance(name, str) or name not in names:
            raise _bad("the server's answer calls a tool that it was not given", usage)
        # Some servers send the arguments as the object itself, or nothing where there are none.
        arguments = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
        if kind == "function" and not arguments.strip():
            arguments = "{}"
        made = "".join(secrets.choice(_ID) for _ in range(9))
        calls.append(ToolCall(made, name, arguments, kind))
    return tuple(calls)


def _bad(message: str, usage: Usage | None = None) -> ModelError:
    return ModelError(message, fault="bad-response", billed=True, usage=usage)


def filtered(message: str, usage: Usage | None) -> ModelError:
    """A content filter's refusal of a request. It costs what the server says; if nothing, 0."""
    return ModelError(message, fault="filtered", billed=usage is not None, usage=usage)


def withheld_by(value: object) -> bool:
    """Whether a body or a choice says in fields of its own that a filter took the answer.

    Those of Azure (`content_filter_results`), Gemini (`promptFeedback`) and MiniMax.
    """
    fields = _mapping(value)
    results = _mapping(fields.get("content_filter_results")).values()
    feedback = _mapping(fields.get("promptFeedback") or fields.get("prompt_feedback"))
    return (
        any(_mapping(result).get("filtered") is True for result in results)
        or bool(feedback.get("blockReason") or feedback.get("block_reason"))
        or fields.get("input_sensitive") is True
        or fields.get("output_sensitive") is True
    )


def usage_in(data: bytes) -> Usage | None:
    """The usage that an error body reports; None where it does not."""
    try:
        body: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return usage_of(reported_usage(body), "")


def reported_usage(body: object) -> object:
    """The usage in a body or a chunk, as its server gave it: in its own field, in that of Groq, or
    in the choice (Moonshot). None where there is none."""
    fields = _mapping(body)
    choices = _items(fields.get("choices"))
    places = (fields, _mapping(fields.get("x_groq")), _mapping(choices[0] if choices else None))
    return next((place["usage"] for place in places if place.get("usage")), None)


def _looks(data: bytes) -> str:
    start = data[:200].decode("utf-8", "replace").strip()
    if not start:
        return "empty"
    if start.startswith("<"):
        return "an HTML page: is the base URL that of an API (it usually ends in /v1)?"
    if start.startswith(("{", "[")):
        return "broken off or malformed JSON"
    return f"text that starts {start[:60]!r}"


def _count(value: object) -> int | None:
    """A count of tokens, or None; what is beyond all counts is the greatest."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or value < 0 or value != int(value):
        return None
    return min(int(value), MAX_TOKENS)


def usage_of(value: object, text: str) -> Usage | None:
    """The usage a server reported, or None where it did not, or where it cannot be true.

    A prompt of no tokens, or a text of none, is under-reporting: None makes the ledger charge
    the worst case. Where the total exceeds the sum of the parts (Gemini's endpoint leaves hidden
    reasoning out of the completion), the difference is counted as completion. The names of
    Anthropic and of responses, which proxies hand on, are read as well.
    """
    fields = _mapping(value)
    own = fields.get("prompt_tokens") is not None
    prompt = _count(fields.get("prompt_tokens" if own else "input_tokens"))
    completion = _count(fields.get("completion_tokens" if own else "output_tokens"))
    if prompt is not None and not own:
        # Anthropic counts what goes through its cache apart.
        prompt += _count(fields.get("cache_read_input_tokens")) or 0
        prompt += _count(fields.get("cache_creation_input_tokens")) or 0
    if not prompt or completion is None or (text and not completion):
        return None
    total = _count(fields.get("total_tokens")) or 0
    details = _mapping(fields.get("prompt_tokens_details") or fields.get("input_tokens_details"))
    cached = (
        details.get("cached_tokens"),
        *map(fields.get, ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")),
    )
    return Usage(
        prompt=prompt,
        completion=max(completion, total - prompt),
        image=min(prompt, _count(details.get("image_tokens")) or 0),
        cached=min(prompt, next((n for n in map(_count, cached) if n is not None), 0)),
    )


def apart_of(value: object) -> int:
    """The output tokens in a reported usage that were hidden reasoning, as its server says."""
    fields = _mapping(value)
    details = _mapping(fields.get("completion_tokens_details"))
    prompt, completion, total = (
        _count(fields.get(name)) or 0
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    return max(_count(details.get("reasoning_tokens")) or 0, total - prompt - completion)


def _logprob(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value <= 0 else None


def _logprobs(value: object) -> tuple[TokenLogprob, ...] | None:
    """All log-probabilities, or None as soon as one token's is missing or not one."""
    entries = _items(_mapping(value).get("content"))
    if not entries:
        return None
    found: list[TokenLogprob] = []
    for entry in map(_mapping, entries):
        token, logprob = entry.get("token"), _logprob(entry.get("logprob"))
        if not isinstance(token, str) or logprob is None:
            return None
        top: dict[str, float] = {}
        for option in map(_mapping, _items(entry.get("top_logprobs"))):
            name, chance = option.get("token"), _logprob(option.get("logprob"))
            if isinstance(name, str) and chance is not None:
                top[name] = max(chance, top.get(name, -math.inf))
        found.append(TokenLogprob(token, logprob, top))
    return tuple(found)


def seconds_to_wait(header: Callable[[str], str]) -> float | None:
    """Seconds (>= 0) from `retry-after-ms` or `retry-after` (a number or a date); None if unsaid.

    Args:
        header: the value of the header of that name, "" where there is none.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(header(name)) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        when = parsedate_to_datetime(header("retry-after"))
    except ValueError:
        return None
    # Without a zone that Python knows it is meant in UTC (RFC 9110, section 5.6.7).
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())
