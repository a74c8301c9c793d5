"""A trace for whoever asked the question: without the texts that were not scored safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, assert_never

from ecoalign.graph import ROOT, Thought
from ecoalign.models import ending
from ecoalign.trace.events import (
    DROPPED,
    ActionFailed,
    ActionsChosen,
    Called,
    Confirmed,
    Event,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    RunFailed,
    RunStarted,
    StepStarted,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
    Valued,
)

WITHHELD = "[withheld: not scored safe]"
"""Stands where a text was."""

_OPERATORS = frozenset({"base_url", "endpoints", "extra_body", "prices"})
"""Settings that say how the operator's servers are reached, and what they cost."""

_OWN_WORDS = frozenset({"cause", "causes"})
"""Details of methods whose texts no model wrote."""

Failed = TypeVar("Failed", ActionFailed, RunFailed)


def redacted(events: Iterable[Event]) -> tuple[Event, ...]:
    """The trace without any text of a model that was not scored, or not scored safe.

    The answer stays, as its reader has it already, and so do thoughts that were scored safe, all
    numbers, and what the question, its context and its parameters were. What a call brought, what
    was proposed, the caption, and what a server said of a failure are replaced by `WITHHELD`. So is
    what is the operator's own: addresses, prices, and what the model was known to count.
    """
    found = tuple(events)
    started = next((event for event in found if isinstance(event, RunStarted)), None)
    threshold = 0.0 if started is None else float(started.settings.get("safety_threshold", 0.0))
    pruned = {e.thought.id for e in found if isinstance(e, ThoughtAdded) and e.pruned}

    def thought(one: Thought) -> Thought:
        safe = one.id != ROOT and one.id not in pruned and one.safety >= threshold
        return one if safe else replace(one, text=WITHHELD)

    def event(one: Event) -> Event:
        match one:
            case RunStarted():
                public = {k: v for k, v in one.settings.items() if k not in _OPERATORS}
                return replace(one, settings=public, nonce="", profile={}, known={}, redacted=True)
            case Called():
                return _call(one)
            case RootScanned():
                strategy = None if one.strategy is None else WITHHELD
                note = WITHHELD if one.note else ""
                return replace(one, root=thought(one.root), strategy=strategy, note=note)
            case Proposed():
                texts = (replace(c, text=WITHHELD if c.text else "") for c in one.candidates)
                return replace(one, candidates=tuple(texts))
            case ThoughtAdded() | ThoughtMerged():
                return replace(one, thought=thought(one.thought))
            case ActionFailed():
                return _failure(one, one.cause)
            case RunFailed():
                return _failure(one, one.error)
            case Finished():
                path = tuple(thought(step) for step in one.path)
                return replace(one, path=path, detail=_numbers(one.detail))
            case (
                StepStarted()
                | Valued()
                | ActionsChosen()
                | Confirmed()
                | ThoughtsDropped()
                | PathChosen()
            ):
                return one
            case _:
                assert_never(one)

    return tuple(map(event, found))


def _call(call: Called) -> Called:
    answered = call.text is not None
    return replace(
        call,
        key="",
        text=WITHHELD if answered else None,
        finish_reason=ending(call.finish_reason) if answered else "",
        logprobs=None,
        served_by="",
        tool_calls=(),
        raw_logprobs=None,
        error=None if call.error is None else replace(call.error, message=WITHHELD),
    )


def _failure(event: Failed, cause: str) -> Failed:
    """What was said of budgets is the house's own; of the rest, a server may have said it."""
    own = cause == DROPPED or cause.startswith("Budget")
    return event if own else replace(event, message=WITHHELD)


def _numbers(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if name in _OWN_WORDS else _number(value) for name, value in detail.items()}


def _number(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else WITHHELD
