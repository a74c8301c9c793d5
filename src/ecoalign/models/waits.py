"""How long a server asks to wait."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["seconds_to_wait"]


def seconds_to_wait(header: Callable[[str], str]) -> float | None:
    """Seconds (>= 0) from `retry-after-ms` or `retry-after` (a number or a date); None if unsaid.

    Args:
        header: the value of the header of that name, "" where there is none.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(header(name)) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        when = parsedate_to_datetime(header("retry-after"))
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
