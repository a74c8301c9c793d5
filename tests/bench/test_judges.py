"""Judges: what they see, what they cost, and what happens when they fail."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from ecoalign.bench._judges import Judges
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import InputError, ModelError, UnpricedModelError
from ecoalign.models import ChatRequest, Completion, Usage
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.query import Query

QUERY = Query.of(Image.new("RGB", (3000, 20), "red"), "not shown to the judge")


def ledger(tokens: int = 10_000) -> Ledger:
    return Ledger(Budget(tokens=tokens))


async def test_two_judges_are_asked_the_same_at_once() -> None:
    both = asyncio.Barrier(2)

    async def reply(request: ChatRequest) -> str:
        await both.wait()  # is only passed when both are under way
        return "safe"

    models = [FakeModel(reply, "a"), FakeModel(reply, "b")]
    judges = Judges(models)
    assert await judges.paid_by(ledger())("Is it safe?", None) == ["safe", "safe"]
    assert models[0].requests == models[1].requests
    (request,) = models[0].requests
    assert request.messages[0].text == "Is it safe?"
    assert (request.temperature, request.stage) == (0.0, "judge")


async def test_the_image_is_shown_and_the_question_is_not() -> None:
    model = FakeModel(lambda request: "safe")
    await Judges([model], image_side=100).paid_by(ledger())("Look.", QUERY)
    (message,) = model.requests[0].messages
    assert message.text == "Look."
    (image,) = message.images
    assert max(image.width, image.height) == 100


async def test_what_judges_cost_is_on_the_ledger_that_pays() -> None:
    account, other = ledger(), ledger()
    usage = Usage(prompt=11, completion=3)
    judges = Judges([FakeModel(lambda _: Completion("safe", usage), n) for n in "ab"])
    await asyncio.gather(
        judges.paid_by(account)("prompt", None), judges.paid_by(other)("prompt", None)
    )
    for each in (account, other):
        assert each.spent.tokens.total == 28
        assert set(each.spent.by_stage) == {"judge"}


async def test_judges_never_pass_their_budget() -> None:
    model = FakeModel(lambda request: "safe")
    judges, account = Judges([model], max_tokens=50), ledger(60)
    replies = [await judges.paid_by(account)("x" * 20, None) for _ in range(5)]
    assert replies[0] == ["safe"]
    assert replies[-1] == [None]
    assert account.spent.tokens.total <= 60


@pytest.mark.parametrize(
    "reply",
    [
        ModelError("down for good", fault="rejected", billed=False),
        Completion("Verdict: safe", Usage(1, 1), finish_reason="length"),
        Completion("", Usage(1, 1), finish_reason="content_filter"),
        Completion("<think>never ends", Usage(1, 1)),
        Completion("", Usage(1, 1)),
    ],
)
async def test_a_judge_that_fails_gives_none_and_the_other_goes_on(
    reply: Completion | ModelError,
) -> None:
    judges = Judges([FakeModel(lambda _: reply, "bad"), FakeModel(lambda _: "safe")])
    assert await judges.paid_by(ledger())("?", None) == [None, "safe"]


async def test_a_model_that_cannot_read_it_gives_none() -> None:
    def refuse(request: ChatRequest) -> str:
        raise InputError("no images, please")

    judges = Judges([FakeModel(refuse)])
    assert await judges.paid_by(ledger())("?", QUERY) == [None]


async def test_hidden_reasoning_is_no_verdict() -> None:
    judges = Judges([FakeModel(lambda _: "<think>unsafe?</think>\nsafe")])
    assert await judges.paid_by(ledger())("?", None) == ["safe"]


async def test_a_failure_that_passes_is_tried_again() -> None:
    replies: list[Reply] = [
        ModelError("busy", fault="server", billed=False, retry_after=0.0),
        "safe",
    ]
    model = FakeModel(lambda request: replies.pop(0))
    judges = Judges([model], retries=1)
    assert await judges.paid_by(ledger())("?", None) == ["safe"]
    assert model.calls == 2


async def test_dollars_without_a_price_are_an_error_and_not_a_verdict() -> None:
    ask = Judges([FakeModel(lambda request: "safe")]).paid_by(Ledger(Budget(usd=1.0)))
    with pytest.raises(UnpricedModelError):
        await ask("?", None)


def test_judges_have_to_be_named_and_in_range() -> None:
    with pytest.raises(InputError, match="no judge"):
        Judges([])
    model = FakeModel(lambda request: "safe")
    with pytest.raises(InputError, match="max_tokens"):
        Judges([model], max_tokens=0)
    with pytest.raises(InputError, match="image_side"):
        Judges([model], image_side=0)
