"""A real gateway in front of upstreams that behave badly, on real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest
from hostile import Handler, HostileServer, Received, Reply, completion
from served import well_behaved
from serving import ANY_METHOD, JSON, WAIT, Served, asking, picture, serving, text

SECRET = "-".join(("sk", "upstream", "key", "0123456789abcdef"))


class Moods:
    """An upstream that each test puts in its own mood."""

    def __init__(self) -> None:
        self.mood: Handler = well_behaved
        self.server = HostileServer(self._answer)

    def _answer(self, request: Received) -> Reply:
        return self.mood(request)


@pytest.fixture(scope="module")
def moods() -> Iterator[Moods]:
    made = Moods()
    with made.server:
        yield made


@pytest.fixture(scope="module")
def gateway(moods: Moods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tmp_path_factory.mktemp("upstream"),
        *("--model", "gpt-4o", "--base-url", moods.server.url),
        *("--set", "timeout=1", "--set", "retries=0"),
        *ANY_METHOD,
        OPENAI_API_KEY=SECRET,
    ) as served:
        yield served


@pytest.fixture
def upstream(moods: Moods) -> Moods:
    """The upstream, with nothing received yet."""
    moods.server.received.clear()
    moods.mood = well_behaved
    return moods


def _question(**changes: object) -> dict[str, object]:
    return asking(text("What does the sign say?"), picture(), **changes)


def _base(**changes: object) -> dict[str, object]:
    options: dict[str, object] = {"method": "base"}
    given = changes.pop("ecoalign", {})
    assert isinstance(given, dict)
    return _question(ecoalign=options | given, **changes)


def _error(reply: httpx2.Response) -> dict[str, str]:
    error: dict[str, str] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert SECRET not in reply.text
    assert "127.0.0.1" not in reply.text
    return error


def test_a_well_behaved_upstream(gateway: Served, upstream: Moods) -> None:
    done = gateway.post(_question(temperature=0.7, top_p=0.9, user="u", top_k=7, metadata={}))
    assert done.status_code == 200, done.text
    body = done.json()
    assert body["choices"][0]["message"]["content"] == "42"
    calls = [request.json for request in upstream.server.received]
    charged = 0
    for request in upstream.server.received:
        reply = well_behaved(request).body
        assert isinstance(reply, dict)
        charged += reply["usage"]["total_tokens"]
    assert body["usage"]["total_tokens"] == charged
    assert body["ecoalign"]["spent"]["calls"] == len(calls)
    # What the client wants of its answer goes with the calls that write one, and no other.
    writing = [call for call in calls if "top_k" in call]
    assert 0 < len(writing) < len(calls)
    assert all((c["temperature"], c["top_p"], c["top_k"]) == (0.7, 0.9, 7) for c in writing)
    assert not any("metadata" in call for call in calls)
    keys = {request.headers["authorization"] for request in upstream.server.received}
    assert keys == {f"Bearer {SECRET}"}


BAD: dict[str, tuple[Reply, int]] = {
    "an HTML page": (Reply("<html>oops</html>", headers={"Content-Type": "text/html"}), 502),
    "half JSON": (Reply('{"choices": [{"message": {"cont'), 502),
    "an empty body": (Reply(""), 502),
    "not a completion": (Reply({"hello": "world"}), 502),
    "a list": (Reply([1, 2]), 502),
    "500": (Reply({"error": {"message": f"died at 127.0.0.1, {SECRET}"}}, 500), 502),
    "503 in HTML": (Reply("<html>503</html>", 503), 502),
    "429": (Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "7"}), 502),
    "401": (Reply({"error": {"message": f"bad key {SECRET}"}}, 401), 502),
    "a redirect": (Reply("", 302, {"Location": "http://127.0.0.1:1/"}), 502),
    "a false length": (Reply(completion("42"), length=100_000), 502),
    "no HTTP": (Reply(raw=b"SSH-2.0-OpenSSH_9.9\r\n"), 502),
    "a slammed door": (Reply(raw=b""), 502),
    "silence": (Reply(hang=True), 504),
    "no end": (Reply('{"choices": "', endless=b"x" * 65536), 502),
}


CASES = [(name, how) for name in BAD for how in ("ecoalign", "base")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_an_upstream_that_fails(gateway: Served, upstream: Moods, name: str, method: str) -> None:
    reply, status = BAD[name]
    upstream.mood = lambda request: reply
    failed = gateway.post(_question(ecoalign={"method": method}))
    error = _error(failed)
    allowed = {status, 504} if name in {"no end", "a false length"} else {status}
    assert failed.status_code in allowed, failed.text
    assert error["type"] == "server_error"
    assert error["code"].startswith("model_")
    assert "model's upstream" in error["message"]
    # The official clients shall not repeat what was tried and paid for here.
    assert failed.headers["x-should-retry"] == "false"
    if name == "429":
        assert failed.headers["retry-after"] == "7"
    assert SECRET not in "".join(gateway.said)


def test_a_slow_loris(gateway: Served, upstream: Moods) -> None:
    """A byte now and then keeps a connection alive, but not beyond the time a call may take."""
    upstream.mood = lambda request: Reply(b"", endless=b" ", drips=True)
    for method in ("ecoalign", "base"):
        failed = gateway.post(_question(ecoalign={"method": method}))
        assert failed.status_code == 504
        assert gateway.get("/healthz").status_code == 200


def test_a_request_that_the_upstream_refuses(gateway: Served, upstream: Moods) -> None:
    body = {"error": {"message": "bad tool", "param": "tools", "code": "invalid"}}
    upstream.mood = lambda request: Reply(body, 400)
    for method in ("ecoalign", "base"):
        tools = [{"type": "function", "function": {"name": "f"}}]
        failed = gateway.post(_question(tools=tools, ecoalign={"method": method}))
        assert failed.status_code == 400, failed.text
        assert _error(failed)["type"] == "invalid_request_error"


def test_a_judge_that_cannot_be_read_lets_nothing_out(gateway: Served, upstream: Moods) -> None:
    def mood(request: Received) -> Reply:
        reply = well_behaved(request)
        return Reply(completion("All safe!")) if b'\\"safety\\": <0-' in request.body else reply

    upstream.mood = mood
    failed = gateway.post(_question())
    assert (failed.status_code, _error(failed)["code"]) == (502, "evaluator_unreadable")
    assert "42" not in failed.text


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        "lots",
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": 0},
    ],
)
def test_a_usage_that_is_none_is_charged_at_the_bound(
    gateway: Served, upstream: Moods, usage: object
) -> None:
    upstream.mood = lambda request: Reply(completion("42", usage=usage))
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    done = gateway.post(_base(max_tokens=50, ecoalign={"budget": 5000}))
    assert done.status_code == 200
    charged = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') - before
    assert 50 < charged <= 5000


def test_base_passes_on_what_was_read_and_shows_the_text(gateway: Served, upstream: Moods) -> None:
    said = completion('{"raw": 1}', vendor={"z": [1, None]}, usage={"prompt_tokens": 9})
    upstream.mood = lambda request: Reply(said)
    asked = _base(
        temperature=0.25,
        logit_bias={"5": -3},
        response_format={"type": "json_object", "json_schema": None},
        max_tokens=7,
        n=1,
        seed=None,
        user="u",
        metadata={"guardrails": []},
        store=False,
    )
    shown = gateway.post(asked).json()
    message = {"role": "assistant", "content": '{"raw": 1}', "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    assert shown["id"] != said["id"]
    assert {name: shown[name] for name in shown.keys() - {"id", "created"}} == {
        "object": "chat.completion",
        "model": "ecoalign",
        "choices": [choice],
        "usage": None,
    }
    (request,) = upstream.server.received
    assert request.json == {
        "model": "gpt-4o",
        "messages": asked["messages"],
        "temperature": 0.25,
        "logit_bias": {"5": -3},
        "response_format": {"type": "json_object"},
        "max_tokens": 7,
        "user": "u",
    }
    assert request.path == "/v1/chat/completions"


@pytest.mark.parametrize("stream", [False, True])
def test_base_shows_no_thought_and_tells_ends_apart(
    gateway: Served, upstream: Moods, stream: bool
) -> None:
    def ends(text: str, finish: str | None, **message: object) -> tuple[str | None, str, str]:
        said = {"content": text, **message}
        if stream:
            cut = [text[i : i + 5] for i in range(0, len(text), 5)]
            chunks: list[object] = [_chunk(piece) for piece in cut]
            last = {"index": 0, "delta": message, "finish_reason": finish}
            upstream.mood = _streamed(_events(*chunks, {"choices": [last]}))
        else:
            choice = {"index": 0, "message": said, "finish_reason": finish}
            upstream.mood = lambda request: Reply(completion(choices=[choice]))
        reply = gateway.post(_base(stream=stream))
        assert reply.status_code == 200, reply.text
        if not stream:
            (choice,) = reply.json()["choices"]
            shown: dict[str, object] = choice["message"]
            return str(shown["content"] or ""), str(shown["refusal"] or ""), choice["finish_reason"]
        deltas, reason = _read(reply.text)
        content, refusal = (
            "".join(str(delta.get(name) or "") for delta in deltas)
            for name in ("content", "refusal")
        )
        return content, refusal, reason

    assert ends("<think>so</think>\n\nHarbour.", "stop") == ("Harbour.", "", "stop")
    assert ends("Harbour.", "SAFETY", reasoning="so") == ("Harbour.", "", "content_filter")
    assert ends("Harbour.", "a word of its own") == ("Harbour.", "", "length")
    assert ends("Harbour.", None) == ("Harbour.", "", "length")
    assert ends("<think>so", "length") == ("", "", "length")
    assert ends("", "stop", refusal="I will not.") == ("", "I will not.", "stop")
    assert ends("", "stop") == ("", "", "stop")


def _read(body: str) -> tuple[list[dict[str, object]], str]:
    """The pieces of a stream, and why it ends."""
    events = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    (reason,) = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return [choice["delta"] for choice in choices], reason


@pytest.mark.parametrize("stream", [False, True])
def test_base_keeps_the_calls_of_the_clients_tools(
    gateway: Served, upstream: Moods, stream: bool
) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("look", "read")]

    def ask(*names: str) -> httpx2.Response:
        calls = [
            {"index": i, "id": f"id{i}", "function": {"name": name, "arguments": '{"x": 1}'}}
            for i, name in enumerate(names)
        ]
        if stream:
            pieces = [
                {**call, "function": {**call["function"], "arguments": part}}  # type: ignore[dict-item]
                for call in calls
                for part in ('{"x"', ": 1}")
            ]
            deltas = [{"choices": [{"delta": {"tool_calls": [piece]}}]} for piece in pieces]
            end = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
            upstream.mood = _streamed(_events(*deltas, end))
        else:
            message = {"content": None, "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            upstream.mood = lambda request: Reply(completion(choices=[choice]))
        return gateway.post(_base(stream=stream, tools=tools, ecoalign={"budget": 9000}))

    reply = ask("look", "read")
    if stream:
        deltas, reason = _read(reply.text)
        made = [call for delta in deltas for call in delta.get("tool_calls", ())]  # type: ignore[attr-defined]
    else:
        choice = reply.json()["choices"][0]
        made, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert reason == "tool_calls"
    assert [call["function"] for call in made] == [
        {"name": "look", "arguments": '{"x": 1}'},
        {"name": "read", "arguments": '{"x": 1}'},
    ]
    assert len({call["id"] for call in made} - {"id0", "id1"}) == 2
    # What nobody gave is no tool of the client's: its name and words are not shown.
    wrong = ask("look", "canary")
    assert "canary" not in wrong.text
    assert "model_bad_response" in wrong.text
    assert stream or wrong.status_code == 502


def test_base_within_a_budget(gateway: Served, upstream: Moods) -> None:
    upstream.mood = lambda request: Reply(completion("raw"))
    assert gateway.post(asking("hello", ecoalign={"method": "base", "budget": 900})).is_success
    assert gateway.post(
        asking("hello", max_completion_tokens=9, ecoalign={"method": "base", "budget": 900})
    ).is_success
    refused = gateway.post(asking("hello " * 200, ecoalign={"method": "base", "budget": 900}))
    assert (refused.status_code, _error(refused)["code"]) == (400, "budget_too_small")
    first, second = (request.json for request in upstream.server.received)
    cap = first["max_tokens"]
    assert isinstance(cap, int)
    assert 500 < cap < 900
    assert (second["max_completion_tokens"], second.get("max_tokens")) == (9, None)


def test_base_lets_nobody_fetch(gateway: Served, upstream: Moods) -> None:
    """The upstream would fetch an address from inside its own network."""
    for part in (
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": "http://127.0.0.1/x.png"},
        {"type": "video_url", "video_url": {"url": "http://127.0.0.1/x.mp4"}},
        {"type": "file", "file": {"file_id": "f-1"}},
    ):
        refused = gateway.post(asking(text("what?"), part, ecoalign={"method": "base"}))
        assert refused.status_code == 400
    assert upstream.server.received == []


def test_a_twice_named_parameter_is_not_smuggled(gateway: Served, upstream: Moods) -> None:
    """A reader that takes the first of two would see another request than was checked."""
    upstream.mood = lambda request: Reply(completion("raw"))
    body = json.dumps(_base()).replace('{"model"', '{"n": 50, "n": 1, "model"', 1)
    url = f"{gateway.v1}/chat/completions"
    done = httpx2.post(url, content=body.encode(), headers=JSON, timeout=WAIT)
    assert done.status_code == 200
    assert b'"n"' not in upstream.server.received[0].body


def _events(*chunks: object) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def _chunk(word: str) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"} | {
        "choices": [choice]
    }


USAGE = {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42}}


def _streamed(body: str) -> Callable[[Received], Reply]:
    return lambda request: Reply(body, headers={"Content-Type": "text/event-stream"})


@pytest.mark.parametrize("budget", [None, 3000])
def test_base_streams_as_it_comes(gateway: Served, upstream: Moods, budget: int | None) -> None:
    upstream.mood = _streamed(_events(_chunk("one "), _chunk("two"), USAGE))
    options = {} if budget is None else {"budget": budget}
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as client:
        stream = client.chat.completions.create(
            model="ecoalign",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            extra_body={"ecoalign": {"method": "base", **options}},
        )
        chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks] == ["one ", "two", None]
    # Where it is paid for, the usage is asked for; the client, who did not, is not shown it.
    asked = upstream.server.received[0].json.get("stream_options")
    assert asked == (None if budget is None else {"include_usage": True})
    charged = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') - before
    assert charged == 42


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_stream_of_a_server_that_cannot_count_it(
    gateway: Served, upstream: Moods, status: int
) -> None:
    """What the gateway itself adds is no fault of the client's; the bound is charged then."""

    def mood(request: Received) -> Reply:
        if "stream_options" in request.json:
            message = "Unknown field: stream_options"
            return Reply({"error": {"message": message, "param": "stream_options"}}, status)
        return _streamed(_events(_chunk("one ")))(request)

    upstream.mood = mood
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    asked = _base(stream=True, ecoalign={"method": "base", "budget": 3000})
    for _ in range(2):
        reply = gateway.post(asked)
        assert reply.status_code == 200, reply.text
        assert "one " in reply.text
    sent = ["stream_options" in request.json for request in upstream.server.received]
    assert sent[-2:] == [False, False]
    assert sum(sent) <= 1  # never again
    assert gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') - before == 2 * 3000
    # Many clients always ask for it; that a server cannot count is no reason to give no answer.
    told = gateway.post(_base(stream=True, stream_options={"include_usage": True}))
    assert told.status_code == 200, told.text
    *_, last = [line[6:] for line in told.text.splitlines() if line.startswith("data: {")]
    assert (json.loads(last)["choices"], json.loads(last)["usage"]) == ([], None)


def test_a_cap_of_the_gateways_own_has_the_name_that_the_server_knows(
    gateway: Served, upstream: Moods
) -> None:
    def mood(request: Received) -> Reply:
        if "max_tokens" in request.json:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Reply({"error": {"message": message, "param": "max_tokens"}}, 400)
        return Reply(completion("raw"))

    upstream.mood = mood
    reply = gateway.post(_base(ecoalign={"method": "base", "budget": 3000}))
    assert reply.status_code == 200, reply.text
    assert "max_completion_tokens" in upstream.server.received[-1].json
    refused = gateway.post(_base(max_tokens=7, ecoalign={"method": "base", "budget": 3000}))
    assert (refused.status_code, _error(refused)["param"]) == (400, "max_tokens")


@pytest.mark.parametrize(("usage", "charged"), [(USAGE["usage"], 42), (None, 3000)])
def test_usage_beside_a_failure_is_what_is_charged(
    gateway: Served, upstream: Moods, usage: object, charged: int
) -> None:
    upstream.mood = lambda request: Reply({"error": {"message": "oops"}, "usage": usage}, 500)
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    failed = gateway.post(_base(ecoalign={"method": "base", "budget": 3000}))
    assert failed.status_code == 502
    assert gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') - before == charged


def test_a_content_filter_of_the_upstream_is_told_as_one(gateway: Served, upstream: Moods) -> None:
    """Passed through, it is the upstream's answer; where answers are scored, it is a refusal."""
    upstream.mood = lambda request: Reply(
        {"error": {"message": "The response was filtered", "code": "content_filter"}}, 400
    )
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    passed = gateway.post(_base())
    assert (passed.status_code, _error(passed)["code"]) == (400, "content_filter")
    scored = gateway.post(_question())
    assert scored.status_code == 200, scored.text
    assert scored.json()["ecoalign"]["refused"]
    assert scored.json()["usage"]["total_tokens"] == 0
    assert gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') == before


def test_a_model_that_the_upstream_does_not_know_is_the_operators_affair(
    gateway: Served, upstream: Moods
) -> None:
    upstream.mood = lambda request: Reply(
        {"error": {"message": "no such model", "param": "model"}}, 400
    )
    failed = gateway.post(_base())
    assert (failed.status_code, _error(failed)["code"]) == (502, "model_rejected")


def test_a_stream_that_breaks_ends_with_an_error(gateway: Served, upstream: Moods) -> None:
    """The first words are out; the client must not take them for all there is."""
    body = _events(_chunk("one "))[: -len("data: [DONE]\n\n")]
    upstream.mood = lambda request: Reply(
        body, headers={"Content-Type": "text/event-stream"}, length=10_000
    )
    with openai.OpenAI(base_url=gateway.v1, api_key="any", max_retries=0, timeout=WAIT) as client:
        stream = client.chat.completions.create(
            model="ecoalign",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            extra_body={"ecoalign": {"method": "base"}},
        )
        assert next(stream).choices[0].delta.content == "one "
        with pytest.raises(openai.APIError, match="model's upstream"):
            next(stream)


def test_a_search_whose_upstream_goes_away_is_an_error(gateway: Served, upstream: Moods) -> None:
    """Its scan and its draft are well, then the upstream is gone: nothing unscored comes out, and
    nothing is refused in the name of safety."""

    def mood(request: Received) -> Reply:
        first = len(upstream.server.received) <= 2
        return well_behaved(request) if first else Reply({}, 500)

    upstream.mood = mood
    failed = gateway.post(_question())
    assert failed.status_code == 502
    assert _error(failed)["code"] == "model_server"
    assert "42" not in failed.text
    upstream.server.received.clear()
    streamed = gateway.post(_question(stream=True))
    assert "model_server" in streamed.text
    assert "42" not in streamed.text


def test_an_upstream_that_is_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("down")
    url = "http://127.0.0.1:9/v1"
    arguments = ("--model", "gpt-4o", "--base-url", url, "--set", "retries=0", *ANY_METHOD)
    with serving(home, *arguments) as served:
        for method in ("ecoalign", "base"):
            failed = served.post(_question(ecoalign={"method": method}))
            assert failed.status_code == 502
            assert _error(failed)["code"] == "model_down"
        assert served.get("/readyz").status_code == 503
