"""One question, asked by several methods at once, as lines for the page while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, EcoAlignError
from ecoalign.methods import Answerer
from ecoalign.query import Query
from ecoalign.search.context import RunContext, named_evaluator
from ecoalign.trace import Alignment, Story, is_fixed, outcome, reason
from ecoalign.trace.events import Event, to_json

Json = dict[str, Any]

_log = logging.getLogger("ecoalign.playground")


@dataclass(slots=True)
class _Lane:
    """One method at work.

    Attributes:
        name: of the method.
        story: its run so far.
        places: where its thoughts were drawn last.
    """

    name: str
    story: Story = field(default_factory=Story)
    places: dict[str, tuple[float, float]] = field(default_factory=dict)

    def told(self, events: Iterable[Event]) -> Json:
        """The line that tells of these events: what they change, and as they are in a trace."""
        line: Json = {"lane": self.name}
        if not self.story.run:
            line["run"] = True
        events = tuple(events)
        line["frames"] = [self.story.see(event) for event in events]
        line["trace"] = "".join(f"{to_json(event)}\n" for event in events)
        if line.pop("run", False):
            line["run"] = self.story.run
        if any("nodes" in frame for frame in line["frames"]):
            places = self.story.layout()
            line["layout"] = {
                name: place for name, place in places.items() if self.places.get(name) != place
            }
            self.places = places
        return line


async def ask(
    answerer: Answerer, query: Query, methods: Sequence[str], budget: Budget, *, judge: bool
) -> AsyncGenerator[Json, None]:
    """Ask each method, each within a budget of its own, and tell of it line by line.

    A line has the "lane" that it is about, and "frames" with what goes with them ("run", "layout",
    the lines of its "trace"); or how it "ended", in words; or what was "judged"; or the "error"
    that there is instead. Closing the iterator cancels what is under way.

    Args:
        answerer: the model and its methods.
        query: the question.
        methods: their names, each once.
        budget: of each.
        judge: whether an answer that its method has not scored, and that is no refusal, is judged
            afterwards, by the settings' evaluator, with what is left of its budget.
    """
    queue: asyncio.Queue[tuple[str, Event | Json] | None] = asyncio.Queue()

    async def one(name: str) -> None:
        ledger = Ledger(budget, answerer.settings.price_book())
        put = queue.put_nowait
        try:
            result = await answerer.answer(
                query, name, ledger=ledger, on_event=lambda event: put((name, event))
            )
            put((name, {"ended": _ended(result)}))
            unscored = result.safety is None and not result.refused
            if judge and unscored and result.answer.strip():
                put((name, {"judged": await _judged(answerer, query, result.answer, ledger)}))
        except EcoAlignError as error:
            put((name, {"error": problem_of(error)}))
        except Exception as error:
            _log.exception("a run failed")
            kind = type(error).__name__
            message = f"unexpected {kind}; the terminal shows more"
            put((name, {"error": {"type": kind, "message": message}}))

    lanes = {name: _Lane(name) for name in methods}
    tasks = [asyncio.create_task(one(name)) for name in methods]
    for task in tasks:
        task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        left = len(tasks)
        while left:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            left -= batch.count(None)
            for name, lane in lanes.items():
                news = [item for entry in batch if entry and entry[0] == name for item in entry[1:]]
                events = [item for item in news if not isinstance(item, dict)]
                if events:
                    yield lane.told(events)
                for item in news:
                    if isinstance(item, dict):
                        yield {"lane": name, **item}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _ended(result: Alignment) -> Json:
    """How it ended, in words."""
    return {"outcome": outcome(result), "reason": reason(result), "fixed": is_fixed(result)}


async def _judged(answerer: Answerer, query: Query, text: str, ledger: Ledger) -> Json:
    """What the evaluator says of a text that is out already; never an error."""
    settings, before = answerer.settings, ledger.spent
    named = named_evaluator(settings)
    verdict: Json = {}
    try:
        evaluator = named.of(answerer.model)
        verdict["by"] = evaluator.name
        ctx = RunContext.of(query, answerer.model, evaluator, ledger, settings)
        await ctx.encode_views()
        score = await ctx.score(ctx.score_request((), "answer", text))
        verdict |= {"safety": score.safety, "utility": score.utility}
    except EcoAlignError as error:
        verdict["error"] = str(error)
    finally:
        await named.aclose()
    spent = ledger.spent
    known = spent.usd is not None and before.usd is not None
    usd = spent.usd - before.usd if known else None  # type: ignore[operator]
    return verdict | {"tokens": spent.tokens.total - before.tokens.total, "usd": usd}


def problem_of(error: EcoAlignError) -> Json:
    """An error for the page."""
    body: Json = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, BudgetTooSmall):
        body |= {"unit": error.unit, "smallest": error.smallest}
    return body
