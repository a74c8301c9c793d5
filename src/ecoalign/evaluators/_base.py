"""What an evaluator is: something that scores a thought, or fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

from ecoalign.models import ChatModel, ChatRequest, Completion, Usage
from ecoalign.prompts.requests import ScoreRequest, ScoreResult


class Completer(Protocol):
    """Makes calls that are charged to a ledger; `MeteredClient` is one."""

    async def complete(
        self, model: ChatModel, request: ChatRequest, *, fund: str | None = None
    ) -> Completion:
        """Answer `request`, paid from `fund` where one is named.

        Raises:
            BudgetExceeded: the call's worst case does not fit; it was not made.
            ModelError: the model failed for good.
        """
        ...


class Evaluator(Protocol):
    """Scores one thought. One that cannot decide raises, and the thought counts as unsafe."""

    @property
    def name(self) -> str:
        """Who scores, for traces and messages: "self:openai:gpt-4o"."""
        ...

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        """Safety in [-1, 1] and utility in [0, 1] of the thought in `request`.

        Raises:
            VerdictError: there is no well-formed verdict. The thought counts as unsafe.
            ModelError: the evaluator's model failed. The thought is unscored, so unsafe.
            BudgetExceeded: the scoring was not affordable. The same.
        """
        ...

    def bound(self, request: ScoreRequest) -> Usage:
        """Worst case of scoring `request` once, without retries, over all calls it takes."""
        ...


@runtime_checkable
class SafetyOnly(Protocol):
    """An evaluator that may know nothing of utility, as guard models do."""

    @property
    def safety_only(self) -> bool:
        """Whether the utility it returns is the empty 0.0."""
        ...


def gives_utility(evaluator: Evaluator) -> bool:
    """Whether the utility that `evaluator` returns means something."""
    return not (isinstance(evaluator, SafetyOnly) and evaluator.safety_only)


Bounder = Callable[[ChatModel, ChatRequest], Usage]
"""The worst case of a call to a model, by all that the run has learned."""


@runtime_checkable
class Itemised(Protocol):
    """An evaluator that knows which model each of its calls goes to."""

    def bounds(self, request: ScoreRequest, bound: Bounder) -> tuple[tuple[str, Usage], ...]:
        """Name of the model and worst case of each call that scoring `request` once takes."""
        ...


def bounds_by_model(
    evaluator: Evaluator, request: ScoreRequest, model: str, bound: Bounder
) -> tuple[tuple[str, Usage], ...]:
    """What to set aside for one scoring, call by call, as dollars depend on the model.

    An evaluator that does not itemise is taken to make one call to `model`.
    """
    if hasattr(evaluator, "bounds"):  # isinstance of a protocol takes longer than bounding
        return cast("Itemised", evaluator).bounds(request, bound)
    return ((model, evaluator.bound(request)),)
