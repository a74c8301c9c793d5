"""Money: United States dollars, exact, in one unit.

Prices are `Decimal` dollars and the public face shows `float` dollars; whatever is added up or
compared with a limit is `Money`, a whole number of 10^-15 dollars. Prices are quoted per million
tokens, so every price of up to nine decimals is exact, and rounding up costs at most one unit a
call: the bill of a million calls is off by no more than a billionth of a dollar. (In billionths a
cached token can cost less than one unit, and a rounded-up call too much by a visible share.)
Integers of Python have no greatest value.

A database has 64 bits, so the keys' windows are stored in billionths of a dollar: see `billionths`.
What is owed is rounded up and what is allowed is rounded down, at every edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_UNITS = 10**15

_BILLIONTH = _UNITS // 10**9

_MOST_STORED = 2**62

# Wide enough for any price times any number of tokens, whatever context the caller's thread has.
_UP = Context(prec=60, rounding=ROUND_CEILING)

_DOWN = Context(prec=60, rounding=ROUND_FLOOR)


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An exact amount of dollars.

    Attributes:
        units: 10^-15 dollars each. Negative only as a difference.
    """

    units: int = 0

    @classmethod
    def up(cls, usd: Decimal | float) -> Money:
        """Dollars, rounded up: for what is owed.

        Raises:
            ValueError: `usd` is not a finite number >= 0.
        """
        return cls(_whole(usd, _UP))

    @classmethod
    def down(cls, usd: Decimal | float) -> Money:
        """Dollars, rounded down: for what is allowed.

        Raises:
            ValueError: `usd` is not a finite number >= 0.
        """
        return cls(_whole(usd, _DOWN))

    @classmethod
    def from_billionths(cls, stored: int) -> Money:
        """The amount that a database holds in billionths of a dollar."""
        return cls(stored * _BILLIONTH)

    def billionths(self, *, up: bool) -> int:
        """For a database: rounded up (owed) or down (allowed), at most 2^62 (4.6e9 dollars)."""
        whole = -(-self.units // _BILLIONTH) if up else self.units // _BILLIONTH
        return min(_MOST_STORED, whole)

    @property
    def usd(self) -> float:
        """Dollars, to the nearest float: the order of amounts is kept, sums are not."""
        return self.units / _UNITS

    def share(self, share: float) -> Money:
        """`share` of it, rounded down; exact for any float in [0, 1]."""
        numerator, denominator = share.as_integer_ratio()
        return Money(self.units * numerator // denominator)

    def __add__(self, other: Money) -> Money:
        return Money(self.units + other.units)

    def __sub__(self, other: Money) -> Money:
        return Money(self.units - other.units)


def _whole(usd: Decimal | float, context: Context) -> int:
    value = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
    if not value.is_finite() or value < 0:
        raise ValueError(f"dollars must be a finite number, 0 or more, not {usd!r}")
    return int(context.to_integral_value(context.multiply(value, Decimal(_UNITS))))
