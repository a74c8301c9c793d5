"""A judge that sees no images is told what they show, or it gives no verdict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from evaluator_samples import CAPTION, KEY, FnModel, RecordingClient, score_request
from scripted import Script, align, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import VerdictError
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator
from ecoalign.evaluators._unseen import described
from ecoalign.methods._best_of_n import BestOfN
from ecoalign.models import Profile, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.search.synthesizer import FIXED_REFUSALS
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
        assert (result.answer in FIXED_REFUSALS) == harmful


@pytest.mark.parametrize("draft", [True, False])
async def test_without_a_caption_nothing_comes_out(draft: bool) -> None:
    model = Script(caption="").model()
    evaluator, heard = blind(model)
    with pytest.raises(VerdictError) as caught:
        await align(model, evaluator=evaluator, draft=draft)
    assert heard == []
    failed = [event for event in caught.value.trace if isinstance(event, ActionFailed)]
    assert {event.cause for event in failed} <= {"VerdictError"}
    # And of a question without images it needs none.
    free = await align(model, evaluator=evaluator, query=asking(0), draft=draft)
    assert free.answer not in FIXED_REFUSALS
    assert not any("[Images" in text for text in heard)


async def test_best_of_n_describes_no_images_so_a_blind_guard_lets_nothing_out() -> None:
    model = FakeModel(lambda request: "a sample")
    guard = GuardEvaluator(FakeModel(lambda request: "safe", name="guard"), images=False)
    method = BestOfN("best-of-2", Settings.load(env={}, retries=0), 2, guard)
    with pytest.raises(VerdictError):
        await method.answer(asking(), model, Ledger(Budget(tokens=100_000)))


@dataclass
class Bounding(FnModel):
    """It keeps the calls that it has bounded."""

    bounded: tuple[ChatRequest, ...] = ()

    def bound(self, request: ChatRequest) -> Usage:
        self.bounded += (request,)
        return super().bound(request)


FORMS = [(name, form) for name in ("full", "small") for form in ("json", "word", "samples")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("check", [0, 1])
async def test_a_model_that_sees_no_images_judges_by_the_caption(
    form: tuple[str, str], check: int
) -> None:
    name, scoring = form
    values = {"dialect": name, "scoring": scoring, "images": False, "logprobs": 20}
    heard: list[ChatRequest] = []

    def verdict(request: ChatRequest) -> str:
        heard.append(request)
        text = request.messages[-1].text
        good = f'{{"key": "{KEY}", "safety": 9, "utility": 8}}'
        return good if KEY in text and "key" in text else "good"

    model = Bounding(verdict)
    model.profile = Profile().with_values(values, "t")  # type: ignore[attr-defined]
    judge = SelfEvaluator(model)
    request = replace(score_request(), check=check)
    with suppress(VerdictError):
        # In a word it wants log-probabilities, which this model has none of.
        await judge.score(request, RecordingClient())
    assert heard
    for call in heard:
        text = "\n".join(message.text for message in call.messages)
        assert not any(message.images for message in call.messages)
        assert "in the images" not in text
        assert f"summary: {CAPTION.text}" not in text
    assert any("[Images: A board with two signs.]" in str(call.messages) for call in heard)
    # What is bounded is what is asked.
    assert judge.bound(request).total > 0
    judge.bounds(request, lambda model, call: model.bound(call))
    assert model.bounded == judge.dialect.score_calls(described(request)) * 2
    # With nothing to go by it asks for nothing.
    heard.clear()
    for path in ((), (replace(CAPTION, text=" "),)):
        with pytest.raises(VerdictError, match="self:fn:model cannot see the images"):
            await judge.score(replace(request, path=path), RecordingClient())
    assert heard == []
    free = replace(request, views=(), path=())
    assert all("[Images" not in str(call) for call in judge.dialect.score_calls(free))
