"""Runs an experiment: so many samples at once, every finished one kept before the next begins.

A run may be ended at any moment, by kill -9 too. The same run goes on where it was: what has a row
is not asked again, and what has an answer but no score yet is only scored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from ecoalign.bench._cache import CachedModel, ResponseCache
from ecoalign.bench._rows import FAILED, Failure, Row, RowKey, Store
from ecoalign.bench._score import UNUSABLE, Score
from ecoalign.bench.progress import BenchProgress
from ecoalign.bench.suites._base import Ask, Sample, Suite
from ecoalign.budget import Budget, Ledger, Pricing, Spending, unpriced
from ecoalign.errors import BudgetTooSmall, EcoAlignError, InputError, VerdictError
from ecoalign.methods import Method, is_refusal
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.trace import critical_path

if TYPE_CHECKING:
    from ecoalign.bench._experiments import Variant
    from ecoalign.models import ChatModel
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

OpenMethod = Callable[["Variant", "Settings"], "Method"]
"""Makes the method of a variant under its settings."""

JudgesOn = Callable[[Ledger], Ask]
"""What asks the judges on account of a ledger; see `Judges.paid_by`."""

# Not a bound: what judges cost is recorded row by row, and a missing verdict is of no use.
_JUDGING = Budget(tokens=10**15)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        experiment: its name.
        variants: by unique names.
        suite: what the samples are from.
        samples: those to ask, in order.
        settings: in force; variants change some of them.
        repeats: how often each sample is asked, >= 1; each time with another seed.
    """

    experiment: str
    variants: Sequence[Variant]
    suite: Suite
    samples: Sequence[Sample]
    settings: Settings
    repeats: int = 1

    def __len__(self) -> int:
        """How many rows it makes."""
        return len(self.variants) * len(self.samples) * self.repeats

    def key(self, variant: Variant, sample: Sample, repeat: int = 0) -> RowKey:
        """The key of one of its rows."""
        names = (self.experiment, variant.name, variant.method, self.suite.name)
        return RowKey(*names, sample.id, repeat)


@dataclass(frozen=True, slots=True)
class _Job:
    key: RowKey
    sample: Sample
    method: Method
    budget: Budget
    known: Row | None


def pick(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples (None for all), spread evenly over the groups.

    One of each group in turn, the groups in the order in which they first come. A smaller limit
    always picks some of what a larger one picks, so that a run can be made longer.
    """
    if limit is None or limit >= len(samples):
        return list(samples)
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    longest = max(map(len, groups.values()), default=0)
    turns = (each[i] for i in range(longest) for each in groups.values() if i < len(each))
    return list(islice(turns, max(0, limit)))


async def run(
    plan: Plan,
    model: ChatModel,
    store: Store,
    open_method: OpenMethod,
    *,
    price: Pricing = unpriced,
    judges: JudgesOn | None = None,
    cache: ResponseCache | None = None,
    concurrency: int = 4,
    retry_failed: bool = False,
    begun: Callable[[BenchProgress], None] | None = None,
    watch: Callable[[Row], None] | None = None,
    stop: asyncio.Event | None = None,
) -> BenchProgress:
    """Ask what has no row yet.

    Args:
        plan: what to run.
        model: who answers.
        store: where the rows are and go.
        open_method: makes the methods; all of them are made before anything is asked.
        price: dollars of a call.
        judges: the judges, for suites that need them; each sample is judged on a ledger of its
            own, whose account is in its row.
        cache: answers deterministic requests again; None for no cache.
        concurrency: samples at once, >= 1.
        retry_failed: ask again what failed, and score again what had no usable verdict.
        begun: called once, before anything is asked; `before` says how much is there already.
        watch: called with every new row.
        stop: when it is set no further sample begins; those under way are finished.

    Returns:
        What was there and what is new. A failure of a sample is a row, not an error.

    Raises:
        InputError: something is wrong with the plan, or a row cannot be written.
    """
    if concurrency < 1:
        raise InputError(f"the concurrency must be 1 or more, not {concurrency}")
    if plan.repeats < 1:
        raise InputError(f"a sample must be asked at least once, not {plan.repeats} times")
    if plan.suite.judged and judges is None:
        raise InputError(
            f"the suite {plan.suite.name} needs a judge to score its answers: name one, --judge M"
        )
    methods: list[Method] = []

    def opened(variant: Variant, settings: Settings) -> Method:
        methods.append(open_method(variant, settings))
        return methods[-1]

    todo = _todo(plan, store, opened, retry_failed=retry_failed)
    progress = BenchProgress(len(plan), before=len(plan) - len(todo))
    if begun is not None:
        begun(progress)
    bench = _Bench(plan.suite, model, store, price, judges, cache, progress, watch)
    queue = iter(todo)
    workers = [
        asyncio.create_task(_work(bench, queue, stop)) for _ in range(min(concurrency, len(todo)))
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for method in methods:
            await method.aclose()
    progress.stopped = len(progress.fresh) < len(todo)
    return progress


def _todo(plan: Plan, store: Store, open_method: OpenMethod, *, retry_failed: bool) -> list[_Job]:
    """What has no final row, sample by sample: what is cut short is complete in its pairs."""
    names = [variant.name for variant in plan.variants]
    if len(set(names)) < len(names):
        raise InputError("two variants of the experiment have the same name")
    ids = [sample.id for sample in plan.samples]
    if len(set(ids)) < len(ids):
        raise InputError(f"two samples of the suite {plan.suite.name} have the same id")
    jobs = []
    for repeat in range(plan.repeats):
        ready = [
            (variant, *_prepared(variant, plan.settings, repeat, open_method))
            for variant in plan.variants
        ]
        for sample in plan.samples:
            for variant, method, budget in ready:
                key = plan.key(variant, sample, repeat)
                known = store.rows.get(key)
                if known is not None and retry_failed:
                    if known.failure is not None:
                        known = None
                    elif known.unusable:
                        known = replace(known, score=None)
                if known is None or known.pending:
                    jobs.append(_Job(key, sample, method, budget, known))
    return jobs


def _prepared(
    variant: Variant, settings: Settings, repeat: int, open_method: OpenMethod
) -> tuple[Method, Budget]:
    changes = dict(variant.settings)
    if variant.budget is not None:
        changes["budget"] = variant.budget
    if repeat and settings.seed is not None:
        changes["seed"] = (settings.seed + repeat) % 2**31
    chosen = settings.replace(**changes) if changes else settings
    return open_method(variant, chosen), chosen.budget


async def _work(bench: _Bench, queue: Iterator[_Job], stop: asyncio.Event | None) -> None:
    for job in queue:
        if stop is not None and stop.is_set():
            return
        await bench.do(job)
        # Methods that never wait for anything must not keep the others from their turn.
        await asyncio.sleep(0)


def _of_search(answer: Alignment) -> Mapping[str, object]:
    return {
        "preset": answer.preset,
        "hint": answer.hint,
        "path": [thought.kind.value for thought in answer.path],
        "ended_in_refusal": answer.refused,
    }


@dataclass(frozen=True, slots=True)
class _Bench:
    suite: Suite
    model: ChatModel
    store: Store
    price: Pricing
    judges: JudgesOn | None
    cache: ResponseCache | None
    progress: BenchProgress
    watch: Callable[[Row], None] | None

    async def do(self, job: _Job) -> None:
        """Answer, keep, score, keep."""
        row = job.known
        if row is None:
            row = await self._answered(job)
            if self.judges is not None and row.pending:
                # A judge takes its time, and the answer is paid for.
                self.store.append(row)
        if row.pending:
            row = await self._scored(job.sample, row)
        self.store.append(row)
        self.progress.add(row)
        if self.watch is not None:
            self.watch(row)

    async def _answered(self, job: _Job) -> Row:
        model = self.model if self.cache is None else CachedModel(self.model, self.cache)
        ledger = Ledger(job.budget, self.price)
        question = ""
        answer = None
        failure: Failure | None = None
        events: Iterable[Event] = ()
        try:
            query = job.sample.query()
            question = query.question
            answer = await job.method.answer(query, model, ledger)
        except EcoAlignError as error:
            failure = Failure(type(error).__name__, str(error), error.exit_code)
            events = error.trace or ()
        except Exception as error:
            # A mistake in one sample, or in a method of the user's own, is a row like any other.
            failure = Failure(type(error).__name__, str(error))
        row = Row(
            key=job.key,
            group=job.sample.group,
            model=self.model.name,
            answer="",
            refused=False,
            score=None,
            spent=ledger.spent,
            cached=model.hits if isinstance(model, CachedModel) else 0,
            budget=str(job.budget),
            failure=failure,
            question=question,
        )
        if answer is not None:
            return replace(
                row,
                answer=answer.answer,
                # One rule for all methods; see `is_refusal`.
                refused=is_refusal(answer.answer),
                spent=answer.spent,
                stop_reason=answer.stop_reason,
                ended=answer.ended,
                critical_path=answer.critical_path,
                safety=answer.safety,
                utility=answer.utility,
                detail=answer.detail if not answer.path else _of_search(answer),
            )
        # A method whose judge cannot be read withholds its answer: an outcome of the method.
        if failure is not None and failure.kind == VerdictError.__name__:
            withheld = replace(row, failure=None, answer=FIXED_REFUSAL, refused=True)
            return replace(
                withheld,
                stop_reason="fail-closed",
                ended="refused",
                critical_path=critical_path(events),
                detail={"cause": failure.message},
            )
        # A budget too small for an answer is an outcome of the method and scored as an empty
        # answer.
        if failure is not None and failure.kind == BudgetTooSmall.__name__:
            return replace(row, stop_reason="budget-too-small")
        return replace(row, score=Score(FAILED), stop_reason=FAILED)

    async def _scored(self, sample: Sample, row: Row) -> Row:
        account = Ledger(_JUDGING, self.price)
        ask = None if self.judges is None else self.judges(account)
        try:
            score = await self.suite.score(sample, row.answer, row.refused, ask)
        except Exception as error:
            score = Score(UNUSABLE, detail={"error": f"{type(error).__name__}: {error}"})
        return replace(row, score=score, judging=_bill(account.spent))


def _bill(spent: Spending) -> Mapping[str, float | None]:
    """Tokens, calls and dollars (None if a price is unknown); empty for no calls."""
    if not spent.calls:
        return {}
    return {"tokens": spent.tokens.total, "calls": spent.calls, "usd": spent.usd}
