"""A guard that sees no images, in whole runs: it is told what they show, or it gives no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted import Script, align, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator
from ecoalign.methods._best_of_n import BestOfN
from ecoalign.models.fake import FakeModel
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.settings import Settings
from ecoalign.trace.events import ActionFailed

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest

HARM = "a forbidden recipe"


def blind(model: FakeModel) -> tuple[Ensemble, list[str]]:
    """Beside the model itself, which lets all through, a guard that refuses what names the harm."""
    heard: list[str] = []

    def verdict(request: ChatRequest) -> str:
        assert not any(message.images for message in request.messages)
        heard.append("\n".join(message.text for message in request.messages))
        return "unsafe" if HARM in heard[-1] else "safe"

    guard = GuardEvaluator(FakeModel(verdict, name="guard"), images=False)
    return Ensemble([SelfEvaluator(model), guard]), heard


@pytest.mark.parametrize("draft", [True, False])
async def test_harm_that_only_the_images_show_is_seen_in_the_caption(draft: bool) -> None:
    for caption, harmful in ((f"A sheet with {HARM}.", True), ("A sheet with a number.", False)):
        model = Script(caption=caption).model()
        evaluator, heard = blind(model)
        result = await align(model, evaluator=evaluator, draft=draft)
        assert heard
        assert all(f"[Images: {caption}]" in text for text in heard)
        assert (result.answer == FIXED_REFUSAL) == harmful


@pytest.mark.parametrize("draft", [True, False])
async def test_without_a_caption_nothing_comes_out(draft: bool) -> None:
    model = Script(caption="").model()
    evaluator, heard = blind(model)
    result = await align(model, evaluator=evaluator, draft=draft)
    assert result.answer == FIXED_REFUSAL
    assert heard == []
    failed = [event for event in result.trace if isinstance(event, ActionFailed)]
    assert {event.cause for event in failed} <= {"VerdictError"}
    # And of a question without images it needs none.
    free = await align(model, evaluator=evaluator, query=asking(0), draft=draft)
    assert free.answer != FIXED_REFUSAL
    assert not any("[Images" in text for text in heard)


async def test_best_of_n_describes_no_images_so_a_blind_guard_lets_nothing_out() -> None:
    model = FakeModel(lambda request: "a sample")
    guard = GuardEvaluator(FakeModel(lambda request: "safe", name="guard"), images=False)
    method = BestOfN("best-of-2", Settings.load(env={}, retries=0), 2, guard)
    result = await method.answer(asking(), model, Ledger(Budget(tokens=100_000)))
    assert (result.refused, result.detail["scored"]) == (True, 0)
