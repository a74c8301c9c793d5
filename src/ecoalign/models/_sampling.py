"""What a client asks of the answer itself: sent with every call that writes one, and no other.

The search has parameters of its own for what it scans, proposes, thinks and scores; those calls
never carry a client's. A verdict does not in any method.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeGuard, runtime_checkable

from ecoalign.errors import InputError, ModelError
from ecoalign.models._base import ChatModel, ChatRequest
from ecoalign.models._parameters import NESTED, Thinking, why_dearer

OWNED: Mapping[str, str] = {
    "model": "the model is chosen by who runs it",
    "messages": "the question and the context are the messages",
    "max_tokens": "it is `SamplingParams.max_tokens`",
    "max_completion_tokens": "it is `SamplingParams.max_tokens`",
    "n": "there is one answer",
    "best_of": "there is one answer",
    "stream": "an answer is scored whole before any of it is shown",
    "stream_options": "an answer is scored whole before any of it is shown",
    "functions": "it is deprecated; use `tools`",
    "function_call": "it is deprecated; use `tool_choice`",
    "modalities": "only text can be scored",
    "audio": "only text can be scored",
}
"""Parameters that no model is sent in a client's name, and why: they would change what is
reserved for a call, or bring an answer that is not scored."""

_BOUNDED = frozenset({"tools", "prediction", "service_tier"})
"""What may not be in an operator's own parameters and may in a client's: calls of its tools are
scored, what is predicted is counted, and who sets a tier of service must know its prices."""

_WORD = "the "

_CAP = re.compile(r"max_(completion_|new_|output_)?tokens", re.I)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a client wants its answer written.

    Attributes:
        max_tokens: the most tokens of a call that writes an answer, hidden reasoning included,
            >= 1; None for the settings' own limits.
        params: further parameters of the chat completions API by name (temperature, top_p, seed,
            stop, response_format, logprobs, tools, a vendor's own ...), sent unchanged. A budget
            for hidden reasoning among them counts within the cap of a call.
        extra: tokens that parameters may cost a call beyond its cap, by name, >= 0; those named
            here are taken whatever they do.

    Raises:
        InputError: a parameter is one of `OWNED`, can make a call cost more than its bound, or is
            no plain JSON, or `max_tokens` is below 1. The error's `param` is its name.
    """

    max_tokens: int | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (
            isinstance(self.max_tokens, bool)
            or not isinstance(self.max_tokens, int)
            or self.max_tokens < 1
        ):
            raise InputError(
                f"max_tokens is {self.max_tokens!r}: it must be a whole number, 1 or more",
                param="max_tokens",
            )
        for name, value in self.params.items():
            why = OWNED.get(name)
            if why is None and name not in self.extra:
                why = _why_not(name, value)
            if why is not None:
                raise InputError(f"the parameter {name!r} cannot be passed on: {why}", param=name)
            try:
                # Half a character is no text that could be sent.
                json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
            except (TypeError, ValueError, RecursionError):
                raise InputError(f"the parameter {name!r} is not plain JSON", param=name) from None

    def __bool__(self) -> bool:
        return self.max_tokens is not None or bool(self.params)

    def to_json(self) -> dict[str, object]:
        """As the trace keeps it; empty where nothing was asked."""
        given = {
            "max_tokens": self.max_tokens,
            "params": dict(self.params) or None,
            "extra": dict(self.extra) or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> SamplingParams:
        """The inverse of `to_json`.

        Raises:
            InputError: it is not what `to_json` gives.
        """
        cap, params, extra = (value.get(name) for name in ("max_tokens", "params", "extra"))
        if not (
            isinstance(cap, int | None)
            and isinstance(params, Mapping | None)
            and isinstance(extra, Mapping | None)
        ):
            raise InputError("the trace's sampling parameters cannot be read")
        return cls(cap, dict(params or {}), dict(extra or {}))

    def stand_in(self, max_tokens: int) -> str:
        """A text as long as an answer of `max_tokens` is when it is scored, to bound that call.

        The text of a tool call is longer than what was written for it.
        """
        return _WORD * (2 * max_tokens if self.params.get("tools") else max_tokens)

    def varied(self, variant: int) -> SamplingParams:
        """For one of several answers to choose from: `seed`, if there is one, plus `variant`."""
        seed = self.params.get("seed")
        if not _is_whole(seed):
            return self
        return replace(self, params={**self.params, "seed": seed + variant})

    def apply(self, request: ChatRequest, most: int | None) -> ChatRequest:
        """`request`, a call that writes an answer, as the client wants it.

        Args:
            request: the call, with the usual cap on its output.
            most: the largest cap that a client may ask for; None for any (`Budget.answer_cap`).

        Raises:
            InputError: a budget for hidden reasoning leaves no room for an answer.
        """
        cap = request.max_tokens
        if self.max_tokens is not None:
            cap = self.max_tokens if most is None else min(self.max_tokens, most)
        if cap == request.max_tokens and not self.params:
            return request
        thinking = Thinking.of({n: v for n, v in self.params.items() if n not in self.extra})
        sent = cap if thinking is None else thinking.within(cap)
        temperature, seed = self.params.get("temperature"), self.params.get("seed")
        return replace(
            request,
            max_tokens=sent,
            beyond=cap - sent + sum(self.extra.get(name, 0) for name in self.params),
            temperature=float(temperature) if _is_number(temperature) else request.temperature,
            seed=seed if _is_whole(seed) else request.seed,
            client=self.params,
        )


def _why_not(name: str, value: object) -> str | None:
    """Why a client's parameter is not passed on, wherever it stands."""
    if name.lower() not in _BOUNDED and (why := why_dearer(name, value)) is not None:
        return why
    if name.lower() in NESTED and isinstance(value, Mapping):
        return next(filter(None, (_why_not(str(n), v) for n, v in value.items())), None)
    return None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def attribute_error(error: ModelError, sampling: SamplingParams) -> None:
    """Name the cap in `error`, of a call that writes an answer, where a server finds it too large.

    Other parameters are named by who sent them. The cap goes with every call, so only who knows
    what the client asked for can tell whose it was.
    """
    rejected = error.fault == "rejected" and error.param is None
    if rejected and sampling.max_tokens is not None and _CAP.search(str(error)):
        error.param = "max_tokens"


@runtime_checkable
class SupportsParams(Protocol):
    """A model that knows beforehand which parameters of a client it cannot honour."""

    def unsupported(self, sampling: SamplingParams) -> str | None:
        """The name of the first such parameter; None if there is none."""
        ...


def unsupported(model: ChatModel, sampling: SamplingParams) -> str | None:
    """The first parameter that `model` surely cannot honour, by name; None if there is none.

    A server may reject one all the same: then the run ends with a `ModelError` that has a `param`.
    """
    return model.unsupported(sampling) if isinstance(model, SupportsParams) else None


def checked(model: ChatModel, sampling: SamplingParams) -> SamplingParams:
    """`sampling`, if `model` can honour all of it.

    Raises:
        InputError: it cannot; the message and `param` name the parameter.
    """
    name = unsupported(model, sampling)
    if name is not None:
        value = sampling.max_tokens if name == "max_tokens" else sampling.params.get(name)
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise InputError(f"{model.name} cannot honour {name} = {shown}: leave it out", param=name)
    return sampling
