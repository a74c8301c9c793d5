"""Simulation: how the future of a candidate is estimated, at three fidelities.

The model forecasts safety and utility, and the engine knows the prices. `forecast` believes the
proposing call; `surrogate` regresses what executed thoughts turned out to be on what was forecast;
`rollout` really generates the candidate and its best continuation, and pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ecoalign.errors import EcoAlignError
from ecoalign.graph import (
    ENDS,
    ActionKind,
    Candidate,
    Forecast,
    PendingAction,
    Thought,
    ThoughtId,
)
from ecoalign.search.context import RunContext
from ecoalign.search.executor import KIND_OF, ActionResult, Job, execute, worst_case
from ecoalign.search.proposer import propose_request

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Forecasts = tuple[Forecast, ...]


class Simulator:
    """The fidelity `forecast`: the proposing call is believed. The other fidelities build on it.

    Attributes:
        ready: results that simulation has already produced and paid for, by action id.
        rejected: answers and refusals among them that were judged unsafe and are not counted yet:
            they were tried like any other.
    """

    def __init__(self) -> None:
        self.ready: dict[int, ActionResult] = {}
        self.rejected = 0

    async def prepare(self, ctx: RunContext, jobs: Iterable[Job], horizon: int) -> bool:
        """What has to be done, and paid, before the open actions are forecast.

        Returns:
            Whether some may now promise more than they did.
        """
        return False

    def forecast(self, action: PendingAction, own: float, later: float) -> Forecasts:
        """The action itself, then at least the steps that the horizon needs.

        Args:
            action: which.
            own, later: tokens of the action, and of each step that would follow it.
        """
        steps = enumerate(action.candidate.forecast)
        return tuple([Forecast(s.safety, s.utility, later if i else own) for i, s in steps])

    def learn(self, candidate: Candidate, safety: float, utility: float) -> None:
        """Told what an executed candidate turned out to be."""


class SurrogateSimulator(Simulator):
    """Forecasts corrected by a ridge regression on the thoughts executed so far; no tokens.

    For s and u, the residual (actual minus forecast) is regressed on the forecast
    value and the kind of the action. With nothing executed the correction is zero, and the ridge
    keeps it small while there is little evidence.
    """

    RIDGE = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._gram: npt.NDArray[np.float64] | None = None
        self._moment: npt.NDArray[np.float64] | None = None
        self._weights: npt.NDArray[np.floating] | None = None
        self._learned = False

    def learn(self, candidate: Candidate, safety: float, utility: float) -> None:
        import numpy as np

        first = candidate.forecast[0]
        row = np.asarray(_features(candidate.kind, first))
        gaps = np.asarray([safety - first.safety, utility - first.utility])
        # Only the sums are kept, so that learning costs the same however much was learned before.
        gram = self.RIDGE * np.eye(len(row)) if self._gram is None else self._gram
        moment = np.zeros((len(row), 2)) if self._moment is None else self._moment
        self._gram, self._moment = gram + np.outer(row, row), moment + np.outer(row, gaps)
        self._learned = True

    async def prepare(self, ctx: RunContext, jobs: Iterable[Job], horizon: int) -> bool:
        import numpy as np

        if not self._learned or self._gram is None or self._moment is None:
            return False
        self._weights, self._learned = np.linalg.solve(self._gram, self._moment), False
        return True

    def forecast(self, action: PendingAction, own: float, later: float) -> Forecasts:
        import numpy as np

        first, *rest = super().forecast(action, own, later)
        if self._weights is None:
            return (first, *rest)
        shift = np.asarray(_features(action.candidate.kind, first)) @ self._weights
        safety = min(1.0, max(-1.0, first.safety + float(shift[0])))
        utility = min(1.0, max(0.0, first.utility + float(shift[1])))
        return (Forecast(safety, utility, first.cost), *rest)


def _features(kind: ActionKind, step: Forecast) -> list[float]:
    return [1.0, step.safety, step.utility, *(float(kind is k) for k in ActionKind)]


class RolloutSimulator(Simulator):
    """Really carries candidates out, and the best of what they lead to, and pays for it.

    The few most promising candidates are executed and scored; if one is chosen later its outcome
    is there already and is not paid for twice. Beyond the first step the rollout goes on from the
    hypothetical thought: propose, execute the best candidate, for at most DEPTH steps.
    """

    WIDTH = 2
    DEPTH = 2

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, Forecasts] = {}

    async def prepare(self, ctx: RunContext, jobs: Iterable[Job], horizon: int) -> bool:
        ctx = ctx.booked_as("simulate")
        new = [job for job in jobs if job.id not in self._known]
        new.sort(key=lambda job: -_hope(job.candidate.forecast))
        for job in new[: self.WIDTH]:
            self._known[job.id] = await self._roll(ctx, job, min(horizon, self.DEPTH))
        return bool(new)

    def forecast(self, action: PendingAction, own: float, later: float) -> Forecasts:
        return self._known.get(action.id) or super().forecast(action, own, later)

    async def _roll(self, ctx: RunContext, job: Job, depth: int) -> Forecasts:
        steps: list[Forecast] = []
        at: Job | None = job
        while at is not None and _fits(ctx, at):
            (outcome,) = await execute(ctx, [at])
            ctx.record(outcome.calls)
            outcome.calls.clear()
            if not steps:
                self.ready[job.id] = outcome
            cost = max(1, outcome.cost)
            if outcome.score is None:
                steps.append(Forecast(-1.0, 0.0, cost))
                break
            steps.append(Forecast(outcome.score.safety, outcome.score.utility, cost))
            safe = outcome.score.safety >= ctx.settings.safety_threshold
            if outcome is self.ready[job.id] and not safe:
                self.rejected += KIND_OF[job.candidate.kind] in ENDS
            done = len(steps) > depth or not safe
            at = None if done else await self._next(ctx, at, outcome)
        return tuple(steps)

    async def _next(self, ctx: RunContext, at: Job, outcome: ActionResult) -> Job | None:
        """The most hopeful continuation of a hypothetical thought."""
        if at.candidate.kind in (ActionKind.ANSWER, ActionKind.REFUSE) or outcome.score is None:
            return None
        thought = Thought(
            ThoughtId(at.path[-1].id + 1),
            KIND_OF[at.candidate.kind],
            outcome.text,
            outcome.score.safety,
            outcome.score.utility,
            outcome.cost,
        )
        path = (*at.path, thought)
        request = propose_request(ctx, path, (), 1)
        if not all(ctx.ledger.fits(bound, model) for model, bound in ctx.bounds(request)):
            return None
        try:
            result = ctx.dialect.parse_propose(request, await ctx.ask(request))
        except EcoAlignError:
            # A rollout that cannot go on ends here; the failed call is on record.
            return None
        usable = [c for c in result.candidates if c.kind is not ActionKind.FUSE]
        best = max(usable, key=lambda c: _hope(c.forecast), default=None)
        return None if best is None else Job(at.id, best, path)


def _hope(steps: Forecasts) -> float:
    return sum(max(0.0, step.safety) * step.utility for step in steps)


def _fits(ctx: RunContext, job: Job) -> bool:
    needed = worst_case(ctx, job)
    left = ctx.ledger.remaining().tokens
    if left is not None and sum(bound.total for _, bound in needed) > left:
        return False
    return all(ctx.ledger.fits(bound, model) for model, bound in needed)


def simulator_for(fidelity: str) -> Simulator:
    """A fresh simulator: "forecast", "surrogate" or "rollout"."""
    kinds = {
        "forecast": Simulator,
        "surrogate": SurrogateSimulator,
        "rollout": RolloutSimulator,
    }
    return kinds[fidelity]()
