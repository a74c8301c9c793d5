from __future__ import annotations

import asyncio

import pytest
from evaluator_samples import (
    KEY,
    FnModel,
    Judge,
    RecordingClient,
    failing,
    judge,
    score_request,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import BudgetExceeded, ModelError, SettingsError, VerdictError
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator, gives_utility
from ecoalign.models import Usage
from ecoalign.prompts.requests import ScoreResult

REQUEST = score_request()


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.booleans()), min_size=1, max_size=5)
)
def test_least_safety_and_the_first_utility(members: list[tuple[float, float, bool]]) -> None:
    judges = [
        judge(str(i), safety, utility, safety_only=only)
        for i, (safety, utility, only) in enumerate(members)
    ]
    ensemble = Ensemble(judges)
    result = asyncio.run(ensemble.score(REQUEST, RecordingClient()))
    assert result.safety == min(safety for safety, _, _ in members)
    assert result.utility == next((u for _, u, only in members if not only), 0.0)
    assert gives_utility(ensemble) == any(not only for _, _, only in members)


async def test_a_guard_vetoes_and_the_lvlm_gives_the_utility() -> None:
    guard = GuardEvaluator(FnModel(lambda call: "unsafe\nS1", name="fn:guard"))
    lvlm = SelfEvaluator(FnModel(lambda call: f'{{"key":"{KEY}","safety":9,"utility":9}}'))
    client = RecordingClient()
    ensemble = Ensemble([guard, lvlm])
    assert await ensemble.score(REQUEST, client, fund="e") == ScoreResult(-1.0, 1.0)
    assert sorted(client.paid) == [("fn:guard", "score", "e"), ("fn:model", "score", "e")]
    assert ensemble.name == "least(guard:fn:guard, self:fn:model)"
    assert ensemble.bound(REQUEST) == guard.bound(REQUEST) + lvlm.bound(REQUEST)


def test_the_bound_is_the_sum() -> None:
    ensemble = Ensemble([judge("a", 1), Ensemble([judge("b", 1), judge("c", 1)])])
    assert ensemble.bound(REQUEST) == Usage(prompt=300, completion=30, image=180)


async def test_members_run_at_once() -> None:
    # Each waits for the other: one after the other would never end.
    first, second = asyncio.Event(), asyncio.Event()

    async def wait(mine: asyncio.Event, other: asyncio.Event) -> ScoreResult:
        mine.set()
        await other.wait()
        return ScoreResult(0.5, 0.5)

    ensemble = Ensemble(
        [Judge("a", lambda: wait(first, second)), Judge("b", lambda: wait(second, first))]
    )
    async with asyncio.timeout(5):
        assert (await ensemble.score(REQUEST, RecordingClient())).safety == 0.5


@pytest.mark.parametrize(
    "error",
    [
        VerdictError("two verdicts"),
        ModelError("guard is down", fault="down"),
        BudgetExceeded("no money", unit="tokens", needed=9, remaining=1),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_member_that_fails_is_never_ignored(error: Exception, place: int) -> None:
    members = [judge("a", 1.0, 1.0), judge("b", 1.0, 1.0)]
    members.insert(place, failing("broken", error))
    with pytest.raises(type(error)) as caught:
        await Ensemble(members).score(REQUEST, RecordingClient())
    assert any("broken" in note for note in caught.value.__notes__)


async def test_the_other_calls_are_let_finish() -> None:
    finished = []
    failed = asyncio.Event()

    async def slow() -> ScoreResult:
        await failed.wait()
        await asyncio.sleep(0)
        finished.append("slow")
        return ScoreResult(1.0, 1.0)

    async def fail() -> ScoreResult:
        failed.set()
        raise VerdictError("none")

    with pytest.raises(VerdictError):
        await Ensemble([Judge("slow", slow), Judge("bad", fail)]).score(REQUEST, RecordingClient())
    assert finished == ["slow"]


async def test_of_several_failures_the_gravest_is_raised() -> None:
    verdict = failing("v", VerdictError("v"))
    model = failing("m", ModelError("m", fault="server"))
    money = failing("b", BudgetExceeded("b", unit="usd", needed=2, remaining=1))
    bug = failing("x", ZeroDivisionError("x"))
    with pytest.raises(ModelError):
        await Ensemble([verdict, model]).score(REQUEST, RecordingClient())
    with pytest.raises(BudgetExceeded):
        await Ensemble([verdict, model, money]).score(REQUEST, RecordingClient())
    with pytest.raises(ZeroDivisionError):
        await Ensemble([money, bug]).score(REQUEST, RecordingClient())


async def test_a_member_whose_call_was_cancelled_elsewhere_is_a_failure() -> None:
    members = [judge("a", 1.0), failing("gone", asyncio.CancelledError())]
    with pytest.raises(VerdictError, match="gone"):
        await Ensemble(members).score(REQUEST, RecordingClient())


async def test_cancelling_the_score_cancels_every_member_and_waits_for_them() -> None:
    started, cleaned = [asyncio.Event(), asyncio.Event()], []

    async def hang(index: int) -> ScoreResult:
        started[index].set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(index)
        raise AssertionError

    members = [Judge("0", lambda: hang(0)), Judge("1", lambda: hang(1))]
    task = asyncio.create_task(Ensemble(members).score(REQUEST, RecordingClient()))
    for event in started:
        await event.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cleaned) == [0, 1]


def test_an_empty_ensemble_is_refused() -> None:
    with pytest.raises(SettingsError):
        Ensemble([])
