"""Servers that report what cannot be are charged so, stopped and named; honest ones are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Budget, Called, Ledger, MeteredClient
from ecoalign.budget._accounts import (
    CAP_SLACK,
    IMAGE_SLACK,
    MOST_APART,
    MOST_REPORTED,
    PROMPT_SLACK,
    impossible,
)
from ecoalign.errors import ModelError
from ecoalign.models import ChatRequest, Completion, ImagePart, Message, TextPart, Usage
from ecoalign.models._tokens import bound

CAP = 100
TEXT = "what is on the sign?"


def asked(*images: ImagePart, stage: str = "scan") -> ChatRequest:
    return ChatRequest((Message("user", (TextPart(TEXT), *images)),), CAP, stage)


@dataclass
class Reporting:
    """A model that answers at once and reports what it is told to.

    Attributes:
        says: the completion for a request.
        family: by whose formula its images are bounded.
    """

    says: Callable[[ChatRequest], Completion]
    family: str = "unknown"
    name: str = "openai:reporting"
    dialect: str = "full"
    asked: list[ChatRequest] = field(default_factory=list)

    def bound(self, request: ChatRequest) -> Usage:
        return bound(request, self.family)

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append(request)
        return self.says(request)

    async def aclose(self) -> None:
        """Nothing to close."""


def reporting(usage: Usage, apart: int = 0) -> Reporting:
    return Reporting(lambda request: Completion("yes", usage, apart=apart))


LIES = {
    "a token beyond the slack": (Usage(50, CAP + CAP_SLACK + 1), 0),
    "140,000 above the cap": (Usage(50, CAP + 140_000), 0),
    "more than anything": (Usage(50, 10**15), 0),
    "thoughts that no model has": (Usage(50, CAP + 140_000), 140_000),
    "fewer thoughts than it takes": (Usage(50, 3000), 2800),
    "a prompt that was never sent": (Usage(100_000, 10), 0),
    "both": (Usage(10**15, 10**15), 10**15),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("budget", [Budget(tokens=5000), Budget(seconds=60.0)], ids=str)
async def test_a_lie_is_charged_as_it_is_and_ends_everything(name: str, budget: Budget) -> None:
    usage, apart = LIES[name]
    liar, honest = reporting(usage, apart), reporting(Usage(50, 5))
    ledger, calls = Ledger(budget), list[Called]()
    client = MeteredClient(ledger, retries=3, on_call=calls.append)
    with pytest.raises(ModelError, match=r"openai:reporting reported .* for a scan call") as caught:
        await client.complete(liar, asked())
    assert caught.value.fault == "false-usage"
    assert caught.value.exit_code == 3
    charged = Usage(min(usage.prompt, MOST_REPORTED), min(usage.completion, MOST_REPORTED))
    assert ledger.spent.tokens == charged
    # Neither it nor another one is asked again, by any part of the run; that costs nothing.
    for model in (liar, honest):
        for one in (client, client.scoped(stage="score")):
            with pytest.raises(ModelError, match="is asked no more in this run"):
                await one.complete(model, asked())
    assert (len(liar.asked), len(honest.asked)) == (1, 0)
    assert ledger.spent.calls == 1
    (call,) = calls
    assert call.error is not None
    assert (call.error.kind, call.text) == ("false-usage", None)
    assert (call.charged, call.usage) == (charged, usage)
    with pytest.raises(ModelError):
        client.check()


async def test_a_lie_beside_an_answer_that_cannot_be_used_is_one_too() -> None:
    def broken(request: ChatRequest) -> Completion:
        raise ModelError("no text", fault="bad-response", usage=Usage(50, 140_000))

    ledger = Ledger(Budget(tokens=5000))
    client = MeteredClient(ledger, retries=3)
    with pytest.raises(ModelError, match="reported 140,000 tokens") as caught:
        await client.complete(Reporting(broken), asked())
    assert caught.value.fault == "false-usage"
    assert ledger.spent.tokens.total == 140_050


async def test_what_is_under_way_ends_at_once() -> None:
    under_way = asyncio.Event()

    async def forever(request: ChatRequest) -> Completion:
        under_way.set()
        await asyncio.Event().wait()
        raise AssertionError

    class Slow(Reporting):
        async def complete(self, request: ChatRequest) -> Completion:
            return await forever(request)

    slow, liar = Slow(lambda request: Completion("", None)), reporting(Usage(50, 140_000))
    ledger = Ledger(Budget(tokens=500_000))
    client = MeteredClient(ledger)

    async def lying() -> None:
        await under_way.wait()
        # What a stage does with the errors of its calls does not matter.
        with pytest.raises(ModelError):
            await client.complete(liar, asked())
        await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(10):
        with pytest.raises(ModelError, match="reported 140,000 tokens"), client.until_caught():
            await asyncio.gather(client.complete(slow, asked()), lying())
    assert task.cancelling() == 0
    assert ledger.open_calls == 0
    # Nobody knows what was billed for the call that was cut off.
    assert ledger.spent.tokens.total == 140_050 + slow.bound(asked()).total


async def test_a_block_that_nobody_lies_in_ends_as_it_does() -> None:
    client = MeteredClient(Ledger(Budget(tokens=5000)))
    with client.until_caught():
        assert (await client.complete(reporting(Usage(50, 5)), asked())).text == "yes"
    with pytest.raises(KeyError), client.until_caught():
        raise KeyError
    task = asyncio.create_task(_waiting(client))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _waiting(client: MeteredClient) -> None:
    with client.until_caught():
        await asyncio.Event().wait()


async def test_a_probe_lets_a_server_report_what_it_will() -> None:
    liar, ledger = reporting(Usage(50, 140_000)), Ledger(Budget(tokens=10**6))
    client = MeteredClient(ledger, trusting=True)
    for _ in range(2):
        assert (await client.complete(liar, asked())).text == "yes"
    assert ledger.spent.tokens.total == 280_100


# Honest servers ----------------------------------------------------------------------------------

WIDE = ImagePart(b"", "image/png", 2048, 768)

HONEST: dict[str, tuple[ChatRequest, Usage, int]] = {
    "keeps its bound": (asked(), Usage(50, CAP), 0),
    "counts the end of the text": (asked(), Usage(50, CAP + 1), 0),
    "counts the marks of thoughts": (asked(), Usage(50, CAP + 8), 0),
    "thinks beside its cap": (asked(), Usage(50, CAP + 30_000), 30_000),
    "has a system prompt of its own": (asked(), Usage(8000, 5), 0),
    "says nothing of its name": (asked(WIDE), Usage(2833 + 8 * 5667 + 200, 5, 48_169), 0),
    "reads from its cache": (asked(), Usage(60, 5, 0, 60), 0),
    "leaves the cache out": (asked(), Usage(1, 5), 0),
}


@pytest.mark.parametrize("name", HONEST)
async def test_an_honest_server_goes_on_and_is_charged_as_it_reports(name: str) -> None:
    request, usage, apart = HONEST[name]
    ledger = Ledger(Budget(tokens=400_000))
    client = MeteredClient(ledger, retries=0)
    model = reporting(usage, apart)
    for _ in range(3):
        assert (await client.complete(model, request)).text == "yes"
    floor = 2 if usage.prompt == 1 else 0
    assert floor or ledger.spent.tokens.total == 3 * usage.total
    client.check()
    # What it has beyond its bound is reserved the next time.
    reserved = client.bound(model, request)
    assert reserved.completion >= usage.completion
    assert reserved.prompt >= usage.prompt


@given(
    st.integers(1, 10_000),
    st.integers(1, 5000),
    st.integers(0, 8),
    st.integers(0, 2 * MOST_APART),
    st.integers(0, CAP_SLACK),
)
def test_what_is_within_its_limits_is_possible(
    prompt: int, cap: int, images: int, apart: int, slack: int
) -> None:
    had = Usage(prompt, cap)
    most = 2 * prompt + PROMPT_SLACK + images * IMAGE_SLACK
    written = cap + slack + min(apart, MOST_APART)
    assert not impossible(Usage(most, written), had, images=images, apart=apart)
    assert "prompt" in impossible(Usage(most + 1, written), had, images=images, apart=apart)
    beyond = Usage(most, written + CAP_SLACK - slack + 1)
    assert "output" in impossible(beyond, had, images=images, apart=apart)
