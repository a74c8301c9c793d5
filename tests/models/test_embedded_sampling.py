"""What the embedded model does of what a client asks."""

from __future__ import annotations

from random import Random

import pytest

from ecoalign.bench.world.questions import Kind, make_case
from ecoalign.bench.world.scenes import draw
from ecoalign.models import ChatRequest, Message, TextPart
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.embedded._model import stops_of, until_stop
from ecoalign.query import Picture


def call(**client: object) -> ChatRequest:
    scene, question = make_case(Random(3), Kind.PLAIN, "train", big=True)
    view = Picture.load(draw(scene)).view(96)
    message = Message("user", (TextPart(question.text), view))
    return ChatRequest((message,), 40, "answer", client=client)


async def test_an_answer_ends_before_its_stop_and_costs_what_was_written() -> None:
    model = EmbeddedModel()
    whole = await model.complete(call())
    words = whole.text.split()
    assert len(words) >= 2
    cut = await model.complete(call(stop=[words[1], "zzz"]))
    assert (cut.text, cut.finish_reason) == (words[0], "stop")
    assert cut.usage == whole.usage
    assert (await model.complete(call(stop="zzz"))).text == whole.text


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("a b c", ("c", "b"), ("a", True)),
        ("a b c", ("d",), ("a b c", False)),
        ("a b c", (), ("a b c", False)),
        ("a b c", ("a",), ("", True)),
    ],
)
def test_the_first_stop_counts(text: str, stops: tuple[str, ...], left: tuple[str, bool]) -> None:
    assert until_stop(text, stops) == left


def test_stops_by_their_forms() -> None:
    assert stops_of({"stop": "a"}) == ("a",)
    assert stops_of({"stop": ["a", "b"]}) == ("a", "b")
    assert stops_of({"stop": None}) == stops_of({}) == ()
