"""One model behind every method: answers, streams and comparisons."""

from __future__ import annotations

import pytest
from methodical import Stages, graded
from scripted import asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, SettingsError
from ecoalign.methods import Answerer
from ecoalign.models.fake import FakeModel
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event, Finished, RunStarted


def answerer() -> tuple[Answerer, FakeModel]:
    model = Stages(score=graded(9, 5)).model()
    return Answerer(Settings(), model), model


async def test_each_method_has_a_budget_of_its_own_and_its_events() -> None:
    told: list[tuple[str, Event]] = []
    subject, _ = answerer()
    both = await subject.compare(
        asking(), ["best-of-2", "base"], Budget(tokens=50_000), on_event=lambda *e: told.append(e)
    )
    assert list(both) == ["best-of-2", "base"]
    for name, answer in both.items():
        assert isinstance(answer, Alignment)
        assert answer.method == name
        assert answer.budget == Budget(tokens=50_000)
        assert [e for n, e in told if n == name] == list(answer.trace.events)


async def test_one_that_fails_does_not_lose_the_other() -> None:
    subject, _ = answerer()
    both = await subject.compare(asking(), ["base", "ecoalign"], Budget(tokens=1500))
    assert isinstance(both["base"], Alignment)
    assert isinstance(both["ecoalign"], BudgetTooSmall)


async def test_an_unknown_method_is_told_before_anything_is_asked() -> None:
    subject, model = answerer()
    with pytest.raises(SettingsError, match="bass"):
        await subject.compare(asking(), ["base", "bass"])
    assert not model.requests


async def test_a_stream_begins_and_ends_as_a_trace_does() -> None:
    subject, _ = answerer()
    events = [event async for event in subject.stream(asking(), "base", Budget(tokens=50_000))]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], Finished)


async def test_a_ledger_has_its_own_budget() -> None:
    subject, _ = answerer()
    ledger = Ledger(Budget(tokens=50_000))
    with pytest.raises(ValueError, match="not both"):
        await subject.answer(asking(), "base", Budget(tokens=1), ledger=ledger)
    answer = await subject.answer(asking(), "base", ledger=ledger)
    assert answer.spent.tokens == ledger.spent.tokens


async def test_what_was_handed_in_is_left_open() -> None:
    class Closing(FakeModel):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    model = Closing(lambda request: "")
    async with Answerer(Settings(), model):
        pass
    assert not model.closed
