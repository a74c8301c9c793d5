"""One local model, a small one for text: caps, stops, sampling, log-probabilities, schemas, time,
cancellation, errors and the end."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra hf is not installed")
pytest.importorskip("transformers", reason="the extra hf is not installed")

import torch
from hf_requests import ask, picture, told, turn
from tiny_models import make

from ecoalign.errors import InputError, ModelError
from ecoalign.models import (
    ChatRequest,
    Completion,
    ImagePart,
    Profile,
    SamplingParams,
    Usage,
    open_model,
)
from ecoalign.models.hf import HFModel
from ecoalign.models.hf._model import _SHARED

pytestmark = pytest.mark.slow

ENDLESS = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("text", tmp_path_factory.mktemp("calls") / "text")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llava", tmp_path_factory.mktemp("calls") / "llava")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[HFModel]:
    opened = open_model(f"hf:{folder}")
    assert isinstance(opened, HFModel)
    yield opened
    asyncio.run(opened.aclose())


def used(completion: Completion) -> Usage:
    assert completion.usage is not None
    return completion.usage


def spelled(completion: Completion) -> str:
    assert completion.logprobs is not None
    return "".join(entry.token for entry in completion.logprobs)


@pytest.mark.parametrize("cap", [1, 2, 7, 40])
async def test_the_cap_is_kept_to_the_token(model: HFModel, cap: int) -> None:
    for question in ("a", "What is it?", "x y z"):
        completion = await model.complete(ask(question, max_tokens=cap))
        ended = completion.finish_reason == "stop"
        assert (
            used(completion).completion == cap if not ended else used(completion).completion <= cap
        )
        assert completion.finish_reason in {"stop", "length"}
        assert spelled(completion) == completion.text
        assert len(told(completion)) == used(completion).completion - ended
        assert completion.seconds > 0


async def test_an_answer_ends_before_a_stop(model: HFModel) -> None:
    free = await model.complete(ask("What is it?", max_tokens=30))
    assert len(free.text) > 8
    for begin, length in ((2, 1), (4, 3), (len(free.text) - 2, 2)):
        stop = free.text[begin : begin + length]
        cut = await model.complete(
            ask("What is it?", max_tokens=30, client={"stop": ["zzz", stop]})
        )
        assert cut.text == free.text[: free.text.index(stop)]
        assert cut.finish_reason == "stop"
        assert spelled(cut) == cut.text
        assert used(cut).completion <= used(free).completion


async def test_logprobs_are_those_of_the_model_whatever_is_sampled(model: HFModel) -> None:
    greedy = await model.complete(ask("Say it.", top_logprobs=20, max_tokens=20))
    assert greedy.logprobs is not None
    for entry in greedy.logprobs:
        assert 1 <= len(entry.top) <= 20
        assert sum(map(math.exp, entry.top.values())) <= 1 + 1e-5
        assert entry.logprob == max(entry.top.values()) <= 0
    cold = await model.complete(ask("Say it.", top_logprobs=20, max_tokens=20, temperature=1e-4))
    narrow = await model.complete(
        ask("Say it.", top_logprobs=20, max_tokens=20, temperature=2.0, client={"top_p": 1e-6})
    )
    hot = await model.complete(ask("Say it.", top_logprobs=20, max_tokens=1, temperature=50.0))
    for other in (cold, narrow):
        assert other.text == greedy.text
        assert told(other) == pytest.approx(told(greedy), abs=1e-4)
    # The first token's table is the same whatever came of it.
    assert hot.logprobs is not None
    assert dict(hot.logprobs[0].top) == pytest.approx(dict(greedy.logprobs[0].top), abs=1e-4)
    assert (await model.complete(ask("Say it.", top_logprobs=0))).logprobs is None


async def test_a_seed_gives_the_same_answer_alone_and_among_others(model: HFModel) -> None:
    asked = [ask("Tell me.", temperature=1.5, seed=seed, max_tokens=12) for seed in range(6)]
    first = [(await model.complete(one)).text for one in asked]
    again = await asyncio.gather(*(model.complete(one) for one in asked))
    assert [one.text for one in again] == first
    assert len(set(first)) > 1
    free = {
        (await model.complete(ask("Tell me.", temperature=1.5, max_tokens=12))).text for _ in "abcd"
    }
    assert len(free) > 1
    client = ask("Tell me.", client={"temperature": 1.5, "seed": 3}, max_tokens=12)
    assert (await model.complete(client)).text == first[3]


SCHEMA = {
    "type": "object",
    "properties": {"safety": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["safety"],
    "additionalProperties": False,
}


async def test_an_answer_fits_its_schema_in_a_batch_too(model: HFModel) -> None:
    pytest.importorskip("llguidance", reason="llguidance holds answers to a schema")
    assert model.profile.schema_mode == "json_schema"
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    many = [
        ask("Rate it.", schema=SCHEMA, max_tokens=200),
        ask("Rate it.", schema=SCHEMA, max_tokens=200, temperature=3.0, seed=1),
        ask("Rate it.", max_tokens=200, client={"response_format": format_}),
        ask("Rate it."),
    ]
    *fitting, free = await asyncio.gather(*(model.complete(one) for one in many))
    for completion in fitting:
        value = json.loads(completion.text)
        assert set(value) == {"safety"}
        assert 0 <= value["safety"] <= 9
        assert completion.finish_reason == "stop"
    assert free.text == (await model.complete(many[3])).text
    assert not free.text.startswith("{")
    cut = await model.complete(ask("Rate it.", schema=SCHEMA, max_tokens=3))
    assert (cut.finish_reason, used(cut).completion) == ("length", 3)


async def test_a_schema_that_cannot_be_enforced_is_read_and_counted(model: HFModel) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    asked = ask("Rate it.", schema=schema)
    plain = await model.complete(ask("Rate it."))
    completion = await model.complete(asked)
    assert used(completion).prompt > used(plain).prompt + 20
    assert model.bound(asked).prompt == used(completion).prompt


async def test_what_a_client_may_ask(model: HFModel) -> None:
    client = {"logprobs": True, "top_logprobs": 3, "top_p": 0.9, "stop": "~~", "user": "u"}
    assert model.unsupported(SamplingParams(None, client)) is None
    completion = await model.complete(ask("Say it.", top_logprobs=0, client=client, max_tokens=4))
    assert completion.raw_logprobs is not None
    content = completion.raw_logprobs["content"]
    assert "".join(entry["token"] for entry in content) == completion.text
    assert all(1 <= len(entry["top_logprobs"]) <= 3 for entry in content)
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_p", 0),
        ("top_p", True),
        ("top_logprobs", 21),
        ("temperature", 3),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "grammar"}),
        ("frequency_penalty", 0.5),
        ("vendor", 1),
    ],
)
async def test_what_it_cannot_honour_is_named(model: HFModel, name: str, value: object) -> None:
    assert model.unsupported(SamplingParams(None, {name: value})) == name
    with pytest.raises(InputError, match=f"cannot honour {name}") as caught:
        await model.complete(ask("x", client={name: value}))
    assert caught.value.param == name


async def test_an_unknown_extra_is_refused(model: HFModel) -> None:
    with pytest.raises(InputError, match="'min_p'"):
        await model.complete(ask("x", extra={"min_p": 0.1}))


async def test_the_template_is_handed_what_the_extra_says(folder: Path) -> None:
    template = folder / "chat_template.jinja"
    before = template.read_text()
    template.write_text(before + "{% if not thinking %}no thoughts{% endif %}")
    extra_body = {"chat_template_kwargs": {"thinking": True}}
    try:
        quiet = HFModel(str(folder), max_batch=2)
        loud = HFModel(
            str(folder),
            max_batch=2,
            tune=lambda known: known.with_values({"extra_body": extra_body}, "us"),
        )
    finally:
        template.write_text(before)
    asked = ask("x")
    assert loud.bound(asked).prompt < quiet.bound(asked).prompt
    for model in (loud, quiet):
        assert used(await model.complete(asked)).prompt == model.bound(asked).prompt
        await model.aclose()


async def test_a_call_ends_when_its_time_is_up(model: HFModel) -> None:
    with pytest.raises(ModelError, match="cut off after") as caught:
        await model.complete(ask("x", max_tokens=ENDLESS, timeout=1.0, client={"stop": "none"}))
    assert (caught.value.fault, caught.value.billed) == ("timeout", True)
    assert caught.value.usage.prompt == model.bound(ask("x")).prompt
    assert 0 < caught.value.usage.completion < ENDLESS
    with pytest.raises(ModelError) as caught:
        await model.complete(ask("x", timeout=0.0))
    assert (caught.value.fault, caught.value.billed) == ("timeout", False)
    # Beside one that is cut off, another is answered.
    ends, lasts = await asyncio.gather(
        model.complete(ask("x", max_tokens=5)),
        model.complete(ask("x", max_tokens=ENDLESS, schema=ENDLESS_SCHEMA, timeout=1.0)),
        return_exceptions=True,
    )
    assert isinstance(ends, Completion)
    assert isinstance(lasts, ModelError)


ENDLESS_SCHEMA = {"type": "string", "minLength": 10 * ENDLESS}
"""Nothing but the cap ends an answer that fits it."""


async def test_cancelling_a_call_ends_it(model: HFModel) -> None:
    pytest.importorskip("llguidance", reason="llguidance holds answers to a schema")
    task = asyncio.create_task(model.complete(ask("x", max_tokens=ENDLESS, schema=ENDLESS_SCHEMA)))
    for _ in range(3):
        await asyncio.sleep(0.05)  # the loop is free while the model writes
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The next one does not wait for a hundred thousand tokens.
    assert (await asyncio.wait_for(model.complete(ask("x")), 60)).text


async def test_a_short_answer_does_not_wait_for_a_long_one(model: HFModel) -> None:
    pytest.importorskip("llguidance", reason="llguidance holds answers to a schema")
    long = asyncio.create_task(model.complete(ask("x", max_tokens=ENDLESS, schema=ENDLESS_SCHEMA)))
    short = asyncio.create_task(model.complete(ask("x", max_tokens=3)))
    done, pending = await asyncio.wait({long, short}, timeout=60, return_when="FIRST_COMPLETED")
    assert (done, pending) == ({short}, {long})
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_a_prompt_that_is_too_long_is_refused(seeing: Path) -> None:
    model = HFModel(str(seeing))
    asked = ask("word " * 5000)
    assert model.bound(asked).prompt > 4096
    with pytest.raises(InputError, match="reads at most 4096 tokens"):
        await model.complete(asked)
    nearly = await model.complete(ask("x" * 40, max_tokens=ENDLESS, temperature=1.0, seed=1))
    assert used(nearly).total <= 4096
    await model.aclose()


@pytest.mark.parametrize("data", [b"", b"not an image", picture().data[:200]])
async def test_bytes_that_are_no_image(seeing: Path, data: bytes) -> None:
    model = HFModel(str(seeing))
    broken = ask(ImagePart(data, "image/png", 10, 10), "What is it?")
    beside = ask(picture(), "What is it?")
    wrong, right = await asyncio.gather(
        model.complete(broken), model.complete(beside), return_exceptions=True
    )
    assert isinstance(wrong, InputError)
    assert "cannot be read" in str(wrong)
    assert isinstance(right, Completion)
    await model.aclose()


async def test_models_of_one_name_share_their_weights_until_the_last_is_closed(
    folder: Path,
) -> None:
    one, other = HFModel(str(folder), max_batch=3), HFModel(str(folder), max_batch=3)
    engine = one._opened()
    assert other._opened() is engine
    weights = weakref.ref(engine._model)
    del engine
    before = (await one.complete(ask("x"))).text
    await one.aclose()
    await one.aclose()
    assert (await other.complete(ask("x"))).text == before
    await other.aclose()
    gc.collect()
    assert weights() is None
    # A later call loads them again.
    assert (await one.complete(ask("x"))).text == before
    await one.aclose()


async def test_where_the_memory_is_too_small_for_a_batch_each_call_is_run_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = HFModel(str(folder), max_batch=4)
    many = [ask(f"Question {i} " + "of many words " * 12) for i in range(4)]
    expected = [(await model.complete(asked)).text for asked in many]
    engine = model._opened()
    generate, most = engine._model.generate, 1

    def small(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(**inputs)

    monkeypatch.setattr(engine._model, "generate", small)
    together = await asyncio.gather(*(model.complete(asked) for asked in many))
    assert [one.text for one in together] == expected
    most = 0
    with pytest.raises(ModelError, match="out of memory, this call does not fit") as caught:
        await model.complete(many[0])
    assert (caught.value.fault, caught.value.billed) == ("rejected", False)
    most = 4
    assert (await model.complete(many[0])).text == expected[0]

    def broken(**inputs: Any) -> Any:
        raise ZeroDivisionError("in a kernel")

    monkeypatch.setattr(engine._model, "generate", broken)
    failed = await asyncio.gather(*map(model.complete, many), return_exceptions=True)
    assert all(isinstance(one, ModelError) and one.fault == "server" for one in failed)
    monkeypatch.undo()
    assert (await model.complete(many[0])).text == expected[0]
    await model.aclose()


async def test_a_conversation_that_the_template_refuses(tmp_path: Path) -> None:
    model = HFModel(str(make("gemma-3", tmp_path / "gemma-3")))
    turns = (turn("assistant", "I speak first."), turn("user", "Do you?"))
    for read in (model.bound, model._opened().encoder.prompt):
        with pytest.raises(InputError, match=r"does not take this conversation: .* alternate"):
            read(ChatRequest(turns, 8, "test"))
    await model.aclose()


def test_a_profile_that_cannot_be_used_frees_the_model(folder: Path) -> None:
    def tune(found: Profile) -> Profile:
        return found.with_values({"logprobs": 100}, "us")

    before = len(_SHARED)
    with pytest.raises(InputError, match="logprobs"):
        HFModel(str(folder), max_batch=7, tune=tune)
    assert len(_SHARED) == before


def test_two_loops_one_after_the_other(model: HFModel) -> None:
    texts = {asyncio.run(model.complete(ask("x"))).text for _ in range(2)}
    assert len(texts) == 1


def fails(name: str, **values: Any) -> str:
    with pytest.raises((InputError, ModelError)) as caught:
        HFModel(name, **values)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500
    return said


def test_what_cannot_be_opened_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    assert "no name" in fails(" ")
    assert "no such folder" in fails(str(tmp_path / "none"))
    assert "cannot be loaded" in fails(str(tmp_path))
    assert "unknown dtype 'int3'" in fails(str(folder), dtype="int3")
    assert "device 'tpu9'" in fails(str(folder), device="tpu9")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert "neither answers about images nor writes text" in fails(str(tmp_path))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert "no chat template" in fails(str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert "cannot be loaded" in fails(str(tmp_path))  # there are no weights
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be loaded" in fails(str(tmp_path))


OPEN = """
import sys
from ecoalign.errors import EcoAlignError
from ecoalign.models import open_model
try:
    open_model("hf:ecoalign/there-is-no-such-model")
except EcoAlignError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "ModelError .* the hub is not asked"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "ModelError .* the hub cannot be reached"),
    ],
)
def test_a_hub_that_is_not_there(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = subprocess.run(
        [sys.executable, "-c", OPEN], capture_output=True, text=True, timeout=300, check=True
    )
    assert re.fullmatch(expected + r"[^\n]*\n", ran.stdout)
    assert ran.stderr == ""
