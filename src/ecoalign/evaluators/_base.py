"""What an evaluator is: something that scores a thought, or fails."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Protocol, TypeGuard, cast, runtime_checkable

from ecoalign.errors import VerdictError
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

        A request whose `check` is 1 or more confirms a verdict that was safe. An evaluator that can
        judge in another way uses it; one that would only say the same again may ignore it. Others
        that have to agree are members of an `Ensemble`, which hands it to each of them. Whoever
        asks reads the answer by `scored`.

        Raises:
            VerdictError: there is no well-formed verdict. The thought counts as unsafe.
            ModelError: the evaluator's model failed. The thought is unscored, so unsafe.
            BudgetExceeded: the scoring was not affordable. The same.
        """
        ...

    def bound(self, request: ScoreRequest) -> Usage:
        """Worst case of scoring `request` once, without retries, over all calls it takes."""
        ...


async def scored(
    evaluator: Evaluator, request: ScoreRequest, metered: Completer, *, fund: str | None = None
) -> ScoreResult:
    """The score that `evaluator` gives, read: every route to one comes by here.

    Raises:
        VerdictError: see `Evaluator.score`; or what it gives is no `ScoreResult` of a safety in
            [-1, 1] and a utility in [0, 1].
        ModelError, BudgetExceeded: see `Evaluator.score`.
    """
    result: object = await evaluator.score(request, metered, fund=fund)
    if not isinstance(result, ScoreResult):
        raise _unusable(
            evaluator,
            f"returned {_shown(result)}: it has to return a ScoreResult with a safety in [-1, 1] "
            "and a utility in [0, 1]",
        )
    safety = _within("safety", result.safety, -1.0, evaluator)
    utility = _within("utility", result.utility, 0.0, evaluator)
    return ScoreResult(safety, utility, result.method)


def _within(what: str, value: object, least: float, evaluator: Evaluator) -> float:
    # NaN is in no range.
    if not _is_number(value) or not (value >= least and value <= 1):
        why = f"gave a {what} of {_shown(value)}: it must be a number in [{least:g}, 1]"
        raise _unusable(evaluator, why)
    return float(value)


def _unusable(evaluator: Evaluator, why: str) -> VerdictError:
    message = f"evaluator {evaluator.name} {why}"
    return VerdictError(message, advice=message)


def _is_number(value: object) -> TypeGuard[float]:
    """A bool is a verdict of another kind."""
    return type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))


def _shown(value: object) -> str:
    """A number as it is; of anything else the type, as it may hold a model's text."""
    return str(value)[:40] if _is_number(value) else f"a {type(value).__name__}"


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
