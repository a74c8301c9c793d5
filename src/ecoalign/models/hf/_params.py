"""What a request asks of the sampling. Nothing of torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecoalign.errors import InputError
from ecoalign.models._base import ChatRequest
from ecoalign.models.embedded._model import first_unsupported as beyond_the_common
from ecoalign.models.embedded._model import stops_of

MAX_ALTERNATIVES = 20

_EXTRA = frozenset({"prompt", "top_p", "chat_template_kwargs"})
"""What `ChatRequest.extra` may hold: the last as vLLM calls what is handed to the template, and
the first for the mark of the compact dialect, which means nothing here."""


def first_unsupported(params: Mapping[str, object]) -> str | None:
    """The name of the first of a client's parameters that cannot be honoured; None if all can."""
    return next((name for name, value in params.items() if not _honoured(name, value)), None)


def _honoured(name: str, value: object) -> bool:
    match name:
        case "top_p":
            number = _number(value)
            return value is None or (number is not None and 0 < number <= 1)
        case "logprobs":
            return value is None or isinstance(value, bool)
        case "top_logprobs":
            whole = value if isinstance(value, int) and not isinstance(value, bool) else -1
            return value is None or 0 <= whole <= MAX_ALTERNATIVES
        case "response_format":
            return value is None or _format(value) is not None
    return beyond_the_common({name: value}) is None


def _number(value: object) -> float | None:
    """`value` as a number, if it is one; True is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def unknown_extra(extra: Mapping[str, object]) -> str | None:
    """The first name in `ChatRequest.extra` that means nothing to a local model; None if none."""
    return next((name for name in extra if name not in _EXTRA), None)


def _format(value: object) -> Mapping[str, Any] | None:
    """The schema of a client's response format, {} for free text; None if it is none we know."""
    match value:
        case {"type": "text"}:
            return {}
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
    return None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is to be written: the request's fields, overridden by its client's."""

    temperature: float
    top_p: float
    seed: int | None
    stops: tuple[str, ...]
    alternatives: int
    """Log-probabilities of how many alternatives to give with each token."""
    wanted: bool
    """Whether the client itself asked for log-probabilities."""
    schema: Mapping[str, Any] | None
    """What the answer is to fit."""

    @classmethod
    def of(cls, request: ChatRequest) -> Sampling:
        """Raises InputError for a temperature or a top_p out of its range."""
        client, extra = request.client, request.extra
        temperature = _number(client.get("temperature"))
        top_p = _number(client.get("top_p")) or _number(extra.get("top_p")) or 1.0
        seed = client.get("seed")
        alternatives = client.get("top_logprobs")
        asked = _format(client.get("response_format"))
        made = cls(
            temperature=request.temperature if temperature is None else temperature,
            top_p=top_p,
            seed=request.seed if not isinstance(seed, int) else seed,
            stops=stops_of(client),
            alternatives=max(
                request.top_logprobs, alternatives if isinstance(alternatives, int) else 0
            ),
            wanted=client.get("logprobs") is True,
            schema=(request.schema if asked is None else asked) or None,
        )
        if not 0 <= made.temperature < float("inf") or not 0 < made.top_p <= 1:
            raise InputError(
                f"temperature {made.temperature} or top_p {made.top_p} is out of its range: a "
                "temperature is 0 or more, a top_p above 0 and at most 1"
            )
        return made
