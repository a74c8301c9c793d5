"""What every stage of a run shares: how it asks, and behind which fence a text is scored."""

from __future__ import annotations

import pytest
from scripted import Script, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.evaluators import SelfEvaluator
from ecoalign.graph import ROOT, ActionKind, Thought, ThoughtGraph, ThoughtId, ThoughtKind
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.requests import ScanRequest
from ecoalign.search.context import RunContext
from ecoalign.search.proposer import propose
from ecoalign.settings import Settings

TOP = Thought(ROOT, ThoughtKind.ROOT, "A sign.", 1.0, 0.0, 0.0)
STEP = Thought(ThoughtId(1), ThoughtKind.THINK, "It is red.", 1.0, 0.5, 9.0, (ROOT,))


def context(model: FakeModel, nonce: str = "", images: int = 1) -> RunContext:
    ledger = Ledger(Budget(tokens=10_000))
    settings = Settings.load(env={}, temperature=0.2)
    return RunContext.of(asking(images), model, SelfEvaluator(model), ledger, settings, nonce=nonce)


@pytest.mark.parametrize(("asked", "used"), [(None, 0.2), (0.7, 0.7)])
async def test_a_temperature_of_its_own_comes_before_that_of_the_settings(
    asked: float | None, used: float
) -> None:
    model = Script().model()
    await context(model).ask(ScanRequest("What is it?", ()), temperature=asked)
    assert [request.temperature for request in model.requests] == [used]


def test_every_text_is_fenced_by_a_word_of_its_own_run_place_and_kind() -> None:
    model = Script().model()
    run = context(model, "secret")
    fences = [
        made.score_request(path, kind, text).fence
        for made in (run, context(model, "another"))
        for path in ((TOP,), (TOP, STEP))
        for kind in ("think", "answer")
        for text in ("It is red.", "It is blue.")
    ]
    assert len(set(fences)) == len(fences) == 16
    # The same run, replayed, asks the same again.
    again = context(model, "secret").score_request((TOP,), "think", "It is red.")
    assert again.fence == fences[0]
    assert context(model).nonce != context(model).nonce


@pytest.mark.parametrize("images", [0, 1])
async def test_a_look_is_only_proposed_where_there_is_an_image(images: int) -> None:
    """The compact dialect lets a model look whether there is one or not."""
    model = FakeModel(lambda request: "look center 9 9 2;answer 9 8 1", dialect="compact")
    ctx = context(model, images=images)
    await ctx.encode_views()
    found = await propose(ctx, ThoughtGraph("A sign."), ROOT, 1)
    looks = [c for c in found.candidates if c.kind is ActionKind.LOOK]
    assert (len(looks), len(found.candidates), found.dropped) == (images, images + 1, 1 - images)
