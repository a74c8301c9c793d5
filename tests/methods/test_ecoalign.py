"""EcoAlign behind the interface, and the engine on a ledger that is handed in."""

from __future__ import annotations

import pytest
from scripted import Prompt, Script, action, actions, asking, of_kind

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall
from ecoalign.methods import open_method
from ecoalign.search.synthesizer import UNSAFE_ANSWERS
from ecoalign.settings import Settings
from ecoalign.trace import critical_path
from ecoalign.trace.events import Proposed, RunStarted

SETTINGS = Settings.load(env={}, retries=0)


async def test_the_engine_pays_from_the_ledger_that_it_is_given() -> None:
    ledger = Ledger(Budget(tokens=50_000, seconds=100.0))
    model = Script().model()
    result = await Aligner(model, SETTINGS).align(asking(), ledger=ledger)
    assert ledger.spent.tokens.total == result.spent.tokens.total > 0
    assert ledger.spent.calls == model.calls
    assert ledger.open_calls == 0
    assert result.budget == ledger.budget
    (started,) = of_kind(list(result.trace), RunStarted)
    assert isinstance(started, RunStarted)
    assert started.budget == "50000,100s"


async def test_a_ledger_bounds_the_run_whatever_the_settings_allow() -> None:
    for tokens in (4_000, 6_000, 9_000):
        ledger = Ledger(Budget(tokens=tokens))
        generous = SETTINGS.replace(budget=10**9, lambda0=0.0)
        await Aligner(Script().model(), generous).align(asking(), ledger=ledger)
        assert 0 < ledger.spent.tokens.total <= tokens
    with pytest.raises(BudgetTooSmall):
        await Aligner(Script().model(), generous).align(asking(), ledger=Ledger(Budget(tokens=50)))


async def test_a_budget_and_a_ledger_together_are_a_mistake() -> None:
    aligner = Aligner(Script().model(), SETTINGS)
    with pytest.raises(ValueError, match="not both"):
        await aligner.align(asking(), Budget(tokens=9), ledger=Ledger(Budget(tokens=9)))


async def test_the_answer_is_the_engine_s() -> None:
    one, other = Script().model(), Script().model()
    answer = await open_method("ecoalign", SETTINGS).answer(
        asking(), one, Ledger(Budget(tokens=50_000))
    )
    result = await Aligner(other, SETTINGS).align(asking(), Budget(tokens=50_000))
    assert (answer.answer, answer.safety, answer.utility, answer.stop_reason) == (
        result.answer,
        result.safety,
        result.utility,
        result.stop_reason,
    )
    assert answer.spent.by_stage.keys() == result.spent.by_stage.keys()
    assert answer.critical_path == critical_path(result.trace.events)
    assert [thought.kind for thought in answer.path] == [thought.kind for thought in result.path]
    assert (answer.method, answer.preset) == ("ecoalign", "default")


async def test_presets_reach_the_engine() -> None:
    ledger = Ledger(Budget(tokens=50_000))
    answer = await open_method("ecoalign:paper", SETTINGS).answer(
        asking(), Script().model(), ledger
    )
    assert (answer.method, answer.preset) == ("ecoalign:paper", "paper")
    # It drafts nothing, and what stands is not written again.
    assert answer.answer.startswith("answer number")
    first = next(event for event in answer.trace if isinstance(event, Proposed))
    assert len(first.candidates) > 1


@pytest.mark.parametrize("text", ["I can't help with that.", "Let us talk about birds instead."])
async def test_refused_says_how_the_path_ended_whatever_the_text(text: str) -> None:
    def propose(prompt: Prompt) -> str:
        return actions(action("refuse", "", [[9, 9, 100]]))

    model = Script(
        propose=propose,
        execute=lambda p: text,
        score=lambda p: (0, 0) if p.kind == "answer" else (9, 9),
    ).model()
    answer = await open_method("ecoalign", SETTINGS).answer(
        asking(), model, Ledger(Budget(tokens=50_000))
    )
    assert answer.answer == text
    assert answer.refused


async def test_the_house_refusal_is_one() -> None:
    model = Script(score=lambda p: (0, 0)).model()
    answer = await open_method("ecoalign:myopic", SETTINGS).answer(
        asking(), model, Ledger(Budget(tokens=50_000))
    )
    assert (answer.answer, answer.refused) == (UNSAFE_ANSWERS, True)
