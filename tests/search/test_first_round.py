"""Scan and draft are one round trip: they run at once, and neither leaves anything behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import ModelError
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    ActionFailed,
    ActionsChosen,
    Called,
    Event,
    Proposed,
    RootScanned,
    RunFailed,
    RunStarted,
    ThoughtAdded,
)

SETTINGS = Settings.load(env={}, retries=0)
SCANNED = '{"caption": "A sign.", "safety": 9, "strategy": ""}'


@dataclass
class Meeting:
    """Scan and draft that wait for each other: a run that asks one after the other never ends.

    Attributes:
        scan, draft: what each says once both were asked.
        under_way: how many calls are being answered.
        hang: the stage that is not answered at all.
    """

    scan: Reply = SCANNED
    draft: Reply = "It says 42."
    hang: str = ""
    under_way: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: list[str] = field(default_factory=list)

    async def _say(self, what: str, reply: Reply) -> Reply:
        self.under_way += 1
        try:
            if self.under_way == 2:
                self.met.set()
            await self.met.wait()
            if what == self.hang:
                await asyncio.Event().wait()
            return reply
        except asyncio.CancelledError:
            self.cancelled.append(what)
            raise
        finally:
            self.under_way -= 1

    async def _drafted(self, prompt: Prompt) -> Reply:
        if prompt.kind == "answer" and len(prompt.thoughts) < 2:
            return await self._say("draft", self.draft)
        return f"{prompt.kind} later"

    def model(self) -> FakeModel:
        return Script(
            scan=lambda p: self._say("scan", self.scan),
            execute=self._drafted,
            propose=lambda p: actions(action("think", "on", [[9, 5, 9], [9, 9, 9]])),
            score=lambda p: (9, 9),
        ).model()


async def run(
    meeting: Meeting, ledger: Ledger, events: list[Event] | None = None, **more: Any
) -> Alignment:
    aligner = Aligner(meeting.model(), SETTINGS.replace(**more))
    work = aligner.align(
        asking(), ledger=ledger, on_event=events.append if events is not None else None
    )
    return await asyncio.wait_for(work, 10)


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def settled(ledger: Ledger) -> None:
    """Nothing is under way, and nothing is kept back but for the answer of the run."""
    assert ledger.open_calls == 0
    assert ledger.reserved.tokens == 0
    with pytest.raises(ValueError, match="there is no fund"):
        ledger.remaining("action 0")


async def test_scan_and_draft_wait_for_each_other() -> None:
    ledger = Ledger(Budget(tokens=50_000))
    result = await run(Meeting(), ledger)
    assert (result.answer, result.ended) == ("It says 42.", "drafted")
    settled(ledger)


async def test_the_trace_has_their_calls_in_one_order_whichever_ends_first() -> None:
    def kinds(events: list[Event]) -> list[str]:
        return [e.stage if isinstance(e, Called) else type(e).__name__ for e in events]

    for slow in ("scan", "draft"):
        meeting, events = Meeting(), list[Event]()
        waits = asyncio.Event()

        async def say(
            what: str,
            reply: Reply,
            meeting: Meeting = meeting,
            waits: asyncio.Event = waits,
            slow: str = slow,
        ) -> Reply:
            if what == slow:
                await waits.wait()
            waits.set()
            return reply

        meeting._say = say  # type: ignore[method-assign]
        await run(meeting, Ledger(Budget(tokens=50_000)), events)
        assert kinds(events)[:8] == [
            *("RunStarted", "scan", "Proposed", "ActionsChosen", "execute"),
            *("RootScanned", "score", "ThoughtAdded"),
        ]
        chosen = [e for e in events if isinstance(e, ActionsChosen)]
        assert [(e.step, e.actions) for e in chosen] == [(0, (0,))]
        (proposed,) = [e for e in events if isinstance(e, Proposed)]
        assert (proposed.first, len(proposed.candidates)) == (0, 1)


GONE = ModelError("gone", fault="server")


async def test_a_scan_that_fails_ends_the_run_once_the_draft_is_back() -> None:
    ledger, events = Ledger(Budget(tokens=50_000)), list[Event]()
    meeting = Meeting(scan=GONE)
    with pytest.raises(ModelError) as failed:
        await run(meeting, ledger, events)
    assert failed.value is GONE or failed.value.fault == "server"
    assert meeting.under_way == 0
    assert not others()
    settled(ledger)
    # The draft was paid for, and is on record.
    called = {e.stage: e for e in events if isinstance(e, Called)}
    assert called["execute"].text == "It says 42."
    assert ledger.spent.tokens.total == sum(e.charged.total for e in called.values())
    assert isinstance(events[-1], RunFailed)


@pytest.mark.parametrize("draft", [GONE, ModelError("odd", fault="bad-response"), ""])
async def test_a_draft_that_fails_does_not_disturb_the_scan(draft: Reply) -> None:
    ledger = Ledger(Budget(tokens=50_000))
    result = await run(Meeting(draft=draft), ledger)
    kinds = [type(e) for e in result.trace]
    assert kinds.index(RootScanned) < kinds.index(ActionFailed)
    failed = next(e for e in result.trace if isinstance(e, ActionFailed))
    assert failed.action == 0
    assert result.ended == "searched"
    settled(ledger)


@pytest.mark.parametrize("stage", ["scan", "draft"])
@pytest.mark.parametrize("fault", ["timeout", "down"])
async def test_a_server_that_hangs_or_is_gone_for_either_ends_the_run(
    stage: str, fault: Any
) -> None:
    ledger = Ledger(Budget(tokens=50_000))
    hangs = ModelError("no reply", fault=fault)
    with pytest.raises(ModelError):
        await run(Meeting(scan=hangs) if stage == "scan" else Meeting(draft=hangs), ledger)
    settled(ledger)
    assert not others()


@pytest.mark.parametrize("hang", ["scan", "draft"])
async def test_a_run_that_is_cancelled_meanwhile_leaves_nothing_behind(hang: str) -> None:
    ledger, events, meeting = Ledger(Budget(tokens=50_000)), list[Event](), Meeting(hang=hang)
    task = asyncio.create_task(run(meeting, ledger, events))
    await meeting.met.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hang in meeting.cancelled
    assert meeting.under_way == 0
    assert not others()
    settled(ledger)
    called = [e for e in events if isinstance(e, Called)]
    assert {e.stage for e in called} == {"scan", "execute"}
    assert "cancelled" in {e.error.kind for e in called if e.error}
    last = events[-1]
    assert isinstance(last, RunFailed)
    assert last.error == "Cancelled"
    # What was cut off may have been billed: its worst case is spent.
    assert ledger.spent.tokens.total == sum(e.charged.total for e in called)


async def test_a_budget_of_seconds_that_runs_out_meanwhile_is_an_error_and_leaves_nothing() -> None:
    ledger, meeting = Ledger(Budget(tokens=50_000, seconds=0.2)), Meeting(hang="draft")
    result = None
    try:
        result = await run(meeting, ledger)
    except ModelError as error:
        assert error.fault == "timeout"  # noqa: PT017 - either way it ends
    assert result is None or result.ended != "drafted"
    assert meeting.cancelled == ["draft"]
    assert not others()
    settled(ledger)


async def test_where_no_draft_is_wanted_the_scan_is_alone() -> None:
    events = list[Event]()
    model = Script(propose=lambda p: actions()).model()
    await Aligner(model, SETTINGS.replace(draft=False)).align(
        asking(), Budget(tokens=50_000), on_event=events.append
    )
    assert isinstance(events[0], RunStarted)
    assert [r.stage for r in model.requests[:2]] == ["scan", "propose"]
    assert not any(isinstance(e, ThoughtAdded) and e.action == 0 for e in events)
