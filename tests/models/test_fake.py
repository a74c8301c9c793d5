from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import ModelError
from ecoalign.models import ChatModel, ChatRequest, Completion, ImagePart, Message, TextPart
from ecoalign.models.fake import FakeModel, count_tokens

IMAGE = ImagePart(b"x", "image/png", 1, 1)


def ask(text: str = "hello", max_tokens: int = 50, *, image: bool = False) -> ChatRequest:
    parts: tuple[TextPart | ImagePart, ...] = (TextPart(text),)
    messages = (Message("user", (*parts, IMAGE) if image else parts),)
    return ChatRequest(messages=messages, max_tokens=max_tokens, stage="test")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=40), st.text(max_size=200), st.integers(1, 30), st.booleans())
def test_usage_never_exceeds_the_bound(prompt: str, answer: str, cap: int, image: bool) -> None:
    model = FakeModel(lambda _: answer)
    request = ask(prompt, cap, image=image)
    done = asyncio.run(model.complete(request))
    bound = model.bound(request)
    assert done.usage is not None
    assert done.usage.prompt == bound.prompt
    assert done.usage.completion <= bound.completion == cap
    assert done.usage.image == (64 if image else 0)
    clean = answer.encode("utf-8", "replace").decode()
    assert clean.startswith(done.text)
    assert (done.finish_reason == "stop") == (done.text == clean)


def test_tokens() -> None:
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde", "éé", "ééé")] == [
        0,
        1,
        1,
        2,
        1,
        2,
    ]


async def test_a_completion_passes_untouched() -> None:
    lie = Completion("longer than the cap allows", None)
    assert await FakeModel(lambda _: lie).complete(ask(max_tokens=1)) is lie


async def test_errors_returned_and_raised_count_as_calls() -> None:
    error = ModelError("no", fault="down", billed=False)

    def raising(request: ChatRequest) -> str:
        raise error

    for model in (FakeModel(lambda _: error), FakeModel(raising)):
        for _ in range(2):
            with pytest.raises(ModelError) as caught:
                await model.complete(ask())
            assert caught.value is error
        assert model.calls == 2


async def test_an_async_function_and_the_peak_of_concurrency() -> None:
    together = asyncio.Event()

    async def answer(request: ChatRequest) -> str:
        if model.calls == 3:
            together.set()
        await together.wait()
        return request.messages[0].text.upper()

    model = FakeModel(answer, "mine", "compact")
    done = await asyncio.gather(*(model.complete(ask(text)) for text in "abc"))
    assert [one.text for one in done] == ["A", "B", "C"]
    assert model.peak == 3
    assert [request.messages[0].text for request in model.requests] == ["a", "b", "c"]
    assert isinstance(model, ChatModel)
    assert (model.name, model.dialect) == ("mine", "compact")
    await model.aclose()
    await model.aclose()
