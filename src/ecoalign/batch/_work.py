"""One item: its question loaded, its money granted, answered, settled, and its row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ecoalign.batch._desk import Grant, Outcome, least_of, raised
from ecoalign.batch._items import Item
from ecoalign.batch._preferences import branches_of
from ecoalign.budget import Budget, Ledger, Money, Reservation
from ecoalign.budget.pacing import Sum
from ecoalign.errors import BudgetTooSmall, EcoAlignError, ModelError, UnpricedModelError
from ecoalign.methods import Answerer
from ecoalign.query import Query
from ecoalign.trace import Alignment, TraceWriter
from ecoalign.trace.events import Event

COLUMNS: dict[str, type] = {
    "status": str,
    "answer": str,
    "refused": bool,
    "safety": float,
    "utility": float,
    "ended": str,
    "stop_reason": str,
    "hint": str,
    "tokens": int,
    "usd": float,
    "seconds": float,
    "calls": int,
    "method": str,
    "model": str,
    "error": str,
    "trace": str,
}
"""What the output says of every row, in this order, and its types."""

UNASKED = "budget"
"""The status of a row that the money of the batch did not suffice for."""


class Counter(Protocol):
    """Where an item gets its money and says how it went: a `Desk`, or a messenger to one."""

    async def begin(
        self, item: str, want: Budget, least: Budget, *, told: bool = True
    ) -> Grant | None:
        """See `Desk.begin`."""
        ...

    async def end(self, grant: Grant, cost: Sum, outcome: Outcome | None) -> None:
        """See `Desk.end`."""
        ...

    async def note(self, item: str, outcome: Outcome) -> None:
        """See `Desk.note`."""
        ...


@dataclass(frozen=True, slots=True)
class Worker:
    """Answers items, any number at once.

    Args:
        answerer: who answers.
        desk: who pays.
        tell: told at every call what an item may have cost by now; None where only its end is told.
        traces: the folder for traces; None for none.
        branches: whether answers that were not given out are kept: text that may be unsafe.
    """

    answerer: Answerer
    desk: Counter
    tell: Callable[[str, Sum], None] | None = None
    traces: Path | None = None
    branches: bool = False

    async def do(self, item: Item) -> Outcome | None:
        """Answer an item; its row is on disk when this returns.

        Returns:
            None if the item was not asked, for lack of money or because the batch has stopped.

        Raises:
            UnpricedModelError: dollars are bounded, and the model has no known price.
            InputError: the journal cannot be written.
        """
        if item.wrong:
            return await self._noted(item, Outcome(failed_row(item, f"InputError: {item.wrong}")))
        try:
            self.answerer.method(item.method)
            # Pictures are decoded beside the event loop.
            query = await asyncio.to_thread(item.query)
        except EcoAlignError as error:
            return await self._noted(item, _failure(item, error, None))
        want = item.budget or self.answerer.budget_for(query)
        least = least_of(want)
        while True:
            told = self.tell is not None
            grant = await self.desk.begin(item.id, want, least, told=told)
            if grant is None:
                return None
            meter = _Meter(item.id, self.tell)
            outcome: Outcome | None = None
            try:
                outcome = await self._answered(item, query, grant, meter)
            except BudgetTooSmall as short:
                if short.unit not in grant.cut:
                    outcome = _failure(item, short, meter, query)
                elif short.unit == "seconds":
                    return None
                else:
                    least = raised(least, grant, short)
            finally:
                await self.desk.end(grant, meter.cost, outcome)
            if outcome is not None:
                return outcome

    async def _noted(self, item: Item, outcome: Outcome) -> Outcome:
        await self.desk.note(item.id, outcome)
        return outcome

    async def _answered(self, item: Item, query: Query, grant: Grant, meter: _Meter) -> Outcome:
        """The row of an attempt.

        Raises:
            BudgetTooSmall: the grant is.
        """
        answerer = self.answerer
        ledger = Ledger(grant.budget, answerer.settings.price_book(), on_change=meter)
        trace = None if self.traces is None else _Trace(self.traces, item)
        try:
            result = await answerer.answer(
                query,
                item.method,
                ledger=ledger,
                price_factor=grant.price,
                on_event=None if trace is None else trace.write,
            )
        except BudgetTooSmall:
            raise
        except Exception as error:
            if isinstance(error, UnpricedModelError) and not (item.budget and item.budget.usd):
                # It is the batch's budget that has dollars: no item could be paid.
                raise
            # A mistake in one item, or in a method of the user's own, is a row like any other.
            return _failure(item, error, meter, query, ledger, trace)
        finally:
            if trace is not None:
                trace.close()
        row = _answered_row(result, trace)
        branches = branches_of(result) if self.branches else None
        return Outcome(row, item.files(query), branches)


class _Meter:
    """What an item may have cost by now: settled calls, and the bounds of those under way."""

    def __init__(self, item: str, tell: Callable[[str, Sum], None] | None) -> None:
        self._item = item
        self._tell = tell
        self._tokens = 0
        self._units = 0

    @property
    def cost(self) -> Sum:
        return Sum(self._tokens, Money(self._units).billionths(up=True))

    def __call__(self, reservation: Reservation) -> None:
        need = reservation.need
        if reservation.state == "open":
            self._tokens += need.tokens
            self._units += need.units
        else:
            self._tokens += reservation.charged.total - need.tokens
            # A price that got lost on the way costs what was reserved for it.
            if reservation.usd is not None:
                self._units += Money.up(reservation.usd).units - need.units
        if self._tell is not None:
            self._tell(self._item, self.cost)


class _Trace:
    """A trace that a full disk may end, but not the run that has been paid for."""

    def __init__(self, folder: Path, item: Item) -> None:
        self._writer: TraceWriter | None = None
        self.path = folder / f"{item.number + 1:06d}-{item.id[:12]}{item.id[32:]}.jsonl"
        try:
            self._writer = TraceWriter(self.path)
        except EcoAlignError:
            return

    @property
    def kept(self) -> str:
        """Its path; "" if it could not be written."""
        return "" if self._writer is None else str(self.path)

    def write(self, event: Event) -> None:
        if self._writer is not None:
            try:
                self._writer.write(event)
            except OSError:
                self.close()
                self._writer = None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _answered_row(result: Alignment, trace: _Trace | None) -> dict[str, Any]:
    spent = result.spent
    return {
        "status": "refused" if result.refused else "answered",
        "answer": result.answer,
        "refused": result.refused,
        "safety": result.safety,
        "utility": result.utility,
        "ended": result.ended,
        "stop_reason": result.stop_reason,
        "hint": result.hint,
        "tokens": spent.tokens.total,
        "usd": spent.usd,
        "seconds": round(spent.seconds, 3),
        "calls": spent.calls,
        "method": result.method,
        "model": result.model,
        "error": "",
        "trace": "" if trace is None else trace.kept,
    }


def not_asked(item: Item) -> dict[str, Any]:
    """The row of an item that the money of the batch did not suffice for."""
    error = "the budget of the batch was spent before this row"
    return failed_row(item, error) | {"status": UNASKED}


def failed_row(item: Item, error: str, **known: object) -> dict[str, Any]:
    """The row of an item that has no answer."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"status": "error", "error": error, "method": item.method, "answer": "", "trace": ""}
    return row | {"tokens": 0, "usd": 0.0, "seconds": 0.0, "calls": 0, **known}


def _failure(
    item: Item,
    error: Exception,
    meter: _Meter | None,
    query: Query | None = None,
    ledger: Ledger | None = None,
    trace: _Trace | None = None,
) -> Outcome:
    known: dict[str, object] = {}
    if ledger is not None:
        spent = ledger.spent
        known = {
            "tokens": spent.tokens.total,
            "usd": spent.usd,
            "seconds": round(spent.seconds, 3),
            "calls": spent.calls,
        }
    elif meter is not None:
        known = {"tokens": meter.cost.tokens, "usd": meter.cost.usd}
    if trace is not None:
        known["trace"] = trace.kept
    text = str(error) if isinstance(error, EcoAlignError) else f"unexpected: {error}"
    fault = error.fault if isinstance(error, ModelError) and error.fault != "filtered" else ""
    row = failed_row(item, f"{type(error).__name__}: {text}", **known)
    return Outcome(row, item.files(query), fault=fault)
