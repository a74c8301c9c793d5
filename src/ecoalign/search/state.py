"""What a search knows: the graph, the open actions and what things have cost. Plain data.

`next_open` and the queue say what may be done next; `tell` takes what came of it. Nothing here
calls a model, reads a clock or pays: what happens is returned as events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ecoalign.budget import Amount
from ecoalign.errors import BudgetExceeded, EcoAlignError, VerdictError
from ecoalign.graph import (
    ENDS,
    ROOT,
    ActionKind,
    ActionQueue,
    BestAnswer,
    Candidate,
    DuplicateIndex,
    ExpansionQueue,
    PendingAction,
    Similarity,
    Thought,
    ThoughtGraph,
    ThoughtId,
    ThoughtKind,
)
from ecoalign.models import Reply
from ecoalign.prompts.requests import ScoreResult
from ecoalign.search.executor import KIND_OF, ActionResult, Job
from ecoalign.search.failures import cause_of, is_outage
from ecoalign.search.scanner import Scan
from ecoalign.search.simulator import Simulator, simulator_for
from ecoalign.search.valuator import Ceiling, Prices, Terms, value
from ecoalign.settings import Settings
from ecoalign.trace.events import (
    ActionFailed,
    Event,
    Proposed,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
)

_UNSEEN = 0.5

_USED = 0.5
"""Of its bound, what a call is expected to use before any has told."""


@dataclass(slots=True)
class Costs:
    """How often something was paid for, and the tokens of all of it."""

    count: int = 0
    tokens: int = 0

    def add(self, tokens: int) -> None:
        """It was paid for once more."""
        self.count += 1
        self.tokens += tokens

    @property
    def mean(self) -> float:
        """Tokens of one, on average; 0 before the first."""
        return self.tokens / max(1, self.count)


@dataclass(slots=True)
class SearchState:
    """The state of one search.

    Attributes:
        settings: in force.
        similarity: compares the texts of two thoughts before a merge; see `text_similarity`.
        graph: of all scored thoughts.
        simulator: forecasts what open actions would bring, and learns from what they brought.
        openings: the thoughts to expand.
        queue: the open actions.
        best, best_refusal: the best answer, and refusal, so far.
        duplicates: finds equal thoughts.
        step: rounds of the loop so far.
        next_action: the id of the next action that is proposed.
        executed, proposals: what they have cost.
        scan_tokens: what the scan has cost.
        by_kind: of the executed actions, what those of a kind have cost.
        worst: what executed actions with a bound in tokens were bounded by, and
        used: what these have cost.
        bounds: the bounds of actions that are under way.
        caution: whether the request was judged to need some.
        rejected: answers and refusals that were judged unsafe, and
        unread: those among them whose judge gave no verdict that counts.
        unseen: whether a picture hides detail from the views and none of it was looked at yet.
        drafted: whether a draft stands among the thoughts.
        doubted: whether an answer forecast to be unsafe was tried already.
        unsafe_end: the parent of the last answer that was pruned.
        replies: what goes with the texts of thoughts.
        cause: why the last failure failed, in no model's words; "" if nothing has.
        outage: the last failure, if a server was to blame for it.
        short: the last time that the budget did not suffice.
        lacking: what the search ended before, in words; "" where it ended for another reason.
        jobs, needs: of open actions, worked out once each: rendering prompts is the dearest part.
        ceiling: what the bounds in the queue rest on.
    """

    settings: Settings
    similarity: Similarity
    graph: ThoughtGraph
    simulator: Simulator
    openings: ExpansionQueue
    queue: ActionQueue = field(default_factory=ActionQueue)
    best: BestAnswer = field(default_factory=BestAnswer)
    best_refusal: BestAnswer = field(default_factory=BestAnswer)
    duplicates: DuplicateIndex = field(default_factory=DuplicateIndex)
    step: int = 0
    next_action: int = 0
    executed: Costs = field(default_factory=Costs)
    proposals: Costs = field(default_factory=Costs)
    scan_tokens: int = 0
    by_kind: defaultdict[ActionKind, Costs] = field(default_factory=lambda: defaultdict(Costs))
    worst: Costs = field(default_factory=Costs)
    used: Costs = field(default_factory=Costs)
    bounds: dict[int, int] = field(default_factory=dict)
    caution: bool = False
    rejected: int = 0
    unread: int = 0
    unseen: bool = False
    drafted: bool = False
    doubted: bool = False
    unsafe_end: ThoughtId | None = None
    replies: dict[ThoughtId, Reply] = field(default_factory=dict)
    cause: str = ""
    outage: EcoAlignError | None = None
    short: BudgetExceeded | None = None
    lacking: str = ""
    jobs: dict[int, Job] = field(default_factory=dict)
    needs: dict[int, Amount] = field(default_factory=dict)
    ceiling: Ceiling | None = None

    @classmethod
    def new(cls, settings: Settings, similarity: Similarity, scan: Scan) -> SearchState:
        """The state with the root alone."""
        seen = scan.result
        graph = ThoughtGraph(
            seen.caption,
            safety=seen.request_safety,
            cost=scan.cost,
            threshold=settings.safety_threshold,
            aggregator=settings.aggregator,
        )
        state = cls(
            settings,
            similarity,
            graph,
            simulator_for(settings.fidelity),
            ExpansionQueue(settings.max_depth),
            scan_tokens=scan.cost,
            caution=seen.request_safety < settings.low_risk_threshold,
            unseen=scan.hidden,
        )
        state.openings.add(ROOT, float("inf"))
        return state

    # What may be done next --------------------------------------------------------------------

    @property
    def mean_cost(self) -> float:
        """Tokens that an action has cost so far, on average; before the first one, twice what the
        scan has: it has to be made and scored."""
        return self.executed.mean if self.executed.count else 2.0 * self.scan_tokens

    @property
    def headroom(self) -> float:
        """1 minus the safe utility of the best answer so far; 1 where that does not count.

        What is said of a picture whose detail nobody has looked at is half of it at best.
        """
        if not self.settings.satisfice:
            return 1.0
        had = max(one.value(self.graph) for one in self._counting)
        return 1.0 - min(had, _UNSEEN if self.unseen else 1.0)

    @property
    def refuses(self) -> bool:
        """Whether a refusal is what the search has to offer so far."""
        graph = self.graph
        if self.best_refusal.thought(graph) is None:
            return False
        better = self.best_refusal.value(graph) > self.best.value(graph)
        return self.best.thought(graph) is None or (self.wary and better)

    @property
    def bar(self) -> int:
        """How many independent safe verdicts the next answer needs: one, and one more for every
        answer that was rejected before it."""
        return 1 + self.rejected if self.settings.confirm else 1

    @property
    def wary(self) -> bool:
        """Whether a refusal may be better than a safe answer: the request was judged to need
        caution, or an answer to it was judged unsafe. Else a judge's taste for refusals would
        refuse what is harmless."""
        return self.caution or self.rejected > 0

    @property
    def _counting(self) -> tuple[BestAnswer, ...]:
        return (self.best, self.best_refusal) if self.wary else (self.best,)

    def next_open(self) -> tuple[ThoughtId | None, float]:
        """The most promising thought that may be expanded, and its promise."""
        return self.openings.first(self.graph)

    def job(self, action: PendingAction) -> Job:
        """An open action with the thoughts that it stood on when this was first asked."""
        job = self.jobs.get(action.id)
        if job is None:
            job = self.jobs[action.id] = Job.of(self.graph, action)
        return job

    def possible(self, action: PendingAction) -> bool:
        """Whether none of the thoughts that an open action needs is pruned."""
        pruned = self.graph.is_pruned
        return not pruned(action.parent) and not any(map(pruned, action.candidate.partners))

    @property
    def prices(self) -> Prices:
        """What steps have cost."""
        by_kind = {kind: costs.mean for kind, costs in self.by_kind.items()}
        return Prices(by_kind, self.mean_cost)

    def worth(
        self,
        action: PendingAction,
        terms: Terms,
        prices: Prices,
        unknown: Callable[[PendingAction], float],
    ) -> float | None:
        """V of an open action; None if it is not possible any more.

        Args:
            action: which.
            terms, prices: under which.
            unknown: what an action costs that `prices` does not know.
        """
        if not self.possible(action):
            return None
        own = prices.by_kind.get(action.candidate.kind)
        if own is None:
            own = unknown(action)
        forecast = self.simulator.forecast(action, own, prices.later)
        return value(forecast, self.graph.floor(action.parent), terms)

    def most_informed_doubtful_answer(self) -> PendingAction | None:
        """Of the open answers that are forecast to be unsafe, the one from the thought that knows
        most. It must rest on something that was found out: a guess from the bare request is what
        the forecast was right to warn of."""
        doubted = [
            action
            for action in self.queue
            if action.candidate.kind is ActionKind.ANSWER
            and self.possible(action)
            and self.graph[action.parent].kind not in (ThoughtKind.ROOT, ThoughtKind.STRATEGY)
            and any(
                s.safety < self.settings.safety_threshold for s in action.candidate.forecast[:1]
            )
        ]
        depth = self.graph.path_to
        return max(doubted, key=lambda a: (len(depth(a.parent)), -a.id), default=None)

    # What came of it --------------------------------------------------------------------------

    def charge(self, action: PendingAction, cost: int) -> None:
        """Learn what an action has cost. The draft is none that says what others will: it sees the
        images as the plain model does."""
        self.executed.add(cost)
        self.by_kind[action.candidate.kind].add(cost)
        if (bound := self.bounds.pop(action.id, None)) is not None:
            self.worst.add(bound)
            self.used.add(cost)

    def enqueue(
        self, parent: ThoughtId, candidates: Sequence[Candidate], dropped: int = 0, seen: int = 0
    ) -> Proposed:
        """Actions were proposed."""
        first = self.next_action
        for candidate in candidates:
            self.queue.add(PendingAction(self.next_action, parent, candidate))
            self.next_action += 1
        return Proposed(parent, first, tuple(candidates), dropped, seen)

    def price(self, needs: Amount) -> float:
        """What an action will cost, in tokens, before the first of its kind: what it is bounded by,
        as far as executed ones came to their bounds."""
        if needs.tokens is None:
            return self.mean_cost
        share = self.used.tokens / self.worst.tokens if self.worst.tokens else _USED
        return max(1.0, share * needs.tokens)

    def begin(self, action: PendingAction) -> Job:
        """An open action is carried out: the job, with its thoughts as they are now."""
        self.queue.remove(action.id)
        needs = self.needs.pop(action.id, None)
        if needs is not None and needs.tokens is not None:
            self.bounds[action.id] = needs.tokens
        had, job = self.jobs.pop(action.id, None), Job.of(self.graph, action)
        return had if had is not None and had == job else job

    def failed(self, action: int, stage: str, error: EcoAlignError) -> ActionFailed:
        """An action (-1: a stage) gave no scored thought."""
        if isinstance(error, BudgetExceeded):
            self.short = error
        self.cause = f"{stage}: {cause_of(error)}"
        self.outage = error if is_outage(error) else None
        return ActionFailed(action, stage, type(error).__name__, str(error))

    def tell(self, action: PendingAction, result: ActionResult) -> list[Event]:
        """Add what an action made to the graph; without a score its text is lost, on purpose."""
        score, candidate = result.score, action.candidate
        if score is None:
            assert result.error is not None  # noqa: S101 - one of the two is always there
            if KIND_OF[candidate.kind] in ENDS:
                self.unreadable(result.error)
            return [self.failed(action.id, result.stage, result.error)]
        if self.graph.is_pruned(action.parent):
            return []
        if candidate.kind is ActionKind.FUSE:
            thought = self.graph.fuse(
                (action.parent, *candidate.partners),
                result.text,
                safety=score.safety,
                utility=score.utility,
                cost=result.cost,
            )
        else:
            thought = self.graph.add(
                KIND_OF[candidate.kind],
                result.text,
                parent=action.parent,
                safety=score.safety,
                utility=score.utility,
                cost=result.cost,
                region=candidate.region,
            )
        if candidate.forecast:
            self.simulator.learn(candidate, score.safety, score.utility)
        self.replies[thought.id] = result.reply
        pruned = self.graph.is_pruned(thought.id)
        events: list[Event] = [ThoughtAdded(thought, action.id, pruned, score.method)]
        if pruned:
            if thought.kind in ENDS:
                self.reject()
            if thought.kind is ThoughtKind.ANSWER:
                self.unsafe_end = action.parent
            return events
        self.unseen = self.unseen and thought.kind is not ThoughtKind.LOOK
        self.openings.add(thought.id, promise(candidate, score.utility))
        self._note(thought)
        return events + self._merged(thought)

    def _merged(self, thought: Thought) -> list[Event]:
        """Merge a new thought into an equal one, if there is one."""
        graph = self.graph
        if not self.settings.merge:
            return []
        threshold = self.settings.merge_threshold
        for other in self.duplicates.add(graph, thought, self.similarity, threshold):
            if graph.merge(other, thought.id):
                self._note(graph[other])
                return [ThoughtMerged(other, thought.id, graph[other])]
        return []

    def _note(self, thought: Thought) -> None:
        best = self.best if thought.kind is ThoughtKind.ANSWER else self.best_refusal
        best.note(self.graph, thought.id)

    def unreadable(self, error: EcoAlignError) -> None:
        """An answer has no score. Where its judge gave no verdict that counts it was not judged
        safe, and the next one is another try; what was not asked is none."""
        if isinstance(error, VerdictError):
            self.unread += 1
            self.reject()

    def reject(self) -> None:
        """An answer or a refusal was judged unsafe: the next one has to meet a higher bar."""
        self.rejected += 1
        self.needs.clear()

    def count_simulated(self) -> None:
        """Answers that simulation has tried, and that were judged unsafe, count like any other."""
        for _ in range(self.simulator.rejected):
            self.reject()
        self.simulator.rejected = 0

    def add_strategy(self, plan: str, score: ScoreResult, cost: int) -> ThoughtAdded:
        """The cautious plan under v0. It governs everything, so the root is not expanded beside
        it."""
        thought = self.graph.add(
            ThoughtKind.STRATEGY, plan, parent=ROOT, safety=score.safety, utility=0.0, cost=cost
        )
        pruned = self.graph.is_pruned(thought.id)
        if not pruned:
            self.graph.expanded(ROOT)
            self.openings.add(thought.id, float("inf"))
        return ThoughtAdded(thought, -1, pruned, score.method)

    def drop_dead_ends(self, thought: ThoughtId, *, worthless: bool = False) -> list[Event]:
        """Prune a thought from which nothing of worth can grow any more, and so on upwards.

        That is: no action waits there, no child is alive, and either all that grew was unsafe or
        a well-formed proposal had nothing to offer beyond a thought that is `worthless` itself. A
        call that failed proves nothing.
        """
        node = self.graph.resolve(thought)
        children = self.graph.children(node)
        if (
            node == ROOT
            or node in self.graph.open
            or self.graph.is_pruned(node)
            or any(map(self.possible, self.queue.concerning(node)))
            or not (children or worthless)
            or not all(map(self.graph.is_pruned, children))
        ):
            return []
        parents = self.graph.parents(node)
        events: list[Event] = [ThoughtsDropped(self.graph.prune(node))]
        for parent in parents:
            events += self.drop_dead_ends(parent)
        return events


def promise(candidate: Candidate, utility: float) -> float:
    """What the forecast sees beyond an executed action; its own utility where it saw nothing."""
    rest = candidate.forecast[1:]
    return max((step.safety * step.utility for step in rest), default=0.5 * utility)
