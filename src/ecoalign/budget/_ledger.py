"""The one ledger of a run: nothing is called before its worst case is reserved.

A call reserves its worst case, then settles at its real usage. For every budgeted unit of tokens
and dollars, and at every moment,

    spent + held by open calls + set aside  <=  B

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
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from ecoalign.budget._amounts import Amount, Budget, Spending, StageSpending
from ecoalign.errors import BudgetExceeded, InputError, UnpricedModelError
from ecoalign.models import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

__all__ = [
    "BEYOND_BELIEF",
    "NO_USAGE",
    "Accounts",
    "Ledger",
    "Pricing",
    "Reservation",
    "ReservationState",
    "Sums",
    "chargeable",
    "dollars",
    "femto",
    "unpriced",
]

NO_USAGE = Usage()

BEYOND_BELIEF = 131_072
"""Tokens above a call's bound. Hidden reasoning past the cap and tools of the server's own may pass
a bound; no model writes this much at once, and no such tool reads as much."""

_FEMTO = 10**15

# Wide enough for any price times any number of tokens, whatever context the caller's thread has.
_UP = Context(prec=60, rounding=ROUND_CEILING)

_DOWN = Context(prec=60, rounding=ROUND_FLOOR)


def femto(usd: Decimal | float, *, up: bool = True) -> int:
    """Dollars as a whole number of 1e-15 dollars: sums are then exact.

    Args:
        usd: dollars.
        up: round up, as a cost is; a budget is rounded down.

    Raises:
        ValueError: not a finite number >= 0.
    """
    value = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
    if not value.is_finite() or value < 0:
        raise ValueError(f"a price must be a finite number of dollars, 0 or more, not {usd!r}")
    exact = _UP if up else _DOWN
    return int(exact.to_integral_value(exact.multiply(value, Decimal(_FEMTO))))


def dollars(femtos: int) -> float:
    """The inverse of `femto`, correctly rounded, so that order is kept."""
    return femtos / _FEMTO


@dataclass(frozen=True, slots=True)
class Sums:
    """Tokens and 1e-15 dollars, added and compared unit by unit."""

    tokens: int = 0
    usd: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.tokens - other.tokens, self.usd - other.usd)

    def least(self, other: Sums) -> Sums:
        """The lesser of both in each unit."""
        return Sums(min(self.tokens, other.tokens), min(self.usd, other.usd))

    def at_least_zero(self) -> Sums:
        """The same with nothing negative."""
        return Sums(max(0, self.tokens), max(0, self.usd))


def chargeable(reported: Usage | None, bound: Usage, floor: Usage = NO_USAGE) -> Usage:
    """What a reported usage is charged as, so that a false report cannot hide spending.

    No report, and one without a single token, count as the bound. A count that is not a whole
    number, is negative or is below `floor`, and a prompt of no tokens, count as the bound of that
    kind. Parts of the prompt that cannot be (more cached than there was) are not believed:
    `cached` counts as 0, the dearest, and `image` as its bound. Nothing is ever charged below
    `floor`. Counts above the bound are kept: the truth is recorded, whatever it costs; but one that
    passes it by more than `BEYOND_BELIEF` is no truth, and counts as the bound of that kind, too.
    """
    if reported is None or not (_count(reported.prompt) and _count(reported.completion)):
        return _at_least(bound, floor)
    if reported.total == 0:
        return _at_least(bound, floor)
    prompt, completion = reported.prompt, reported.completion
    if not max(1, floor.prompt) <= prompt <= bound.prompt + BEYOND_BELIEF:
        prompt = max(bound.prompt, floor.prompt)
    if not floor.completion <= completion <= bound.completion + BEYOND_BELIEF:
        completion = max(bound.completion, floor.completion)
    believed = prompt == reported.prompt
    cached = reported.cached if believed and _count(reported.cached, prompt) else 0
    image = reported.image if _count(reported.image, prompt) else min(bound.image, prompt)
    return Usage(prompt, completion, image, cached)


def _at_least(bound: Usage, floor: Usage) -> Usage:
    return Usage(
        max(bound.prompt, floor.prompt), max(bound.completion, floor.completion), bound.image
    )


def _count(value: object, most: int | None = None) -> bool:
    return type(value) is int and value >= 0 and (most is None or value <= most)


@dataclass(slots=True)
class _Stage:
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    usd: int | None = 0


@dataclass(slots=True)
class Accounts:
    """What has been spent, in all and by stage. Not locked: the ledger does that."""

    usage: Usage = NO_USAGE
    total: Sums = field(default_factory=Sums)
    calls: int = 0
    priced: bool = True
    _stages: dict[str, _Stage] = field(default_factory=dict)

    def add(self, stage: str, usage: Usage, cost: Sums, seconds: float, *, priced: bool) -> None:
        """Enter one call."""
        self.usage += usage
        self.total += cost
        self.calls += 1
        self.priced = self.priced and priced
        entry = self._stages.setdefault(stage, _Stage())
        entry.tokens += usage.total
        entry.calls += 1
        entry.seconds += seconds
        entry.usd = None if entry.usd is None or not priced else entry.usd + cost.usd

    def spending(self, seconds: float) -> Spending:
        """A snapshot. `seconds` is the wall-clock so far."""
        return Spending(
            tokens=self.usage,
            by_stage={
                name: StageSpending(
                    entry.tokens,
                    entry.calls,
                    entry.seconds,
                    None if entry.usd is None else dollars(entry.usd),
                )
                for name, entry in self._stages.items()
            },
            usd=dollars(self.total.usd) if self.priced else None,
            seconds=seconds,
            calls=self.calls,
        )


ReservationState = Literal["open", "settled", "released", "forfeited"]


@dataclass(eq=False, slots=True)
class Reservation:
    """A worst case that is reserved for one call. Close it exactly once.

    As a context manager it is forfeited on leaving, unless it was closed inside: an exception or
    a cancellation says nothing about what the server has already billed.

    Attributes:
        stage: who asked.
        model: "provider:name".
        bound: the tokens reserved.
        fund: the fund that it may use, or None.
        need: the worst case in tokens and dollars.
        from_fund: the part of `need` that was set aside before.
        opened: the ledger's clock at the reservation.
        state: "open", "settled", "released" or "forfeited".
        charged: what was counted as spent, once closed.
        usd: dollars of `charged`, None where the price is unknown.
        seconds: from the reservation to its end.
    """

    stage: str
    model: str
    bound: Usage
    fund: str | None
    _close: Callable[[Reservation, ReservationState, Usage], None] = field(repr=False)
    need: Sums = field(repr=False)
    from_fund: Sums = field(repr=False)
    opened: float = field(repr=False)
    state: ReservationState = "open"
    charged: Usage = NO_USAGE
    usd: float | None = 0.0
    seconds: float = 0.0

    def settle(self, usage: Usage | None, *, floor: Usage = NO_USAGE) -> Usage:
        """Count the call's real usage as spent and let the rest of the reservation go.

        A report that is missing, not a positive count of prompt tokens, negative, or below
        `floor` (what the call certainly used) cannot be believed: the bound is charged in its
        place. A report above the bound is charged as it is; if it passes what was held in a
        budgeted unit, the ledger is `overdrawn` and grants nothing more.

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


class Pricing(Protocol):
    """What a call costs. `ecoalign.budget._pricing.PriceBook` is one."""

    def __call__(self, model: str, usage: Usage) -> Decimal | None:
        """Dollars >= 0 for `usage` of `model` ("provider:name"), None where unknown.

        Must not fall when `usage.prompt` or `usage.completion` grows or `usage.cached` shrinks.
        """
        ...


def unpriced(model: str, usage: Usage) -> Decimal | None:
    """The `Pricing` that knows no price."""
    return None


@dataclass(slots=True)
class _Fund:
    left: Sums
    seconds: float


@dataclass(frozen=True, slots=True)
class _Overdraft:
    unit: str
    why: str


class Ledger:
    """The money of one run.

    Args:
        budget: B, hard in each of its units.
        price: dollars of a call; see `Pricing`. Needed for a budget in dollars.
        clock: seconds, never running backwards. The run's time starts here.

    Raises:
        InputError: the budget bounds nothing.
    """

    def __init__(
        self,
        budget: Budget,
        price: Pricing = unpriced,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if budget.is_empty:
            raise InputError('the budget bounds nothing: give tokens, dollars or seconds ("8000")')
        self.budget = budget
        self._price = price
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._hard = Sums(budget.tokens or 0, femto(budget.usd or 0.0, up=False))
        self._share = 1.0
        self._held = Sums()
        self._open = 0
        self._accounts = Accounts()
        self._funds: dict[str, _Fund] = {}
        # What all funds hold together: kept up to date, as a run may have many of them.
        self._aside = Sums()
        self._timed: dict[str, _Fund] = {}
        self._overdrawn: _Overdraft | None = None

    # -- spending -------------------------------------------------------------------------------

    def reserve(
        self, stage: str, bound: Usage, model: str, *, fund: str | None = None
    ) -> Reservation:
        """Reserve the worst case of one call. Call this before the call, close it afterwards.

        Args:
            stage: who asks, for the accounts.
            bound: the most tokens that one attempt can use.
            model: "provider:name", for the price.
            fund: a reserved fund that this call may use first, and beyond it the hard budget
                instead of the working `limit`.

        Raises:
            BudgetExceeded: it does not fit, or no time is left; nothing was held.
            UnpricedModelError: the budget is in dollars and the model has no known price.
            ValueError: the bound is negative, or nothing was set aside under `fund`.
        """
        need = self._worst_case(bound, model)
        with self._lock:
            free, left = self._free(fund), self._time_left(fund)
            self._admit(f"{stage} call to {model}", need, free, left)
            taken = Sums()
            if fund is not None:
                pot = self._funds[fund]
                taken = need.least(pot.left)
                pot.left -= taken
                self._aside -= taken
            self._held += need
            self._open += 1
            return Reservation(stage, model, bound, fund, self._close, need, taken, self._clock())

    def fits(self, bound: Usage, model: str, *, fund: str | None = None) -> bool:
        """Whether `reserve` would grant this now. Other tasks may take the money in between.

        Raises:
            UnpricedModelError, ValueError: as for `reserve`.
        """
        need = self._worst_case(bound, model)
        with self._lock:
            try:
                self._admit("call", need, self._free(fund), self._time_left(fund))
            except BudgetExceeded:
                return False
            return True

    def needs(self, calls: Iterable[tuple[str, Usage]]) -> Amount:
        """The worst case of some calls together, to hold against `remaining`; `seconds` is 0.

        Args:
            calls: model ("provider:name") and bound of each.

        Raises:
            UnpricedModelError, ValueError: as for `reserve`.
        """
        whole = sum((self._worst_case(bound, model) for model, bound in calls), Sums())
        return self._amount(whole, 0.0)

    def reserve_fund(self, name: str, bound: Usage, model: str, *, seconds: float = 0.0) -> None:
        """Keep a worst case back for the calls paid from the fund `name`; repeated calls add.

        Args:
            name: the fund.
            bound: tokens kept back, and their price.
            model: "provider:name", for the price.
            seconds: time kept back at the end of a budget in seconds, >= 0.

        Raises:
            BudgetExceeded: it does not fit the hard budget; nothing was set aside.
            UnpricedModelError, ValueError: as for `reserve`.
        """
        need = self._worst_case(bound, model)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"set_aside: seconds must be 0 or more, not {seconds!r}")
        with self._lock:
            free = self._hard - self._committed()
            left = self._hard_seconds() - self._seconds_aside() - self._elapsed()
            self._admit(f"setting aside {name!r}", need, free, left, seconds)
            pot = self._funds.setdefault(name, _Fund(Sums(), 0.0))
            pot.left += need
            pot.seconds += seconds
            self._aside += need
            if seconds > 0:
                self._timed[name] = pot

    def release_fund(self, name: str) -> None:
        """Give what is left of a fund back to everyone. Unknown names are ignored."""
        with self._lock:
            pot = self._funds.pop(name, None)
            self._timed.pop(name, None)
            if pot is not None:
                self._aside -= pot.left

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

    # -- reading --------------------------------------------------------------------------------

    @property
    def limit(self) -> Amount:
        """The working limit: the budget, or the share of it that `tighten` left."""
        with self._lock:
            return self._amount(self._soft(), self._hard_seconds() * self._share)

    @property
    def spent(self) -> Spending:
        """What has been spent, as a snapshot."""
        with self._lock:
            return self._accounts.spending(self._elapsed())

    @property
    def held(self) -> Amount:
        """What open calls hold; `seconds` is 0, time is not held."""
        with self._lock:
            return self._amount(self._held, 0.0)

    @property
    def aside(self) -> Amount:
        """What is set aside and not used yet, over all funds."""
        with self._lock:
            return self._amount(self._aside, self._seconds_aside())

    @property
    def committed(self) -> Amount:
        """spent + held + set aside, read at one instant; `seconds` is the time that has passed."""
        with self._lock:
            return self._amount(self._committed(), self._elapsed())

    @property
    def open_holds(self) -> int:
        """How many calls are under way."""
        return self._open

    @property
    def overdrawn(self) -> bool:
        """Whether a server reported more than the bound of its call. Nothing is granted then."""
        return self._overdrawn is not None

    def remaining(self, fund: str | None = None) -> Amount:
        """What a call may still reserve, >= 0: under the working limit, or from a fund."""
        with self._lock:
            if self._overdrawn is not None:
                return self._amount(Sums(), 0.0)
            left = self._time_left(fund)
            return self._amount(self._free(fund).at_least_zero(), max(0.0, left))

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

    def _worst_case(self, bound: Usage, model: str) -> Sums:
        """Needs no lock."""
        if bound.prompt < 0 or bound.completion < 0:
            raise ValueError(f"the bound of a call cannot be negative: {bound!r}")
        # Nothing cached: the dearest way in which these tokens can be billed.
        price = self._price(model, Usage(bound.prompt, bound.completion, bound.image))
        if price is None:
            if self.budget.usd is not None:
                raise UnpricedModelError(model)
            return Sums(bound.total)
        return Sums(bound.total, femto(price))

    def _soft(self) -> Sums:
        return Sums(int(self._hard.tokens * self._share), int(self._hard.usd * self._share))

    def _hard_seconds(self) -> float:
        return math.inf if self.budget.seconds is None else self.budget.seconds

    def _elapsed(self) -> float:
        return self._clock() - self._start

    def _seconds_aside(self, but: str | None = None) -> float:
        return sum((pot.seconds for name, pot in self._timed.items() if name != but), 0.0)

    def _committed(self) -> Sums:
        return self._accounts.total + self._held + self._aside

    def _free(self, fund: str | None) -> Sums:
        if fund is None:
            return self._soft() - self._committed()
        if fund not in self._funds:
            raise ValueError(f"nothing was set aside as {fund!r}")
        return self._hard - self._committed() + self._funds[fund].left

    def _end(self, fund: str | None) -> float:
        """Seconds after the start."""
        end = self._hard_seconds() * (self._share if fund is None else 1.0)
        return end - self._seconds_aside(fund)

    def _time_left(self, fund: str | None) -> float:
        return self._end(fund) - self._elapsed()

    def _admit(self, what: str, need: Sums, free: Sums, left: float, seconds: float = 0.0) -> None:
        """Raise `BudgetExceeded` if `need` does not fit `free`, or `seconds` not `left`."""
        if self._overdrawn is not None:
            raise BudgetExceeded(
                f"{what}: refused, because {self._overdrawn.why}; no further call can be bounded",
                unit=self._overdrawn.unit,
                needed=float(need.tokens)
                if self._overdrawn.unit == "tokens"
                else dollars(need.usd),
                remaining=0.0,
            )
        if self.budget.tokens is not None and need.tokens > free.tokens:
            raise self._short(what, "tokens", need.tokens, max(0, free.tokens))
        if self.budget.usd is not None and need.usd > free.usd:
            raise self._short(what, "usd", dollars(need.usd), max(0.0, dollars(free.usd)))
        if left <= seconds:
            raise self._short(what, "seconds", seconds, max(0.0, left))

    def _close(self, reservation: Reservation, state: ReservationState, charge: Usage) -> None:
        """Takes the lock itself."""
        price = self._price(reservation.model, charge)
        with self._lock:
            if reservation.state != "open":
                raise RuntimeError(
                    f"the reservation of a {reservation.stage} call is already {reservation.state}"
                )
            reservation.state = state
            reservation.seconds = self._clock() - reservation.opened
            self._open -= 1
            self._held -= reservation.need
            cost = Sums()
            if state != "released":
                # A price that got lost on the way costs what was held for it.
                usd = reservation.need.usd if price is None else femto(price)
                cost = reservation.need if state == "forfeited" else Sums(charge.total, usd)
                seconds, priced = reservation.seconds, price is not None
                self._accounts.add(reservation.stage, charge, cost, seconds, priced=priced)
                reservation.charged = charge
                reservation.usd = None if price is None else dollars(cost.usd)
                self._note_overdraft(reservation, cost)
            if reservation.fund is not None and (pot := self._funds.get(reservation.fund)):
                back = (reservation.from_fund - cost).at_least_zero()
                pot.left += back
                self._aside += back

    def _note_overdraft(self, reservation: Reservation, cost: Sums) -> None:
        for unit, budgeted, used, held in (
            ("tokens", self.budget.tokens is not None, cost.tokens, reservation.need.tokens),
            ("usd", self.budget.usd is not None, cost.usd, reservation.need.usd),
        ):
            if budgeted and used > held and self._overdrawn is None:
                why = (
                    f"{reservation.model} reported more {unit} for a {reservation.stage} call "
                    "than its bound"
                )
                self._overdrawn = _Overdraft(unit, why)

    def _short(self, what: str, unit: str, needed: float, remaining: float) -> BudgetExceeded:
        return BudgetExceeded(
            f"{what}: needs up to {needed:.15g} {unit}, {remaining:.15g} are free under a budget "
            f"of {self.budget} (open calls and what is set aside count as taken); "
            f"raise the budget or lower the output limits",
            unit=unit,
            needed=float(needed),
            remaining=float(remaining),
        )

    def _amount(self, sums: Sums, seconds: float) -> Amount:
        return Amount(
            None if self.budget.tokens is None else sums.tokens,
            None if self.budget.usd is None else dollars(sums.usd),
            None if self.budget.seconds is None else seconds,
        )
