"""Dollars as whole billionths, so that sums in a database are exact."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

__all__ = ["NANO", "dollars", "nano"]

NANO = 10**9

_MOST = 2**62


def nano(usd: float, *, up: bool) -> int:
    """`usd` in billionths of a dollar, rounded up (what is owed) or down (what is allowed).

    Beyond four thousand million dollars it is cut off, to fit a database's 64 bits.
    """
    whole = (Decimal(repr(usd)) * NANO).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR)
    return min(_MOST, int(whole))


def dollars(billionths: int) -> float:
    """Billionths of a dollar as dollars."""
    return float(Decimal(billionths) / NANO)
