"""The gateway, the bench and a second judge in front of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from command import SIGNS, both, run
from real_servers import SHORT, SHORT_CAPS, WAIT, RealServer, relayed
from serving import ANY_METHOD, Served, picture, serving

from ecoalign import Aligner, Settings
from ecoalign.evaluators import SelfEvaluator
from ecoalign.models.openai import OpenAIModel
from ecoalign.query import Query
from ecoalign.trace.events import Called

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def gateway(llama: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    where = ("--model", llama.model, "--base-url", llama.url)
    with serving(tmp_path_factory.mktemp("real"), *where, *SHORT, *ANY_METHOD) as served:
        yield served


@pytest.fixture
def client(gateway: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as made:
        yield made


def test_a_question_through_the_gateway(client: openai.OpenAI) -> None:
    url = picture()["image_url"]
    assert isinstance(url, dict)
    done = client.chat.completions.create(
        model="ecoalign",
        messages=[
            {"role": "system", "content": "Answer in one word."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": url["url"]}},
                    {"type": "text", "text": QUESTION},
                ],
            },
        ],
    )
    assert done.choices[0].message.content
    assert done.usage is not None
    evidence = done.model_extra["ecoalign"] if done.model_extra else {}
    assert 0 < done.usage.total_tokens <= evidence["budget"]["tokens"]
    assert evidence["refused"] or evidence["safety"] >= 0


def test_an_answer_is_streamed_after_it_was_scored(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="ecoalign",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said.strip()
    *_, last, usage = chunks
    assert last.choices[0].finish_reason in {"stop", "length"}
    assert usage.usage is not None
    assert last.model_extra is not None
    spent = last.model_extra["ecoalign"]["spent"]
    assert usage.usage.total_tokens == spent["tokens"]["total"]


def test_a_stream_that_is_passed_on(client: openai.OpenAI) -> None:
    """Method base: token by token, as the server sends it."""
    chunks = list(
        client.chat.completions.create(
            model="ecoalign",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=12,
            stream=True,
            extra_body={"ecoalign": {"method": "base"}},
        )
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    assert len(pieces) > 2


def test_a_bench_of_a_few_questions(tmp_path: Path, llama: RealServer) -> None:
    done = run(
        tmp_path,
        *("bench", "run", "main", "--model", llama.model, "--base-url", llama.url),
        *("--methods", "ecoalign", "--limit", "2", "--out", "out", "--concurrency", "2"),
        *SHORT,
        wait=WAIT,
    )
    assert done.returncode == 0, both(done)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert not [row for row in rows if row.get("error")]
    assert (tmp_path / "out" / "report.md").exists()


async def test_another_server_judges(llama: RealServer) -> None:
    """The judge is asked at its own address, and its tokens count in the one budget."""
    with relayed(llama.url) as (writer, written), relayed(llama.url) as (judge, judged):
        evaluator = SelfEvaluator(OpenAIModel(llama.model, base_url=judge.url))
        model = OpenAIModel(llama.model, base_url=writer.url)
        settings = Settings(budget="40000", caps=SHORT_CAPS, max_thoughts=3)
        aligner = Aligner(model, settings, evaluator=evaluator)
        result = await aligner.align(Query.of(SIGNS, QUESTION))
        await aligner.aclose()
        await evaluator.model.aclose()
    stages = [event.stage for event in result.trace if isinstance(event, Called)]
    assert len(judged.replies) == stages.count("score") > 0
    assert len(written.replies) == len(stages) - stages.count("score") > 0
    used = sum(_total(reply) for reply in (*written.replies, *judged.replies))
    assert 0 < used == result.spent.tokens.total <= 40_000


def _total(reply: dict[str, object]) -> int:
    usage = reply["usage"]
    assert isinstance(usage, dict)
    return int(usage["prompt_tokens"]) + int(usage["completion_tokens"])
