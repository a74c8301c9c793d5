"""The one ledger of a run: nothing is called before its worst case is reserved.

A call reserves its worst case, then settles at its real usage. Money for later calls can be kept
back in a named fund; a call that names the fund is paid from it first. For every budgeted unit of
tokens and dollars, and at every moment,

    spent + reserved by open calls + left in funds  <=  B

holds for as long as no server uses more than the bound that was reserved for it, because a
reservation is granted only if the sum still fits and closing one never raises the sum. `committed`
is that sum, read at one instant. Time is different: it passes by itself, so a call is granted only
while some is left and must be cut off at `deadline`.

One lock guards every change, so calls may come from many tasks and many threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal

from ecoalign.budget._accounts import NO_COST, NO_USAGE, Accounts, Cost, chargeable
from ecoalign.budget._amounts import Amount, Budget, Spending
from ecoalign.budget._money import Money
from ecoalign.budget._price import Pricing, unpriced
from ecoalign.errors import BudgetExceeded, InputError, UnpricedModelError
from ecoalign.models import Usage

ReservationState = Literal["open", "settled", "released", "forfeited"]


@dataclass(eq=False, slots=True)
class Reservation:
    """The worst case of one call, reserved in a ledger. Close it exactly once.

    As a context manager it is forfeited on leaving, unless it was closed inside: an exception or
    a cancellation says nothing about what the server has already billed.

    Attributes:
        stage: who asked.
        model: "provider:name".
        bound: the tokens reserved.
        fund: the fund that pays first, or None.
        need: the worst case in tokens and dollars.
        from_fund: the part of `need` that the fund pays.
        opened: the ledger's clock at the reservation.
        state: "open", "settled", "released" or "forfeited".
        charged: what was counted as spent, once closed.
        usd: dollars of `charged`, None where the price is unknown.
        seconds: from the reservation to its closing, >= 0.
    """

    stage: str
    model: str
    bound: Usage
    fund: str | None
    _close: Callable[[Reservation, ReservationState, Usage], None] = field(repr=False)
    need: Cost = field(repr=False)
    from_fund: Cost = field(repr=False)
    opened: float = field(repr=False)
    state: ReservationState = "open"
    charged: Usage = NO_USAGE
    usd: float | None = 0.0
    seconds: float = 0.0

    def settle(self, usage: Usage | None, *, floor: Usage = NO_USAGE) -> Usage:
        """Count the call's real usage as spent and let the rest of the reservation go.

        A report that is missing, not a positive count of prompt tokens, negative, or below
        `floor` (what the call certainly used) cannot be believed: the bound is charged in its
        place. A report above the bound is charged as it is; if the budget does not hold what it
        has beyond that, the ledger is `overdrawn` and grants nothing more.

        Returns:
            The usage that was charged.

        Raises:
            RuntimeError: the reservation is already closed.
        """
        self._close(self, "settled", chargeable(usage, self.bound, floor))
        return self.charged

    def forfeit(self) -> Usage:
        """Count the whole worst case as spent: the outcome is unknown, it may have been billed.

        Raises:
            RuntimeError: the reservation is already closed.
        """
        self._close(self, "forfeited", self.bound)
        return self.charged

    def release(self) -> None:
        """Let the reservation go at no cost: the attempt surely was not billed.

        Raises:
            RuntimeError: the reservation is already closed.
        """
        self._close(self, "released", NO_USAGE)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.state == "open":
            self.forfeit()


@dataclass(slots=True)
class _Fund:
    left: Cost = field(default_factory=Cost)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Overdraft:
    unit: str
    why: str


class Ledger:
    """What one run may spend, has spent and has reserved.

    Args:
        budget: B, hard in each of its units.
        price: dollars of a call; see `Pricing`. Needed for a budget in dollars.
        clock: seconds, never running backwards.
        on_change: told of every reservation when it is made, before its call, and when it is
            closed; what it raises keeps the call from being made.
        started: the clock's time at which the run's time began; now if None.

    Raises:
        InputError: the budget bounds nothing.
    """

    def __init__(
        self,
        budget: Budget,
        price: Pricing = unpriced,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_change: Callable[[Reservation], object] | None = None,
        started: float | None = None,
    ) -> None:
        if budget.is_empty:
            raise InputError('the budget bounds nothing: give tokens, dollars or seconds ("8000")')
        self.budget = budget
        self._price = price
        self._clock = clock
        self._on_change = on_change
        self._start = clock() if started is None else started
        self._lock = threading.Lock()
        self._hard = Cost(budget.tokens or 0, Money.down(budget.usd or 0.0).units)
        self._hard_seconds = math.inf if budget.seconds is None else budget.seconds
        self._soft = self._hard
        self._share = 1.0
        self._reserved = Cost()
        # Spent, reserved and left in all funds together: kept up to date, not added up when asked.
        self._committed = Cost()
        self._open = 0
        self._accounts = Accounts()
        self._funds: dict[str, _Fund] = {}
        self._timed: dict[str, _Fund] = {}
        self._overdrawn: _Overdraft | None = None

    # -- spending -------------------------------------------------------------------------------

    def reserve(
        self, stage: str, bound: Usage, model: str, *, fund: str | None = None
    ) -> Reservation:
        """Reserve the worst case of one call. Call this before the call, close it afterwards.

        Args:
            stage: who asks; spending is summed by it.
            bound: the most tokens that one attempt can use.
            model: "provider:name", for the price.
            fund: a fund that pays this call first; beyond it the hard budget counts instead of
                the working `limit`.

        Raises:
            BudgetExceeded: it does not fit, or no time is left; nothing was reserved.
            UnpricedModelError: the budget is in dollars and the model has no known price.
            ValueError: the bound is negative, or there is no such fund.
        """
        need = self._worst_case(bound, model)
        with self._lock:
            free, left = self._free(fund), self._time_left(fund)
            if lacking := self._lacking(need, free, left):
                raise self._short(f"{stage} call to {model}", lacking, need, free, left)
            taken = NO_COST
            if fund is not None:
                taken = need.least(self._funds[fund].left)
                self._funds[fund].left -= taken
                self._committed -= taken
            self._reserved += need
            self._committed += need
            self._open += 1
            made = Reservation(stage, model, bound, fund, self._close, need, taken, self._clock())
        if self._on_change is not None:
            try:
                self._on_change(made)
            except BaseException:
                self._enter(made, "released", NO_USAGE)
                raise
        return made

    def fits(self, bound: Usage, model: str, *, fund: str | None = None) -> bool:
        """Whether `reserve` would grant this now. Other tasks may take the money in between.

        Raises:
            UnpricedModelError, ValueError: as for `reserve`.
        """
        need = self._worst_case(bound, model)
        with self._lock:
            return not self._lacking(need, self._free(fund), self._time_left(fund))

    def needs(self, calls: Iterable[tuple[str, Usage]]) -> Amount:
        """The worst case of some calls together, to hold against `remaining`; `seconds` is 0.

        Args:
            calls: model ("provider:name") and bound of each.

        Raises:
            UnpricedModelError, ValueError: as for `reserve`.
        """
        whole = Cost()
        for model, bound in calls:
            whole += self._worst_case(bound, model)
        return self._amount(whole, 0.0)

    def reserve_fund(self, name: str, bound: Usage, model: str, *, seconds: float = 0.0) -> None:
        """Reserve a worst case for the calls that name the fund `name`; repeated calls add to it.

        Args:
            name: the fund.
            bound: tokens reserved, and their price.
            model: "provider:name", for the price.
            seconds: time reserved at the end of a budget in seconds, >= 0.

        Raises:
            BudgetExceeded: it does not fit the hard budget; nothing was reserved.
            UnpricedModelError, ValueError: as for `reserve`.
        """
        need = self._worst_case(bound, model)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"reserve_fund: seconds must be 0 or more, not {seconds!r}")
        with self._lock:
            free = self._hard - self._committed
            left = math.inf
            if self.budget.seconds is not None:
                left = self._hard_seconds - self._seconds_funded() - self._elapsed()
            if lacking := self._lacking(need, free, left, seconds):
                raise self._short(f"setting aside {name!r}", lacking, need, free, left, seconds)
            if (fund := self._funds.get(name)) is None:
                fund = self._funds[name] = _Fund()
            fund.left += need
            fund.seconds += seconds
            self._committed += need
            if seconds > 0:
                self._timed[name] = fund

    def release_fund(self, name: str) -> None:
        """Give what is left of a fund back to all calls. Unknown names are ignored."""
        with self._lock:
            fund = self._funds.pop(name, None)
            self._timed.pop(name, None)
            if fund is not None:
                self._committed -= fund.left

    def trim_fund(self, name: str, calls: Iterable[tuple[str, Usage]]) -> None:
        """Give back what a fund has beyond the worst case of some calls. Unknown names are ignored.

        Args:
            name: the fund; its time stays.
            calls: model ("provider:name") and bound of each.

        Raises:
            UnpricedModelError, ValueError: as for `reserve`.
        """
        whole = sum((self._worst_case(bound, model) for model, bound in calls), NO_COST)
        with self._lock:
            fund = self._funds.get(name)
            if fund is not None:
                kept = fund.left.least(whole)
                self._committed -= fund.left - kept
                fund.left = kept

    def rebook(
        self, stage: str, other: str, charged: Usage, usd: float | None, seconds: float
    ) -> None:
        """Enter a closed call under another stage; what is spent in all stays the same.

        Args:
            stage: where the call was entered.
            other: where it belongs.
            charged: as of its reservation.
            usd: likewise; None where no price is known.
            seconds: likewise.
        """
        units = 0 if usd is None else Money.up(usd).units
        cost = Cost(charged.total, units)
        with self._lock:
            self._accounts.move(stage, other, cost, seconds, priced=usd is not None)

    def tighten(self, share: float) -> None:
        """Lower the working `limit` to `share` of the budget; it is never raised again.

        Args:
            share: in (0, 1].

        Raises:
            ValueError: share is out of its range.
        """
        if not 0 < share <= 1:
            raise ValueError(f"tighten: share must be above 0 and at most 1, not {share!r}")
        with self._lock:
            self._share = min(self._share, share)
            self._soft = self._hard.share(self._share)

    # -- reading --------------------------------------------------------------------------------

    @property
    def limit(self) -> Amount:
        """The working limit: the budget, or the share of it that `tighten` left."""
        with self._lock:
            return self._amount(self._soft, self._hard_seconds * self._share)

    @property
    def spent(self) -> Spending:
        """What has been spent, as a snapshot."""
        with self._lock:
            return self._accounts.spending(self._elapsed())

    @property
    def spent_tokens(self) -> int:
        """Tokens that have been spent: `spent.tokens.total`."""
        return self._accounts.total.tokens

    @property
    def reserved(self) -> Amount:
        """What open calls have reserved; `seconds` is 0, time is not reserved by a call."""
        with self._lock:
            return self._amount(self._reserved, 0.0)

    @property
    def funded(self) -> Amount:
        """What is left in all funds together."""
        with self._lock:
            funded = self._committed - self._accounts.total - self._reserved
            return self._amount(funded, self._seconds_funded())

    @property
    def committed(self) -> Amount:
        """spent + reserved + funded, read at one instant; `seconds` is the time that has passed."""
        with self._lock:
            return self._amount(self._committed, self._elapsed())

    @property
    def open_calls(self) -> int:
        """How many calls are under way."""
        return self._open

    @property
    def overdrawn(self) -> bool:
        """Whether a server reported more than the bound of its call, and the budget did not hold
        that. Nothing is granted then."""
        return self._overdrawn is not None

    def remaining(self, fund: str | None = None) -> Amount:
        """What a call may still reserve, >= 0: under the working limit, or from a fund."""
        with self._lock:
            if self._overdrawn is not None:
                return self._amount(NO_COST, 0.0)
            left = self._time_left(fund)
            return self._amount(self._free(fund).beyond(NO_COST), max(0.0, left))

    def seconds_left(self, fund: str | None = None) -> float | None:
        """Seconds until such a call must have ended, >= 0; None without a budget in seconds."""
        with self._lock:
            left = self._time_left(fund)
            return None if math.isinf(left) else max(0.0, left)

    def deadline(self, fund: str | None = None) -> float | None:
        """The clock's time when such a call must have ended; None without a budget in seconds."""
        with self._lock:
            end = self._end(fund)
            return None if math.isinf(end) else self._start + end

    # -- inside, with the lock held unless it says otherwise --------------------------------------

    def _worst_case(self, bound: Usage, model: str) -> Cost:
        """Needs no lock."""
        if bound.prompt < 0 or bound.completion < 0:
            raise ValueError(f"the bound of a call cannot be negative: {bound!r}")
        if bound.cached:
            # The dearest way in which these tokens can be billed.
            bound = replace(bound, cached=0)
        price = self._price(model, bound)
        if price is None:
            if self.budget.usd is not None:
                raise UnpricedModelError(model)
            return Cost(bound.total)
        return Cost(bound.total, Money.up(price).units)

    def _elapsed(self) -> float:
        return self._clock() - self._start

    def _seconds_funded(self, but: str | None = None) -> float:
        if not self._timed:
            return 0.0
        return sum((fund.seconds for name, fund in self._timed.items() if name != but), 0.0)

    def _free(self, fund: str | None) -> Cost:
        if fund is None:
            return self._soft - self._committed
        if fund not in self._funds:
            raise ValueError(f"there is no fund {fund!r}: reserve_fund first")
        hard, taken, own = self._hard, self._committed, self._funds[fund].left
        return Cost(hard.tokens - taken.tokens + own.tokens, hard.units - taken.units + own.units)

    def _end(self, fund: str | None) -> float:
        """Seconds after the start."""
        end = self._hard_seconds * (self._share if fund is None else 1.0)
        return end - self._seconds_funded(fund)

    def _time_left(self, fund: str | None) -> float:
        return math.inf if self.budget.seconds is None else self._end(fund) - self._elapsed()

    def _lacking(self, need: Cost, free: Cost, left: float, seconds: float = 0.0) -> str:
        """The unit in which `need` does not fit `free`, or `seconds` not `left`; "" if all fit."""
        if self._overdrawn is not None:
            return self._overdrawn.unit
        if self.budget.tokens is not None and need.tokens > free.tokens:
            return "tokens"
        if self.budget.usd is not None and need.units > free.units:
            return "usd"
        return "seconds" if left <= seconds else ""

    def _close(self, reservation: Reservation, state: ReservationState, charge: Usage) -> None:
        """Takes the lock itself."""
        self._enter(reservation, state, charge)
        if self._on_change is not None:
            self._on_change(reservation)

    def _enter(self, reservation: Reservation, state: ReservationState, charge: Usage) -> None:
        price = self._price(reservation.model, charge)
        with self._lock:
            if reservation.state != "open":
                raise RuntimeError(
                    f"the reservation of a {reservation.stage} call is already {reservation.state}"
                )
            reservation.state = state
            reservation.seconds = self._clock() - reservation.opened
            self._open -= 1
            self._reserved -= reservation.need
            cost = NO_COST
            if state != "released":
                # A price that got lost on the way costs what was reserved for it.
                units = reservation.need.units if price is None else Money.up(price).units
                cost = reservation.need if state == "forfeited" else Cost(charge.total, units)
                seconds, priced = reservation.seconds, price is not None
                self._accounts.add(reservation.stage, charge, cost, seconds, priced=priced)
                reservation.charged = charge
                reservation.usd = None if price is None else cost.usd
            self._committed += cost
            self._committed -= reservation.need
            if reservation.fund is not None and (fund := self._funds.get(reservation.fund)):
                back = reservation.from_fund.beyond(cost)
                fund.left += back
                self._committed += back
            if state != "released":
                self._note_overdraft(reservation, cost)

    def _note_overdraft(self, reservation: Reservation, cost: Cost) -> None:
        need, hard, taken = reservation.need, self._hard, self._committed
        for unit, budgeted, beyond in (
            (
                "tokens",
                self.budget.tokens,
                cost.tokens > need.tokens and taken.tokens > hard.tokens,
            ),
            ("usd", self.budget.usd, cost.units > need.units and taken.units > hard.units),
        ):
            if budgeted is not None and beyond and self._overdrawn is None:
                why = (
                    f"{reservation.model} reported more {unit} for a {reservation.stage} call "
                    "than its bound, and the budget does not hold that"
                )
                self._overdrawn = _Overdraft(unit, why)

    def _short(
        self, what: str, unit: str, need: Cost, free: Cost, left: float, seconds: float = 0.0
    ) -> BudgetExceeded:
        """The error for what is `_lacking`."""
        needed, remaining = {
            "tokens": (float(need.tokens), float(max(0, free.tokens))),
            "usd": (need.usd, max(0.0, free.usd)),
            "seconds": (seconds, max(0.0, left)),
        }[unit]
        if self._overdrawn is not None:
            why = f"refused, because {self._overdrawn.why}; no further call can be bounded"
            return BudgetExceeded(f"{what}: {why}", unit=unit, needed=needed, remaining=0.0)
        # These words are in traces, and a replay gives them again byte for byte.
        return BudgetExceeded(
            f"{what}: needs up to {needed:.15g} {unit}, {remaining:.15g} are free under a budget "
            f"of {self.budget} (open calls and what is set aside count as taken); "
            f"raise the budget or lower the output limits",
            unit=unit,
            needed=needed,
            remaining=remaining,
        )

    def _amount(self, cost: Cost, seconds: float) -> Amount:
        return Amount(
            None if self.budget.tokens is None else cost.tokens,
            None if self.budget.usd is None else cost.usd,
            None if self.budget.seconds is None else seconds,
        )
