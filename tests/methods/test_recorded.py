"""Every method is recorded: how it began, each call, how it ended; and whoever asks is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from methodical import Stages
from scripted import Script, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, EcoAlignError, ModelError
from ecoalign.methods import METHODS, open_method
from ecoalign.models.fake import FakeModel
from ecoalign.settings import Settings
from ecoalign.trace import Alignment, critical_path, read_trace
from ecoalign.trace.events import Called, Event, Finished, RunFailed, RunStarted

SETTINGS = Settings.load(env={}, retries=0)


def says(name: str) -> FakeModel:
    return Script().model() if name.startswith("ecoalign") else Stages().model()


@pytest.mark.parametrize("name", METHODS)
async def test_the_result_is_what_the_events_say(name: str, tmp_path: Path) -> None:
    model, told = says(name), list[Event]()
    ledger = Ledger(Budget(tokens=60_000))
    result = await open_method(name, SETTINGS).answer(asking(), model, ledger, on_event=told.append)
    started, *_, finished = told
    assert isinstance(started, RunStarted)
    assert (started.method, started.model, started.question) == (
        name,
        "fake",
        "What does the sign say?",
    )
    assert isinstance(finished, Finished)
    calls = [event for event in told if isinstance(event, Called)]
    assert len(calls) == model.calls == result.spent.calls
    assert sum(call.charged.total for call in calls) == result.spent.tokens.total
    assert tuple(told) == result.trace.events
    assert (result.method, result.budget) == (name, ledger.budget)
    assert result.critical_path == critical_path(told)
    result.trace.save(tmp_path / "trace.jsonl")
    assert Alignment.from_events(read_trace(tmp_path / "trace.jsonl")) == result


@pytest.mark.parametrize("name", METHODS)
async def test_a_run_that_failed_is_on_record_too(name: str) -> None:
    model = FakeModel(lambda request: ModelError("gone", fault="down", billed=False))
    told = list[Event]()
    with pytest.raises(EcoAlignError) as caught:
        await open_method(name, SETTINGS).answer(
            asking(), model, Ledger(Budget(tokens=60_000)), on_event=told.append
        )
    assert tuple(caught.value.trace) == tuple(told)
    assert isinstance(told[0], RunStarted)
    assert isinstance(told[-1], RunFailed)
    assert told[-1].error == type(caught.value).__name__
    assert sum(isinstance(event, Called) for event in told) == model.calls


@pytest.mark.parametrize("name", METHODS)
async def test_a_budget_that_is_too_small_is_on_record_with_no_call(name: str) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        await open_method(name, SETTINGS).answer(asking(), says(name), Ledger(Budget(tokens=50)))
    assert [type(event) for event in caught.value.trace] == [RunStarted, RunFailed]


@pytest.mark.parametrize("name", ["base", "ecso", "best-of-n", "ecoalign"])
async def test_a_run_that_is_cancelled_says_so(name: str) -> None:
    """The calls that had ended by then, and those that were cut off, are on record."""
    began = asyncio.Event()

    async def hangs(request: object) -> str:
        began.set()
        await asyncio.Event().wait()
        return ""

    model, told = FakeModel(hangs), list[Event]()
    ledger = Ledger(Budget(tokens=60_000))
    task = asyncio.create_task(
        open_method(name, SETTINGS).answer(asking(), model, ledger, on_event=told.append)
    )
    await began.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    calls = [event for event in told if isinstance(event, Called)]
    assert len(calls) == model.calls >= 1
    assert all(call.error is not None and call.error.kind == "cancelled" for call in calls)
    assert isinstance(told[-1], RunFailed)
    assert told[-1].error == "Cancelled"
    assert told[-1].spent["tokens"] == ledger.spent.to_json()["tokens"]
    assert ledger.open_calls == 0


@pytest.mark.parametrize("name", ["ecoalign", "ecoalign:myopic"])
async def test_the_price_is_a_factor_on_that_of_the_settings(name: str) -> None:
    dear = await open_method(name, SETTINGS).answer(
        asking(), Script().model(), Ledger(Budget(tokens=60_000)), price_factor=50.0
    )
    started = dear.trace.events[0]
    assert isinstance(started, RunStarted)
    assert started.settings["lambda0"] == pytest.approx(50 * SETTINGS.lambda0)
    most = await open_method(name, SETTINGS).answer(
        asking(), Script().model(), Ledger(Budget(tokens=60_000)), price_factor=1e12
    )
    capped = most.trace.events[0]
    assert isinstance(capped, RunStarted)
    assert capped.settings["lambda0"] == 1000.0
