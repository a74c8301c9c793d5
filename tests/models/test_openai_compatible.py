"""The OpenAI-compatible model against a real, mostly hostile, server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import traceback
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hostile import Handler, HostileServer, Received, Reply, completion

from ecoalign.errors import InputError, ModelError
from ecoalign.models import (
    ChatModel,
    ChatRequest,
    ImagePart,
    Message,
    Profile,
    TextPart,
    Usage,
    visible,
)
from ecoalign.models.openai._learned import AGAIN_AFTER_CALLS, AGAIN_AFTER_S
from ecoalign.models.openai._model import MOST_FAILURES, OpenAIModel
from ecoalign.models.openai.server import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

KEY = "sk-test-0123456789abcdef"
FITS = Reply(completion('{"safety": 1}'))

SCHEMA = {"type": "object", "properties": {"safety": {"type": "number"}}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def ask(
    text: str = "what is this?",
    *,
    parts: tuple[TextPart | ImagePart, ...] | None = None,
    temperature: float = 0.0,
    schema: Mapping[str, object] | None = None,
    top_logprobs: int = 0,
    seed: int | None = None,
    extra: Mapping[str, object] | None = None,
    timeout: float | None = None,
) -> ChatRequest:
    return ChatRequest(
        messages=(Message("user", parts or (TextPart(text),)),),
        max_tokens=20,
        stage="test",
        temperature=temperature,
        schema=schema,
        top_logprobs=top_logprobs,
        seed=seed,
        extra=extra or {},
        timeout=timeout,
    )


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, limit: float = 10.0
) -> AsyncIterator[tuple[OpenAIModel, HostileServer]]:
    with HostileServer(handler) as server:
        subject = OpenAIModel("m", base_url=server.url, timeout=limit)
        try:
            yield subject, server
        finally:
            await subject.aclose()


async def failure(
    reply: Reply, request: ChatRequest | None = None, *, limit: float = 10.0
) -> ModelError:
    async with serving(lambda _: reply, limit=limit) as (model, server):
        with pytest.raises(ModelError) as caught:
            await model.complete(request or ask())
        assert len(server.received) <= 1  # none where the time was up before it arrived
        return caught.value


def whole(error: BaseException) -> str:
    """Everything a log could show of an error: its message, repr, causes and contexts."""
    return repr(error) + "".join(traceback.format_exception(error)) + repr(error.__context__)


async def test_a_plain_answer() -> None:
    async with serving(lambda _: Reply(completion("a red door"))) as (model, server):
        done = await model.complete(ask(temperature=0.5, seed=7))
        body = server.received[0].json
    assert isinstance(model, ChatModel)
    assert model.name == "openai:m"
    assert model.dialect == "full"
    assert (done.text, done.usage, done.finish_reason) == ("a red door", Usage(11, 3), "stop")
    assert done.model == "served-model"
    assert done.seconds > 0
    assert done.logprobs is None
    assert server.received[0].path == "/v1/chat/completions"
    assert server.received[0].headers["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "what is this?"}],
        "max_tokens": 20,
        "temperature": 0.5,
        "seed": 7,
    }


async def test_images_are_data_uris_with_their_detail() -> None:
    part = ImagePart(b"\x89PNG...", "image/png", 3, 4, "low")
    request = ask(parts=(part, TextPart("x")))
    async with serving(lambda _: Reply(completion())) as (model, server):
        await model.complete(request)
    uri = "data:image/png;base64," + base64.b64encode(part.data).decode()
    messages = server.received[0].json["messages"]
    assert messages == [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": uri, "detail": "low"}},
                {"type": "text", "text": "x"},
            ],
        }
    ]


async def test_text_with_a_lone_surrogate_can_be_sent() -> None:
    async with serving(lambda _: Reply(completion())) as (model, server):
        assert (await model.complete(ask("bad \ud800 text"))).text == "fine"
    assert "bad ? text" in server.received[0].body.decode()


async def test_logprobs_are_asked_for_and_read() -> None:
    top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
    entry = top[0] | {"top_logprobs": top}
    answer = completion("yes")
    choice = {
        "message": {"content": "yes"},
        "finish_reason": "stop",
        "logprobs": {"content": [entry]},
    }
    answer["choices"] = [choice]
    async with serving(lambda _: Reply(answer)) as (model, server):
        done = await model.complete(ask(top_logprobs=5))
    assert server.received[0].json["top_logprobs"] == 5
    assert server.received[0].json["logprobs"] is True
    assert done.logprobs is not None
    assert done.logprobs[0].logprob == -0.1
    assert done.logprobs[0].top == {"yes": -0.1, "no": -2.5}


async def test_a_cut_answer_says_so() -> None:
    choice = {"message": {"content": "half an ans"}, "finish_reason": "length"}
    async with serving(lambda _: Reply(completion(choices=[choice]))) as (model, _):
        assert (await model.complete(ask())).finish_reason == "length"


async def test_a_filtered_answer_is_a_completion_without_text() -> None:
    choice = {"message": {"content": None}, "finish_reason": "content_filter"}
    async with serving(lambda _: Reply(completion(choices=[choice]))) as (model, _):
        done = await model.complete(ask())
    assert (done.text, done.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("GZIP", 31), ("deflate", 15)])
async def test_an_answer_compressed_unasked_is_read_all_the_same(encoding: str, wbits: int) -> None:
    def packed(body: object, status: int = 200) -> Reply:
        packer = zlib.compressobj(wbits=wbits)
        data = packer.compress(json.dumps(body).encode()) + packer.flush()
        return Reply(data, status, headers={"Content-Encoding": encoding})

    async with serving(lambda _: packed(completion("packed"))) as (model, _):
        assert (await model.complete(ask())).text == "packed"
    error = await failure(packed({"error": {"message": "the image is blurred"}}, 403))
    assert "the image is blurred" in str(error)


@pytest.mark.parametrize("encoding", ["br", "x-unknown", "gzip, gzip"])
async def test_an_answer_that_cannot_be_unpacked_is_refused(encoding: str) -> None:
    packed = Reply(
        gzip.compress(json.dumps(completion("packed")).encode()),
        headers={"Content-Encoding": encoding},
    )
    async with serving(lambda _: packed) as (model, server):
        with pytest.raises(ModelError, match="sent a compressed answer") as caught:
            await model.complete(ask())
    assert (caught.value.fault, caught.value.billed) == ("bad-response", True)
    assert server.received[0].headers["accept-encoding"] == "identity"


# -- failures: what they are called and whether they were paid for


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = OpenAIModel("m", base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        await model.complete(ask())
    await model.aclose()
    assert (caught.value.fault, caught.value.billed) == ("down", False)
    assert str(port) in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "fault", "billed", "says"),
    [
        (Reply("<html><h1>Welcome</h1>"), "bad-response", True, "HTML page"),
        (Reply("<html>", headers={"Content-Type": "text/html"}), "bad-response", True, "/v1"),
        (Reply(b""), "bad-response", True, "empty"),
        (Reply(b"\xff\xfe\x00"), "bad-response", True, "not JSON"),
        (Reply('{"choices": [{"mess'), "bad-response", True, "broken off"),
        (Reply("[" * 100_000), "bad-response", True, "not JSON"),
        (Reply("data: {}\n\n"), "bad-response", True, "not JSON"),
        (Reply('{"choices": [{"mess', length=500), "bad-response", True, "broke off"),
        (Reply(raw=b"\x00\x01 nonsense\r\n\r\n"), "bad-response", True, "not HTTP"),
        (Reply(b"not gzip", headers={"Content-Encoding": "gzip"}), "bad-response", True, ""),
        (Reply(b"??", headers={"Content-Encoding": "br"}), "bad-response", True, ""),
        (Reply({}), "bad-response", True, "no choices"),
        (Reply([]), "bad-response", True, "no choices"),
        (Reply("null"), "bad-response", True, "no choices"),
        (Reply(completion(choices=[])), "bad-response", True, "no choices"),
        (Reply(completion(choices=None)), "bad-response", True, "no choices"),
        (Reply(completion(choices=[None])), "bad-response", True, "no text"),
        (Reply(completion(choices=[{"message": None}])), "bad-response", True, "no text"),
        (Reply(completion("")), "bad-response", True, "no text"),
        (Reply(completion(" \n ")), "bad-response", True, "no text"),
        (Reply(completion(None)), "bad-response", True, "no text"),
        (Reply(completion(5)), "bad-response", True, "no text"),
        (Reply({"error": {"message": "model is loading"}}), "bad-response", True, "loading"),
        (Reply("Bad Gateway", 502), "server", True, "Bad Gateway"),
        (Reply({"error": {"message": "oops"}}, 500), "server", True, "oops"),
        (Reply({"error": "overloaded"}, 529), "server", False, "overloaded"),
        (Reply("<html>", 503), "server", False, "HTML page"),
        (Reply({"error": {"message": "Loading model"}}, 503), "server", False, "loading"),
        (Reply("", 501), "server", False, "function"),
        (Reply("", 504), "server", True, "failed"),
        (
            Reply({"error": {"message": "image input is not supported - hint: mmproj"}}, 500),
            "rejected",
            False,
            "cannot do",
        ),
        (Reply({"error": {"message": "no such model"}}, 404), "rejected", False, "model's name"),
        (Reply({"error": {"message": "not yours"}}, 403), "rejected", False, "OPENAI_API_KEY"),
        (Reply("", 413), "rejected", False, "image side"),
        (Reply("", 408), "timeout", True, "timed out"),
        (Reply("", 418), "rejected", False, "refused"),
        (
            Reply({"error": {"code": "insufficient_quota", "message": "pay"}}, 429),
            "rejected",
            False,
            "billing",
        ),
    ],
)
async def test_faults(reply: Reply, fault: str, billed: bool, says: str) -> None:
    error = await failure(reply)
    assert (error.fault, error.billed) == (fault, billed)
    assert says in str(error)


async def test_all_of_the_cap_went_into_hidden_reasoning() -> None:
    choice = {"message": {"content": ""}, "finish_reason": "length"}
    error = await failure(Reply(completion(choices=[choice])))
    assert (error.fault, error.billed) == ("bad-response", True)
    assert "reasoning" in str(error)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
async def test_rate_limits(headers: dict[str, str], wait: float | None) -> None:
    error = await failure(Reply({"error": {"message": "slow down"}}, 429, headers))
    assert (error.fault, error.billed, error.retry_after) == ("rate-limited", False, wait)


async def test_a_far_date_to_retry_after() -> None:
    error = await failure(Reply("", 503, {"Retry-After": "Fri, 21 Oct 2233 07:28:00 GMT"}))
    assert error.fault == "server"
    assert error.retry_after is not None
    assert error.retry_after > 1e9


async def test_a_slow_server_times_out_and_counts_as_paid() -> None:
    error = await failure(Reply(hang=True), limit=0.05)
    assert (error.fault, error.billed) == ("timeout", True)
    assert "0.05 s" in str(error)


async def test_a_request_may_shorten_the_timeout() -> None:
    error = await failure(Reply(hang=True), ask(timeout=0.05))
    assert (error.fault, error.billed) == ("timeout", True)


async def test_a_server_that_drips_bytes_times_out_in_all() -> None:
    # Each read succeeds at once, so only a limit on the whole attempt can end this.
    error = await failure(Reply(endless=b" "), limit=0.2)
    assert (error.fault, error.billed) == ("timeout", True)


async def test_a_cancelled_call_is_cancelled_and_the_model_still_works() -> None:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    replies = [Reply(hang=True), Reply(completion("next"))]

    def handler(_: Received) -> Reply:
        reply = replies.pop(0)
        loop.call_soon_threadsafe(arrived.set)
        return reply

    async with serving(handler) as (model, _):
        task = asyncio.create_task(model.complete(ask()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await model.complete(ask())).text == "next"


@pytest.mark.parametrize("status", [200, 500])
async def test_an_oversized_body_is_not_read(status: int) -> None:
    flood = Reply(b"{", status, endless=b" " * 1_000_000)
    async with serving(lambda _: flood) as (model, _):
        with pytest.raises(ModelError, match="more than") as caught:
            await model.complete(ask())
    assert (caught.value.fault, caught.value.billed) == ("bad-response", True)


async def test_a_packed_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * (MAX_ANSWER_BYTES + 1))
    assert len(bomb) < 100_000
    for status in (200, 500):
        error = await failure(Reply(bomb, status, headers={"Content-Encoding": "gzip"}))
        assert "compressed" in str(error) or "no further message" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    with HostileServer(lambda _: Reply(completion("stolen"))) as thief:
        error = await failure(Reply("", status, {"Location": thief.url + "/chat/completions"}))
        assert thief.received == []
    assert (error.fault, error.billed) == ("rejected", False)
    assert "base URL" in str(error)


# -- the key


def echo(request: Received) -> Reply:
    key = request.headers["authorization"]
    return Reply({"error": {"message": f"Incorrect API key provided: {key}", "param": key}}, 401)


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
async def test_an_echoed_key_is_scrubbed(status: int) -> None:
    def handler(request: Received) -> Reply:
        return Reply(echo(request).body, status)

    async with serving(handler) as (model, _):
        with pytest.raises(ModelError, match=r"\[key\]") as caught:
            await model.complete(ask())
    assert KEY not in whole(caught.value)
    assert "0123456789" not in whole(caught.value)


async def test_a_refused_key_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "plainword1234")
    with HostileServer(echo) as server:
        model = OpenAIModel("m", base_url=server.url, api_key_env="MY_KEY")
        with pytest.raises(ModelError, match="MY_KEY") as caught:
            await model.complete(ask())
        await model.aclose()
    assert server.received[0].headers["authorization"] == "Bearer plainword1234"
    assert (caught.value.fault, caught.value.billed) == ("rejected", False)
    assert "plainword1234" not in whole(caught.value)


async def test_control_characters_do_not_reach_the_terminal() -> None:
    error = await failure(Reply({"error": {"message": "\x1b[2J\x07oops\r\nforged line"}}, 500))
    assert not set(str(error)) & set("\x1b\x07\r\n")


async def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    async with serving(lambda _: Reply(completion("hello"))) as (model, _):
        assert (await model.complete(ask())).text == "hello"


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        OpenAIModel("gpt-4o")


def test_repr_shows_neither_key_nor_password() -> None:
    model = OpenAIModel("m", base_url="https://user:hunter2@models.example:8443/v1")
    shown = repr(model) + str(model) + model.name + model.base_url
    assert KEY not in shown
    assert "hunter2" not in shown
    assert "https://models.example:8443/v1" in shown


async def test_a_password_in_the_address_is_not_in_errors() -> None:
    with HostileServer(lambda _: Reply("", 500)) as server:
        model = OpenAIModel("m", base_url=server.url.replace("//", "//user:hunter2@"))
        with pytest.raises(ModelError) as caught:
            await model.complete(ask())
        await model.aclose()
    assert "hunter2" not in whole(caught.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://[", "/v1", "http://h:99999"]
)
def test_bad_base_urls(url: str) -> None:
    with pytest.raises(InputError, match="base URL"):
        OpenAIModel("m", base_url=url)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_timeouts(timeout: float) -> None:
    with pytest.raises(InputError, match="timeout"):
        OpenAIModel("m", base_url="http://h/v1", timeout=timeout)


async def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileServer(lambda _: Reply(completion("from there"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        model = OpenAIModel("m")
        assert (await model.complete(ask())).text == "from there"
        await model.aclose()


# -- renegotiation


def picky(*rejects: tuple[str, str]) -> Handler:
    """A server that rejects a body that contains a text, with a message, first match first."""

    def handler(request: Received) -> Reply:
        body = request.body.decode()
        for needle, message in rejects:
            if needle in body:
                return Reply({"error": {"message": message}}, 400)
        return Reply(completion('{"safety": 1}'))

    return handler


async def test_a_rejected_schema_is_given_up_step_by_step_and_remembered() -> None:
    handler = picky(
        ('"json_schema"', "response_format json_schema is not supported"),
        ('"json_object"', "unknown field response_format"),
    )
    async with serving(handler) as (model, server):
        assert (await model.complete(ask(schema=SCHEMA))).text == '{"safety": 1}'
        assert len(server.received) == 3
        await model.complete(ask(schema=SCHEMA))
        assert len(server.received) == 4
        await model.complete(ask())
    formats = [request.json.get("response_format") for request in server.received]
    kinds = [f.get("type") if isinstance(f, dict) else None for f in formats]
    assert kinds == ["json_schema", "json_object", None, None, None]
    strict = formats[0]
    assert isinstance(strict, dict)
    assert strict["json_schema"]["strict"] is True
    assert strict["json_schema"]["schema"] == SCHEMA
    wrote = ["safety" in json.dumps(request.json["messages"]) for request in server.received]
    assert wrote == [False, True, True, True, False]


BOUNDED = {
    "type": "object",
    "properties": {
        "maxItems": {"type": "array", "items": {"type": "integer", "maximum": 9}, "maxItems": 3},
        "text": {"type": "string", "maxLength": 80},
    },
    "required": ["maxItems", "text"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for response_format 'answer': In context=('properties', 'text'), "
        "'maxLength' is not permitted.",
        "The provided JSON schema contains features not supported by xgrammar.",
        "json_schema: unsupported keyword",
    ],
)
async def test_bounds_that_a_strict_mode_does_not_know_are_left_out_of_the_schema(
    message: str,
) -> None:
    async with serving(picky(('"maxLength"', message))) as (model, server):
        for _ in range(2):
            await model.complete(ask(schema=BOUNDED))
    formats = [request.json["response_format"] for request in server.received]
    schemas = [f["json_schema"]["schema"] for f in formats if isinstance(f, dict)]
    bare = {
        **BOUNDED,
        "properties": {
            "maxItems": {"type": "array", "items": {"type": "integer"}},
            "text": {"type": "string"},
        },
    }
    assert schemas == [BOUNDED, bare, bare]


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize(
    "message", ["Bad Request", "Content blocked", "could not parse the JSON body", "oops"]
)
async def test_an_error_that_blames_nothing_changes_nothing(status: int, message: str) -> None:
    mood = {"angry": True}

    def handler(_: Received) -> Reply:
        return Reply({"error": {"message": message}}, status) if mood["angry"] else FITS

    async with serving(handler) as (model, server):
        with pytest.raises(ModelError):
            await model.complete(ask(schema=SCHEMA, top_logprobs=3, seed=1))
        assert len(server.received) == 1
        mood["angry"] = False
        await model.complete(ask(schema=SCHEMA, top_logprobs=3, seed=1))
        assert not model.dropped
    assert server.received[0].json == server.received[1].json


@pytest.mark.parametrize(
    ("message", "gone"),
    [
        ("failed to compile the grammar of response_format", "json_schema"),
        ("KeyError: 'json_schema'", "json_schema"),
        ("logprobs are not implemented for this model", "logprobs"),
        ("unexpected keyword argument 'seed'", "seed"),
    ],
)
async def test_a_5xx_that_blames_a_feature_is_a_rejection(message: str, gone: str) -> None:
    def handler(request: Received) -> Reply:
        used = gone.encode() in request.body
        return Reply({"error": {"message": message}}, 500) if used else FITS

    async with serving(handler) as (model, server):
        await model.complete(ask(schema=SCHEMA, top_logprobs=3, seed=1))
        await model.complete(ask(schema=SCHEMA, top_logprobs=3, seed=1))
        assert len(server.received) == 3
        assert list(model.dropped) == [gone]
        assert model.dropped[gone].reason == message
        assert any(message in notice for notice in model.notices)


async def test_a_server_that_fails_whatever_it_is_asked_is_not_asked_for_each_feature_anew() -> (
    None
):
    said = (
        "failed at temperature, logprobs, seed, response_format, system message, image_url.detail"
    )

    def handler(_: Received) -> Reply:
        return Reply({"error": {"message": said}}, 500)

    request = replace(
        chat(images=True), schema=SCHEMA, top_logprobs=3, seed=1, extra={"reasoning_effort": "low"}
    )
    async with serving(handler) as (model, server):
        with pytest.raises(ModelError) as caught:
            await model.complete(request)
        assert (caught.value.fault, caught.value.billed) == ("server", True)
        assert len(server.received) == 1 + MOST_FAILURES
        assert not model.dropped


async def test_a_dropped_feature_is_tried_again_later() -> None:
    mood = {"angry": True}

    def handler(request: Received) -> Reply:
        rejected = mood["angry"] and b'"seed"' in request.body
        return Reply({"error": {"message": "no seed"}}, 400) if rejected else FITS

    now = [0.0]
    async with serving(handler) as (model, server):
        model._learned._clock = lambda: now[0]

        async def had_seed() -> list[bool]:
            before = len(server.received)
            await model.complete(ask(seed=1))
            return ["seed" in request.json for request in server.received[before:]]

        assert [await had_seed(), await had_seed()] == [[True, False], [False]]
        now[0] = AGAIN_AFTER_S
        assert [await had_seed(), await had_seed()] == [[True, False], [False]]
        now[0] += AGAIN_AFTER_S  # twice as long, after the second failure
        assert await had_seed() == [False]
        now[0] += AGAIN_AFTER_S
        mood["angry"] = False
        assert [await had_seed(), await had_seed()] == [[True], [True]]
        assert not model.dropped
        assert not model.notices


async def test_a_dropped_feature_is_tried_again_after_many_calls() -> None:
    async with serving(picky(('"seed"', "no seed"))) as (model, server):
        for _ in range(1 + AGAIN_AFTER_CALLS):
            await model.complete(ask(seed=1))
        assert sum("seed" in request.json for request in server.received) == 1
        await model.complete(ask(seed=1))
    assert sum("seed" in request.json for request in server.received) == 2


IMAGE = ImagePart(b"\x89PNG...", "image/png", 448, 448)


def chat(*, images: bool) -> ChatRequest:
    user = (IMAGE, TextPart("what is this?")) if images else (TextPart("what is this?"),)
    messages = (Message("system", (TextPart("Be brief."),)), Message("user", user))
    return ChatRequest(messages, 20, "test")


@pytest.mark.parametrize(
    "message",
    [
        "Prompting with images is incompatible with system messages.",
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Unexpected role: system",
    ],
)
async def test_a_rejected_system_role_is_folded_into_the_users_turn(message: str) -> None:
    def handler(request: Received) -> Reply:
        both = b'"system"' in request.body and b"image_url" in request.body
        return (
            Reply({"error": {"message": message}}, 400 if "roles" in message else 500)
            if both
            else FITS
        )

    async with serving(handler) as (model, server):
        for images in (True, True, False):
            await model.complete(chat(images=images))
        assert list(model.dropped) == ["system_with_images"]
    assert len(server.received) == 4
    sent = [json.loads(request.body)["messages"] for request in server.received]
    assert [[message["role"] for message in messages] for messages in sent] == [
        ["system", "user"],
        *2 * [["user"]],
        ["system", "user"],
    ]
    content = sent[2][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "text"]
    assert content[0]["text"] == "Be brief."


async def test_a_rejected_detail_of_an_image_is_left_out() -> None:
    async with serving(picky(('"detail"', "image_url.detail: extra fields"))) as (model, server):
        await model.complete(chat(images=True))
    assert len(server.received) == 2
    assert "detail" not in server.received[1].body.decode()


async def test_texts_that_follow_each_other_are_one_part() -> None:
    parts = (TextPart("a"), TextPart("b"), IMAGE, TextPart("c"), TextPart("d"))
    async with serving(lambda _: FITS) as (model, server):
        await model.complete(ask(parts=parts))
        await model.complete(ask(parts=(TextPart("a"), TextPart("b"))))
    mixed, plain = (json.loads(r.body)["messages"][0]["content"] for r in server.received)
    assert [part.get("text") for part in mixed] == ["a\nb", None, "c\nd"]
    assert plain == "a\nb"


async def test_what_a_server_ignores_in_silence_is_said_once() -> None:
    async with serving(lambda _: Reply(completion("It is a door."))) as (model, _):
        for _ in range(2):
            await model.complete(ask(schema=SCHEMA))
            await model.complete(ask(top_logprobs=3))
            await model.complete(chat(images=True))
        assert [notice.split(",")[0] for notice in model.notices] == [
            "JSON was asked for (response_format)",
            "log-probabilities were asked for",
            "11 prompt tokens are too few for the text and the images that were sent (at least "
            "69): the server may not have seen the images",
        ]
        assert not model.dropped


async def test_with_a_measured_tokenizer_fewer_tokens_are_enough_to_tell() -> None:
    """400 words with their images dropped, on a server that counts 4.5 bytes a token."""
    text = "please describe everything " * 130
    usage = {"prompt_tokens": 800, "completion_tokens": 3}
    with HostileServer(lambda _: Reply(completion("x", usage=usage))) as server:
        for measured, told in ((1.0, False), (3.5, True)):
            profile = Profile(bytes_per_token=measured)
            model = OpenAIModel("m", base_url=server.url, profile=profile)
            await model.complete(ask(parts=(IMAGE, TextPart(text))))
            await model.aclose()
            assert bool(model.notices) is told


async def test_what_a_server_heeds_is_not_noticed() -> None:
    logprobs = {"content": [{"token": "{}", "logprob": -0.1}]}
    choice = {"message": {"content": "<think>x</think>{}"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 90, "completion_tokens": 3}
    reply = Reply(completion(choices=[{**choice, "logprobs": logprobs}], usage=usage))
    with HostileServer(lambda _: reply) as server:
        thinker = OpenAIModel("m", base_url=server.url, profile=Profile(thinking=100))
        plain = OpenAIModel("m", base_url=server.url)
        for model in (thinker, plain):
            await model.complete(ask(schema=SCHEMA, top_logprobs=3))
            await model.complete(chat(images=True))
            await model.aclose()
    assert thinker.notices == ()
    assert [notice.split(":")[0] for notice in plain.notices] == [
        "the model thinks before it answers"
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "The response was filtered", "code": "content_filter"}}, 400),
        (
            {"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            400,
        ),
        (
            {"error": {"code": "data_inspection_failed", "message": "Input data may contain "
                       "inappropriate content."}},
            400,
        ),
        ({"error": {"message": "<400> InternalError.Algo.DataInspectionFailed: Input text"}}, 400),
        ({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, 400),
        ({"error": {"message": "output new_sensitive (1027)"}}, 500),
        ({"error": {"message": "Content blocked"}}, 400),
        ({"error": {"message": "The request was blocked by the safety policy"}}, 400),
        ({"error": {"message": "Your input was flagged as violating our usage policy"}}, 403),
        ({"error": {"message": "The request was rejected: it was considered high risk"}}, 400),
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, 200),
        ({"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}, 200),
        ({"input_sensitive": True, "choices": None, "base_resp": {"status_code": 1026}}, 200),
    ],
)  # fmt: skip
async def test_a_content_filter_is_no_outage(body: dict[str, object], status: int) -> None:
    request = ask(schema=SCHEMA, top_logprobs=3)
    error = await failure(Reply(body, status), request)
    assert (error.fault, error.billed, error.usage) == ("filtered", False, None)
    usage = {"prompt_tokens": 12, "completion_tokens": 0}
    error = await failure(Reply({**body, "usage": usage}, status), request)
    assert (error.fault, error.billed, error.usage) == ("filtered", True, Usage(12, 0))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("unknown parameter: safety_settings", 400),
        ("the image could not be decoded", 400),
        ("Incorrect API key; see our usage policies", 401),
        ("the model was flagged as deprecated", 404),
        ("rate limit: requests blocked for 20 s", 429),
        ("CUDA error: blocked stream", 500),
    ],
)
async def test_not_every_refusal_is_a_content_filters(message: str, status: int) -> None:
    error = await failure(Reply({"error": {"message": message}}, status))
    assert error.fault != "filtered"


async def test_usage_beside_an_unusable_reply_is_kept() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 7}
    for reply in (
        Reply(completion("", usage=usage)),
        Reply({"error": {"message": "oops"}, "usage": usage}, 500),
        Reply({"error": {"message": "no such model"}, "usage": usage}, 400),
        Reply(completion(choices=[], usage=usage)),
    ):
        error = await failure(reply)
        assert (error.usage, error.billed) == (Usage(12, 7), True)


@pytest.mark.parametrize("status", [400, 500])
async def test_a_rejection_that_was_not_free_ends_its_attempt(status: int) -> None:
    """Sent again at once, each further rejection would cost as much, and only the last be paid."""
    usage = {"prompt_tokens": 12, "completion_tokens": 7}

    def handler(request: Received) -> Reply:
        for word in ("json_schema", "logprobs"):
            if word.encode() in request.body:
                return Reply({"error": {"message": f"no {word}"}, "usage": usage}, status)
        return FITS

    async with serving(handler) as (model, server):
        for attempts in (1, 2):
            with pytest.raises(ModelError) as caught:
                await model.complete(ask(schema=SCHEMA, top_logprobs=3))
            assert (caught.value.usage, caught.value.billed) == (Usage(12, 7), True)
            assert len(server.received) == attempts
        await model.complete(ask(schema=SCHEMA, top_logprobs=3))
        assert len(server.received) == 3
        assert set(model.dropped) == {"json_schema", "logprobs"}


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Failed to generate JSON. See 'failed_generation'.", "failed_generation": "{"},
        {"message": "Generated JSON does not match the expected schema."},
        {"message": "schema violated", "code": "json_validate_failed"},
    ],
)
async def test_a_text_that_misses_its_schema_says_nothing_of_the_schema(
    error: dict[str, str],
) -> None:
    replies = [Reply({"error": error}, 400), FITS]
    async with serving(lambda _: replies.pop(0)) as (model, server):
        with pytest.raises(ModelError) as caught:
            await model.complete(ask(schema=SCHEMA))
        assert (caught.value.fault, caught.value.billed) == ("bad-response", True)
        await model.complete(ask(schema=SCHEMA))
        assert not model.dropped
    assert server.received[0].json == server.received[1].json


def replied(text: str, finish: str, **message: object) -> Reply:
    choice = {"message": {"content": text, **message}, "finish_reason": finish}
    return Reply(completion(choices=[choice]))


async def test_thoughts_that_begin_without_a_mark_and_are_cut_are_no_answer() -> None:
    """The template of such a model writes the opening mark; the cap came before the closing one."""
    replies = [
        replied("It reads so.", "length"),  # nothing is known of it yet
        replied("It reads so.</think>Harbour", "length"),
        replied("It reads so, or", "length", reasoning_content="Hm."),
        replied("It reads so, or", "length"),
    ]
    async with serving(lambda _: replies.pop(0)) as (model, _):
        assert (await model.complete(ask())).text == "It reads so."
        assert visible((await model.complete(ask())).text).text == "Harbour"
        assert (await model.complete(ask())).text == "It reads so, or"
        with pytest.raises(ModelError, match="hidden reasoning") as caught:
            await model.complete(ask())
    assert (caught.value.fault, caught.value.usage) == ("bad-response", Usage(11, 3))


async def test_of_a_model_that_is_known_to_think_likewise() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 20}
    counted = {**usage, "completion_tokens_details": {"reasoning_tokens": 0}}
    choice = {"message": {"content": "It reads so, or"}, "finish_reason": "length"}
    replies = [Reply(completion(choices=[choice], usage=u)) for u in (usage, counted)]
    with HostileServer(lambda _: replies.pop(0)) as server:
        model = OpenAIModel("m", base_url=server.url, profile=Profile(thinking=100))
        with pytest.raises(ModelError, match="hidden reasoning"):
            await model.complete(ask())
        assert (await model.complete(ask())).text == "It reads so, or"
        await model.aclose()


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "error"},
        {"finish_reason": "abort"},
        {"finish_reason": "stop", "error": {"code": 502, "message": "the provider went away"}},
        {"finish_reason": "network_error"},
        {"finish_reason": "stop", "error": "gone"},
    ],
)
async def test_half_an_answer_is_none(choice: dict[str, object]) -> None:
    whole = {"message": {"content": "Take one tablet every"}, **choice}
    error = await failure(Reply(completion(choices=[whole])))
    assert (error.fault, error.billed, error.usage) == ("bad-response", True, Usage(11, 3))
    assert "broke off" in str(error)


@pytest.mark.parametrize(
    ("finish", "more", "read"),
    [
        ("SAFETY", {}, "SAFETY"),
        ("content_filter: PROHIBITED_CONTENT", {}, "content_filter: PROHIBITED_CONTENT"),
        ("refusal", {}, "content_filter"),
        ("stop", {"content_filter_results": {"hate": {"filtered": True}}}, "content_filter"),
        ("stop", {"native_finish_reason": "SAFETY"}, "content_filter"),
        ("error", {"error": {"message": "blocked by the safety filter"}}, "content_filter"),
    ],
)
async def test_an_answer_that_a_filter_took_is_an_empty_completion(
    finish: str, more: dict[str, object], read: str
) -> None:
    choice = {"message": {"content": None}, "finish_reason": finish, **more}
    async with serving(lambda _: Reply(completion(choices=[choice]))) as (model, _):
        done = await model.complete(ask())
    assert (done.text, done.finish_reason) == ("", read)


async def test_a_reasoning_model_takes_other_parameters() -> None:
    handler = picky(
        ('"max_tokens"', "'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        ('"temperature"', "'temperature' does not support 0 with this model."),
        ('"logprobs"', "You are not allowed to request logprobs from this model"),
        ('"seed"', "Unknown parameter: seed"),
    )
    async with serving(handler) as (model, server):
        await model.complete(ask(seed=1, top_logprobs=3))
        assert len(server.received) == 5
        await model.complete(ask(seed=1, top_logprobs=3))
        assert len(server.received) == 6
    assert set(server.received[-1].json) == {"model", "messages", "max_completion_tokens"}
    assert server.received[-1].json["max_completion_tokens"] == 20


async def test_the_input_echoed_by_a_validator_is_not_taken_for_blame() -> None:
    def handler(request: Received) -> Reply:
        if b"seed" not in request.body:
            return Reply(completion())
        entry = {"loc": ["body", "seed"], "msg": "Extra inputs", "input": request.json}
        return Reply({"detail": [entry]}, 422)

    async with serving(handler) as (model, server):
        await model.complete(ask(seed=1))
    assert len(server.received) == 2
    assert "temperature" in server.received[1].json


async def test_a_rejection_that_was_not_got_over_is_not_remembered() -> None:
    mood = {"angry": True}

    def handler(request: Received) -> Reply:
        if mood["angry"]:
            return Reply({"error": {"message": "response_format or something"}}, 400)
        return Reply(completion())

    async with serving(handler) as (model, server):
        with pytest.raises(ModelError) as caught:
            await model.complete(ask(schema=SCHEMA))
        assert (caught.value.fault, caught.value.billed) == ("rejected", False)
        assert len(server.received) == 3
        mood["angry"] = False
        await model.complete(ask(schema=SCHEMA))
    assert "json_schema" in server.received[-1].body.decode()


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096",
        "You uploaded an unsupported image",
    ],
)
async def test_a_final_refusal_is_not_sent_again(message: str) -> None:
    error = await failure(Reply({"error": {"message": message}}, 400), ask(schema=SCHEMA))
    assert (error.fault, error.billed) == ("rejected", False)
    assert message in str(error)


@pytest.mark.parametrize(
    "message",
    ["max_tokens is too large: 20, at most 16", "'max_tokens' must be less than the context"],
)
async def test_a_cap_that_is_too_large_is_not_given_another_name(message: str) -> None:
    # A server that ignores the other name would write without any cap.
    error = await failure(Reply({"error": {"message": message}}, 400))
    assert (error.fault, error.billed) == ("rejected", False)


async def test_a_failure_after_a_rejection_counts_as_paid() -> None:
    def handler(request: Received) -> Reply:
        rejected = Reply({"error": {"message": "no json_schema"}}, 400)
        return rejected if b'"json_schema"' in request.body else Reply("", 500)

    async with serving(handler) as (model, _):
        with pytest.raises(ModelError) as caught:
            await model.complete(ask(schema=SCHEMA))
    assert (caught.value.fault, caught.value.billed) == ("server", True)


async def test_concurrent_calls_all_renegotiate() -> None:
    async with serving(picky(('"seed"', "no seed"), ('"json_schema"', "no schema"))) as (model, s):
        calls = [model.complete(ask(seed=1)), model.complete(ask(schema=SCHEMA))]
        await asyncio.gather(*calls)
        before = len(s.received)
        await model.complete(ask(seed=1, schema=SCHEMA))
    assert len(s.received) == before + 1


@pytest.mark.parametrize("name", ["n", "max_tokens", "model", "stream", "messages"])
async def test_extra_parameters_cannot_escape_the_budget(name: str) -> None:
    async with serving(lambda _: Reply(completion())) as (model, server):
        with pytest.raises(InputError, match=name):
            await model.complete(ask(extra={name: 4}))
        await model.complete(ask(extra={"top_p": 0.5}))
    assert len(server.received) == 1
    assert server.received[0].json["top_p"] == 0.5


# -- what is known of the server beforehand


async def first_body(profile: Profile, request: ChatRequest) -> dict[str, object]:
    with HostileServer(lambda _: FITS) as server:
        model = OpenAIModel("m", base_url=server.url, profile=profile)
        await model.complete(request)
        await model.aclose()
        assert not model.dropped
    (only,) = server.received
    return only.json


async def test_a_request_is_what_its_profile_says() -> None:
    request = ask(schema=SCHEMA, seed=1, top_logprobs=9, extra={"top_k": 2})
    body = await first_body(Profile(), request)
    assert {"seed", "top_logprobs", "response_format", "top_k"} <= body.keys()
    plain = Profile(
        schema_mode="prompt",
        seed=False,
        logprobs=0,
        reasoning_effort="low",
        extra_body={"top_k": 1, "min_p": 0.1},
    )
    body = await first_body(plain, request)
    assert body.keys() == {
        *("model", "messages", "max_tokens", "temperature", "top_k", "min_p", "reasoning_effort")
    }
    assert (body["top_k"], body["reasoning_effort"]) == (2, "low")
    assert "JSON schema" in json.dumps(body["messages"])
    body = await first_body(Profile(schema_mode="json_object", logprobs=5), request)
    assert body["response_format"] == {"type": "json_object"}
    assert body["top_logprobs"] == 5


async def test_a_profiles_detail_goes_with_every_image_and_is_bounded() -> None:
    body = await first_body(Profile(detail="low"), chat(images=True))
    assert '"detail": "low"' in json.dumps(body)
    request = ask(parts=(ImagePart(b"", "image/png", 2000, 2000, "low"),))
    high, low = (
        OpenAIModel("m", profile=Profile(family="gpt-4o", detail=detail)).bound(request).prompt
        for detail in ("high", "low")
    )
    assert high > low


async def test_a_profile_may_have_no_system_role() -> None:
    body = await first_body(Profile(system="user"), chat(images=True))
    assert '"system"' not in json.dumps(body)
    assert "Be brief." in json.dumps(body)


async def test_a_detail_that_makes_an_image_cheaper_is_never_dropped() -> None:
    """The server would choose for itself, and could take more than what was reserved."""
    handler = picky(('"detail"', "Unrecognized field: image_url.detail"))
    for detail, model in (("low", "gpt-4o"), ("high", "gpt-4o"), ("low", "some-model")):
        part = ImagePart(b"", "image/png", 512, 512, detail)  # type: ignore[arg-type]
        with HostileServer(handler) as server:
            subject = OpenAIModel(model, base_url=server.url)
            if (detail, model) == ("low", "gpt-4o"):
                with pytest.raises(ModelError, match="detail"):
                    await subject.complete(ask(parts=(part,)))
                assert len(server.received) == 1
            else:
                await subject.complete(ask(parts=(part,)))
                assert list(subject.dropped) == ["detail"]
            await subject.aclose()


async def test_a_rejected_reasoning_effort_is_left_out() -> None:
    handler = picky(('"reasoning_effort"', "Unrecognized request argument: reasoning_effort"))
    with HostileServer(handler) as server:
        model = OpenAIModel("m", base_url=server.url, profile=Profile(reasoning_effort="low"))
        await model.complete(ask())
        assert list(model.dropped) == ["reasoning_effort"]
        await model.aclose()


def test_the_bound_covers_what_a_profile_adds() -> None:
    extra = {"chat_template_kwargs": {"words": "x" * 100}}
    plain, more = (OpenAIModel("m", profile=Profile(extra_body=e)) for e in ({}, extra))
    assert more.bound(ask()).prompt >= plain.bound(ask()).prompt + 100


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"n": 4}, "n,"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 9000}, "max_tokens"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"enable_search": True}, "enable_search"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"options": {"num_predict": -1}}, "num_predict"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4000}}, "budget_tokens to 4000"),
        ({"thinking_budget": -1}, "thinking_budget"),
        ({"reasoning": {"max_tokens": 2000}}, "max_tokens to 2000"),
        (
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": 1025}}}},
            "set thinking = 1025",
        ),
        ({"thinking_config": {"thinkingBudget": "4096"}}, "set thinking = 4096"),
        ({"options": [{"api_key": "canary"}]}, "api_key: keys are not settings"),
        ({"headers": {"Authorization": "canary"}}, "Authorization: keys are not settings"),
        ({"thinking_budget": 1024.5}, "set thinking = 1025"),
        ({"Options": {"n": 4}}, "n,"),
        ({"generationConfig": {"candidateCount": 4}}, "candidateCount"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"extra_body": {"google": {"cached_content": "cachedContents/1"}}}, "cached_content"),
        ({"mm_processor_kwargs": {"min_pixels": 9_000_000}}, "mm_processor_kwargs"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
    ],
)
def test_an_operators_own_parameter_that_can_cost_more_is_named(
    extra: dict[str, object], named: str
) -> None:
    with pytest.raises(InputError, match=f"extra_body sets .*{named}"):
        OpenAIModel("m", profile=Profile(extra_body=extra, thinking=1024))


def test_an_operators_other_parameters_are_taken() -> None:
    extra = {
        "top_k": 1,
        "enable_search": False,
        "mm_processor_kwargs": {"max_pixels": 501_760},
        "thinking": {"budget_tokens": 1024},
        "chat_template_kwargs": {"enable_thinking": False},
    }
    OpenAIModel("m", profile=Profile(extra_body=extra, thinking=1024))


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("http://localhost:8000/v1", 600.0),
        ("http://127.0.0.9:8000/v1", 600.0),
        ("http://[::1]:8000/v1", 600.0),
        ("https://models.example/v1", 60.0),
        ("http://10.0.0.7:8000/v1", 60.0),
    ],
)
def test_a_model_on_this_machine_may_take_longer(url: str, seconds: float) -> None:
    assert OpenAIModel("m", base_url=url).timeout == seconds
    assert OpenAIModel("m", base_url=url, timeout=7).timeout == 7


def test_behind_a_proxy_no_server_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert OpenAIModel("m", base_url="http://localhost:8000/v1").timeout == 60.0


# -- the life of a model object


async def test_close_twice_and_use_again() -> None:
    async with serving(lambda _: Reply(completion())) as (model, server):
        await model.aclose()
        assert (await model.complete(ask())).text == "fine"
        await model.aclose()
        await model.aclose()
        assert (await model.complete(ask())).text == "fine"
    assert len(server.received) == 2


@pytest.fixture
def plain_server() -> Iterator[HostileServer]:
    with HostileServer(lambda _: Reply(completion())) as server:
        yield server


def test_one_model_in_two_event_loops(plain_server: HostileServer) -> None:
    model = OpenAIModel("m", base_url=plain_server.url)
    for _ in range(2):
        assert asyncio.run(model.complete(ask())).text == "fine"
    asyncio.run(model.aclose())


def test_the_bound_holds_for_every_form_the_request_may_take() -> None:
    model = OpenAIModel("gpt-4o", image_family="gpt-4o")
    assert model.profile.family == "gpt-4o"
    part = ImagePart(b"", "image/png", 512, 512, "low")
    request = ask(parts=(part, TextPart("é" * 10)), schema=SCHEMA)
    bound = model.bound(request)
    assert bound.image == 85
    assert bound.completion == 20
    # 20 bytes of text, and the schema even if it ends up in the prompt.
    assert bound.prompt >= 85 + 20 + len(json.dumps(SCHEMA))
    with pytest.raises(InputError, match="image family"):
        OpenAIModel("gpt-4o", image_family="gpt")
