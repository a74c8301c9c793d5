from __future__ import annotations

from pathlib import Path

import pytest
from bench_doubles import request

from ecoalign.bench._cache import CachedModel, ResponseCache, is_deterministic, scope_of
from ecoalign.errors import InputError, ModelError
from ecoalign.models import Completion, TokenLogprob, Usage
from ecoalign.models.fake import FakeModel

FULL = Completion(
    text="four — 4",
    usage=Usage(30, 2, 20, 5),
    finish_reason="length",
    logprobs=(TokenLogprob("4", -0.5, {"4": -0.5, "5": float("-inf")}),),
    model="served-by",
    seconds=1.25,
)


async def test_a_second_asking_costs_as_much_and_calls_nobody(tmp_path: Path) -> None:
    model = FakeModel(lambda asked: FULL)
    cache = ResponseCache(tmp_path / "deep" / "cache.sqlite")
    first, second = CachedModel(model, cache), CachedModel(model, cache)
    assert await first.complete(request()) == FULL
    assert await second.complete(request()) == FULL
    assert (model.calls, first.hits, second.hits) == (1, 0, 1)
    assert second.bound(request()) == model.bound(request())
    assert (second.name, second.dialect) == (model.name, model.dialect)
    cache.close()
    reopened = ResponseCache(tmp_path / "deep" / "cache.sqlite")
    assert await CachedModel(model, reopened).complete(request()) == FULL
    assert (model.calls, len(reopened)) == (1, 1)
    reopened.close()


async def test_only_what_is_deterministic_is_kept(tmp_path: Path) -> None:
    model = FakeModel(lambda asked: "x")
    cache = ResponseCache(tmp_path / "c.sqlite")
    cached = CachedModel(model, cache)
    random, seeded = request(temperature=0.7), request(temperature=0.7, seed=1)
    assert [is_deterministic(one) for one in (request(), random, seeded)] == [True, False, True]
    for one in (random, random, seeded, seeded):
        await cached.complete(one)
    assert (model.calls, cached.hits, len(cache)) == (3, 1, 1)
    cache.close()


async def test_another_question_model_or_server_is_another_answer(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    here, there = ResponseCache(path), ResponseCache(path, "http://other/v1")
    one, two = FakeModel(lambda asked: "1", "one"), FakeModel(lambda asked: "2", "two")
    assert (await CachedModel(one, here).complete(request())).text == "1"
    assert (await CachedModel(two, here).complete(request())).text == "2"
    await CachedModel(one, here).complete(request("other"))
    await CachedModel(one, here).complete(request(seed=3))
    await CachedModel(one, there).complete(request())
    assert (one.calls, two.calls, len(here)) == (4, 1, 5)
    here.close()
    there.close()


async def test_failures_and_unknown_usage_are_as_they_were(tmp_path: Path) -> None:
    said: list[Completion | ModelError] = [
        ModelError("down", fault="down"),
        Completion("fine", usage=None),
    ]
    model = FakeModel(lambda asked: said.pop(0))
    cache = ResponseCache(tmp_path / "c.sqlite")
    cached = CachedModel(model, cache)
    with pytest.raises(ModelError):
        await cached.complete(request())
    for _ in range(2):
        assert (await cached.complete(request())).usage is None
    assert model.calls == 2
    cache.close()


def test_what_is_no_cache_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"not a database, and long enough to be looked at as one" * 40)
    with pytest.raises(InputError, match="response cache"):
        ResponseCache(path)


def test_the_weights_of_the_embedded_model_are_part_of_its_scope() -> None:
    assert len(scope_of("embedded")) == 16
    assert scope_of("openai:x", "http://a/v1") == "http://a/v1"
    assert scope_of("openai:x") == ""
