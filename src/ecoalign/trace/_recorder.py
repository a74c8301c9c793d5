"""Stamps each event with its time and hands it on; a replay reads the times from the tape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ecoalign.trace.events import (
    Called,
    CallFailure,
    Event,
    Finished,
    RunFailed,
    RunStarted,
    StepStarted,
)

if TYPE_CHECKING:
    from ecoalign.budget import CallRecord

__all__ = ["Recorder"]

E = TypeVar("E", bound=Event)


class Recorder:
    """The one place where an event gets its time.

    Args:
        clock: seconds; the run begins now.
        sink: told of every event, in order.
        tape: the events of the run that is replayed. Time is an input of a run like the answers of
            its model: `at`, durations and seconds left are read from the tape, all else is made
            anew.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        sink: Callable[[Event], None],
        tape: Sequence[Event] = (),
    ) -> None:
        self._clock = clock
        self._start = clock()
        self._sink = sink
        self._tape = tape
        self._count = 0

    def emit(self, event: E) -> E:
        """Stamp `event` and pass it on; returns it as recorded."""
        stamped: E
        if self._count < len(self._tape):
            stamped = _retimed(event, self._tape[self._count])
        else:
            stamped = replace(event, at=round(self._clock() - self._start, 6))
        self._count += 1
        self._sink(stamped)
        return stamped

    def calls(self, records: Iterable[CallRecord]) -> None:
        """Emit one `Called` for each attempt."""
        for record in records:
            self.emit(_called(record))


def _retimed(event: E, recorded: Event) -> E:
    changes: dict[str, Any] = {"at": recorded.at}
    if isinstance(event, Called) and isinstance(recorded, Called):
        changes["seconds"] = recorded.seconds
    elif isinstance(event, StepStarted) and isinstance(recorded, StepStarted):
        changes["remaining"] = replace(event.remaining, seconds=recorded.remaining.seconds)
        changes["horizon"], changes["price"] = recorded.horizon, recorded.price
        changes["share_left"] = recorded.share_left
    elif isinstance(event, Finished | RunFailed) and isinstance(recorded, type(event)):
        changes["spent"] = _with_seconds(event.spent, recorded.spent)
    elif isinstance(event, RunStarted) and isinstance(recorded, RunStarted):
        changes["version"] = recorded.version
    return replace(event, **changes)


def _with_seconds(fresh: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """`fresh` with every duration of `recorded`, at any depth."""
    out = dict(fresh)
    for name, value in fresh.items():
        if name == "seconds":
            out[name] = recorded.get(name, value)
        elif isinstance(value, Mapping) and isinstance(recorded.get(name), Mapping):
            out[name] = _with_seconds(value, recorded[name])
    return out


def _called(record: CallRecord) -> Called:
    done, error = record.completion, record.error
    return Called(
        stage=record.stage,
        model=record.model,
        key=record.key,
        attempt=record.attempt,
        charged=record.charged,
        usd=record.usd,
        seconds=round(record.seconds, 6),
        text=None if done is None else done.text,
        usage=None if done is None else done.usage,
        finish_reason="" if done is None else done.finish_reason,
        logprobs=None if done is None else done.logprobs,
        served_by="" if done is None else done.model,
        tool_calls=() if done is None else done.tool_calls,
        raw_logprobs=None if done is None else done.raw_logprobs,
        error=None
        if error is None
        else CallFailure(error.kind, error.message, error.billed, error.retry_after, error.param),
    )
