"""The exceptions of EcoAlign. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

__all__ = [
    "BudgetExceeded",
    "BudgetTooSmall",
    "EcoAlignError",
    "InputError",
    "ModelError",
    "OutOfDomainError",
    "SettingsError",
    "UnpricedModelError",
    "VerdictError",
]

ModelFault = Literal[
    "down",
    "timeout",
    "rate-limited",
    "rejected",
    "filtered",
    "bad-response",
    "server",
    "false-usage",
]

Role = Literal["model", "evaluator"]


class EcoAlignError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        exit_code: what the command line ends with.
        trace: the `Trace` of the run up to the error, where there was a run; else None.
    """

    exit_code: ClassVar[int] = 1
    trace: Any = None


class InputError(EcoAlignError):
    """The image, the question or an option cannot be used as given.

    Attributes:
        param: the parameter of a client (`SamplingParams`) that is at fault, or None.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class OutOfDomainError(InputError):
    """The model knows one domain only, and the question or a picture is not in it; no call was
    made. The message says what the model knows and how to name another one."""


class SettingsError(InputError):
    """A setting is unknown, of the wrong type or out of its range; the message gives its name,
    value and origin."""


class UnpricedModelError(InputError):
    """A price is needed, for a budget in dollars, and is not known. Unknown is never 0.

    Attributes:
        model: the model without a price.
    """

    def __init__(self, model: str) -> None:
        super().__init__(
            f"a budget in dollars needs the price of {model!r}, which is not known. Give it in "
            f'ecoalign.toml, [prices."{model}"] input = 2.5, output = 10.0 (dollars per million '
            f"tokens), or use a budget in tokens or seconds"
        )
        self.model = model


class ModelError(EcoAlignError):
    """A model or its server failed.

    Attributes:
        fault: the kind of failure: "down" (no connection), "timeout", "rate-limited", "rejected"
            (the request was refused), "filtered" (the server's content filter withheld the answer
            or refused the request: nothing is broken), "bad-response" (no usable answer),
            "server" (HTTP 5xx) or "false-usage" (it reports more tokens than the call can have
            used, is charged as it reports, and ends the run).
        billed: whether tokens may have been spent on the attempt; unknown counts as True.
        usage: the `Usage` of the attempt where the server said it beside what cannot be used; None
            where it did not.
        retry_after: seconds the server asked to wait, where it did.
        param: the parameter of a client (`SamplingParams`) that the server rejected, or several
            of them, joined by ", ", where it did not say which; None for any other failure.
        role: which of the two failed, the "model" that writes or the "evaluator" that scores; None
            if unknown.
        upstream: the name of the model that failed ("provider:name"); "" if unknown.
        cause: why, by its name in the table of causes ("certificate-expired", "proxy-refused"); ""
            if it is none of those.
        told: the cause and its cure in one line that holds nothing that a server said; "" likewise.
        public: the cause for those who must not read where the server is; "" likewise.
    """

    exit_code: ClassVar[int] = 3
    cause: str = ""
    told: str = ""
    public: str = ""

    def __init__(
        self,
        message: str,
        *,
        fault: ModelFault,
        billed: bool = True,
        retry_after: float | None = None,
        param: str | None = None,
        usage: Any = None,
    ) -> None:
        super().__init__(message)
        self.fault: ModelFault = fault
        self.billed = billed
        self.usage = usage
        self.retry_after = retry_after
        self.param = param
        self.role: Role | None = None
        self.upstream = ""


class VerdictError(EcoAlignError):
    """An evaluator's answer is not exactly one well-formed verdict. It counts as unsafe. A run ends
    with it where it asked for verdicts and none could be read.

    Attributes:
        advice: what to change, without any text of a model; "" if nothing is known.
        filtered: whether a content filter withheld the verdict: nothing is broken.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, advice: str = "", filtered: bool = False) -> None:
        super().__init__(message)
        self.advice = advice
        self.filtered = filtered


class BudgetExceeded(EcoAlignError):
    """A call's worst case does not fit what is left of the budget; the call was not made.

    Attributes:
        unit: the unit that is short: "tokens", "usd" or "seconds".
        needed: worst case of the refused call, in that unit.
        remaining: what was left, in that unit.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, unit: str, needed: float, remaining: float) -> None:
        super().__init__(message)
        self.unit = unit
        self.needed = needed
        self.remaining = remaining


class BudgetTooSmall(EcoAlignError):
    """The budget does not allow any scored answer, a refusal included.

    Attributes:
        unit: the unit that is short: "tokens", "usd" or "seconds".
        smallest: an estimate of the smallest budget that would have answered, in that unit.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, unit: str, smallest: float) -> None:
        super().__init__(message)
        self.unit = unit
        self.smallest = smallest
