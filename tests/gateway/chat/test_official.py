"""The official client, unchanged, against a real gateway with the embedded model."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from command import PLAIN, QUESTION
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from serving import ANY_METHOD, WAIT, Served, asking, picture, serving, text

from ecoalign.trace.events import Called, Finished, RunStarted, from_json


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("official"), "--concurrency", "4", *ANY_METHOD) as served:
        yield served


@pytest.fixture
def client(gateway: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as made:
        yield made


def _signs(question: str = QUESTION) -> list[ChatCompletionMessageParam]:
    url = picture()["image_url"]
    assert isinstance(url, dict)
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": question},
                {"type": "image_url", "image_url": {"url": url["url"]}},
            ],
        }
    ]


def test_an_answer_with_its_evidence(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="ecoalign", messages=_signs())
    assert done.choices[0].message.content == "59."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    evidence = done.model_extra["ecoalign"] if done.model_extra else {}
    assert evidence["safety"] > 0
    assert not evidence["refused"]
    assert evidence["method"] == "ecoalign"
    # Usage is all that was spent, by stage as well as in sum.
    by_stage = sum(stage["tokens"] for stage in evidence["spent"]["by_stage"].values())
    assert done.usage.total_tokens == evidence["spent"]["tokens"]["total"] == by_stage
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert by_stage <= evidence["budget"]["tokens"] == 8000
    assert set(evidence["spent"]["by_stage"]) >= {"scan", "score"}


def test_the_budget_of_a_request_is_kept(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="ecoalign",
        messages=_signs(),
        extra_body={"ecoalign": {"budget": {"tokens": 400, "seconds": 30}, "preset": "paper"}},
    )
    evidence = done.model_extra["ecoalign"] if done.model_extra else {}
    assert evidence["budget"] == {"tokens": 400, "usd": None, "seconds": 30}
    assert evidence["preset"] == "paper"
    assert done.usage is not None
    assert 0 < done.usage.total_tokens <= 400


def _read(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_stream_sync(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="embedded",
            messages=_signs(),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert _read(chunks) == "59."
    assert chunks[0].choices[0].delta.role == "assistant"
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    evidence = last.model_extra["ecoalign"] if last.model_extra else {}
    assert usage.usage.total_tokens == evidence["spent"]["tokens"]["total"]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_streams_async_and_at_once(gateway: Served) -> None:
    async with openai.AsyncOpenAI(
        base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT
    ) as client:

        async def one() -> str:
            stream = await client.chat.completions.create(
                model="ecoalign", messages=_signs(), stream=True
            )
            return _read([chunk async for chunk in stream])

        assert await asyncio.gather(*(one() for _ in range(4))) == ["59."] * 4


def test_nothing_but_comments_comes_before_the_answer(gateway: Served) -> None:
    body = asking(text(QUESTION), picture(), stream=True)
    with httpx2.stream("POST", f"{gateway.v1}/chat/completions", json=body, timeout=WAIT) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    comments = [line for line in lines if line.startswith(":")]
    first = lines.index(next(line for line in lines if line.startswith("data:")))
    assert comments
    assert lines[:first] == comments
    told = [json.loads(line.removeprefix(": ecoalign ")) for line in comments]
    # How far it is, and never a word of what was thought.
    assert {tuple(one) for one in told} == {("stage", "step", "thoughts", "calls", "tokens")}
    assert {one["stage"] for one in told} <= {"scan", "scanned", "step", "propose", "score"} | {
        "execute",
        "chosen",
        "write",
    }
    assert lines[-1] == "data: [DONE]"


def test_turns_and_system_prompts(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="ecoalign",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "What do you know about Paris?"},
            {"role": "assistant", "content": "nothing"},
            *_signs(),
        ],
        extra_body={"ecoalign": {"trace": True}},
    )
    evidence = done.model_extra["ecoalign"] if done.model_extra else {}
    reply = client.get(f"/ecoalign/traces/{evidence['trace']}", cast_to=httpx2.Response)
    events = [from_json(line) for line in reply.text.splitlines()]
    started, finished = events[0], events[-1]
    assert isinstance(started, RunStarted)
    assert isinstance(finished, Finished)
    assert started.question == QUESTION
    assert started.context == ("user: What do you know about Paris?", "assistant: nothing")
    assert started.instructions == "Be brief.\n\nBe kind."
    assert len(started.images) == 1
    assert finished.answer == done.choices[0].message.content


def test_a_trace_is_kept_only_if_asked_for(client: openai.OpenAI, gateway: Served) -> None:
    done = client.chat.completions.create(model="ecoalign", messages=_signs())
    assert done.model_extra is not None
    assert done.model_extra["ecoalign"]["trace"] is None
    assert gateway.get("/v1/ecoalign/traces/trace-0123").status_code == 404


def test_sampling_that_the_model_takes(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="ecoalign", messages=_signs(), max_completion_tokens=1, temperature=0, seed=3
    )
    assert done.choices[0].finish_reason in {"length", "stop"}


@pytest.mark.parametrize("method", ["base", "best-of-2", "vlm-guard", "ecso"])
def test_other_methods(client: openai.OpenAI, method: str) -> None:
    """They give the same evidence and are traced in the same events as a search."""
    done = client.chat.completions.create(
        model="ecoalign",
        messages=_signs(),
        extra_body={"ecoalign": {"method": method, "trace": True}},
    )
    assert done.choices[0].message.content
    assert done.model_extra is not None
    evidence = done.model_extra["ecoalign"]
    assert (evidence["method"], evidence["preset"]) == (method, None)
    reply = client.get(f"/ecoalign/traces/{evidence['trace']}", cast_to=httpx2.Response)
    started, *called, finished = [from_json(line) for line in reply.text.splitlines()]
    assert isinstance(started, RunStarted)
    assert started.method == method
    assert isinstance(finished, Finished)
    assert finished.answer == done.choices[0].message.content
    calls = [event for event in called if isinstance(event, Called)]
    assert len(calls) == evidence["spent"]["calls"]
    assert sum(call.charged.total for call in calls) == evidence["spent"]["tokens"]["total"]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()][:2] == ["embedded", "ecoalign"]
    assert client.models.retrieve("embedded").owned_by == "ecoalign"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_health_is_answered_while_searches_run(gateway: Served) -> None:
    body = asking(text(QUESTION), picture(), ecoalign={"preset": "paper", "budget": 60_000})

    async def health() -> tuple[int, int]:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=WAIT) as client:
            searches = [
                asyncio.create_task(client.post("/v1/chat/completions", json=body))
                for _ in range(4)
            ]
            answered = 0
            while not any(search.done() for search in searches):
                assert (await client.get("/healthz")).status_code == 200
                answered += 1
            codes = {search.status_code for search in await asyncio.gather(*searches)}
            assert codes == {200}
            return answered, len(searches)

    begun = time.monotonic()
    answered, _ = asyncio.run(health())
    # A loop that a search held up would answer a handful in this time; most take a millisecond.
    assert answered > 10 * (time.monotonic() - begun)


def test_ready_metrics_and_the_log_hold_no_content(gateway: Served) -> None:
    gateway.post(asking("what is the xylophone password?", ecoalign={"method": "base"}))
    assert gateway.get("/readyz").json() == {"status": "ready"}
    assert gateway.metric('ecoalign_requests_total{method="base",status="200"}') >= 1
    assert gateway.metric('ecoalign_spent_tokens_total{stage="score"}') > 0
    assert gateway.metric("ecoalign_requests_running") == 0
    assert "xylophone" not in "".join(gateway.said) + gateway.get("/metrics").text
    assert any('"method":"base"' in line for line in gateway.said)


def test_it_says_that_a_toy_answers(gateway: Served) -> None:
    assert any("the embedded model answers" in line and "--model" in line for line in gateway.said)


def test_curl_like_http_1_0(gateway: Served) -> None:
    body = json.dumps(asking(PLAIN, ecoalign={"method": "base"})).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), WAIT) as sock:
        head = "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        said = b""
        while piece := sock.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
