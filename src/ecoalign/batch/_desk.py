"""Who may spend what: the one budget of a batch, its journal, and when it stops.

For each unit of the budget, at every moment and whatever is killed:

    charged + held by items under way  <=  the budget

but for what a server reports beyond the bound of a call, which is charged as it is.

An item is granted its own budget if there is so much, never less than a quarter of it, and waits
for others where they hold too much. What a question is worth is steered by one shadow price for all
of them (`ecoalign.budget.pacing`); how many are still to come is known.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ecoalign.batch._items import File
from ecoalign.batch._journal import Journal
from ecoalign.budget import Budget, Money, pacing
from ecoalign.budget.pacing import Account, Share, Short, Sum
from ecoalign.errors import BudgetTooSmall

LEAST = 4
"""Where the batch has less left than an item's budget, it is begun down to 1/`LEAST` of it."""

PATIENCE = 8
"""Items in a row that a model may fail in the same way before the batch stops, at least."""

Stop = Literal["", "budget", "model", "failures", "interrupted", "terminated"]
"""Why no further item is begun: the money has ended; the model fails; too many items failed;
Ctrl-C; SIGTERM."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one attempt at an item may spend.

    Attributes:
        item: its id.
        budget: of its ledger.
        held: what the batch holds for it.
        price: factor on the price of tokens.
        cut: the units in which it would have taken more.
        at: when, by the clock of the desk.
    """

    item: str
    budget: Budget
    held: Sum
    price: float
    cut: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an item went.

    Attributes:
        row: what the output says of it.
        files: what its image files were.
        branches: answers of the same run that were not given out; None if they are not kept.
        fault: how the model failed, a `ModelFault`; "" if it did not.
    """

    row: Mapping[str, Any]
    files: Sequence[File] = ()
    branches: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    fault: str = ""


class Desk:
    """Grants and settles, in one event loop.

    Args:
        journal: where everything is written down first.
        limit: what the whole batch may spend, earlier runs included; None for no bound. Its time
            is that of this run.
        waiting: how many items have no row yet.
        patience: see `PATIENCE`.
        max_failures: failed items after which it stops; None for any number.
        clock: seconds, never running backwards.

    Attributes:
        stopped: why no further item is begun; "" while it goes on.
        error: the last failure of an item, for messages.
        short: what the first item lacked that the money did not suffice for, in words; "" while
            there was none.
    """

    def __init__(
        self,
        journal: Journal,
        limit: Budget | None,
        waiting: int,
        *,
        patience: int = PATIENCE,
        max_failures: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limit = limit or Budget()
        nano = None if limit.usd is None else Money.down(limit.usd).billionths(up=False)
        self._account = Account(limit.tokens, nano, journal.spent)
        self._journal = journal
        self._waiting = waiting
        self._patience = patience
        self._max_failures = max_failures
        self._clock = clock
        self._until = math.inf if limit.seconds is None else clock() + limit.seconds
        self._failed = 0
        self._streak: list[str] = []
        self._fault = ""
        self._waiters: list[asyncio.Future[None]] = []
        self._disk = asyncio.Lock()
        self.stopped: Stop = ""
        self.short = ""
        self.error = ""

    @property
    def account(self) -> Account:
        """The budget, what is charged and what is held."""
        return self._account

    @property
    def price(self) -> float:
        """The shadow price, as a factor."""
        return self._journal.pace.price

    def seconds_left(self) -> float:
        """Until the time of the batch ends, >= 0; infinite where it has no bound."""
        return max(0.0, self._until - self._clock())

    async def begin(
        self, item: str, want: Budget, least: Budget, *, told: bool = True
    ) -> Grant | None:
        """What an attempt at an item may spend, once there is so much; on disk when this returns.

        Args:
            item: its id.
            want: its own budget.
            least: what it can do with, unit by unit.
            told: see `Journal.begin`.

        Returns:
            None where it may not begin: the batch has stopped, or its money does not suffice.
        """
        while True:
            if self.stopped:
                return None
            left = self.seconds_left()
            share = pacing.share_out(self._account, want, least, max(1, self._waiting))
            if left > 0 and isinstance(share, Share):
                grant = self._granted(item, want, share, left, told=told)
                try:
                    await self._synced()
                except BaseException:
                    await self.end(grant, Sum(), None)
                    raise
                return grant
            if left <= 0:
                self.short = self.short or "its time is over"
                return None
            if isinstance(share, Short) and not self._account.open:
                self.short = self.short or _lacking(share)
                return None
            await self._change(left)

    def cost(self, item: str, cost: Sum) -> None:
        """What an item may have cost by now, calls under way at their bounds."""
        self._journal.cost(item, cost)

    async def end(self, grant: Grant, cost: Sum, outcome: Outcome | None) -> None:
        """Settle an attempt; on disk when this returns. None: the item is to be asked again."""
        account = self._account
        self._waiting += outcome is None
        self._account = replace(
            account,
            spent=account.spent + cost,
            held=account.held - grant.held,
            open=account.open - 1,
        )
        pace = self._journal.pace
        if (account.tokens, account.nano) != (None, None):
            took = self._clock() - grant.at
            rest = max(1, self._waiting)
            pace = pacing.repriced(self._account, pace, cost, took, rest)
            self._journal.pace = pace
        if outcome is None:
            self._journal.end(grant.item, cost, pace=pace)
        else:
            self._journal.end(
                grant.item,
                cost,
                outcome.row,
                fault=outcome.fault,
                files=outcome.files,
                branches=outcome.branches,
                pace=pace,
            )
            self._count(grant.item, outcome)
        self._wake()
        await self._synced()

    async def note(self, item: str, outcome: Outcome) -> None:
        """The row of an item that was not worth a call."""
        self._waiting -= 1
        self._journal.end(item, Sum(), outcome.row, files=outcome.files)
        self._count(item, outcome)
        self._wake()
        await self._synced()

    def stop(self, why: Stop) -> None:
        """Begin no further item; the first reason counts."""
        self.stopped = self.stopped or why
        self._wake()

    def _granted(self, item: str, want: Budget, share: Share, left: float, *, told: bool) -> Grant:
        account, budget = self._account, share.budget
        cut = {
            unit
            for unit, limit, wanted, got in (
                ("tokens", account.tokens, want.tokens, budget.tokens),
                ("usd", account.nano, want.usd, budget.usd),
            )
            if limit is not None and got is not None and (wanted is None or got < wanted)
        }
        if left < (want.seconds or math.inf):
            budget = Budget(budget.tokens, budget.usd, left)
            cut.add("seconds")
        self._journal.begin(
            item,
            budget.tokens,
            None if budget.usd is None else share.held.nano,
            told=told,
        )
        self._waiting -= 1
        self._account = replace(account, held=account.held + share.held, open=account.open + 1)
        limited = (account.tokens, account.nano) != (None, None)
        price = self._journal.pace.price if limited else 1.0
        return Grant(item, budget, share.held, price, frozenset(cut), self._clock())

    def _count(self, item: str, outcome: Outcome) -> None:
        """Notice when the model fails, or too many items."""
        if outcome.row["status"] != "error":
            self._streak.clear()
            return
        self._failed += 1
        self.error = str(outcome.row["error"])
        if self._max_failures is not None and self._failed >= self._max_failures:
            self.stop("failures")
        if outcome.fault != self._fault:
            self._streak.clear()
        self._fault = outcome.fault
        if not outcome.fault:
            return
        self._streak.append(item)
        # A server that cannot be believed is not asked for another item.
        if len(self._streak) >= self._patience or outcome.fault == "false-usage":
            # Nobody's answers: with the model back they are asked again.
            self.stop("model")
            self._journal.again(self._streak)
            self._waiting += len(self._streak)
            self._streak = []
            self._patience = 1

    async def _synced(self) -> None:
        """What is written by now is on the disk: one turn for all who wait at once."""
        written = self._journal.size
        async with self._disk:
            if self._journal.synced < written:
                await asyncio.to_thread(self._journal.sync)

    async def _change(self, seconds: float) -> None:
        """Wait until something has been settled, or so long."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await asyncio.wait([future], timeout=None if math.isinf(seconds) else seconds)

    def _wake(self) -> None:
        for one in self._waiters:
            if not one.done():
                one.set_result(None)
        self._waiters.clear()


def _lacking(short: Short) -> str:
    if short.unit == "tokens":
        needed, free = f"{short.needed:,} tokens", f"{short.free:,}"
    else:
        needed, free = (
            f"${Money.from_billionths(one).usd:.4f}" for one in (short.needed, short.free)
        )
    return (
        f"the next row takes at least {needed}, and {free} are left (a row is begun with a quarter "
        "of its own budget, or more)"
    )


def least_of(want: Budget) -> Budget:
    """The least of an item's budget that it is begun with; time is not shared out."""
    return Budget(
        None if want.tokens is None else max(1, want.tokens // LEAST),
        None if want.usd is None else want.usd / LEAST,
        want.seconds,
    )


def raised(least: Budget, grant: Grant, short: BudgetTooSmall) -> Budget:
    """The least for another attempt, after a grant that was cut proved too small."""
    if short.unit == "usd":
        return replace(least, usd=max(2 * (grant.budget.usd or 0.0), short.smallest))
    return replace(least, tokens=max(2 * (grant.budget.tokens or 0), math.ceil(short.smallest)))
