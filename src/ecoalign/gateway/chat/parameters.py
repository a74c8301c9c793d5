"""Every parameter of a request: checked and passed on, taken here, or refused. None is dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ecoalign.gateway.errors import ApiError, invalid, unsupported
from ecoalign.query import Sampling

__all__ = ["Check", "check_parameters", "read_sampling"]

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


def read_sampling(body: Mapping[str, object]) -> Sampling:
    """What is passed on with the calls that write an answer: checked by `check_parameters`."""
    caps = [cap for name in CAPS if type(cap := body.get(name)) is int]
    params = {
        name: value
        for name, value in body.items()
        if value is not None and name not in OWN and name not in CAPS and name != "modalities"
    }
    return Sampling(caps[0] if caps else None, params)


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
