"""Progress of a search as comments of a stream: what is happening, and never a word of it.

A comment holds the name of a step and numbers. No text of a thought is in it: nothing that has not
been scored may leave, and a comment is read by whoever looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecoalign.events import (
    ActionsChosen,
    Called,
    PathChosen,
    RootScanned,
    StepStarted,
    ThoughtAdded,
)
from ecoalign.gateway.chat.reply import dumped

if TYPE_CHECKING:
    from ecoalign.events import Event

__all__ = ["Progress"]

ALIVE = b": ecoalign\n\n"


class Progress:
    """Turns events into comments, not too many.

    Args:
        apart: least seconds between two comments.
        clock: seconds.
    """

    def __init__(self, apart: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._apart = apart
        self._clock = clock
        self._last = -float("inf")
        self._tokens = 0
        self._calls = 0
        self._step = 0
        self._thoughts = 0
        self._stage = "start"

    def see(self, event: Event) -> bytes | None:
        """The comment that is due after `event`; None if none is."""
        if isinstance(event, Called):
            self._tokens += event.charged.total
            self._calls += 1
            self._stage = event.stage
        elif isinstance(event, RootScanned):
            self._stage = "scanned"
        elif isinstance(event, StepStarted):
            self._step = event.step
            self._stage = "step"
        elif isinstance(event, ActionsChosen):
            self._stage = "execute"
        elif isinstance(event, ThoughtAdded):
            self._thoughts += 1
        elif isinstance(event, PathChosen):
            self._stage = "chosen"
        else:
            return None
        now = self._clock()
        if now - self._last < self._apart:
            return None
        self._last = now
        return self.comment()

    def comment(self) -> bytes:
        """Where the search stands."""
        body = {
            "stage": self._stage,
            "step": self._step,
            "thoughts": self._thoughts,
            "calls": self._calls,
            "tokens": self._tokens,
        }
        return b": ecoalign " + dumped(body) + b"\n\n"
