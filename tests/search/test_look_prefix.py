"""A look is sent with its crop alone, or after the views where that is cheaper."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from scripted import Prompt, Script, action, actions, image

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.models import Profile
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest

LONG = "What does the sign say? " + "It is on the wall of the old house. " * 200


def propose(prompt: Prompt) -> str:
    if len(prompt.thoughts) > 1:
        return actions(action("answer", "", [[9, 9, 100]]))
    return actions(action("look", "there", [[9, 9, 100]], region=[600, 600, 800, 800], image=2))


async def looked(question: str, budget: Budget, *, caches: bool) -> list[ChatRequest]:
    """The call of the look and that of its verdict."""
    model = FakeModel(Script(propose=propose), profile=Profile(prefix_cache=caches))
    settings = Settings.load(env={}, retries=0, draft=False)
    aligner = Aligner(model, settings, price=lambda model, usage: Decimal(usage.total))
    # So large, and so small a part, that a view does not show all of it.
    query = Query.of([image(2000, 1500), image(1800, 1400)], question)
    await aligner.align(query, budget)
    calls = [r for r in model.requests if "Close view of a part of Image 2" in r.messages[-1].text]
    assert [call.stage for call in calls] == ["execute", "score"]
    return calls


@pytest.mark.parametrize(
    ("question", "budget", "caches", "images"),
    [
        (LONG, Budget(usd=1e6), True, 3),
        # Cached tokens count fully in a budget of tokens.
        (LONG, Budget(tokens=500_000), True, 1),
        (LONG, Budget(usd=1e6, tokens=500_000), True, 1),
        # Nothing is cached, or there is less to read again than to look up.
        (LONG, Budget(usd=1e6), False, 1),
        ("What does the sign say?", Budget(usd=1e6), True, 1),
    ],
)
async def test_a_look_goes_the_cheaper_way(
    question: str, budget: Budget, caches: bool, images: int
) -> None:
    look, verdict = await looked(question, budget, caches=caches)
    assert len(look.messages[-1].images) == images
    # The judge sees what was seen, in the same order.
    assert verdict.messages[-1].images == look.messages[-1].images
    crop = look.messages[-1].images[-1]
    same = look.messages[-1].parts.index(crop) + 1
    assert verdict.messages[-1].parts[:same] == look.messages[-1].parts[:same]
    assert verdict.messages[0] == look.messages[0]
