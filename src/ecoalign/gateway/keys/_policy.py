"""API keys: what a key may do, its secret, and the records of what it spends.

Windows are fixed in time (see `_calendar`) and do not slide: one row of counters makes a
reservation a constant-time, atomic update; the moment when a refused request can succeed is known
exactly; and a bill is by the day or month, too. The price is that up to twice the limit may be
spent within one window's length around a border.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NewType, get_args

from ecoalign.budget import Budget, least_of
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.gateway.keys._calendar import (
    CALENDARS,
    Calendar,
    Span,
    calendar_span,
    fixed,
    zone_named,
)

Choice = Literal["budget", "preset", "method", "trace", "base"]

CHOICES: tuple[Choice, ...] = get_args(Choice)

DAY = 86_400

_LONGEST_WINDOW = 366 * DAY

_MOST_TOKENS = 10**15

_MOST_USD = 10**9


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Defaults and limits of a key. None is "the server's own", or for a limit "none".

    Attributes:
        budget: of a request that does not choose one.
        preset, method: names, as in the settings.
        trace: whether traces are kept.
        may_choose: what a request with this key may choose itself. Not the preset and the method by
            default: some of them weaken safety. "base" is a method that scores nothing of what it
            shows; a key that may choose the method may choose that, too.
        most: the most that one request may have, whatever it chooses.
        window_seconds: length of a window, 1 second to 366 days; windows start at multiples of it,
            counted from the epoch, so that one of 604,800 starts on Thursdays.
        calendar: "day", "week" (from Monday) or "month" instead of so many seconds.
        zone: whose midnight a calendar window starts with, as in Europe/Berlin.
        window_tokens: tokens per window.
        window_usd: dollars per window.
        requests_per_minute: see `RateLimiter`.
        max_concurrent: requests at once, in one process.
        fleet: whether the window is shared out by a shadow price (see `ecoalign.budget.pacing`).
        expected_requests: per window, if known; else it is learned.

    Raises:
        InputError: a value is out of its range.
    """

    budget: Budget | None = None
    preset: str | None = None
    method: str | None = None
    trace: bool | None = None
    may_choose: frozenset[Choice] = frozenset({"budget", "trace"})
    most: Budget | None = None
    window_seconds: int = DAY
    calendar: Calendar | None = None
    zone: str = "UTC"
    window_tokens: int | None = None
    window_usd: float | None = None
    requests_per_minute: int | None = None
    max_concurrent: int | None = None
    fleet: bool = True
    expected_requests: int | None = None

    def __post_init__(self) -> None:
        unknown = self.may_choose - set(CHOICES)
        if unknown:
            raise InputError(
                f"a key may choose {', '.join(CHOICES)}, not {', '.join(sorted(unknown))}"
            )
        _whole("window_seconds", self.window_seconds, _LONGEST_WINDOW)
        if self.calendar is not None and self.calendar not in CALENDARS:
            raise InputError(f"a key's calendar is {', '.join(CALENDARS)}, not {self.calendar!r}")
        if self.zone != "UTC" and self.calendar is None:
            raise InputError("a key's time zone is for windows of days, weeks and months")
        zone_named(self.zone)
        _whole("window_tokens", self.window_tokens, _MOST_TOKENS)
        _whole("requests_per_minute", self.requests_per_minute, 10**9)
        _whole("max_concurrent", self.max_concurrent, 10**6)
        _whole("expected_requests", self.expected_requests, 10**12)
        usd = self.window_usd
        if usd is not None and not (math.isfinite(usd) and 1e-9 <= usd <= _MOST_USD):
            raise InputError(f"a key's window_usd must be above 0 and at most 10^9, not {usd!r}")

    def request_budget(self, asked: Budget | None, default: Budget) -> Budget:
        """What a request wants: its own choice if it has one and may, cut to `most`.

        Args:
            asked: the budget in the request.
            default: the server's.
        """
        own = asked if asked is not None and "budget" in self.may_choose else None
        wanted = own or self.budget or default
        return wanted if self.most is None else least_of(wanted, self.most)

    def span(self, now: float) -> Span:
        """The window that `now` is in.

        Args:
            now: seconds since the epoch.
        """
        if self.calendar is None:
            return fixed(now, self.window_seconds)
        return calendar_span(now, self.calendar, self.zone)

    @property
    def limited(self) -> bool:
        """Whether a window bounds anything."""
        return self.window_tokens is not None or self.window_usd is not None

    def to_json(self) -> dict[str, object]:
        """Plain JSON that `from_text` reads back.

        A window of seconds says nothing of calendars: the first release, which knows none, can
        read it, and does not read the others.
        """
        new = ("calendar", "zone") if self.calendar is None else ()
        return {name: getattr(self, name) for name in self.__slots__ if name not in new} | {
            "budget": None if self.budget is None else str(self.budget),
            "most": None if self.most is None else str(self.most),
            "may_choose": sorted(self.may_choose),
        }

    def text(self) -> str:
        """`to_json` as text, which `from_text` reads back."""
        return json.dumps(self.to_json())

    @classmethod
    def from_text(cls, text: str) -> KeyPolicy:
        """The policy in a text of JSON. Names left out have their defaults.

        Raises:
            InputError: it is not one.
        """
        body = json.loads(text)
        if not isinstance(body, Mapping):
            raise InputError("a key's policy is a JSON object")
        try:
            return cls(
                **{
                    **body,
                    "budget": _budget(body.get("budget")),
                    "most": _budget(body.get("most")),
                    "may_choose": frozenset(body.get("may_choose", ())),
                }
            )
        except TypeError as error:
            raise InputError(f"a key's policy cannot be read: {error}") from None


def choices(text: str, who: str = "a key") -> frozenset[Choice]:
    """What `who` may choose, as the command line writes it: "budget,trace", or "nothing".

    Raises:
        InputError: a word is none of `CHOICES`.
    """
    words = {word.strip() for word in text.split(",")} - {"", "nothing"}
    unknown = sorted(words - set(CHOICES))
    if unknown:
        known = ", ".join(CHOICES)
        raise InputError(f"{who} may choose {known}, or nothing; not {unknown[0][:40]!r}")
    return frozenset(choice for choice in CHOICES if choice in words)


def _budget(text: object) -> Budget | None:
    return None if text is None else Budget.parse(str(text))


def _whole(name: str, value: int | None, most: int) -> None:
    if value is not None and not (type(value) is int and 1 <= value <= most):
        raise InputError(f"a key's {name} must be a whole number from 1 to {most}, not {value!r}")


KeyId = NewType("KeyId", str)
"""The public part of a key: 12 lower-case letters and digits (60 random bits)."""

PREFIX = "eco"

_SHAPE = re.compile(r"eco-([a-z2-7]{12})-([a-z2-7]{52})")

_ID_LETTERS = 12

_ID_BYTES = 8

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A key that has just been made. `text` is the only place where the secret ever is.

    Attributes:
        id: the public part.
        text: the whole key, as the client sends it.
        digest: what is stored.
    """

    id: KeyId
    text: str = field(repr=False)
    digest: str = field(repr=False)


def mint() -> KeySecret:
    """A new key from the operating system's randomness."""
    return rotated(KeyId(_letters(secrets.token_bytes(_ID_BYTES))[:_ID_LETTERS]))


def rotated(key_id: KeyId) -> KeySecret:
    """A new secret for a key that keeps its id."""
    text = f"{PREFIX}-{key_id}-{_letters(secrets.token_bytes(_SECRET_BYTES))}"
    return KeySecret(key_id, text, digest_of(text))


def split(text: str) -> KeyId | None:
    """The id of a key, or None for what cannot be a key; nothing is looked up for that."""
    match = _SHAPE.fullmatch(text)
    return None if match is None else KeyId(match[1])


def digest_of(text: str) -> str:
    """SHA-256 of the whole key, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, digest: str) -> bool:
    """Whether `text` is the key of `digest`; takes the same time wherever they differ."""
    return hmac.compare_digest(digest_of(text), digest)


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


GrantId = NewType("GrantId", str)

Unit = Literal["tokens", "usd"]


class StoreError(EcoAlignError):
    """The store of the keys cannot be read or written; nothing was granted."""

    exit_code: ClassVar[int] = 3


class UnknownKey(InputError):
    """There is no such key, or it has been revoked."""


class WindowExhausted(EcoAlignError):
    """What is left of a key's window does not hold the request; nothing was reserved.

    Attributes:
        unit: the unit that is short.
        retry_after: seconds until the same request could succeed: until open requests are likely
            to have given back what they do not need, or else until the next window begins. None
            where no window could ever hold it.
        crowded: whether it is short because of open requests, which may give some of it back.
        leased: whether there may be room in what processes have leased ahead.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        message: str,
        *,
        unit: Unit,
        retry_after: float | None,
        crowded: bool,
        leased: bool = False,
    ) -> None:
        super().__init__(message)
        self.unit: Unit = unit
        self.retry_after = retry_after
        self.crowded = crowded
        self.leased = leased


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored, without its secret.

    Attributes:
        id: the public part.
        name: for people.
        policy: what it may do.
        created: seconds since the epoch.
        revoked: seconds since the epoch, None while the key is in force.
    """

    id: KeyId
    name: str
    policy: KeyPolicy
    created: float
    revoked: float | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been created.

    Attributes:
        record: the key.
        secret: what the client sends; it cannot be had again.
    """

    record: KeyRecord
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """A request's reservation in its key's window: durable in the store, or a part of what its
    process has leased ahead there.

    Attributes:
        id: of the grant.
        key_id: who pays.
        budget: what this request may spend; never more than was wanted.
        price: factor on the setting `lambda0`, > 0: the key's shadow price (1 where the key
            has no window or no pacing).
        crowded: whether it would be more without the requests under way.
    """

    id: GrantId
    key_id: KeyId
    budget: Budget
    price_factor: float = 1.0
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """What a key has spent in one window.

    Attributes:
        start: seconds since the epoch.
        seconds: the window's length.
        requests: grants made.
        open: grants not settled: requests under way, and those of processes not yet known to be
            dead.
        tokens: settled.
        usd: settled, in dollars.
        held_tokens: reserved by open grants; counts as spent until they settle.
        held_usd: the same in dollars.
        leased_tokens: leased ahead by processes and granted to no request; comes back within about
            a second of its last use, or when the process is known to be dead.
        leased_usd: the same in dollars.
    """

    start: float
    seconds: int
    requests: int
    open: int
    tokens: int
    usd: float
    held_tokens: int
    held_usd: float
    leased_tokens: int = 0
    leased_usd: float = 0.0

    def to_json(self) -> Mapping[str, object]:
        """An object of `ecoalign keys usage --json`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Released:
    """What was open for a process that is dead, and is released.

    Attributes:
        process: its name, host and number.
        key_id: whose grants.
        grants: how many requests were open.
        tokens: what they are charged with: the most that their calls can have cost.
        usd: the same in dollars.
        returned_tokens: what of the reservations has gone back to the window.
        returned_usd: the same in dollars.
        exact: whether the process's book told what its calls can have cost; without one, all that
            was reserved is charged.
    """

    process: str
    key_id: KeyId
    grants: int
    tokens: int
    usd: float
    returned_tokens: int
    returned_usd: float
    exact: bool

    def to_json(self) -> Mapping[str, object]:
        """An object of `ecoalign keys release --json`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has grants.

    Attributes:
        id: 32 hexadecimal digits.
        name: host and number.
        started: when it was first granted something, seconds since the epoch.
        seen: its last sign of life.
        state: "alive" or "dead" where that is certain; "unknown" for one on another machine.
    """

    id: str
    name: str
    started: float
    seen: float
    state: Literal["alive", "dead", "unknown"]

    def to_json(self) -> Mapping[str, object]:
        """An object of `ecoalign keys processes --json`."""
        return {name: getattr(self, name) for name in self.__slots__}
