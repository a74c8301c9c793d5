"""A client's parameters on their way to a server, and what comes back, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hostile import Handler, HostileServer, Received, Reply, completion

from ecoalign.errors import InputError, ModelError
from ecoalign.models import ChatRequest, Message, TextPart, ToolCall
from ecoalign.models.openai._model import OpenAIModel
from ecoalign.models.openai.server import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY = "sk-test-0123456789abcdef"
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")


def ask(client: Mapping[str, object] | None = None, **more: Any) -> ChatRequest:
    fields: dict[str, Any] = {"max_tokens": 20, "stage": "execute", "client": client or {}} | more
    return ChatRequest((Message("user", (TextPart("what?"),)),), **fields)


def error(message: str, status: int = 400, **fields: object) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error", **fields}}, status)


async def sent(handler: Handler, request: ChatRequest) -> tuple[ModelError | None, list[Received]]:
    """The error of one call, if any, and the requests that it took."""
    with HostileServer(handler) as server:
        model = OpenAIModel("m", base_url=server.url)
        try:
            await model.complete(request)
        except ModelError as failure:
            return failure, server.received
        finally:
            await model.aclose()
        return None, server.received


async def test_a_clients_parameters_are_sent_as_they_are_and_before_ours() -> None:
    client = {
        "temperature": 0.25,
        "top_p": 1,
        "seed": 11,
        "stop": ["\n", "END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "logprobs": True,
        "top_logprobs": 3,
        "tools": TOOLS,
        "tool_choice": "auto",
        "logit_bias": {"50256": -100},
        "x_vendor": {"deep": [1, None, "ü"]},
    }
    request = ask(client, temperature=0.9, seed=1, top_logprobs=10, extra={"top_p": 0.1})
    failed, received = await sent(lambda _: Reply(completion()), request)
    assert failed is None
    body = received[0].json
    assert {name: body[name] for name in client} == client
    assert set(body) - set(client) == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("name", ["messages", "model", "max_tokens", "n", "stream"])
async def test_what_the_budget_rests_on_is_not_the_clients(name: str) -> None:
    with HostileServer(lambda _: Reply(completion())) as server:
        model = OpenAIModel("m", base_url=server.url)
        with pytest.raises(InputError, match=name):
            await model.complete(ask({name: 1}))
        await model.aclose()
        assert server.received == []


@pytest.mark.parametrize(
    ("client", "reply", "param"),
    [
        ({"temperature": 1.5}, error("Unsupported value: 'temperature'"), "temperature"),
        ({"logprobs": True, "top_logprobs": 2}, error("no log probs here"), "top_logprobs"),
        ({"seed": 4, "top_p": 1}, error("Unrecognized argument: seed"), "seed"),
        ({"top_p": 2, "x_mode": 1}, error("bad value", param="top_p"), "top_p"),
        ({"tools": TOOLS, "top_p": 1}, error("oops", param="tools[0].function.name"), "tools"),
        (
            {"tools": TOOLS, "tool_choice": "auto"},
            error('"auto" tool choice requires --enable-auto-tool-choice to be set'),
            "tool_choice",
        ),
        ({"response_format": {}, "top_p": 1}, error("Invalid JSON schema"), "response_format"),
        ({"stop": ["a"] * 9, "user": "u"}, error("too many stop sequences"), "stop"),
        (
            {"x_mode": 1, "top_p": 1},
            Reply({"detail": [{"loc": ["body", "x_mode"], "msg": "Extra inputs"}]}, 422),
            "x_mode",
        ),
        # It blames nothing: any of them may be meant.
        ({"x_mode": 1, "top_p": 1}, error("Bad request"), "top_p, x_mode"),
        # It blames something else.
        ({"top_p": 1}, error("this model's context length is 100 tokens"), None),
        ({"top_p": 1}, error("unknown role in messages"), None),
        ({}, error("Bad request"), None),
    ],
)
async def test_a_parameter_that_a_server_rejects_is_named_and_never_dropped(
    client: dict[str, object], reply: Reply, param: str | None
) -> None:
    failed, received = await sent(lambda _: reply, ask(client))
    assert failed is not None
    assert (failed.fault, failed.billed, failed.param) == ("rejected", False, param)
    assert all(param_ in str(failed) for param_ in (param or "").split(", "))
    assert len(received) == 1
    assert client.items() <= received[0].json.items()


async def test_ours_are_still_given_up_beside_a_clients() -> None:
    def picky(request: Received) -> Reply:
        for name in ("temperature", "seed", "max_tokens"):
            if name in request.json:
                return error(f"Unsupported parameter: '{name}'", param=name)
        return Reply(completion())

    failed, received = await sent(picky, ask({"top_p": 0.5, "stop": "x"}, seed=3))
    assert failed is None
    assert received[-1].json.keys() == {
        "model", "messages", "max_completion_tokens", "top_p", "stop",
    }  # fmt: skip


async def test_what_was_given_up_for_our_calls_is_not_for_a_clients() -> None:
    def cold(request: Received) -> Reply:
        if request.json.get("temperature", 1) != 1:
            return error("temperature must be 1", param="temperature")
        return Reply(completion())

    with HostileServer(cold) as server:
        model = OpenAIModel("m", base_url=server.url)
        await model.complete(ask())
        with pytest.raises(ModelError) as caught:
            await model.complete(ask({"temperature": 0.5}))
        assert caught.value.param == "temperature"
        await model.complete(ask({"temperature": 1}))
        assert [r.json.get("temperature") for r in server.received] == [0.0, None, 0.5, 1]
        await model.aclose()


# What comes back --------------------------------------------------------------------------------


def message(content: object, finish: str = "stop", **fields: object) -> dict[str, object]:
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **fields}}
    whole: dict[str, object] = completion(choices=[choice])
    return whole


def call_of(arguments: object = '{"x": 1}', **fields: object) -> dict[str, object]:
    function = {"name": "f", "arguments": arguments}
    return {"id": "call_9", "type": "function", "function": function, **fields}


async def answered(body: object, client: Mapping[str, object]) -> Any:
    with HostileServer(lambda _: Reply(body)) as server:
        model = OpenAIModel("m", base_url=server.url)
        try:
            return await model.complete(ask(client))
        finally:
            await model.aclose()


async def test_tool_calls_come_back_where_tools_were_given() -> None:
    body = message(None, "tool_calls", tool_calls=[call_of(), call_of({"y": 2}, id="c 2")])
    done = await answered(body, {"tools": TOOLS})
    # Arguments as an object are written out; what a server calls a call is not scored.
    assert [(call.name, call.arguments) for call in done.tool_calls] == [
        ("f", '{"x": 1}'),
        ("f", '{"y": 2}'),
    ]
    ids = {call.id for call in done.tool_calls}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9]{9}", one) for one in ids)
    assert (done.text, done.finish_reason) == ("", "tool_calls")
    body = message("well", tool_calls=[{"custom": {"name": "run", "input": "ls"}, "id": "a"}])
    run: dict[str, object] = {"type": "custom", "custom": {"name": "run"}}
    done = await answered(body, {"tools": [*TOOLS, run]})
    (call,) = done.tool_calls
    assert (done.text, call) == ("well", ToolCall(call.id, "run", "ls", "custom"))


async def test_a_tool_call_that_nobody_asked_for_is_not_read() -> None:
    done = await answered(message("text", tool_calls=[call_of()]), {"top_p": 1})
    assert done.tool_calls == ()
    with pytest.raises(ModelError, match="no text"):
        await answered(message(None, tool_calls=[call_of()]), {"tools": []})


@pytest.mark.parametrize(
    "call",
    [{}, None, "f", {"function": None}, {"function": {"arguments": "{}"}},
     {"function": {"name": "how to make a bomb: first", "arguments": "{}"}},
     {"function": {"name": "g", "arguments": "{}"}}, {"custom": {"name": "run", "input": "ls"}}],
)  # fmt: skip
async def test_a_malformed_tool_call_is_a_bad_answer(call: object) -> None:
    with pytest.raises(ModelError) as caught:
        await answered(message("text", tool_calls=[call]), {"tools": TOOLS})
    assert caught.value.fault == "bad-response"


async def test_logprobs_are_kept_as_they_came_where_the_client_asked() -> None:
    raw = {"content": [{"token": "fine", "logprob": -0.5, "bytes": [102], "odd": 1}], "more": 2}
    choice = {"finish_reason": "stop", "message": {"content": "fine"}, "logprobs": raw}
    body = completion(choices=[choice])
    assert (await answered(body, {"logprobs": True})).raw_logprobs == raw
    for client in ({}, {"logprobs": False}):
        assert (await answered(body, client)).raw_logprobs is None


# Further requests on a connection that is there ------------------------------------------------


@pytest.fixture(name="lasting")
def a_lasting_server() -> Iterator[tuple[str, list[dict[str, Any]], list[Any]]]:
    """A server that keeps its connections open: its URL, what it was sent, who connected."""
    received: list[dict[str, Any]] = []
    clients: list[Any] = []

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            clients.append(self.client_address)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.append({"path": self.path, "headers": headers, "body": body})
            data = json.dumps(completion(body["messages"][0]["content"])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Connection)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", received, clients
    server.shutdown()
    thread.join()
    server.server_close()


async def test_all_requests_are_alike_and_share_connections(
    lasting: tuple[str, list[dict[str, Any]], list[Any]],
) -> None:
    url, received, clients = lasting
    model = OpenAIModel("m", base_url=url)

    def said(text: str) -> ChatRequest:
        return ChatRequest((Message("user", (TextPart(text),)),), 20, "t")

    texts = ["first", "ü \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), '"\\']
    for text in texts:
        assert (await model.complete(said(text))).text == text
    assert len(set(clients)) == 1
    first, *rest = (dict(request["headers"]) for request in received)
    assert first["authorization"] == f"Bearer {KEY}"
    assert first["openai-organization"] == "org-1"
    first.pop("content-length")
    for headers in rest:
        headers.pop("content-length")
        assert headers == first
    assert {request["path"] for request in received} == {"/v1/chat/completions"}
    many = await asyncio.gather(*(model.complete(said(f"n{i}")) for i in range(64)))
    assert [done.text for done in many] == [f"n{i}" for i in range(64)]
    before = len(clients)
    await asyncio.gather(*(model.complete(said(f"n{i}")) for i in range(64)))
    assert len(clients) == before <= 64
    await model.aclose()


BAD = [
    (Reply(b"<html>no</html>"), "bad-response", True),
    (Reply(b'{"choices": [{"mess'), "bad-response", True),
    (Reply(b"{}", length=900), "bad-response", True),
    (Reply(raw=b""), "bad-response", True),
    (Reply(raw=b"SSH-2.0-OpenSSH\r\n"), "bad-response", True),
    (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "bad-response", True),
    (Reply(endless=b" " * 65536), "bad-response", True),
    (Reply(b"x" * (MAX_ANSWER_BYTES + 1)), "bad-response", True),
    (
        Reply(gzip.compress(b" " * (MAX_ANSWER_BYTES + 1)), headers={"Content-Encoding": "gzip"}),
        "bad-response",
        True,
    ),
    (Reply(b"no", headers={"Content-Encoding": "gzip"}), "bad-response", True),
    (Reply(b"no", headers={"Content-Encoding": "br"}), "bad-response", True),
    (error("slow down", 429), "rate-limited", False),
    (error("wrong key " + KEY, 401), "rejected", False),
    (error("oops", 500), "server", True),
    (error("no such model", 404), "rejected", False),
    (Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}), "rejected", False),
    (Reply(hang=True), "timeout", True),
]


@pytest.mark.parametrize(("reply", "fault", "billed"), BAD)
async def test_a_further_request_fails_as_the_first_would(
    reply: Reply, fault: str, billed: bool
) -> None:
    replies = [Reply(completion()), reply, Reply(completion("again"))]
    with HostileServer(lambda _: replies.pop(0)) as server:
        model = OpenAIModel("m", base_url=server.url, timeout=0.5 if reply.hang else 10.0)
        await model.complete(ask())
        with pytest.raises(ModelError) as caught:
            await model.complete(ask())
        assert (caught.value.fault, caught.value.billed) == (fault, billed)
        assert KEY not in f"{caught.value!r}{caught.value.__context__!r}"
        assert (await model.complete(ask())).text == "again"
        await model.aclose()


async def test_a_server_that_is_gone_is_down_for_a_further_request_too() -> None:
    with HostileServer(lambda _: Reply(completion())) as server:
        model = OpenAIModel("m", base_url=server.url)
        await model.complete(ask())
    with pytest.raises(ModelError) as caught:
        await model.complete(ask())
    assert (caught.value.fault, caught.value.billed) == ("down", False)
    await model.aclose()
