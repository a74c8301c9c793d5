"""Leaving early: calls are cut off, holds are closed, the trace says so, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from itertools import count
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Spending
from ecoalign.errors import ModelError
from ecoalign.settings import Settings
from ecoalign.trace.events import ActionsChosen, Called, Event, Finished, RootScanned, RunFailed

SETTINGS = Settings.load(env={}, retries=0, draft=False)


class Stuck:
    """Thoughts of a batch hang until somebody gives up on them."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.all_waiting = asyncio.Event()

    async def __call__(self, prompt: Prompt) -> str:
        self.waiting += 1
        if self.waiting == 3:
            self.all_waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "never"

    def script(self) -> Script:
        propose = lambda p: actions(*(action("think", str(i)) for i in range(3)))  # noqa: E731
        return Script(propose=propose, execute=self)


def other_tasks() -> set[asyncio.Task[Any]]:
    return {t for t in asyncio.all_tasks() if t is not asyncio.current_task()}


async def test_closing_the_stream_cancels_the_run_and_its_calls() -> None:
    stuck = Stuck()
    stream = Aligner(stuck.script().model(), SETTINGS).stream(asking())
    async for event in stream:
        if isinstance(event, ActionsChosen):
            break
    await stuck.all_waiting.wait()
    await stream.aclose()
    assert stuck.cancelled == 3
    assert not other_tasks()


async def test_cancelling_the_reader_tells_the_last_events_and_what_it_cost() -> None:
    stuck = Stuck()
    seen: list[Event] = []

    async def read() -> None:
        async for event in Aligner(stuck.script().model(), SETTINGS).stream(asking()):
            seen.append(event)

    reader = asyncio.create_task(read())
    await stuck.all_waiting.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    last = seen[-1]
    assert isinstance(last, RunFailed)
    assert last.error == "Cancelled"
    # Nobody knows what was billed for the calls that were cut off: their worst case is spent.
    cut = [e for e in seen if isinstance(e, Called) and e.error is not None]
    assert [e.error.kind for e in cut if e.error] == ["cancelled"] * 3
    spent = Spending.from_json(last.spent)
    assert spent.tokens.total == sum(e.charged.total for e in seen if isinstance(e, Called))
    assert all(e.charged.total > 200 for e in cut)
    assert not other_tasks()


async def test_cancelling_a_plain_call_leaves_nothing_running() -> None:
    stuck = Stuck()
    aligner = Aligner(stuck.script().model(), SETTINGS)
    task = asyncio.create_task(aligner.align(asking(), Budget(tokens=50_000)))
    await stuck.all_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stuck.cancelled == 3
    assert not other_tasks()


@pytest.mark.parametrize("stage", ["scan", "propose", "execute", "score", "write"])
async def test_at_any_stage(stage: str) -> None:
    reached = asyncio.Event()

    async def hang(prompt: Prompt) -> str:
        reached.set()
        await asyncio.Event().wait()
        return "never"

    script = Script(
        propose=lambda p: actions(action("think", "x")) if p.last[:1] == "A" else actions()
    )
    setattr(script, stage, hang)
    seen: list[Event] = []

    async def read() -> None:
        async for event in Aligner(script.model(), SETTINGS).stream(asking()):
            seen.append(event)

    reader = asyncio.create_task(read())
    await reached.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert isinstance(seen[-1], RunFailed)
    cut = [e for e in seen if isinstance(e, Called) and e.error is not None]
    assert [e.stage for e in cut] == [stage]
    spent = Spending.from_json(seen[-1].spent)
    assert spent.tokens.total == sum(e.charged.total for e in seen if isinstance(e, Called))


async def test_a_reader_who_leaves_after_the_run_has_failed_hears_no_complaint() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: complaints.append(what))
    script = Script(scan=lambda p: ModelError("gone", fault="rejected"))
    stream = Aligner(script.model(), SETTINGS).stream(asking())
    async for _ in stream:
        # By now the run goes on to its end while nobody reads.
        for _ in range(20):
            await asyncio.sleep(0)
        break
    await stream.aclose()
    del stream
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_two_runs_of_one_aligner_do_not_touch_each_other() -> None:
    aligner = Aligner(Script().model(), Settings.load(env={}, max_thoughts=8, draft=False))
    both = await asyncio.gather(
        aligner.align(asking(1, "One?")), aligner.align(asking(2, "Two?"), Budget(tokens=30_000))
    )
    assert [len(r.path[0].text) > 0 for r in both] == [True, True]
    assert both[1].budget.tokens == 30_000
    for result in both:
        spent = sum(e.charged.total for e in result.trace if isinstance(e, Called))
        assert spent == result.spent.tokens.total


async def test_a_crash_of_the_users_own_code_is_not_swallowed_and_is_on_record() -> None:
    def crash(prompt: Prompt) -> str:
        raise ZeroDivisionError("a bug of the user's")

    script = Script(execute=crash)
    seen: list[Event] = []

    async def read() -> None:
        async for event in Aligner(script.model(), SETTINGS).stream(asking()):
            seen.append(event)

    with pytest.raises(ZeroDivisionError):
        await read()
    assert isinstance(seen[-1], RunFailed)
    assert seen[-1].error == "ZeroDivisionError"
    assert any(isinstance(e, RootScanned) for e in seen)
    assert not any(isinstance(e, Finished) for e in seen)
    assert not other_tasks()


async def test_what_was_finished_in_a_batch_that_is_cut_off_is_on_record_too() -> None:
    stuck = asyncio.Event()

    async def execute(prompt: Prompt) -> str:
        if "0" in prompt.task:
            return "done"
        if "1" in prompt.task:
            stuck.set()
        await asyncio.Event().wait()
        return "never"

    async def score(prompt: Prompt) -> str:
        return prompt.verdict(9, 5)

    propose = lambda p: actions(*(action("think", str(i)) for i in range(3)))  # noqa: E731
    script = Script(propose=propose, execute=execute, score=score)
    seen: list[Event] = []
    task = asyncio.create_task(
        Aligner(script.model(), SETTINGS).align(asking(), on_event=seen.append)
    )
    await stuck.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    calls = [e for e in seen if isinstance(e, Called)]
    batch = [(e.stage, e.error.kind if e.error else "") for e in calls[2:]]
    assert batch == [
        ("execute", ""),
        ("score", ""),
        ("execute", "cancelled"),
        ("execute", "cancelled"),
    ]
    assert isinstance(seen[-1], RunFailed)
    spent = Spending.from_json(seen[-1].spent)
    assert spent.tokens.total == sum(call.charged.total for call in calls)


async def test_a_crash_of_a_call_that_was_made_ahead_is_not_swallowed() -> None:
    def crash(prompt: Prompt) -> str:
        raise ZeroDivisionError("a bug of the user's")

    script = Script(request_safety=6, propose=crash, score=lambda p: (9, 2))
    settings = Settings.load(env={}, retries=0, draft=True, speculate="likely")
    with pytest.raises(ZeroDivisionError):
        await Aligner(script.model(), settings).align(asking())
    assert not other_tasks()


async def test_verdicts_that_are_asked_for_at_once_are_on_record_where_they_are_cut_off() -> None:
    """The second answer needs two: the confirmation has ended, the first verdict hangs."""
    confirming, seen = asyncio.Event(), list[Event]()
    said = count()

    async def score(prompt: Prompt) -> str:
        number = next(said)
        if number == 1:
            await asyncio.Event().wait()
        if number == 2:
            confirming.set()
        return prompt.verdict(9 if number else 0, 9)

    offered = actions(action("answer", "first", [[9, 9]]), action("answer", "second", [[9, 8]]))
    script = Script(propose=lambda p: offered, execute=lambda p: p.task, score=score)
    settings = Settings.load(env={}, retries=0, draft=False, speculate="likely", unsafe_answers=3)

    async def read() -> None:
        async for event in Aligner(script.model(), settings).stream(asking()):
            seen.append(event)

    reader = asyncio.create_task(read())
    await confirming.wait()
    for _ in range(50):
        # It is answered: what is left of it takes no time.
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    last = seen[-1]
    assert isinstance(last, RunFailed)
    calls = [event for event in seen if isinstance(event, Called)]
    assert [call.error is None for call in calls if call.stage == "score"] == [True, False, True]
    spent = Spending.from_json(last.spent)
    assert spent.tokens.total == sum(call.charged.total for call in calls)


async def test_a_whole_batch_is_on_record_where_a_confirmation_in_it_is_cut_off() -> None:
    """Of three answers at once the first is unsafe, so the second one needs another verdict."""
    reached, seen = asyncio.Event(), list[Event]()

    async def score(prompt: Prompt) -> str:
        if next(said) == 3:
            reached.set()
            await asyncio.Event().wait()
        return prompt.verdict(0 if prompt.item == "0" else 9, 9)

    said, offered = count(), actions(*(action("answer", str(i), [[9, 9]]) for i in range(3)))
    script = Script(propose=lambda p: offered, execute=lambda p: p.task, score=score)
    more: dict[str, Any] = {"batch_margin": 0.0, "unsafe_answers": 3, "speculate": "off"}
    settings = Settings.load(env={}, retries=0, draft=False, **more)

    async def read() -> None:
        async for event in Aligner(script.model(), settings).stream(asking()):
            seen.append(event)

    reader = asyncio.create_task(read())
    await reached.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    last = seen[-1]
    assert isinstance(last, RunFailed)
    calls = [event for event in seen if isinstance(event, Called)]
    assert Counter(call.stage for call in calls)["score"] == 4
    spent = Spending.from_json(last.spent)
    assert spent.tokens.total == sum(call.charged.total for call in calls)
