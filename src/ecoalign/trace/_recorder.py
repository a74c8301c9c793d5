"""Stamps each event with its time, keeps it and passes it on; a replay reads the times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ecoalign.trace.events import Called, Event, Finished, RunFailed, RunStarted, StepStarted

E = TypeVar("E", bound=Event)


class Recorder:
    """The one place where an event gets its time, and the events of a run so far.

    Args:
        clock: seconds; the run begins now.
        on_event: told of every event, in order.
        recorded: the events of the run that is replayed. Time is an input of a run like the
            answers of its model: `at`, durations and seconds left are read from these, all else
            is made anew.

    Attributes:
        events: those of the run so far, in order.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_event: Callable[[Event], None] | None = None,
        recorded: Sequence[Event] = (),
    ) -> None:
        self._clock = clock
        self._start = clock()
        self._on_event = on_event
        self._recorded = recorded
        self.events: list[Event] = []

    def timed(self, event: E) -> E:
        """`event` with the time of now; one that has a time keeps it."""
        if not event.at:
            # Every event is made to be recorded, and nobody else has it yet: it is stamped where it
            # is, as a copy would cost as much as the event.
            object.__setattr__(event, "at", round(self._clock() - self._start, 6))
        return event

    def emit(self, event: E) -> E:
        """Record `event` and pass it on; returns it as recorded."""
        if len(self.events) < len(self._recorded):
            event = _retimed(event, self._recorded[len(self.events)])
        else:
            event = self.timed(event)
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)
        return event

    def emit_all(self, events: Iterable[Event]) -> None:
        """Record several events, in order."""
        for event in events:
            self.emit(event)


def _retimed(event: E, recorded: Event) -> E:
    changes: dict[str, Any] = {"at": recorded.at}
    if isinstance(event, Called) and isinstance(recorded, Called):
        changes |= {"seconds": recorded.seconds, "waited": recorded.waited}
    elif isinstance(event, StepStarted) and isinstance(recorded, StepStarted):
        changes["remaining"] = replace(event.remaining, seconds=recorded.remaining.seconds)
        changes["horizon"], changes["price"] = recorded.horizon, recorded.price
        changes["share_left"] = recorded.share_left
    elif isinstance(event, Finished | RunFailed) and isinstance(recorded, type(event)):
        changes["spent"] = _with_seconds(event.spent, recorded.spent)
    elif isinstance(event, RunStarted) and isinstance(recorded, RunStarted):
        # A replay is run under the settings and the profile that were recorded.
        changes |= {name: getattr(recorded, name) for name in ("version", "schema", "settings")}
    return replace(event, **changes)


def _with_seconds(fresh: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """`fresh` with every duration of `recorded`, at any depth, and in its order: stages are in that
    in which their first calls ended."""
    out = {name: fresh[name] for name in recorded if name in fresh} | dict(fresh)
    for name, value in fresh.items():
        if name == "seconds":
            out[name] = recorded.get(name, value)
        elif isinstance(value, Mapping) and isinstance(recorded.get(name), Mapping):
            out[name] = _with_seconds(value, recorded[name])
    return out
