"""Events without async: as they happen, to the end, or until the reader has seen enough."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Generator
from typing import Any

import pytest
from scripted import Script, image

from ecoalign import Alignment, BudgetTooSmall, InputError, align, stream
from ecoalign.models.fake import FakeModel
from ecoalign.trace.events import ActionsChosen, Event, Finished, RunFailed, RunStarted

ASKED = "What does the sign say?"


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_events_are_those_of_align() -> None:
    events = list(stream(image(), ASKED, model=Script().model(), retries=0))
    result = align(image(), ASKED, model=Script().model(), retries=0)
    kinds = [type(event).__name__ for event in events]
    assert kinds == [type(event).__name__ for event in result.trace]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "Finished")
    assert "ecoalign" not in names()


def test_what_it_returns_is_the_result() -> None:
    def reading() -> Generator[Event, None, Alignment]:
        return (yield from stream(image(), ASKED, model=Script().model()))

    reader = reading()
    events = []
    try:
        while True:
            events.append(next(reader))
    except StopIteration as end:
        result = end.value
    assert isinstance(result, Alignment)
    assert list(result.trace) == events


def test_events_come_while_the_run_goes_on() -> None:
    go = threading.Event()

    async def hold(prompt: Any) -> str:
        await asyncio.to_thread(go.wait)
        return "a thought"

    events = stream(image(), ASKED, model=Script(execute=hold).model(), draft=False)
    for event in events:
        if isinstance(event, ActionsChosen):
            break
    go.set()
    assert isinstance(list(events)[-1], Finished)


@pytest.mark.parametrize("leave", ["closed", "dropped", "raised"])
def test_who_leaves_early_cancels_the_run(leave: str) -> None:
    cancelled: list[str] = []

    async def stuck(prompt: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(prompt.stage)
            raise
        return ""

    events = stream(image(), ASKED, model=Script(execute=stuck).model(), draft=False, batch=1)
    assert isinstance(next(events), RunStarted)
    for event in events:
        if isinstance(event, ActionsChosen):
            break
    if leave == "closed":
        events.close()
    elif leave == "dropped":
        del events
        gc.collect()
    else:
        with pytest.raises(ZeroDivisionError):
            events.throw(ZeroDivisionError())
    assert "ecoalign" not in names()
    assert cancelled in ([], ["execute"])  # the call had not begun, or was cut off


def test_a_stream_may_be_collected_by_its_own_thread() -> None:
    """Cycles are collected by whichever thread makes the next objects."""
    left, collected = threading.Event(), []

    async def collect(request: object) -> str:
        await asyncio.to_thread(left.wait)
        collected.append(gc.collect())
        await asyncio.Event().wait()
        return ""

    gc.disable()
    try:
        box: list[Any] = [stream(image(), ASKED, model=FakeModel(collect))]
        box.append(box)
        assert isinstance(next(box[0]), RunStarted)
        (thread,) = [one for one in threading.enumerate() if one.name == "ecoalign"]
        del box
        left.set()
        thread.join(30)
    finally:
        gc.enable()
    assert not thread.is_alive()
    assert collected


def test_nothing_is_asked_before_the_first_event_is() -> None:
    model = FakeModel(Script())
    events = stream(image(), ASKED, model=model)
    events.close()
    assert not model.requests


def test_a_wrong_argument_is_told_at_once() -> None:
    with pytest.raises(InputError, match="no image file"):
        stream("missing.png", ASKED)


def test_an_error_of_the_run_comes_after_its_last_event() -> None:
    events = stream(image(), ASKED, model=Script().model(), budget=50)
    seen = [next(events), next(events)]
    assert [type(event) for event in seen] == [RunStarted, RunFailed]
    with pytest.raises(BudgetTooSmall) as failed:
        next(events)
    assert list(failed.value.trace) == seen
