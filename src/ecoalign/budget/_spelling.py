"""How people write a budget, and what they can have meant. Where two things, neither is taken.

A comma separates the parts of a budget ("8000,$0.02,5s"), groups thousands ("8,000"), and is the
point of a decimal in much of the world ("1,5s"). So every way to read a text is tried, and what was
meant is the one that makes a budget, if it is the only one. With a blank beside it a comma
separates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from ecoalign._record import dataclass
from ecoalign._text import short
from ecoalign.errors import InputError

ACCEPTED = (
    'a budget is tokens "8000" or "8k", dollars "$0.02" or "0.02usd", time "5s", "500ms", "2m" or '
    '"1h", or several of these, "8000,$0.02,5s"'
)

_LONGEST, _MOST_COMMAS = 1500, 12

_PLAIN = re.compile(r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+")

_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")

# "8000,5s" is a list, as nobody counts 8000.5 seconds; "800,5s" may be either.
_COMMA = re.compile(r"((?:0|[1-9][0-9]{0,2})(?:,[0-9]{3})*),([0-9]{1,3})")

_COMMA_OF_USD = re.compile(r"(0|[1-9][0-9]*),([0-9]{1,3})")

_ANY = r"([0-9][0-9_,.]*|\.[0-9]+)"

_TOKENS = re.compile(rf"{_ANY}\s*(?:(k)|(M)(?=\s*t))?\s*(?:tok(?:en)?s?)?", re.I)

_USD = re.compile(rf"(?:(?:US)?\$|USD)\s*{_ANY}\s*(k)?", re.I)

_USD_BEHIND = re.compile(rf"{_ANY}\s*(k)?\s*(?:(?:US)?\$|USD|dollars?)", re.I)

_CENTS = re.compile(rf"{_ANY}\s*(?:cents?|¢)", re.I)

_TIME = re.compile(rf"{_ANY}\s*([a-z]+)\s*", re.I)

_SECONDS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), Decimal(3600)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), Decimal(1)),
    # Decimal, so that "500ms" is 0.5 and nothing near it.
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), Decimal("0.001")),
}

_SHELL = re.compile(r"(?:-|\S*/)?(?:ba|z|da|k|fi|tc|c|a)?sh[0-9.]*", re.I)

_QUOTING = (
    "a shell replaces the $ in double quotes: write '$0.02' in single quotes, or 0.02usd, which "
    "needs none"
)


@dataclass(frozen=True, slots=True)
class Item:
    """An amount of one unit, as a text may be read.

    Attributes:
        unit: "tokens", "usd" or "seconds".
        value: how many.
        comma: whether a comma was taken for the point of a decimal.
    """

    unit: str
    value: Decimal
    comma: bool = False


def readings(text: str) -> Iterator[list[Item]]:
    """All ways to read a text as amounts of different units; none if there is no way.

    Raises:
        InputError: it is too long for a budget.
    """
    if len(text) > _LONGEST or text.count(",") > _MOST_COMMAS:
        raise InputError(f"budget {short(text)!r} is too long; {ACCEPTED}")
    yield from _lists(text.strip(), frozenset())


def _lists(text: str, taken: frozenset[str]) -> Iterator[list[Item]]:
    ends = [found.start() for found in re.finditer(",", text)]
    for end in (*ends, len(text)):
        # With a blank beside it a comma is no part of a number.
        if re.search(r",\s|\s,", text[:end]):
            break
        for item in _items(text[:end]):
            if item.unit in taken:
                continue
            if end == len(text):
                yield [item]
            else:
                rest = _lists(text[end + 1 :], taken | {item.unit})
                yield from ([item, *more] for more in rest)


def _items(text: str) -> Iterator[Item]:
    """All that a text may say without a comma that separates."""
    part = text.strip()
    if found := _TOKENS.fullmatch(part):
        scale = 1000 if found[2] else 10**6 if found[3] else 1
        for value, comma in _numbers(found[1]):
            # Nobody writes a fraction of a token: "5.00" was "$15.00" before a shell saw it.
            if scale > 1 or not (comma or "." in found[1]):
                yield Item("tokens", value * scale, comma)
    for pattern in (_USD, _USD_BEHIND):
        if found := pattern.fullmatch(part):
            scale = 1000 if found[2] else 1
            for value, comma in _numbers(found[1], _COMMA_OF_USD):
                yield Item("usd", value * scale, comma)
    if found := _CENTS.fullmatch(part):
        for value, comma in _numbers(found[1]):
            yield Item("usd", value / 100, comma)
    yield from _times(part, Decimal("Infinity"))


def _times(text: str, below: Decimal) -> Iterator[Item]:
    """Times of one or several units, the greatest first: "90s", "1m30s"."""
    found = _TIME.match(text)
    scale = _SECONDS.get(found[2].lower()) if found else None
    if found is None or scale is None or scale >= below or found[2] == "M":
        return
    rest = [Item("seconds", Decimal(0))]
    if text[found.end() :]:
        rest = list(_times(text[found.end() :], scale))
    for value, comma in _numbers(found[1]):
        for more in rest:
            yield Item("seconds", value * scale + more.value, comma or more.comma)


def _numbers(text: str, comma_too: re.Pattern[str] = _COMMA) -> Iterator[tuple[Decimal, bool]]:
    """What a number may be, and whether a comma is its point then."""
    if _PLAIN.fullmatch(text):
        yield Decimal(text), False
    if _GROUPED.fullmatch(text):
        yield Decimal(text.replace(",", "")), False
    if found := _COMMA.fullmatch(text) or comma_too.fullmatch(text):
        yield Decimal(f"{found[1].replace(',', '')}.{found[2]}"), True


def complaint(text: str) -> str:
    """What is wrong with a text that cannot be read as a budget, or says a unit twice."""
    parts = [part.strip() for part in text.split(",")]
    wrong = next((short(part) for part in parts if not any(_items(part))), None)
    if wrong is None:
        units = [next(_items(part)).unit for part in parts]
        twice = next((unit for unit in units if units.count(unit) > 1), "")
        return f"{twice} is given twice; {ACCEPTED}" if twice else f"cannot read it; {ACCEPTED}"
    if not wrong:
        return (
            f"there is nothing {'in it' if len(parts) == 1 else 'before or after a comma'}; if "
            f"you wrote a $: {_QUOTING}; {ACCEPTED}"
        )
    if _SHELL.fullmatch(wrong):
        return f"{wrong!r} is the shell's own name: {_QUOTING}; {ACCEPTED}"
    if re.fullmatch(r"[0-9]*\.[0-9]*", wrong):
        return (
            f"tokens are whole, so {wrong!r} is none. For dollars write '${wrong}' in single "
            "quotes, as a shell replaces the $ and the digit behind it in double quotes, or "
            f"{wrong}usd; {ACCEPTED}"
        )
    if re.fullmatch(r"[0-9.,_]+\s*M", wrong):
        return (
            f'{wrong!r} may be millions of tokens or minutes: write "{wrong} tokens" or '
            f'"{wrong[:-1].strip()}min"; {ACCEPTED}'
        )
    if re.fullmatch(r"[-\u2212]\s*\$?.*|\$\s*[-\u2212].*", wrong):
        return f"{wrong!r} is below 0; {ACCEPTED}"
    if re.search("[\u20ac\u00a3\u00a5]|eur|gbp|jpy|cny", wrong, re.I):
        return f"{wrong!r} is no amount of US dollars, the only currency here; {ACCEPTED}"
    return f"cannot read {wrong!r}; {ACCEPTED}"
