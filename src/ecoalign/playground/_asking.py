"""One question, asked by several methods at once, as lines for the page while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, EcoAlignError
from ecoalign.methods import Answerer
from ecoalign.query import Query
from ecoalign.search.context import RunContext
from ecoalign.trace import Story
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

    A line has the "lane" that it is about, and "frames" with what they change ("run", "layout", the
    lines of its "trace"), or "judged", or the "error" that ended it. Closing the iterator cancels
    what is under way.

    Args:
        answerer: the model and its methods.
        query: the question.
        methods: their names, each once.
        budget: of each.
        judge: whether an answer that its method has not scored is judged afterwards, by the
            settings' evaluator, with what is left of its budget.
    """
    queue: asyncio.Queue[tuple[str, Event | Json] | None] = asyncio.Queue()

    async def one(name: str) -> None:
        ledger = Ledger(budget, answerer.settings.price_book())
        put = queue.put_nowait
        try:
            result = await answerer.answer(
                query, name, ledger=ledger, on_event=lambda event: put((name, event))
            )
            if judge and result.safety is None and result.answer.strip():
                put((name, {"judged": await _judged(answerer, query, result.answer, ledger)}))
        except EcoAlignError as error:
            put((name, {"error": problem_of(error)}))
        except Exception as error:
            _log.exception("a run failed")
            kind = type(error).__name__
            message = f"unexpected {kind}; the terminal shows more"
            put((name, {"error": {"type": kind, "message": message}}))

    lanes = {name: _Lane(name) for name in methods}
    work = asyncio.gather(*map(one, methods))
    work.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        ended = False
        while not ended:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            ended = None in batch
            for name, lane in lanes.items():
                news = [item for entry in batch if entry and entry[0] == name for item in entry[1:]]
                events = [item for item in news if not isinstance(item, dict)]
                if events:
                    yield lane.told(events)
                for item in news:
                    if isinstance(item, dict):
                        yield {"lane": name, **item}
    finally:
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()


async def _judged(answerer: Answerer, query: Query, text: str, ledger: Ledger) -> Json:
    """What the evaluator says of a text that is out already; never an error."""
    settings, before = answerer.settings, ledger.spent
    aligner = Aligner(answerer.model, settings)
    verdict: Json = {"by": aligner.evaluator.name}
    try:
        ctx = RunContext.of(query, answerer.model, aligner.evaluator, ledger, settings)
        await ctx.encode_views()
        score = await ctx.score(ctx.score_request((), "answer", text))
        verdict |= {"safety": score.safety, "utility": score.utility}
    except EcoAlignError as error:
        verdict["error"] = str(error)
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


__all__ = ["ask", "problem_of"]
