"""One run: scan, then propose -> simulate -> score -> execute until it no longer pays, extract.

(arXiv 2511.11301: Global Scanner, Graph Engine, Valuator, Executor, Pareto Tracker.)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ecoalign.errors import BudgetExceeded, EcoAlignError
from ecoalign.graph import (
    ROOT,
    ActionKind,
    ActionQueue,
    BestAnswer,
    Candidate,
    DuplicateIndex,
    ExpansionQueue,
    Forecast,
    PendingAction,
    Similarity,
    ThoughtGraph,
    ValuedAction,
    text_similarity,
)
from ecoalign.graph._thoughts import Thought, ThoughtId, ThoughtKind
from ecoalign.graph.economics import Economy
from ecoalign.prompts.requests import ProposeResult
from ecoalign.search.answer_reserve import AnswerReserve
from ecoalign.search.chooser import Chooser, job_of
from ecoalign.search.context import CallLog, RunContext, recording_calls, tokens_of
from ecoalign.search.drafter import DRAFT, draft, suffices
from ecoalign.search.executor import KIND_OF, ActionResult, execute_batch
from ecoalign.search.extractor import Extractor
from ecoalign.search.failures import Failures, raise_if_rejected
from ecoalign.search.proposer import propose
from ecoalign.search.scanner import scan
from ecoalign.search.simulator import simulator_for
from ecoalign.search.valuator import Terms, share_left, terms, value
from ecoalign.trace.events import (
    ActionsChosen,
    Finished,
    Proposed,
    RootScanned,
    StepStarted,
    StopReason,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
    Valued,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecoalign.models import Reply
    from ecoalign.trace import Recorder

__all__ = ["Search"]

_NOTHING_FOUND = (ThoughtKind.ROOT, ThoughtKind.STRATEGY)


@dataclass
class Search:
    """The state and the loop of one run. Use it once.

    Attributes:
        desk: the means.
        recorder: told of everything.
        similarity: what `merging` compares texts with.
    """

    ctx: RunContext
    recorder: Recorder
    similarity: Similarity = text_similarity
    graph: ThoughtGraph = field(default_factory=lambda: ThoughtGraph(""))
    queue: ActionQueue = field(default_factory=ActionQueue)
    _actions: int = 0
    _executed: int = 0
    _executed_tokens: int = 0
    _proposals: int = 0
    _proposal_tokens: int = 0
    _scan_tokens: int = 0
    _unsafe_end: ThoughtId | None = None
    _drafted: bool = False
    _second_thoughts: bool = False
    _step: int = 0
    _replies: dict[ThoughtId, Reply] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = self.ctx.settings
        self.ledger = self.ctx.ledger
        self.simulator = simulator_for(self.settings.fidelity)
        self._openings = ExpansionQueue(self.settings.max_depth)
        self._best = BestAnswer()
        self._twins = DuplicateIndex()
        self._chooser = Chooser(self.ctx)
        self._reserve = AnswerReserve(self.ctx)
        self._failures = Failures(self.recorder)

    # The pipeline -----------------------------------------------------------------------------

    async def run(self) -> Finished:
        """Search, extract, answer.

        Raises:
            BudgetTooSmall: the budget allows no scored answer.
            ModelError: the model could not be asked at all.
        """
        self._reserve.reserve_fund()
        drafted = await draft(self.ctx, self.recorder) if self.settings.draft else None
        if drafted is not None:
            raise_if_rejected(drafted.error)
        if drafted is not None and suffices(drafted, self.settings):
            self.graph = ThoughtGraph("", threshold=self.settings.safety_threshold)
            stop: StopReason = "satisfied"
            # Nothing was scanned, but every graph has its root, in the trace as well.
            self.recorder.emit(RootScanned(self.graph.root, None, 1.0))
            self._take(DRAFT, drafted)
        else:
            await self._scan()
            if drafted is not None:
                self._actions = DRAFT.id + 1
                self._take(DRAFT, drafted)
                self._drafted = drafted.score is not None
            stop = await self._grow()
        extractor = Extractor(self.ctx, self.recorder, self.graph, self._failures, self._replies)
        return await extractor.answer(stop)

    async def _grow(self) -> StopReason:
        """The loop: until the budget is exhausted or no safe action has positive value."""
        if self.graph.root.safety < 0 and self.settings.unsafe_root == "refuse":
            await self._refuse_at_once()
            return "unsafe-request"
        last_call = False
        while True:
            if len(self.graph) >= self.settings.max_thoughts:
                return "limits"
            self._step += 1
            now = self._terms()
            if self._satisfied(now):
                return "satisfied"
            proposed = not last_call and await self._propose(now)
            ranked = await self._value(now)
            chosen = self._chooser.choose(self.graph, self.queue, ranked)
            if not chosen:
                # If something is worth doing and cannot be paid for, proposals would only cost.
                if proposed and not any(one.value > 0 for one in ranked):
                    continue
                last_call = self.queue.call_all()
                if last_call:
                    continue
                if await self._answer_after_all(now):
                    continue
                stop = self._why_stopped(ranked)
                await self._refuse_instead()
                return stop
            last_call = False
            self.queue.settle(ranked)
            await self._execute(chosen)
            self.queue.refill()

    # Scan -------------------------------------------------------------------------------------

    async def _scan(self) -> None:
        log: CallLog = []
        try:
            with recording_calls(self.recorder, log):
                seen = await scan(self.ctx)
        except BudgetExceeded as short:
            raise self._reserve.too_small(short) from short
        self._scan_tokens = tokens_of(log)
        self.graph = ThoughtGraph(
            seen.result.caption,
            safety=seen.result.request_safety,
            cost=self._scan_tokens,
            threshold=self.settings.safety_threshold,
        )
        self._openings.add(ROOT, float("inf"))
        self._reserve.secure((self.graph.root,))
        self.ledger.tighten(seen.share)
        plan = seen.result.strategy if seen.cautious else None
        self.recorder.emit(RootScanned(self.graph.root, plan, seen.share, seen.note))
        if plan:
            await self._add_strategy(plan)

    async def _add_strategy(self, plan: str) -> None:
        """The cautious plan under v0. It governs everything, so the root itself is not expanded."""
        log: CallLog = []
        try:
            with recording_calls(self.recorder, log):
                path = (self.graph.root,)
                request = self.ctx.score_request(path, "strategy", plan, self.ctx.views)
                score = await self.ctx.score(request)
        except EcoAlignError as error:
            self._failures.note(-1, "score", error)
            return
        thought = self.graph.add(
            ThoughtKind.STRATEGY,
            plan,
            parent=ROOT,
            safety=score.safety,
            utility=0.0,
            cost=tokens_of(log),
        )
        pruned = self.graph.is_pruned(thought.id)
        self.recorder.emit(ThoughtAdded(thought, -1, pruned, score.method))
        if not pruned:
            self.graph.expanded(ROOT)
            self._openings.add(thought.id, float("inf"))

    # Terms ------------------------------------------------------------------------------------

    def _terms(self) -> Terms:
        remaining = self.ledger.remaining()
        spent, n = self.ledger.spent, max(1, self._executed)
        tokens = self._executed_tokens / n if self._executed else float(self._scan_tokens)
        calls = max(1, spent.calls)
        per_call = tokens * calls / max(1, spent.tokens.total)
        usd = None if spent.usd is None else spent.usd / calls * per_call
        means = (tokens, usd, spent.seconds / calls * per_call)
        now = terms(self.settings, self.ledger, remaining, means, tokens, self._headroom())
        started = self.recorder.emit(
            StepStarted(
                self._step,
                remaining,
                share_left(remaining, self.ledger.limit),
                now.horizon,
                now.price,
                tokens,
                now.headroom,
            )
        )
        # What was recorded is what counts: a replay has its times from the tape.
        return replace(now, horizon=started.horizon, price=started.price)

    def _mean_cost(self) -> float:
        """Tokens that an action has cost so far, on average; 0 before the first one."""
        return self._executed_tokens / max(1, self._executed)

    def _headroom(self) -> float:
        """1 minus the safe utility of the best answer so far."""
        return 1.0 - self._best.value(self.graph)

    def _satisfied(self, now: Terms) -> bool:
        """Whether an answer exists that no further action can improve by more than its price."""
        if now.economy is not Economy.SURPLUS or not self.graph.ends:
            return False
        cheapest = self._mean_cost()
        return now.headroom <= now.price * cheapest

    # Propose ----------------------------------------------------------------------------------

    async def _propose(self, now: Terms) -> bool:
        """Expand the most promising open thought; returns whether one was worth it."""
        node, promise = self._openings.first(self.graph)
        if node is None or not self._worth_asking(promise, now):
            return False
        self.graph.expanded(node)
        log: CallLog = []
        try:
            with recording_calls(self.recorder, log):
                result = await propose(self.ctx, self.graph, node, now.horizon)
        except EcoAlignError as error:
            self._failures.note(-1, "propose", error)
            return True
        finally:
            self._proposals += 1
            self._proposal_tokens += tokens_of(log)
        await self.ctx.prepare(c.region for c in result.candidates if c.region is not None)
        if self._drafted and node == ROOT:
            # From the root it would only be the draft again.
            fresh = tuple(c for c in result.candidates if c.kind is not ActionKind.ANSWER)
            again = len(result.candidates) - len(fresh)
            result = ProposeResult(fresh, result.dropped + again)
        first = self._actions
        for candidate in result.candidates:
            self.queue.add(PendingAction(self._actions, node, candidate))
            self._actions += 1
        self.recorder.emit(Proposed(node, first, result.candidates, result.dropped))
        thought = self.graph[node]
        earned = self.graph.floor(node) * thought.utility
        if not (result.candidates or result.dropped) and earned <= now.price * thought.cost:
            self._drop_dead_ends(node, worthless=True)
        return True

    def _worth_asking(self, promise: float, now: Terms) -> bool:
        """Whether what a thought promises can pay for a proposal from it and an action after it."""
        if now.economy is not Economy.SURPLUS:
            return True
        actions = self._mean_cost()
        proposals = self._proposal_tokens / max(1, self._proposals)
        return promise * now.headroom >= now.price * (actions + proposals)

    # Value and choose -------------------------------------------------------------------------

    async def _value(self, now: Terms) -> list[ValuedAction]:
        """V of every open action, the best first; simulates what has not been simulated yet."""
        alive = [
            action
            for action in self.queue
            if not self.graph.is_pruned(action.parent)
            and not any(self.graph.is_pruned(p) for p in action.candidate.partners)
        ]
        self.queue.keep(alive)
        with recording_calls(self.recorder, []):
            forecasts = await self.simulator.simulate(
                self.ctx, [self._chooser.known_job(self.graph, a) for a in alive], now.horizon
            )
        ranked = []
        for action in alive:
            worth = value(forecasts[action.id], self.graph.floor(action.parent), now)
            affordable = worth > 0 and self._chooser.affordable(self.graph, [action])
            kind = action.candidate.kind
            ranked.append(ValuedAction(action.id, action.parent, kind, worth, affordable))
        ranked.sort(key=lambda a: (-a.value, a.action))
        self.recorder.emit(Valued(self._step, tuple(ranked)))
        return ranked

    def _why_stopped(self, ranked: Sequence[ValuedAction]) -> StopReason:
        if any(one.value > 0 for one in ranked) or self._failures.short is not None:
            return "budget"
        too_deep = self.graph.open and self._openings.first(self.graph)[0] is None
        return "limits" if too_deep and not ranked else "no-positive-action"

    # Execute ----------------------------------------------------------------------------------

    async def _execute(self, chosen: Sequence[PendingAction]) -> None:
        self.recorder.emit(ActionsChosen(self._step, tuple(action.id for action in chosen)))
        for action in chosen:
            self.queue.remove(action.id)
            self._chooser.forget(action)
        jobs = [job_of(self.graph, action) for action in chosen]
        ready = {job.id: self.simulator.ready.pop(job.id, None) for job in jobs}
        # Only what is cut off is recorded here; each outcome has calls of its own.
        with recording_calls(self.recorder, []):
            fresh = await execute_batch(self.ctx, [j for j in jobs if ready[j.id] is None])
        made = {outcome.job.id: outcome for outcome in fresh}
        errors: list[EcoAlignError | None] = []
        for action in chosen:
            known = ready[action.id]
            outcome = known or made[action.id]
            if known is None:
                self.recorder.calls(outcome.calls)
            self._take(action, outcome)
            errors.append(outcome.error)
        if not self.graph.ends:
            for error in errors:
                raise_if_rejected(error)
        for action in chosen:
            self._drop_dead_ends(action.parent)

    def _take(self, action: PendingAction, outcome: ActionResult) -> None:
        """Add a scored outcome to the graph; without a score its text is lost, on purpose."""
        self._executed += 1
        self._executed_tokens += outcome.cost
        if outcome.score is None:
            assert outcome.error is not None  # noqa: S101 - one of the two is always there
            self._failures.note(action.id, outcome.stage, outcome.error)
            return
        score, candidate = outcome.score, action.candidate
        if self.graph.is_pruned(action.parent):
            return
        if candidate.kind is ActionKind.FUSE:
            thought = self.graph.fuse(
                (action.parent, *candidate.partners),
                outcome.text,
                safety=score.safety,
                utility=score.utility,
                cost=outcome.cost,
            )
        else:
            thought = self.graph.add(
                KIND_OF[candidate.kind],
                outcome.text,
                parent=action.parent,
                safety=score.safety,
                utility=score.utility,
                cost=outcome.cost,
                region=candidate.region,
            )
        if candidate.forecast:
            self.simulator.learn(candidate, Forecast(score.safety, score.utility, outcome.cost))
        self._replies[thought.id] = outcome.reply
        pruned = self.graph.is_pruned(thought.id)
        self.recorder.emit(ThoughtAdded(thought, action.id, pruned, score.method))
        if pruned and thought.kind is ThoughtKind.ANSWER:
            self._unsafe_end = action.parent
        if not pruned:
            self._openings.add(thought.id, _promise(candidate, score.utility))
            self._best.note(self.graph, thought.id)
            self._merge(thought)
            if self.settings.synthesis == "always" or not self.graph.ends:
                self._reserve.secure(self.graph.path_to(thought.id))

    def _merge(self, thought: Thought) -> None:
        """Merge a new thought into an equal one, if there is one."""
        if not self.settings.merge:
            return
        threshold = self.settings.merge_threshold
        for other in self._twins.of(self.graph, thought, self.similarity, threshold):
            if self.graph.merge(other, thought.id):
                self._best.note(self.graph, other)
                self.recorder.emit(ThoughtMerged(other, thought.id, self.graph[other]))
                return
        self._twins.add(thought)

    def _drop_dead_ends(self, thought: ThoughtId, *, worthless: bool = False) -> None:
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
            or self.queue.concerns(node)
            or not (children or worthless)
            or not all(map(self.graph.is_pruned, children))
        ):
            return
        parents = self.graph.parents(node)
        self.recorder.emit(ThoughtsDropped(self.graph.prune(node)))
        for parent in parents:
            self._drop_dead_ends(parent)

    async def _answer_after_all(self, now: Terms) -> bool:
        """Try an answer forecast to be unsafe, where refusing turned out to be worth little.

        A refusal is worth much where the request is harmful. One that is not speaks against the
        forecast that called for it; at even odds an answer is worth its price, and it is scored
        like any other before it counts. It must rest on something that was found out: a guess from
        the bare request is what the forecast was right to warn of. Returns whether one was tried,
        which happens once.
        """
        best = self._best.thought(self.graph)
        if (
            self._second_thoughts
            or now.economy is not Economy.SURPLUS
            or best is None
            or self.graph[best].kind is not ThoughtKind.REFUSAL
            or 0.5 * now.headroom <= now.price * self._mean_cost()
        ):
            return False
        doubted = [
            action
            for action in self.queue
            if action.candidate.kind is ActionKind.ANSWER
            and self.graph[action.parent].kind not in _NOTHING_FOUND
            and any(step.safety < now.threshold for step in action.candidate.forecast[:1])
        ]
        if not doubted:
            return False
        # From the thought that knows most.
        chosen = max(doubted, key=lambda a: (len(self.graph.path_to(a.parent)), -a.id))
        if not self._chooser.affordable(self.graph, [chosen]):
            return False
        self._second_thoughts = True
        await self._execute([chosen])
        return True

    async def _refuse_instead(self) -> None:
        """Where every answer was unsafe, writing one more would be, too: refuse and say why."""
        if self._unsafe_end is not None and not self.graph.ends:
            parent = self._unsafe_end
            await self._refuse_at_once(ROOT if self.graph.is_pruned(parent) else parent)

    async def _refuse_at_once(self, parent: ThoughtId = ROOT) -> None:
        """Nothing is to grow but a refusal: a request that is itself unsafe, say."""
        forecast = (Forecast(1.0, 1.0, 1.0),)
        action = PendingAction(self._actions, parent, Candidate(ActionKind.REFUSE, "", forecast))
        self._actions += 1
        self.recorder.emit(Proposed(parent, action.id, (action.candidate,)))
        self.queue.add(action)
        if self._chooser.affordable(self.graph, [action]):
            await self._execute([action])


def _promise(candidate: Candidate, utility: float) -> float:
    """What the forecast sees beyond an executed action; its own utility where it saw nothing."""
    rest = candidate.forecast[1:]
    return max((step.safety * step.utility for step in rest), default=0.5 * utility)
