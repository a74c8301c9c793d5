"""Several evaluators as one: the most careful of them decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

from ecoalign.errors import BudgetExceeded, ModelError, SettingsError, VerdictError
from ecoalign.evaluators._base import (
    Bounder,
    Completer,
    Evaluator,
    bounds_by_model,
    gives_utility,
    scored,
)
from ecoalign.models import Usage
from ecoalign.prompts.requests import ScoreRequest, ScoreResult

# What the run has to know first: that the money is gone, then that a server is, then the rest.
_PRECEDENCE = (BudgetExceeded, ModelError, VerdictError)


class Ensemble:
    """Asks all members at once. Safety is the least of theirs; utility is the first member's
    that gives one, and 0.0 if none does.

    A member that fails makes the whole score fail: its silence could hide a veto. The other calls
    are let finish first, since a call that is cut off is charged at its worst case.

    Args:
        members: at least one, in the order in which their utility is preferred.

    Raises:
        SettingsError: there are no members.
    """

    def __init__(self, members: Sequence[Evaluator]) -> None:
        if not members:
            raise SettingsError("an ensemble needs at least one evaluator")
        self.members = tuple(members)

    @property
    def name(self) -> str:
        """ "least(...)" with the members' names."""
        return f"least({', '.join(member.name for member in self.members)})"

    @property
    def safety_only(self) -> bool:
        """Whether no member gives a utility."""
        return not any(gives_utility(member) for member in self.members)

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        """See `Evaluator.score`.

        Raises:
            BudgetExceeded, ModelError, VerdictError: a member failed; of several failures the
                first of this order is raised. A note names the member.
        """
        outcomes = await asyncio.gather(
            *(scored(member, request, metered, fund=fund) for member in self.members),
            return_exceptions=True,
        )
        results: list[ScoreResult] = []
        failures: list[BaseException] = []
        for member, outcome in zip(self.members, outcomes, strict=True):
            if isinstance(outcome, asyncio.CancelledError):
                # Not this task was cancelled (gather would have raised), only the member's call.
                failures.append(VerdictError(f"the call of evaluator {member.name} was cancelled"))
            elif isinstance(outcome, BaseException):
                outcome.add_note(f"evaluator {member.name}, a member of {self.name}")
                failures.append(outcome)
            else:
                results.append(outcome)
        if failures:
            raise _gravest(failures)
        least = min(results, key=lambda result: result.safety)
        return ScoreResult(least.safety, self._utility(results), least.method)

    def bound(self, request: ScoreRequest) -> Usage:
        """See `Evaluator.bound`: the sum over the members."""
        return sum((member.bound(request) for member in self.members), Usage())

    def bounds(self, request: ScoreRequest, bound: Bounder) -> tuple[tuple[str, Usage], ...]:
        """See `Itemised.bounds`; a member that does not itemise goes under its own name."""
        found = (bounds_by_model(member, request, member.name, bound) for member in self.members)
        return tuple(chain.from_iterable(found))

    def _utility(self, results: Sequence[ScoreResult]) -> float:
        pairs = zip(self.members, results, strict=True)
        return next((result.utility for member, result in pairs if gives_utility(member)), 0.0)


def _gravest(failures: Sequence[BaseException]) -> BaseException:
    """An error that is none of ours comes first (a bug must not pass for an unsafe thought)."""

    def place(failure: BaseException) -> int:
        ours = (i for i, kind in enumerate(_PRECEDENCE, 1) if isinstance(failure, kind))
        return next(ours, 0)

    return min(failures, key=place)
