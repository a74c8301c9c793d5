"""Every refusal, in the API's own shape, from a real gateway."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import zlib
from collections.abc import Iterator

import httpx2
import openai
import pytest
from command import PLAIN, QUESTION
from PIL import Image
from serving import ANY_METHOD, JSON, WAIT, Served, asking, picture, serving, text

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._images import ImageLoader, ImageRef, PictureLimits
from ecoalign.gateway._room import Room
from ecoalign.gateway._workers import WorkerPool

PIXELS = 2_000_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("errors")
    limits = ("--max-body", "1", "--max-images", "2", "--max-budget", "20000")
    with serving(home, *limits, "--no-metrics", *ANY_METHOD) as served:
        yield served


def error_of(reply: httpx2.Response) -> dict[str, str | None]:
    """The error, whose shape is checked."""
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, str | None] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    return error


def _image(data: bytes, kind: str = "png") -> dict[str, object]:
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    size = (30_000).to_bytes(4)
    head = chunk(b"IHDR", size + size + b"\x08\x02\x00\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


IMAGE = "messages[0].content[1].image_url.url"
WRONG: list[tuple[dict[str, object], str | None, str]] = [
    ({"temperature": 3}, "temperature", "0 to 2"),
    ({"temperature": "hot"}, "temperature", "number"),
    ({"temperature": True}, "temperature", "number"),
    ({"top_p": -0.1}, "top_p", "0 to 1"),
    ({"n": 2}, "n", "must be 1"),
    ({"n": "1"}, "n", "must be 1"),
    ({"seed": 1.5}, "seed", "whole"),
    ({"stop": []}, "stop", "text"),
    ({"max_tokens": 0}, "max_tokens", "whole number"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "differ"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "no such"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "whole",
    ),
    ({"functions": []}, "functions", "deprecated"),
    ({"audio": {"voice": "x"}}, "audio", "audio"),
    ({"modalities": ["audio"]}, "modalities", "text"),
    ({"web_search_options": {}}, "web_search_options", "bound"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction", "charged"),
    ({"service_tier": "priority"}, "service_tier", "price"),
    ({"api_base": "http://127.0.0.1:1"}, "api_base", "cannot choose"),
    ({"base_url": "http://127.0.0.1:1"}, "base_url", "cannot choose"),
    ({"extra_headers": {"x": "y"}}, "extra_headers", "cannot choose"),
    ({"models": ["x"]}, "models", "cannot choose"),
    # What the embedded model cannot do.
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "cannot honour"),
    ({"response_format": {"type": "json_object"}}, "response_format", "cannot honour"),
    ({"top_k": 3}, "top_k", "cannot honour"),
    # The ecoalign object.
    ({"ecoalign": []}, "ecoalign", "object"),
    ({"ecoalign": {"speed": 1}}, "ecoalign.speed", "no option"),
    ({"ecoalign": {"trace": 1}}, "ecoalign.trace", "true or false"),
    ({"ecoalign": {"budget": "lots"}}, "ecoalign.budget", "cannot read"),
    ({"ecoalign": {"budget": 0}}, "ecoalign.budget", "whole number"),
    ({"ecoalign": {"budget": True}}, "ecoalign.budget", "true or false"),
    ({"ecoalign": {"budget": {"euro": 1}}}, "ecoalign.budget", "tokens, usd, seconds"),
    ({"ecoalign": {"budget": {"usd": "1"}}}, "ecoalign.budget", "finite"),
    ({"ecoalign": {"budget": 3}}, "ecoalign.budget", "too small"),
    ({"ecoalign": {"preset": "reckless"}}, "ecoalign.preset", "preset"),
    ({"ecoalign": {"method": "guess"}}, "ecoalign.method", "method"),
    ({"ecoalign": {"method": "best-of-0"}}, "ecoalign.method", "n goes"),
    ({"ecoalign": {"method": "ecoalign:paper", "preset": "myopic"}}, "ecoalign.preset", "differ"),
    # The messages.
    ({"messages": []}, "messages", "at least one"),
    ({"messages": "hi"}, "messages", "list"),
    ({"messages": ["hi"]}, "messages[0]", "object"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "content"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages[0]", "no text"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "text or a list"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages", "turn of the user"),
    (
        {"messages": [{"role": "king", "content": "x"}, {"role": "user", "content": "x"}]},
        "messages[0].role",
        "one of",
    ),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages", "no turn"),
    (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        "messages[1].role",
        "continued",
    ),
    ({"model": ""}, "model", "name a model"),
    ({"model": 5}, "model", "name a model"),
]


@pytest.mark.parametrize(("changes", "param", "words"), WRONG, ids=lambda value: str(value)[:50])
def test_a_wrong_request(
    gateway: Served, changes: dict[str, object], param: str | None, words: str
) -> None:
    reply = gateway.post(asking(PLAIN) | changes)
    error = error_of(reply)
    assert (reply.status_code, error["param"]) == (400, param), error
    assert error["type"] == "invalid_request_error"
    assert words in str(error["message"])


IMAGES = [
    (_image(b"hello"), "PNG, JPEG, GIF or WebP"),
    (_image(b""), "empty"),
    (_image(_bomb()), "pixels"),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,###"}}, "base64"),
    ({"type": "image_url", "image_url": {"url": "data:image/png"}}, "comma"),
    ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, "data: URI"),
    ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "data: URI"),
    ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "data: URI"),
    ({"type": "image_url", "image_url": {"url": ""}}, "needs a url"),
    ({"type": "image_url"}, "needs a url"),
]


@pytest.mark.parametrize(("part", "words"), IMAGES, ids=lambda value: str(value)[:50])
def test_an_image_that_cannot_be_used(gateway: Served, part: dict[str, object], words: str) -> None:
    reply = gateway.post(asking(text("what is it?"), part))
    error = error_of(reply)
    assert (reply.status_code, error["param"]) == (400, IMAGE), error
    assert words in str(error["message"])
    assert "root:" not in reply.text


def test_other_parts_and_too_many_images(gateway: Served) -> None:
    for part in ({"type": "video_url", "video_url": {"url": "http://127.0.0.1/"}}, "text", None):
        reply = gateway.post(asking(text("what is it?"), part))
        assert error_of(reply)["param"] == "messages[0].content[1].type"
    reply = gateway.post(asking(text("what is it?"), picture(), picture(), picture()))
    assert error_of(reply)["code"] == "too_many_images"


@pytest.mark.parametrize("method", ["ecoalign", "base", "best-of-2"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_knows_nothing_of(gateway: Served, method: str, stream: bool) -> None:
    grey = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(grey, "PNG")
    for parts in (["Hello!"], [text(QUESTION), _image(grey.getvalue())]):
        reply = gateway.post(asking(*parts, stream=stream, ecoalign={"method": method}))
        error = error_of(reply)
        assert (reply.status_code, error["code"]) == (400, "out_of_domain")
        assert (error["type"], error["param"]) == ("invalid_request_error", "messages")
        assert "openai:NAME" in str(error["message"])


def test_the_budget_has_a_ceiling(gateway: Served) -> None:
    reply = gateway.post(asking(PLAIN, ecoalign={"budget": "1000000,9s"}))
    assert reply.json()["ecoalign"]["budget"] == {"tokens": 20000, "usd": None, "seconds": 9}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"model":"ecoalign","messages":[{"role":"user","content":"\\ud800"}]}',
    ],
    ids=range(8),
)
def test_a_body_that_is_not_a_request(gateway: Served, body: bytes) -> None:
    url = f"{gateway.v1}/chat/completions"
    reply = httpx2.post(url, content=body, headers=JSON, timeout=WAIT)
    assert reply.status_code == 400
    assert error_of(reply)["type"] == "invalid_request_error"


def test_a_body_that_is_too_large(gateway: Served) -> None:
    reply = gateway.post(asking("x" * (1 << 21)))
    assert reply.status_code == 413
    assert error_of(reply)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/completions", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models/gpt-4o", 404),
        ("GET", "/v1/ecoalign/traces/x", 404),
        ("GET", "/metrics", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/healthz", 405),
    ],
)
def test_an_address_that_is_not_there(gateway: Served, method: str, path: str, status: int) -> None:
    reply = httpx2.request(method, f"{gateway.url}{path}", timeout=WAIT)
    assert reply.status_code == status
    assert error_of(reply)["type"] == "invalid_request_error"
    if status == 405:
        assert reply.headers["allow"]


def test_the_official_client_knows_the_errors(gateway: Served) -> None:
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
            )
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="ecoalign", messages=[{"role": "user", "content": "hi"}], n=3
            )
        assert refused.value.param == "n"


def test_an_error_before_anything_is_streamed_has_its_status(gateway: Served) -> None:
    reply = gateway.post(asking(PLAIN, stream=True, ecoalign={"budget": 3}))
    assert reply.status_code == 400
    assert error_of(reply)["code"] == "budget_too_small"


def test_what_is_not_http_is_answered_with_400(gateway: Served) -> None:
    for said in (b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nA b: c\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.port), WAIT) as sock:
            sock.sendall(said)
            assert sock.recv(65536).startswith(b"HTTP/1.1 400")
    assert gateway.get("/healthz").status_code == 200


def test_many_pixels_are_counted_together() -> None:
    """Each image would do, both together would not."""
    made = io.BytesIO()
    Image.new("RGB", (100, 60)).save(made, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(made.getvalue()).decode()}"
    images = [ImageRef(url, "a"), ImageRef(url, "b")]

    async def nowhere(url: str) -> bytes:
        raise AssertionError(url)

    async def load(most: int, total: int) -> list[int]:
        limits = PictureLimits(most, most, total, 16, 10**6, 10**6, patience=0.05)
        workers = WorkerPool(1, 2**29, WAIT)
        loader = ImageLoader(nowhere, limits, workers, Room(10**7))
        try:
            with loader.open() as first, loader.open() as second:
                await first.load(images)
                await second.load(images)
            # The memory of both is free again.
            with loader.open() as third:
                return [picture.width for picture in await third.load(images)]
        finally:
            loader.close()

    assert asyncio.run(load(12_000, 24_000)) == [100, 100]
    with pytest.raises(ApiError) as refused:
        asyncio.run(load(11_999, 24_000))
    assert (refused.value.status, refused.value.param) == (400, "b")
    with pytest.raises(ApiError) as full:
        asyncio.run(load(12_000, 23_999))
    assert (full.value.status, full.value.retry_after) == (503, 1)


def test_the_error_is_json_whatever_the_message_holds(gateway: Served) -> None:
    reply = gateway.post(asking("hi", model='"\u2028</script>\x00é'))
    assert json.loads(reply.content)["error"]["code"] == "model_not_found"
