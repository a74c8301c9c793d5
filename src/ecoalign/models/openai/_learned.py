"""What a server has been found not to take, or to ignore. No I/O."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ecoalign.models.openai._request import Feature

_log = logging.getLogger("ecoalign.models")

AGAIN_AFTER_S = 600.0
"""After so many seconds a dropped feature is tried once more; twice as many each time it fails."""

AGAIN_AFTER_CALLS = 200
"""Or after so many successful calls without it, whichever is first; likewise."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A feature that requests do without.

    Attributes:
        feature: what is left out.
        reason: what the server said against it, in one short line.
        failures: how often it was rejected, >= 1.
        due: of the clock, when it is tried again.
        calls: successful calls after which it is tried again.
    """

    feature: Feature
    reason: str
    failures: int
    due: float
    calls: int


class Learned:
    """One model object's memory of its server. It may be shared between threads.

    A feature that a rejected request blames is dropped for a while; a server that is replaced or
    repaired gets it again. What it ignores in silence is a notice, said once.

    Args:
        name: of the model, for the log.
        clock: seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._dropped: dict[Feature, Dropped] = {}
        self._notices: dict[str, str] = {}
        self._calls = 0

    @property
    def dropped(self) -> Mapping[Feature, Dropped]:
        """What requests do without now."""
        with self._lock:
            return dict(self._dropped)

    @property
    def notices(self) -> tuple[str, ...]:
        """Everything that was found, each in a short sentence."""
        with self._lock:
            return tuple(self._notices.values())

    def without(self) -> frozenset[Feature]:
        """What the next request is to do without. Of the features that are due, each is left in
        once: calls beside that one still do without it."""
        with self._lock:
            now, left_out = self._clock(), set()
            for feature, entry in self._dropped.items():
                if now < entry.due and self._calls < entry.calls:
                    left_out.add(feature)
                else:
                    self._dropped[feature] = self._entry(feature, entry.reason, entry.failures)
            return frozenset(left_out)

    def succeeded(self, used: frozenset[Feature], rejected: Mapping[Feature, str]) -> None:
        """A call succeeded with some features, and without those that were rejected before.

        Args:
            used: what the request had.
            rejected: what it had to do without, and the server's words.
        """
        with self._lock:
            self._calls += 1
            for feature in used & self._dropped.keys():
                del self._dropped[feature]
                self._notices.pop(f"dropped {feature}", None)
        self.rejects(rejected)

    def rejects(self, rejected: Mapping[Feature, str]) -> None:
        """Remember features that a server rejected, and its words, for the next requests."""
        with self._lock:
            for feature, reason in rejected.items():
                known = self._dropped.get(feature)
                failures = 1 if known is None else known.failures + 1
                self._dropped[feature] = self._entry(feature, reason, failures)
        for feature, reason in rejected.items():
            self.notice(
                f"dropped {feature}",
                f"the server rejects {feature.words}, so requests do without",
                reason=reason,
            )

    def _entry(self, feature: Feature, reason: str, failures: int) -> Dropped:
        longer = 2.0 ** min(failures - 1, 6)
        due = self._clock() + AGAIN_AFTER_S * longer
        return Dropped(
            feature, reason, failures, due, self._calls + int(AGAIN_AFTER_CALLS * longer)
        )

    def notice(
        self, kind: str, sentence: str, *, reason: str = "", level: int = logging.INFO
    ) -> None:
        """Say something about the server once.

        Args:
            kind: what it is about; the first sentence of a kind stays.
            sentence: short, of our own words.
            reason: the server's, without a key. They are not logged, as they may quote a request.
            level: of the log.
        """
        with self._lock:
            if kind in self._notices:
                return
            self._notices[kind] = f"{sentence}: {reason}" if reason else sentence
        _log.log(level, "%s: %s", self._name, sentence)
