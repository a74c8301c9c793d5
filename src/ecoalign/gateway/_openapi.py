"""The description of the API for tools: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from ecoalign.gateway.chat._request import REFUSED

__all__ = ["schema"]

Json = dict[str, Any]

_MEDIA = "application/json"


def _object(properties: Json, *required: str, closed: bool = False) -> Json:
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    if closed:
        made["additionalProperties"] = False
    return made


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: Json = {"type": "string"}

_FLAG: Json = {"type": "boolean"}

_COUNT: Json = {"type": "integer", "minimum": 1, "maximum": 10**9}

_ERROR = _object(
    {
        "error": _object(
            {
                "message": _TEXT,
                "type": _TEXT,
                "param": _or_null(_TEXT),
                "code": _or_null(_TEXT),
            },
            "message",
            "type",
            "param",
            "code",
        )
    },
    "error",
)

_TEXT_PART = _object({"type": {"const": "text"}, "text": _TEXT}, "type", "text")

_IMAGE_PART = _object(
    {
        "type": {"const": "image_url"},
        "image_url": _object(
            {
                "url": {"type": "string", "minLength": 1},
                "detail": _or_null({"enum": ["auto", "low", "high", "original"]}),
            },
            "url",
        ),
    },
    "type",
    "image_url",
)

_MESSAGE = _object(
    {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"anyOf": [_TEXT_PART, _IMAGE_PART]}},
                {"type": "null"},
            ]
        },
        "name": _or_null({"type": "string", "minLength": 1, "maxLength": 64}),
    },
    "role",
)

_BUDGET: Json = {
    "description": 'Tokens, "8000,$0.02,5s", or each unit on its own. Hard in each unit given.',
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 10**15},
        {"type": "string", "examples": ["8000", "$0.02", "8000,$0.02,5s"]},
        _object(
            {
                "tokens": {"type": "integer", "minimum": 1, "maximum": 10**15},
                "usd": {"type": "number", "exclusiveMinimum": 0},
                "seconds": {"type": "number", "exclusiveMinimum": 0},
            },
            closed=True,
        )
        | {"minProperties": 1},
        {"type": "null"},
    ],
}

_OPTIONS = _object(
    {
        "budget": _BUDGET,
        "preset": _or_null(_TEXT),
        "method": _or_null(_TEXT),
        "trace": _or_null(_FLAG),
    },
    closed=True,
)


def _number(low: float, high: float) -> Json:
    return _or_null({"type": "number", "minimum": low, "maximum": high})


_REQUEST = _object(
    {
        "model": {"type": "string", "minLength": 1, "examples": ["ecoalign"]},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": _MESSAGE,
            "examples": [[{"role": "user", "content": "What does the sign say?"}]],
        },
        "n": _or_null({"const": 1}),
        "stream": _or_null(_FLAG),
        "stream_options": _or_null(
            _object(
                {"include_usage": _or_null(_FLAG), "include_obfuscation": _or_null(_FLAG)},
                closed=True,
            )
        ),
        "max_tokens": _or_null(_COUNT),
        "max_completion_tokens": _or_null(_COUNT),
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "frequency_penalty": _number(-2, 2),
        "presence_penalty": _number(-2, 2),
        "seed": _or_null({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}),
        "stop": _or_null(
            {
                "anyOf": [
                    _TEXT,
                    {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 16},
                ]
            }
        ),
        "logprobs": _or_null(_FLAG),
        "top_logprobs": _or_null({"type": "integer", "minimum": 0, "maximum": 20}),
        "response_format": _or_null(_object({"type": _TEXT}, "type")),
        "tools": _or_null({"type": "array", "items": {"type": "object"}}),
        "ecoalign": _or_null(_OPTIONS),
        **{name: {"type": "null"} for name in sorted(REFUSED)},
    },
    "model",
    "messages",
)

_COMPLETION = _object(
    {
        "id": _TEXT,
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": _TEXT,
        "choices": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "usage": {"type": "object"},
        "ecoalign": {"type": "object"},
    },
    "id",
    "object",
    "created",
    "model",
    "choices",
)

_MODEL = _object(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _TEXT,
    },
    "id",
    "object",
    "created",
    "owned_by",
)

_SAID = {
    400: "The request cannot be answered as it is; `param` names the part.",
    401: "The key is missing, unknown or revoked.",
    403: "The key may not choose this.",
    404: "There is no such model, trace or address.",
    405: "The address does not take this method.",
    408: "The body took too long to come in.",
    413: "The body is too large.",
    429: "Too many requests, or the key's budget is used up; see Retry-After.",
    431: "The headers are too large.",
    500: "The server made a mistake.",
    502: "The model's or the evaluator's upstream failed.",
    503: "The server is shutting down, or short of memory.",
    504: "An upstream did not answer in time.",
}

_READING = (401, 404, 405, 413, 431, 503)


def _answers(good: Json, statuses: tuple[int, ...]) -> Json:
    errors = {
        str(status): {"description": _SAID[status], "content": {_MEDIA: {"schema": _ERROR}}}
        for status in statuses
    }
    return {"200": good, **errors}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {_MEDIA: {"schema": schema}}}


def _named(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _operation(summary: str, name: str, good: Json, *parameters: Json, open_: bool = False) -> Json:
    made: Json = {
        "summary": summary,
        "operationId": name,
        "responses": _answers(good, (405, 413, 431, 503) if open_ else _READING),
    }
    if parameters:
        made["parameters"] = list(parameters)
    if open_:
        made["security"] = []
    return made


def schema(version: str) -> Json:
    """The whole description."""
    answer = _json("The answer, scored.", _COMPLETION)
    answer["content"]["text/event-stream"] = {"schema": _TEXT}
    chat = {
        "summary": "Answer a chat",
        "operationId": "chat",
        "requestBody": {"required": True, "content": {_MEDIA: {"schema": _REQUEST}}},
        "responses": _answers(answer, tuple(_SAID)),
    }
    models = _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}}, "object", "data"
    )
    plain = {"description": "As text.", "content": {"text/plain": {"schema": _TEXT}}}
    lines = {"description": "JSON lines.", "content": {"application/x-ndjson": {"schema": _TEXT}}}
    health = _json("It does.", _object({"status": _TEXT}, "status"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EcoAlign",
            "version": version,
            "description": "Aligned answers within a budget, for any client of OpenAI's API.",
        },
        "security": [{"key": []}, {}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/v1/chat/completions": {"post": chat},
            "/v1/models": {"get": _operation("The models", "models", _json("All.", models))},
            "/v1/models/{model}": {
                "get": _operation("One model", "model", _json("It.", _MODEL), _named("model"))
            },
            "/v1/ecoalign/traces/{trace}": {
                "get": _operation("A kept trace", "trace", lines, _named("trace"))
            },
            "/healthz": {"get": _operation("Whether it lives", "health", health, open_=True)},
            "/readyz": {"get": _operation("Whether it answers", "ready", health, open_=True)},
            "/metrics": {"get": _operation("For Prometheus", "metrics", plain, open_=True)},
        },
    }
