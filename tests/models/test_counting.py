"""Lines of text counted by a server's own tokenizer, over a real socket."""

from __future__ import annotations

import json

import pytest
from listening import listening

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.models import ChatRequest, CountsLines, Message, Profile, TextPart
from ecoalign.models.openai import OpenAIModel

LINES = ("The first line of a prompt, long enough.", "A second line, which is long enough, too.")


def model_at(url: str) -> OpenAIModel:
    return OpenAIModel("m", base_url=f"{url}/v1", profile=Profile(tokenize="/tokenize"))


def llama_cpp(body: bytes) -> tuple[int, bytes]:
    asked = json.loads(body)
    assert asked["add_special"] is False
    return 200, json.dumps({"tokens": [1] * len(asked["content"].split())}).encode()


def vllm(body: bytes) -> tuple[int, bytes]:
    asked = json.loads(body)
    assert asked["add_special_tokens"] is False
    assert asked["model"] == "m"
    tokens = [1] * len(asked["prompt"].split())
    return 200, json.dumps({"count": len(tokens), "max_model_len": 9, "tokens": tokens}).encode()


@pytest.mark.parametrize("answer", [llama_cpp, vllm])
async def test_long_lines_are_counted_once_and_bound_what_they_cost(answer: object) -> None:
    with listening(answer) as heard:  # type: ignore[arg-type]
        model = model_at(heard.url)
        assert isinstance(model, CountsLines)
        await model.count_lines([*LINES, "short", LINES[0]])
        await model.count_lines(LINES)
        await model.aclose()
    assert heard.paths == ["/tokenize"] * 2
    assert sorted(model.known.texts.values()) == [8, 8]
    request = ChatRequest((Message("user", (TextPart("\n".join((*LINES, "short"))),)),), 7, "test")
    client = MeteredClient(Ledger(Budget(tokens=1000)))
    saved = sum(len(line) + 1 for line in LINES) - 2 * (8 + 1)
    assert client.bound(model, request).prompt == model.bound(request).prompt - saved


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, b"{}"),
        (500, b"no tokenizer"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"count": 3}'),
        (200, b'{"tokens": []}'),
        (200, b'{"tokens": [1]}'),
        (200, json.dumps({"tokens": [1] * 999}).encode()),
    ],
)
async def test_a_counter_that_fails_is_left_alone(status: int, said: bytes) -> None:
    with listening(lambda body: (status, said)) as heard:
        model = model_at(heard.url)
        await model.count_lines(LINES[:1])
        await model.count_lines(LINES)
        await model.aclose()
    assert len(heard.paths) == 1
    assert model.known.texts == {}


async def test_a_server_that_is_gone_or_has_no_counter_costs_nothing() -> None:
    with listening() as heard:
        pass
    gone = model_at(heard.url)
    await gone.count_lines(LINES)
    assert gone.known.texts == {}
    with listening(llama_cpp) as heard:
        without = OpenAIModel("m", base_url=heard.url, profile=Profile())
        await without.count_lines(LINES)
    assert heard.paths == []
