"""Which of the open actions are executed next: the best that the budget allows, together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.graph import ActionKind
from ecoalign.search.executor import Job, worst_case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecoalign.budget import Amount
    from ecoalign.graph import ActionQueue, PendingAction, ThoughtGraph, ValuedAction
    from ecoalign.search.context import RunContext

__all__ = ["Chooser", "job_of"]

_TERMINAL = (ActionKind.ANSWER, ActionKind.REFUSE)


def job_of(graph: ThoughtGraph, action: PendingAction) -> Job:
    """An action with the thoughts that it stands on, as they are now."""
    partners = tuple(graph[p] for p in action.candidate.partners)
    return Job(action.id, action.candidate, graph.path_to(action.parent), partners)


@dataclass
class Chooser:
    """Knows what each open action takes at worst, and chooses among them.

    Attributes:
        desk: the means of the run.
    """

    ctx: RunContext
    _needs: dict[int, Amount] = field(default_factory=dict)
    _jobs: dict[int, Job] = field(default_factory=dict)

    def known_job(self, graph: ThoughtGraph, action: PendingAction) -> Job:
        """The job as it was when first asked for: for estimates, where a later merge is all one."""
        job = self._jobs.get(action.id)
        if job is None:
            job = self._jobs[action.id] = job_of(graph, action)
        return job

    def forget(self, action: PendingAction) -> None:
        """It is executed, and open no more."""
        self._needs.pop(action.id, None)
        self._jobs.pop(action.id, None)

    def affordable(self, graph: ThoughtGraph, actions: Sequence[PendingAction]) -> bool:
        """Whether the worst case of all of them together fits what is left."""
        needs = [self._need(graph, action) for action in actions]
        return self.ctx.ledger.remaining().covers(*needs)

    def choose(
        self, graph: ThoughtGraph, queue: ActionQueue, ranked: Sequence[ValuedAction]
    ) -> list[PendingAction]:
        """The best actions that the budget allows, executed together.

        Alternatives that fall short of the best one by more than the margin wait for the next
        step, and so does everything beside an answer or a refusal that is the best thing to do:
        with it the rest may no longer be worth its price.

        Args:
            graph: as it is.
            pool: holds the ranked actions.
            ranked: the best first.
        """
        settings = self.ctx.settings
        chosen: list[PendingAction] = []
        best = 0.0
        room = min(settings.batch, settings.max_thoughts - len(graph))
        for one in ranked:
            if len(chosen) >= room or one.value <= 0:
                break
            if chosen and one.value < settings.batch_margin * best:
                break
            if not one.affordable:
                continue
            action = queue[one.action]
            ends = action.candidate.kind in _TERMINAL
            if chosen and ends and settings.batch_margin > 0:
                continue
            if self.affordable(graph, [*chosen, action]):
                chosen.append(action)
                best = max(best, one.value)
            if ends and len(chosen) == 1 and settings.batch_margin > 0:
                break
        return chosen

    def _need(self, graph: ThoughtGraph, action: PendingAction) -> Amount:
        """The worst case of an action, worked out once: rendering prompts is the dearest part."""
        need = self._needs.get(action.id)
        if need is None:
            job = self.known_job(graph, action)
            need = self._needs[action.id] = self.ctx.ledger.needs(worst_case(self.ctx, job))
        return need
