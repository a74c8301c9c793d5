"""What parameters of chat completion servers can do to the cost of a call.

Two readers: the operator's own parameters (`check_extra_body`), and a client's (`SamplingParams`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ecoalign.errors import InputError

DEARER: Mapping[str, str] = {
    name: why
    for why, names in {
        "it makes several answers, of which one is reserved": """
            n best_of num_return_sequences use_beam_search num_beams num_generations
            candidate_count candidatecount n_cmpl
        """,
        "the length of an answer is what is reserved for it, and the setting `caps` sets it": """
            max_tokens max_completion_tokens max_new_tokens max_output_tokens num_predict n_predict
            min_tokens min_new_tokens ignore_eos
        """,
        "it is EcoAlign's own": "model messages prompt stream stream_options",
        "the server may use, and charge, what nobody here can bound": """
            web_search_options web_search search_parameters enable_search plugins tools functions
            mcp_servers models fallbacks
        """,
        "it changes what a call is charged": "service_tier",
        "it adds to what is reserved for the request, images and all": """
            prediction cached_content cachedcontent chat_template documents mm_processor_kwargs
            min_pixels vl_high_resolution_images
        """,
    }.items()
    for name in names.split()
}
"""Parameters of servers that can make a call cost more than its bound, by name in lower case, and
why."""

NESTED = frozenset(
    {"extra_body", "options", "parameters", "sampling_params", "generation_config", "google"}
    | {"generationconfig"}
)
"""Where servers take parameters besides."""

_BUDGETS = frozenset(
    {"budget_tokens", "thinking_budget", "thinkingbudget", "max_thinking_tokens"}
    | {"thinking_token_budget", "reasoning_budget", "thinking_budget_tokens"}
)
"""Names, anywhere in the parameters, of a budget of tokens for hidden reasoning; and `max_tokens`
of `reasoning` (OpenRouter)."""

_WITHIN = frozenset(
    {("thinking", "budget_tokens"), ("reasoning", "max_tokens"), ("", "thinking_token_budget")}
)
"""Budgets that count within the cap on the output, by where they stand: those of Anthropic and
OpenRouter, whose servers refuse a cap that is not above them, and of vLLM. Others (DashScope,
SiliconFlow) bound what follows the thoughts by the cap, so that their budget comes on top."""


_OTHERS = frozenset({"tools", "response_format", "logit_bias"})
"""Parameters whose names within are a client's own."""


def thinking_budgets(value: object, inside: str = "") -> Iterator[tuple[str, str, int]]:
    """The budgets of hidden reasoning anywhere in parameters: where it stands, its name, and
    tokens."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            known = str(name).lower() in _BUDGETS or (inside, name) == ("reasoning", "max_tokens")
            tokens = _whole(entry) if known else None
            if tokens is not None:
                yield inside, str(name), tokens
            else:
                yield from thinking_budgets(entry, str(name))


@dataclass(frozen=True, slots=True)
class Thinking:
    """A client's own budget for hidden reasoning.

    Attributes:
        param: where it stands, as in "thinking.budget_tokens".
        tokens: of it, >= 1.
        beside: whether it may come on top of the cap on the output.
    """

    param: str
    tokens: int
    beside: bool

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Thinking | None:
        """The largest one in a client's parameters; None if there is none.

        Raises:
            InputError: one is negative, which means as much as the model likes.
        """
        given = {name: value for name, value in params.items() if name not in _OTHERS}
        found = list(thinking_budgets(given))
        if not found:
            return None
        inside, name, tokens = max(found, key=lambda budget: budget[2])
        least = min(found, key=lambda budget: budget[2])
        if least[2] < 0:
            param = f"{least[0]}.{least[1]}".removeprefix(".")
            raise InputError(f"{param} is {least[2]}: it must be 0 or more", param=param)
        beside = any((inside, name) not in _WITHIN for inside, name, _ in found)
        param = f"{inside}.{name}".removeprefix(".")
        return cls(param, tokens, beside) if tokens else None

    def within(self, cap: int) -> int:
        """The cap to be sent, so that thoughts and answer together are at most `cap` tokens.

        Raises:
            InputError: there would be no room for an answer.
        """
        if self.tokens >= cap:
            raise InputError(
                f"{self.param} is {self.tokens}, and all of the answer may have {cap} tokens, "
                "thoughts included: ask for fewer, or for a larger max_tokens or budget",
                param=self.param,
            )
        return cap - self.tokens if self.beside else cap


def why_dearer(name: str, value: object) -> str | None:
    """Why a parameter can make a call cost more than its bound; None if it is not known to."""
    if value in (False, None) or _only_smaller(value):
        return None
    return DEARER.get(name.lower())


def _only_smaller(value: object) -> bool:
    """Whether parameters of an image processor make images smaller and nothing else."""
    return isinstance(value, Mapping) and value.keys() == {"max_pixels"}


def _whole(value: object) -> int | None:
    """The number that a server may read there: some take "4096", too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return math.ceil(float(value))
    except (ValueError, OverflowError):
        return None
