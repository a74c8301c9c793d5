"""Calls in line: the longest chain of calls that waited for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from ecoalign.trace.events import Called, Event

_ROUNDED = 2e-6
"""Seconds by which a start, the difference of two rounded times, may be off."""


def critical_path(events: Iterable[Event]) -> int:
    """The longest chain of attempts to call a model that had to wait for each other, retries
    included; 0 without any.

    An attempt starts at `Called.waited` and ends 1 later, on a clock that stands still but for
    attempts. So this is the time that the run would take if each of them took 1 and all else
    nothing, with no bound on concurrent calls; what calls really took does not matter to it. A call
    that was cancelled is not in it, as nothing waited for it.

    Traces of before this was counted tell only when an attempt ended and how long it took. There
    one waits for another if it started no earlier than the other ended, which may be by chance:
    the longest chain of such attempts is an upper bound.
    """
    calls = [one for one in events if isinstance(one, Called) and not _cancelled(one)]
    if any(call.waited is None for call in calls):
        return _longest([(call.at - call.seconds, call.at) for call in calls])
    return max((call.waited + 1 for call in calls if call.waited is not None), default=0)


def _cancelled(call: Called) -> bool:
    return call.error is not None and call.error.kind == "cancelled"


def _longest(spans: Sequence[tuple[float, float]]) -> int:
    """The longest chain of spans (start, end), in seconds, of which each starts when the one before
    has ended or later. Spans without a length at one moment follow each other."""
    under_way: list[tuple[float, int]] = []
    ended = longest = 0
    for start, end in sorted(spans):
        while under_way and under_way[0][0] <= start + _ROUNDED:
            ended = max(ended, heappop(under_way)[1])
        heappush(under_way, (end, ended + 1))
        longest = max(longest, ended + 1)
    return longest
