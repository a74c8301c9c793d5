"""What went wrong in a run: its cause in words that no model wrote, and the errors it ends with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from ecoalign.budget import Amount, Budget, Ledger
from ecoalign.errors import BudgetExceeded, BudgetTooSmall, EcoAlignError, ModelError, VerdictError
from ecoalign.models import Usage

_ADVICE = {
    "down": ": its server cannot be reached, check its address",
    "rejected": ": its server refused the request, check its address, model and key",
}
"""What to look at, by the fault; no address, as hints are shown to the gateway's clients."""


def cause_of(error: EcoAlignError) -> str:
    """The cause of an error, without any text of a model, which is unscored."""
    if isinstance(error, ModelError) and error.fault == "filtered":
        return f"the content filter of the {error.role or 'model'}'s server withheld it"
    if isinstance(error, ModelError):
        advice = _ADVICE.get(error.fault, "")
        return f"the {error.role or 'model'} failed ({error.fault}){advice}"
    if isinstance(error, VerdictError):
        return f"the evaluator gave no well-formed verdict{error.advice and f': {error.advice}'}"
    return str(error)


def is_outage(error: EcoAlignError) -> bool:
    """Whether a server was to blame: it is not there, too slow, overrun, broken or misused.

    Where its filter withheld an answer, nothing is broken; where a stage cannot use an answer that
    came as it should, only the model's words are. Such an error has no role: no call failed.
    """
    return isinstance(error, ModelError) and error.fault != "filtered" and error.role is not None


@dataclass(slots=True)
class Verdicts:
    """Of the verdicts that a run asked its evaluator for, those that came.

    Attributes:
        read: how many could be read.
        unread: how many could not.
        advice: what to change, by the last of those; "" if nothing is known.
    """

    read: int = 0
    unread: int = 0
    advice: str = ""

    def lost(self, error: VerdictError | ModelError) -> None:
        """One did not come. What a content filter withheld is as good as a verdict: unsafe."""
        if isinstance(error, VerdictError) and not error.filtered:
            self.unread += 1
            self.advice = error.advice
        elif isinstance(error, VerdictError) or error.fault == "filtered":
            self.read += 1

    def raise_if_unreadable(self) -> None:
        """In place of a refusal for want of a score: where none of its verdicts could be read, a
        judge has refused nothing. It is not able to judge, or not asked as it should be.

        Raises:
            VerdictError: none could be read.
        """
        if self.read or not self.unread:
            return
        many = "its only verdict" if self.unread == 1 else f"none of its {self.unread} verdicts"
        verb = "could not be read" if self.unread == 1 else "could be read"
        cure = self.advice or (
            "name another evaluator, or let `ecoalign probe MODEL --judge` find out how to ask it"
        )
        raise VerdictError(
            f"the evaluator cannot be understood: {many} {verb}, so nothing can be shown; {cure}",
            advice=self.advice,
        )


def raise_if_rejected(error: EcoAlignError | None) -> None:
    """Raise `error` if a server rejected a client's parameter: it would reject it every time.

    Anything else is the failure of one action, which others may make up for.
    """
    if isinstance(error, ModelError) and error.param is not None:
        raise error


def raise_if_silent(error: EcoAlignError | None) -> None:
    """Raise `error` if the first stage met a server that hangs or is not there: every further stage
    would wait as long for it."""
    if isinstance(error, ModelError) and error.fault in {"timeout", "down"}:
        raise error


def budget_too_small(
    ledger: Ledger,
    short: BudgetExceeded,
    calls: Sequence[tuple[str, Usage]],
    what: str,
    usual: Budget,
) -> BudgetTooSmall:
    """The error of a run that cannot pay for `what`, with the least budget that can.

    Args:
        ledger: of the run; what it has paid already, failed attempts included, is counted in.
        short: the reservation that did not fit.
        calls: models and bounds of the calls without which there is no `what`; may be empty
            where they are not known.
        what: as in "too small for ...".
        usual: the budget in tokens of such a run where nobody says one.
    """
    unit, budget, spent = short.unit, ledger.budget, ledger.spent
    paid = Amount(spent.tokens.total, spent.usd or 0.0)
    if ledger.overdrawn:
        why, least = f"nothing more can be paid for: {short}", short.needed
    elif unit == "seconds":
        least = (budget.seconds or 0.0) + max(short.needed, 1.0)
        longer = replace(budget, seconds=max(_USUAL_SECONDS, 2 * math.ceil(least)))
        why = (
            f"the budget of {_all_of(budget)} leaves no time for {what}: how long its calls take "
            f"is not known beforehand; try '{longer}'"
        )
    else:
        needs = ledger.needs(calls)
        if not calls:
            taken = _of(ledger.committed, unit) - _of(paid, unit)
            needs = _amount(unit, taken + short.needed)
        enough = budget
        for each in ("tokens", "usd"):
            needed = _of(paid, each) + _of(needs, each)
            if getattr(budget, each) is not None and needed > _of(budget, each):
                enough = replace(enough, **{each: _rounded_up(each, needed)})
        rate = _of(needs, "usd") / max(1, sum(bound.total for _, bound in calls))
        least = _of(enough, unit)
        left = max(0.0, _of(budget, unit) - _of(paid, unit))
        roomy = _sensible(enough, usual, rate)
        why = (
            f"the budget of {_all_of(budget)} is too small for {what}: that may need "
            f"{_words(unit, _of(needs, unit))}, and {_words(unit, left)} are left. The least "
            f"budget that is sure to do is '{enough}', a sensible one '{roomy}'"
        )
    return BudgetTooSmall(why, unit=unit, smallest=float(least))


def not_paid_for(ledger: Ledger, what: str, needs: Amount, usual: Budget) -> str:
    """Why a search ended before a step that was worth its price, and what would have paid for it.

    Args:
        ledger: of the run, while no call is under way.
        what: the step.
        needs: its worst case.
        usual: see `budget_too_small`.
    """
    budget, left, spent = ledger.budget, ledger.remaining(), ledger.spent
    lacking = [unit for unit in ("tokens", "usd") if _of(needs, unit) > _of(left, unit)]
    unit = next((unit for unit in lacking if getattr(budget, unit) is not None), "seconds")
    if unit == "seconds":
        return f"the time of the budget of {_all_of(budget)} was over before {what}"
    # A request of some risk leaves only a share of the budget to its search.
    share = _of(ledger.limit, unit) / _of(budget, unit)
    enough = replace(
        budget,
        **{unit: _rounded_up(unit, (_of(ledger.committed, unit) + _of(needs, unit)) / share)},
    )
    paid = {"tokens": float(spent.tokens.total), "usd": spent.usd or 0.0}[unit]
    risk = " of the share that the risk of the request leaves to a search" if share < 1 else ""
    return (
        f"the budget of {_all_of(budget)} has no room for {what}: that may need "
        f"{_words(unit, _of(needs, unit))}, and {_words(unit, _of(left, unit))} are left{risk}, "
        f"beside {_words(unit, paid)} spent and {_words(unit, _of(ledger.funded, unit))} kept for "
        f"the answer. '{enough}' would have paid for it; a sensible budget is "
        f"'{_sensible(enough, usual, (spent.usd or 0.0) / max(1, spent.tokens.total))}'"
    )


def cut_short(cap: int, stage: str, asked: int | None, budget: Budget) -> str:
    """What to do about an answer that its model did not end by itself.

    Args:
        cap: the most output tokens that it could have.
        stage: the name of this cap among the settings' `caps`; "" where it is none of them.
        asked: the tokens that the client asked for; None if it did not say.
        budget: of the run.
    """
    cut = f"the answer was cut off at {cap} output tokens"
    if asked is None:
        advice = f", its cap: raise it with --set 'caps={{\"{stage}\": {2 * cap}}}'"
        return cut + (advice if stage else "")
    if asked <= cap or budget.tokens is None:
        return f"{cut}, the most that was asked for (max_tokens)"
    return (
        f"{cut}, as a budget of {_all_of(budget)} allows no more: for the {asked} that were asked "
        f"for (max_tokens) it takes {math.ceil(budget.tokens / cap * asked):,}"
    )


_USUAL_SECONDS = 60.0


def _sensible(enough: Budget, usual: Budget, rate: float) -> Budget:
    """A budget with room to search. A token costs `rate` dollars."""
    tokens = max(usual.tokens or 0, 2 * (enough.tokens or 0))
    return replace(
        enough,
        tokens=enough.tokens and tokens,
        usd=enough.usd and _rounded_up("usd", max(2 * enough.usd, rate * tokens), 2),
    )


def needed_by(short: BudgetExceeded) -> Amount:
    """The worst case of a call that was not made, in the unit that was short; time is none."""
    return _amount(short.unit, short.needed)


def _amount(unit: str, value: float) -> Amount:
    tokens = math.ceil(value) if unit == "tokens" else None
    return Amount(tokens, value if unit == "usd" else None)


def _of(amount: Amount | Budget, unit: str) -> float:
    return float(getattr(amount, unit) or 0)


def _rounded_up(unit: str, value: float, digits: int = 3) -> Any:
    """To a whole token; to so many digits of dollars."""
    if unit == "tokens":
        return math.ceil(value)
    exact = Decimal(repr(value))
    place = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return float(exact.quantize(place, ROUND_CEILING))


def _words(unit: str, value: float) -> str:
    return f"{value:,.0f} tokens" if unit == "tokens" else f"${value:.3g}"


def _all_of(budget: Budget) -> str:
    tokens = "" if budget.tokens is None else f"{budget.tokens:,} tokens"
    rest = str(replace(budget, tokens=None)).split(",")
    return " and ".join(filter(None, (tokens, *rest)))
