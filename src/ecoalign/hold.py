"""One reservation: a worst case that is kept until the call's real usage is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ecoalign.accounts import NO_USAGE, Sums, chargeable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ecoalign.models.base import Usage

__all__ = ["Hold", "HoldState"]

HoldState = Literal["open", "settled", "released", "forfeited"]


@dataclass(eq=False, slots=True)
class Hold:
    """A worst case that is reserved for one call. Close it exactly once.

    As a context manager it is forfeited on leaving, unless it was closed inside: an exception or
    a cancellation says nothing about what the server has already billed.

    Attributes:
        stage: who asked.
        model: "provider:name".
        bound: the tokens reserved.
        earmark: the earmark that it may use, or None.
        need: the worst case in tokens and dollars.
        from_earmark: the part of `need` that was set aside before.
        opened: the ledger's clock at the reservation.
        state: "open", "settled", "released" or "forfeited".
        charged: what was counted as spent, once closed.
        usd: dollars of `charged`, None where the price is unknown.
        seconds: from the reservation to its end.
    """

    stage: str
    model: str
    bound: Usage
    earmark: str | None
    _close: Callable[[Hold, HoldState, Usage], None] = field(repr=False)
    need: Sums = field(repr=False)
    from_earmark: Sums = field(repr=False)
    opened: float = field(repr=False)
    state: HoldState = "open"
    charged: Usage = NO_USAGE
    usd: float | None = 0.0
    seconds: float = 0.0

    def settle(self, usage: Usage | None, *, floor: Usage = NO_USAGE) -> Usage:
        """Count the call's real usage as spent and let the rest of the hold go.

        A report that is missing, not a positive count of prompt tokens, negative, or below
        `floor` (what the call certainly used) cannot be believed: the bound is charged in its
        place. A report above the bound is charged as it is; if it passes what was held in a
        budgeted unit, the ledger is `overdrawn` and grants nothing more.

        Returns:
            The usage that was charged.

        Raises:
            RuntimeError: the hold is already closed.
        """
        self._close(self, "settled", chargeable(usage, self.bound, floor))
        return self.charged

    def forfeit(self) -> Usage:
        """Count the whole worst case as spent: the outcome is unknown, it may have been billed.

        Raises:
            RuntimeError: the hold is already closed.
        """
        self._close(self, "forfeited", self.bound)
        return self.charged

    def release(self) -> None:
        """Let the hold go at no cost: the attempt surely was not billed.

        Raises:
            RuntimeError: the hold is already closed.
        """
        self._close(self, "released", NO_USAGE)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.state == "open":
            self.forfeit()
