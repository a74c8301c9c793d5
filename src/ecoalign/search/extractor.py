"""The end of a run: the best path's answer, taken or written, and never one without a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.graph import economics
from ecoalign.graph._thoughts import ROOT, ThoughtKind
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.graph.pareto import track
from ecoalign.models import OWN_REPLY, Reply
from ecoalign.search.context import ANSWER, recording_calls
from ecoalign.search.failures import raise_if_rejected
from ecoalign.search.synthesizer import FIXED_REFUSAL, reserve_answer, write
from ecoalign.trace.events import Finished, PathChosen, ThoughtAdded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ecoalign.graph import ThoughtGraph
    from ecoalign.graph._thoughts import Thought, ThoughtId
    from ecoalign.graph.pareto import Frontier
    from ecoalign.search.context import RunContext
    from ecoalign.search.failures import Failures
    from ecoalign.trace import Recorder
    from ecoalign.trace.events import StopReason

__all__ = ["Extractor"]


@dataclass
class Extractor:
    """Extracts the best path of a finished graph and answers from it.

    Attributes:
        desk: the means.
        recorder: told of everything.
        graph: what the search has grown.
        failures: what went wrong so far.
        replies: what goes with the texts of the thoughts.
    """

    ctx: RunContext
    recorder: Recorder
    graph: ThoughtGraph
    failures: Failures
    replies: Mapping[ThoughtId, Reply] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = self.ctx.settings
        self.ledger = self.ctx.ledger

    def frontier(self, *, any_end: bool = False) -> Frontier:
        """The Pareto Tracker's ranking of the paths so far.

        In the economy `surplus` the price is 0 here: what a path has cost is spent whichever path
        is taken, so it only breaks ties.
        """
        return track(
            self.graph,
            float(self.ledger.budget.tokens or "inf"),
            aggregator=SafetyAggregator(self.settings.aggregator),
            economy=Economy(self.settings.economy),
            utility=UtilityAggregator(self.settings.utility_aggregator),
            any_end=any_end,
        )

    async def answer(self, stop: StopReason) -> Finished:
        """The first path of the frontier whose answer is scored safe; else the house refusal."""
        ready = self.frontier()
        if ready.paths and self.settings.synthesis == "needed":
            return self._take_path(ready, stop)
        if not ready.paths and stop == "unsafe-request":
            return self._house_refusal()
        wanted = ready if ready.paths else self.frontier(any_end=True)
        paths = [path.ids for path in wanted.paths]
        tried = False
        for rank, ids in enumerate([*paths, (ROOT,)]):
            if ids == (ROOT,) and (tried or ready.paths):
                break
            path = self.graph.path(ids)
            if path[-1].kind is ThoughtKind.REFUSAL:
                return self._take_path(wanted, stop, rank)
            if not self._can_write(path):
                continue
            tried = True
            self._emit_path(wanted, rank, ids)
            with recording_calls(self.recorder, []):
                outcome = await write(self.ctx, path)
            self.recorder.calls(outcome.calls)
            if outcome.score is None:
                assert outcome.error is not None  # noqa: S101 - one of the two is always there
                self.failures.note(-1, outcome.stage, outcome.error)
                if not ready.paths:
                    raise_if_rejected(outcome.error)
                continue
            end = path[-1].id
            thought = self.graph.add(
                ThoughtKind.ANSWER,
                outcome.text,
                parent=end,
                safety=outcome.score.safety,
                utility=outcome.score.utility,
                cost=outcome.cost,
            )
            pruned = self.graph.is_pruned(thought.id)
            self.recorder.emit(ThoughtAdded(thought, -1, pruned, outcome.score.method))
            if not pruned:
                whole = (*ids, thought.id)
                return self._finish(thought.text, whole, stop, outcome.reply, refused=False)
        if ready.paths:
            # Writing anew did not work out; a scored answer stands on the best path all the same.
            return self._take_path(ready, stop)
        return self._house_refusal()

    def _emit_path(self, frontier: Frontier, rank: int, ids: tuple[ThoughtId, ...]) -> None:
        if rank < len(frontier.paths):
            best = frontier.paths[rank]
            self.recorder.emit(
                PathChosen(
                    rank, ids, best.safety, best.utility, best.cost, best.gamma, frontier.exact
                )
            )

    def _can_write(self, path: tuple[Thought, ...]) -> bool:
        """Whether an answer from `path` could be written and also scored."""
        needs = self.ledger.needs(reserve_answer(self.ctx, path))
        if self.ledger.remaining(ANSWER).covers(needs):
            return True
        self.failures.cause = "write: the budget has no room left for an answer and its score"
        return False

    def _take_path(self, frontier: Frontier, stop: StopReason, rank: int = 0) -> Finished:
        ids = frontier.paths[rank].ids
        self._emit_path(frontier, rank, ids)
        end = self.graph[ids[-1]]
        reply = self.replies.get(end.id, OWN_REPLY)
        return self._finish(end.text, ids, stop, reply, refused=end.kind is ThoughtKind.REFUSAL)

    def _house_refusal(self) -> Finished:
        if self.failures.cause == "" and self.failures.short is None:
            self.failures.cause = "every thought was scored unsafe"
        return self._finish(FIXED_REFUSAL, (ROOT,), "fail-closed", OWN_REPLY, refused=True)

    def _finish(
        self,
        text: str,
        ids: tuple[ThoughtId, ...],
        stop: StopReason,
        reply: Reply,
        *,
        refused: bool,
    ) -> Finished:
        whole = self.graph.path(ids)
        path = whole[1:]
        aggregator = SafetyAggregator(self.settings.aggregator)
        earned = UtilityAggregator(self.settings.utility_aggregator)
        return self.recorder.emit(
            Finished(
                answer=text,
                refused=refused,
                stop_reason=stop,
                safety=economics.path_safety((t.safety for t in path), aggregator),
                utility=economics.path_utility((t.utility for t in path), earned),
                path=whole,
                spent=self.ledger.spent.to_json(),
                hint=self._hint(stop),
                reply=reply,
            )
        )

    def _hint(self, stop: StopReason) -> str:
        """What to change, where something went wrong."""
        if stop == "fail-closed":
            return f"nothing could be shown to be safe; last cause: {self.failures.cause}"
        if stop == "budget":
            by_stage = self.ledger.spent.by_stage
            dearest = max(by_stage, key=lambda name: by_stage[name].tokens)
            return (
                f"the budget of {self.ledger.budget} ran out; most of it went to {dearest} "
                f"({by_stage[dearest].tokens} of {self.ledger.spent.tokens.total} tokens)"
            )
        return ""
