"""Every preset runs, and every setting of the search does what it says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.settings import PRESETS, Settings, default_budget
from ecoalign.trace.events import ActionsChosen, PathChosen, Proposed, StepStarted, ThoughtAdded


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("budget", [Budget(tokens=15_000), Budget(seconds=60.0)], ids=str)
@pytest.mark.parametrize("images", [0, 1])
async def test_every_preset_answers(preset: str, budget: Budget, images: int) -> None:
    if preset == "paper" and budget.tokens is None:
        # The paper's horizon counts tokens, so it needs a budget of them, however large.
        budget = Budget(tokens=10**7, seconds=60.0)
    result = await align(
        Script().model(), budget, asking(images), preset=preset, max_thoughts=12, max_depth=3
    )
    assert result.preset == preset
    assert not result.refused
    assert result.answer
    assert result.safety == 1.0


async def test_look_off_and_no_image_to_look_at() -> None:
    propose = lambda p: actions(  # noqa: E731
        action("look", "l", [[9, 9, 100]], region=[0, 0, 500, 500]), action("answer", "a")
    )
    seen = await align(Script(propose=propose).model())
    assert ThoughtKind.LOOK in {e.thought.kind for e in seen.trace if isinstance(e, ThoughtAdded)}
    for query, look in ((asking(1), False), (asking(0), True)):
        blind = await align(Script(propose=propose).model(), query=query, look=look)
        kinds = {e.thought.kind for e in blind.trace if isinstance(e, ThoughtAdded)}
        assert kinds == {ThoughtKind.ANSWER}
        assert next(e for e in blind.trace if isinstance(e, Proposed)).dropped == 1


async def test_max_thoughts_is_never_passed_by_the_search() -> None:
    for most in (1, 2, 3, 6):
        result = await align(Script().model(), max_thoughts=most, batch=4, lambda0=0.0)
        searched = [e for e in result.trace if isinstance(e, ThoughtAdded) and e.action >= 0]
        assert len(searched) <= most - 1
        assert result.stop_reason == "limits"


async def test_max_depth_is_never_passed_and_is_told() -> None:
    propose = lambda p: actions(action("think", "deeper"))  # noqa: E731
    for deepest in (1, 2, 4):
        result = await align(Script(propose=propose).model(), max_depth=deepest, lambda0=0.0)
        made = [e.thought for e in result.trace if isinstance(e, ThoughtAdded)]
        thoughts = [t for t in made if t.kind is ThoughtKind.THINK]
        assert [t.parents for t in thoughts] == [(n,) for n in range(deepest)]
        assert result.stop_reason == "limits"


@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_batch(batch: int) -> None:
    result = await align(Script().model(), batch=batch, max_thoughts=12, batch_margin=0.0)
    sizes = [len(e.actions) for e in result.trace if isinstance(e, ActionsChosen)]
    assert max(sizes) == batch


async def test_the_margin_is_measured_from_the_best_action_that_is_carried_out() -> None:
    """The best action is too dear; of the affordable ones the second is as good as the first."""

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) > 1:
            return actions()
        return actions(
            action("answer", "dear " * 1600, [[9, 9, 10]]),
            action("think", "one", [[9, 5, 10]]),
            action("think", "two", [[9, 5, 10]]),
        )

    chosen = []
    for budget in range(7_000, 14_000, 500):
        result = await align(
            Script(propose=propose).model(), budget, lambda0=0.0, candidates=16, max_thoughts=4
        )
        first = next((e for e in result.trace if isinstance(e, ActionsChosen)), None)
        if first is not None:
            chosen.append(first.actions)
    assert (1, 2) in chosen
    assert (0,) in chosen


async def test_candidates_asked_for_and_kept() -> None:
    many = lambda p: actions(*(action("think", str(i)) for i in range(9)))  # noqa: E731
    model = Script(propose=many).model()
    result = await align(model, candidates=3, max_thoughts=3)
    proposed = next(e for e in result.trace if isinstance(e, Proposed))
    assert (len(proposed.candidates), proposed.dropped) == (3, 6)
    asked = next(r for r in model.requests if r.stage == "propose")
    assert "Propose at most 3" in asked.messages[-1].text


@pytest.mark.parametrize(("economy", "worth"), [("ratio", "s*u/c"), ("no-cost", "s*u")])
async def test_the_path_is_chosen_by_the_economy(economy: str, worth: str) -> None:
    result = await align(Script().model(), economy=economy, max_thoughts=20)
    chosen = next(e for e in result.trace if isinstance(e, PathChosen))
    expected = chosen.safety * chosen.utility / (chosen.cost if worth == "s*u/c" else 1.0)
    assert chosen.gamma == pytest.approx(expected)


async def test_the_price_of_a_token_rises_as_the_budget_shrinks() -> None:
    result = await align(Script().model(), 30_000, lambda0=0.02)
    steps = [e for e in result.trace if isinstance(e, StepStarted)]
    # Price per mean action: the mean itself moves a little.
    prices = [e.price * e.mean_cost for e in steps[1:]]
    assert all(a <= b for a, b in pairwise(prices))
    assert prices[-1] > prices[0] > 0


async def test_sampling_settings_reach_every_stage_but_the_verdict() -> None:
    model = Script(propose=lambda p: actions()).model()
    await align(model, temperature=0.7, seed=11)
    for request in model.requests:
        if request.stage == "score":
            assert request.temperature == 0.0
        else:
            assert (request.temperature, request.seed) == (0.7, 11)


@pytest.mark.parametrize(
    "settings",
    [{"merge": False}, {"fuse": False}, {"strategy": True}, {"batch_margin": 0.0}, {"delta": 0.1}],
    ids=str,
)
async def test_each_of_these_runs(settings: dict[str, Any]) -> None:
    result = await align(
        Script(request_safety=5, plan="Careful.").model(), max_thoughts=10, **settings
    )
    assert not result.refused


async def test_without_a_budget_that_of_the_model_is_in_force() -> None:
    script = Script(propose=lambda p: actions(action("answer", "it", [[9, 9, 100]])))
    aligner = Aligner(script.model(), Settings.load(env={}))
    assert (await aligner.align(asking())).budget == default_budget("fake")
    small = Aligner(script.model(), Settings.load(env={}, budget="30000"))
    assert (await small.align(asking())).budget == Budget(tokens=30_000)
    assert Aligner("embedded", Settings.load(env={})).settings.budget == Budget(tokens=8000)
