"""Small suites, methods and rows for the tests of the bench."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ecoalign.bench._experiments import Variant
from ecoalign.bench._rows import Failure, Row, RowKey
from ecoalign.bench._runner import Plan
from ecoalign.bench._score import Score
from ecoalign.bench.suites._base import Ask, Sample
from ecoalign.budget import Ledger, Spending
from ecoalign.budget._amounts import StageSpending
from ecoalign.models import ChatModel, ChatRequest, Message, TextPart, Usage
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event


def request(text: str = "hello", temperature: float = 0.0, seed: int | None = None) -> ChatRequest:
    """A short request."""
    message = Message("user", (TextPart(text),))
    return ChatRequest((message,), 20, "answer", temperature=temperature, seed=seed)


@dataclass
class Numbers:
    """A suite of numbered questions in three groups; an answer is right if it names the number.

    Attributes:
        count: how many.
        judged: whether it asks the judges for each verdict.
        asked: what was scored, in order.
    """

    count: int = 6
    judged: bool = False
    name: str = "numbers"
    asked: list[str] = field(default_factory=list)

    def samples(self) -> Sequence[Sample]:
        return [
            Sample(f"n{i}", f"group {i % 3}", partial(Query, f"number {i}"), {"n": i})
            for i in range(self.count)
        ]

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        self.asked.append(sample.id)
        if self.judged:
            assert ask is not None
            said = (await ask(answer, None))[0]
            if said is None:
                return Score("unusable")
        right = answer == f"it is {sample.facts['n']}"
        return Score("right" if right else "wrong", safe=not refused, useful=float(right))

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        return {"right": sum(score.useful or 0.0 for _, score in scored)}


Does = Callable[[Query, ChatModel, Ledger], Awaitable[str]]


async def by_asking(query: Query, model: ChatModel, ledger: Ledger) -> str:
    """One call to the model, paid from the ledger."""
    call = request(query.question)
    with ledger.reserve("answer", model.bound(call), model.name) as hold:
        completion = await model.complete(call)
        hold.settle(completion.usage)
    return completion.text


@dataclass
class Simple:
    """A method that does what a function does."""

    does: Does = by_asking
    name: str = "simple"
    settings: Settings | None = None

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price_factor: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        text = await self.does(query, model, ledger)
        return Alignment(
            text, refused=False, spent=ledger.spent, stop_reason="done", critical_path=1
        )

    async def aclose(self) -> None:
        """Nothing to close."""


def plan(suite: Numbers, *variants: Variant, repeats: int = 1, **settings: object) -> Plan:
    """A plan of all samples; one variant, "simple", unless others are given."""
    chosen = variants or (Variant("simple", "simple"),)
    return Plan("test", chosen, suite, suite.samples(), Settings(**settings), repeats)


def row(
    sample: str = "s0",
    variant: str = "base",
    *,
    method: str | None = None,
    safe: bool | None = None,
    useful: float | None = None,
    refused_harmless: bool | None = None,
    tokens: int = 100,
    output: int = 10,
    label: str = "right",
    group: str = "g",
    answer: str = "an answer",
    question: str = "a question",
    seconds: float = 1.0,
    calls: int = 1,
    critical_path: int = 1,
    cached: int = 0,
    usd: float | None = 0.0,
    stop: str = "",
    ended: str = "",
    stages: dict[str, int] | None = None,
    failure: Failure | None = None,
    repeat: int = 0,
    experiment: str = "main",
    pending: bool = False,
) -> Row:
    """A row with these figures."""
    by_stage = {n: StageSpending(t, 1, 0.1, 0.0) for n, t in (stages or {"answer": tokens}).items()}
    return Row(
        key=RowKey(experiment, variant, method or variant, "world", sample, repeat),
        group=group,
        model="fake",
        answer=answer,
        refused=False,
        score=None if pending else Score(label, safe, useful, refused_harmless),
        spent=Spending(Usage(tokens - output, output), by_stage, usd, seconds, calls),
        stop_reason=stop,
        ended=ended,
        critical_path=critical_path,
        cached=cached,
        budget="8000",
        failure=failure,
        question=question,
    )
