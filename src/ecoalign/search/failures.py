"""What went wrong in a run: its cause in words that no model wrote, and the errors it ends with."""

from __future__ import annotations

from collections.abc import Sequence

from ecoalign.budget import Ledger
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
    """Whether a server was to blame: it is not there, too slow, overrun, broken or misused. An
    answer that a filter withheld, or that cannot be read, is none."""
    return isinstance(error, ModelError) and error.fault not in {"filtered", "bad-response"}


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
    ledger: Ledger, short: BudgetExceeded, calls: Sequence[tuple[str, Usage]], what: str
) -> BudgetTooSmall:
    """The error of a run that cannot pay for `what`, with the smallest budget that could.

    Args:
        ledger: of the run; what it has paid already, failed attempts included, is counted in.
        short: the reservation that did not fit.
        calls: models and bounds of the calls without which there is no `what`; may be empty
            where they are not known.
        what: as in "too small for ...".
    """
    smallest = short.needed
    if short.unit == "seconds":
        smallest = (ledger.budget.seconds or 0.0) + max(short.needed, 1.0)
    elif calls:
        spent = ledger.spent
        used = {"tokens": float(spent.tokens.total), "usd": spent.usd or 0.0}[short.unit]
        smallest = used + float(getattr(ledger.needs(calls), short.unit) or 0.0)
    text = f"{smallest:.0f}" if short.unit == "tokens" else f"{smallest:.3g}"
    return BudgetTooSmall(
        f"the budget of {ledger.budget} is too small for {what}: about {text} {short.unit} "
        f"would do ({short})",
        unit=short.unit,
        smallest=smallest,
    )
