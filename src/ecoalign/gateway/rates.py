"""Requests per minute, by key: a token bucket each.

The buckets are in the memory of one process: they protect that process from a burst. With several
processes behind one address a key may have up to as many times its rate; what it may *spend* is
kept in the store and is never passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ecoalign.errors import EcoAlignError

__all__ = ["RateLimited", "RateLimiter"]

_BURST_SECONDS = 10.0
"""A full bucket holds the requests of this time, at least one."""
_MOST_BUCKETS = 10_000


class RateLimited(EcoAlignError):
    """Too many requests a minute.

    Attributes:
        retry_after: seconds until the next one is let through, > 0.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, rpm: int, retry_after: float) -> None:
        super().__init__(
            f"this key may make {rpm} requests a minute; try again in {retry_after:.1f} s"
        )
        self.retry_after = retry_after


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class RateLimiter:
    """Token buckets by key.

    A bucket starts full, with the requests of ten seconds but at least one, and fills at the
    key's rate. So in any t minutes at most `rpm * t + max(1, rpm / 6)` requests pass.

    Args:
        clock: seconds, never running backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key_id: str, rpm: int | None) -> None:
        """Let one request through. None is no limit.

        Raises:
            RateLimited: the bucket is empty; nothing was taken.
            ValueError: `rpm` is below 1.
        """
        if rpm is None:
            return
        if rpm < 1:
            raise ValueError(f"requests per minute must be 1 or more, not {rpm}")
        now, rate = self._clock(), rpm / 60.0
        size = max(1.0, rate * _BURST_SECONDS)
        bucket = self._buckets.get(key_id)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key_id] = _Bucket(size, now)
        bucket.level = min(size, bucket.level + (now - bucket.at) * rate)
        bucket.at = now
        # Sums of fractions may fall short of a whole by rounding alone.
        if bucket.level < 1.0 - 1e-9:
            raise RateLimited(rpm, max(1e-3, (1.0 - bucket.level) / rate))
        bucket.level -= 1.0

    def _make_room(self, now: float) -> None:
        """Buckets idle for a minute are full again at any rate; forgetting them changes nothing."""
        if len(self._buckets) >= _MOST_BUCKETS:
            idle = [key for key, bucket in self._buckets.items() if now - bucket.at >= 60.0]
            for key in idle:
                del self._buckets[key]
