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
    done = gateway.post(_question(temperature=0.7, top_p=0.9, user="u", vendor_field={"x": 1}))
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
    writing = [call for call in calls if "vendor_field" in call]
    assert 0 < len(writing) < len(calls)
    assert {json.dumps(call["vendor_field"]) for call in writing} == {'{"x": 1}'}
    assert all((call["temperature"], call["top_p"]) == (0.7, 0.9) for call in writing)
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


# Method base shows what the upstream says, as long as it is a JSON object.
UNLIKE = ("not a completion", "base")
CASES = [(name, how) for name in BAD for how in ("ecoalign", "base") if (name, how) != UNLIKE]


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
    done = gateway.post(_question()).json()
    assert done["ecoalign"]["refused"]
    assert done["ecoalign"]["stop_reason"] == "fail-closed"
    assert "42" not in done["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        "lots",
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": 0},
        {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 2 * 10**12},
    ],
)
def test_a_usage_that_lies_is_charged_at_the_bound(
    gateway: Served, upstream: Moods, usage: object
) -> None:
    upstream.mood = lambda request: Reply(completion("42", usage=usage))
    before = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}')
    done = gateway.post(_base(max_tokens=50, ecoalign={"budget": 5000}))
    assert done.status_code == 200
    charged = gateway.metric('ecoalign_spent_tokens_total{stage="answer"}') - before
    assert 50 < charged <= 5000


def test_base_passes_the_request_on_as_it_came(gateway: Served, upstream: Moods) -> None:
    said = completion("raw", vendor={"z": [1, None]}, usage={"prompt_tokens": 9})
    upstream.mood = lambda request: Reply(said)
    asked = _base(
        temperature=0.25, logit_bias={"5": -3}, vendor={"deep": [1.5, None, "é"]}, max_tokens=7
    )
    assert gateway.post(asked).json() == said
    (request,) = upstream.server.received
    expected = {name: value for name, value in asked.items() if name != "ecoalign"}
    assert request.json == expected | {"model": "gpt-4o"}
    assert request.path == "/v1/chat/completions"


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
    assert upstream.server.received[0].body.count(b'"n"') == 1
    assert b"50" not in upstream.server.received[0].body[:20]


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
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["one ", "two"]
    # Where it is paid for, the usage is asked for; the client, who did not, is not shown it.
    assert any(not c.choices for c in chunks) == (budget is None)
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
    # Whoever asks for it by oneself is told.
    options = {"stream": True, "stream_options": {"include_usage": True}}
    if status != 500:
        refused = gateway.post(_base(**options))
        assert (refused.status_code, _error(refused)["param"]) == (400, "stream_options")


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
        assert served.get("/readyz").status_code == 200
