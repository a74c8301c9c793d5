"""API keys: what a key may do, what it may spend, and the interface of the stores.

Windows are fixed and aligned to the epoch (one of 86,400 seconds is a day in UTC). Fixed beats
sliding here: one row of counters makes a reservation a constant-time, atomic update; the moment
when a refused request can succeed is known exactly; and a bill is by the day or month, too. The
price is that up to twice the limit may be spent within one window's length around a border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NewType, Protocol

from ecoalign.budget import Budget, Spending
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.gateway.keys._policy import Choice, KeyId, KeyPolicy

__all__ = [
    "Choice",
    "Grant",
    "GrantId",
    "KeyId",
    "KeyPolicy",
    "KeyRecord",
    "KeyStore",
    "NewKey",
    "StoreError",
    "UnknownKey",
    "WindowExhausted",
    "WindowUsage",
]

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
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, unit: Unit, retry_after: float | None) -> None:
        super().__init__(message)
        self.unit: Unit = unit
        self.retry_after = retry_after


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
    """Leave to spend, reserved on disk.

    Attributes:
        id: of the grant.
        key_id: who pays.
        budget: what this request may spend; never more than was wanted.
        price: factor on the setting `lambda0`, > 0: the fleet's shadow price (1 where the key
            has no window or no fleet budget).
    """

    id: GrantId
    key_id: KeyId
    budget: Budget
    price: float = 1.0


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """What a key has spent in one window.

    Attributes:
        start: seconds since the epoch.
        seconds: the window's length.
        requests: grants made.
        open: grants not settled: requests under way, and those of processes that died.
        tokens: settled.
        usd: settled, in dollars.
        held_tokens: reserved by open grants; counts as spent until they settle.
        held_usd: the same in dollars.
    """

    start: float
    seconds: int
    requests: int
    open: int
    tokens: int
    usd: float
    held_tokens: int
    held_usd: float

    def to_json(self) -> Mapping[str, object]:
        """An object of `ecoalign keys usage --json`."""
        return {name: getattr(self, name) for name in self.__slots__}


class KeyStore(Protocol):
    """Where keys and what they have spent are kept. See `open_store`.

    For every key, window and unit with a limit, at every moment and whatever crashes:

        settled + reserved by open grants  <=  limit

    All methods may be called from many tasks, and many processes may share one store.
    """

    async def find(self, secret: str) -> KeyRecord | None:
        """The key whose secret this is; None if it is unknown, malformed or revoked.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def grant(self, key: KeyRecord, want: Budget, least: Budget | None = None) -> Grant:
        """Reserve what a request may spend; on disk when this returns.

        Args:
            key: who pays. Its policy is read anew: a revoked key gets nothing.
            want: the most that the request wants. A unit with a window that is missing here gets
                a share of what is left of it.
            least: what the request can do with at the least, unit by unit; `want` if None, so that
                it is all or nothing. The grant is somewhere in between.

        Raises:
            WindowExhausted: what is left does not hold `least`.
            UnknownKey: the key was revoked in the meantime.
            StoreError: the store failed; nothing was granted.
        """
        ...

    async def settle(self, grant: Grant, spent: Spending) -> None:
        """Replace the reservation by what was spent, at most the reservation itself.

        Dollars that are not known (None) cost the whole reservation. Settling again changes
        nothing. A grant that is never settled stays counted in full.

        Raises:
            StoreError: the store failed; the reservation stays.
        """
        ...

    async def create(self, name: str, policy: KeyPolicy) -> NewKey:
        """Make a key.

        Raises:
            InputError: the name is empty, too long or in use by a key in force.
            StoreError: the store failed.
        """
        ...

    async def keys(self) -> Sequence[KeyRecord]:
        """All keys, revoked ones too, the oldest first."""
        ...

    async def revoke(self, key: str) -> KeyRecord:
        """Revoke a key by its id or by the name of a key in force. Doing it twice is no error.

        Raises:
            UnknownKey: there is none.
        """
        ...

    async def usage(self, key: str, windows: int = 10) -> Sequence[WindowUsage]:
        """What a key (id or name) has spent in its last windows, the newest first.

        Raises:
            UnknownKey: there is none.
        """
        ...

    async def ping(self) -> None:
        """Nothing, if the store works: for readiness.

        Raises:
            StoreError: it does not.
        """
        ...

    async def aclose(self) -> None:
        """Finish what is under way and close. Further calls raise StoreError."""
        ...
