"""What failed is said in the same words by every command and by the gateway, and costs nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command import KEY, QUESTION, SIGNS, both, run
from failing import HIDDEN, WAYS, Way
from hostile import HostileServer, Received, Reply, completion
from served import well_behaved
from serving import ANY_METHOD, asking, serving

SOME = [
    "signed by itself",
    "expired, beyond a proxy",
    "https to a server of http",
    "a name that nobody has",
    "a port where nobody listens",
    "a proxy that is not there",
    "a proxy that wants a password",
    "a proxy that refuses",
    "a wrong key",
    "a wrong path",
    "a redirect",
    "a page",
]


def _environment(way: Way) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "NO_PROXY": "", "HTTP_PROXY": "", **way.environment}


async def command(
    home: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(lambda: run(home, *arguments, **plain(variables)))


def plain(variables: Mapping[str, str]) -> dict[str, Any]:
    """To be handed on by name."""
    return dict(variables)


@pytest.mark.parametrize("name", SOME)
async def test_every_command_says_it_in_the_same_line(name: str, tmp_path: Path) -> None:
    making, expected = WAYS[name]
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"question": QUESTION}) + "\n", encoding="utf-8"
    )
    async with making() as way:
        there = ("--model", "m", "--base-url", way.url, "--set", "retries=0", "-q")
        known = _environment(way)
        asked = await command(tmp_path, "ask", SIGNS, QUESTION, *there, **known)
        batch = await command(tmp_path, "batch", "rows.jsonl", "out.jsonl", *there, **known)
        doctor = await command(tmp_path, "doctor", *there[:-3], "--connect", "--json", **known)
    said = asked.stderr.decode()
    assert (asked.returncode, asked.stdout) == (3, b"")
    (line,) = [each for each in said.splitlines() if each.startswith("error: ")]
    assert expected.words in line
    row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert expected.words in json.dumps(row, ensure_ascii=False)
    checked = json.loads(doctor.stdout)
    if expected.cause != "path":  # some servers list no models
        assert doctor.returncode == 2
        assert expected.words in " ".join(checked["problems"])
    for done in (asked, batch, doctor):
        assert "Traceback" not in both(done)
        assert HIDDEN not in both(done)
        assert KEY not in both(done)


@pytest.mark.parametrize("name", SOME)
async def test_the_gateway_says_it_without_addresses_and_charges_what_was_sent_alone(
    name: str, tmp_path: Path
) -> None:
    making, expected = WAYS[name]
    store = str(tmp_path / "keys.sqlite3")
    made = run(
        tmp_path,
        *("keys", "create", "t", "--limit", "2000000", "--keys", store, "--json"),
        *("--may-choose", "method"),
    )
    secret = json.loads(made.stdout)["secret"]
    async with making() as way:

        def asked() -> tuple[list[dict[str, Any]], list[str], int]:
            arguments = ("--model", "m", "--base-url", way.url, "--set", "retries=0")
            with serving(tmp_path, *arguments, "--keys", store, **_environment(way)) as served:
                options: list[dict[str, Any]] = [{}, {"ecoalign": {"method": "base"}}]
                replies = []
                for each in options:
                    reply = served.post(asking("hi", **each), secret)
                    assert reply.status_code == 502, reply.text
                    replies.append(reply.json()["error"])
                streamed = served.post(asking("hi", stream=True), secret)
                assert "502" in str(streamed.status_code) or "event: error" in streamed.text
                ready = served.get("/readyz").status_code
                served.stop()
                return replies, served.said, ready

        replies, log, ready = await asyncio.to_thread(asked)
    for error in replies:
        assert error["code"] == f"model_{expected.fault.replace('-', '_')}"
        port = way.url.rpartition(":")[2].partition("/")[0]
        for word in (port or "upstream.invalid", "127.0.0.1", ".invalid", "PROXY", HIDDEN, KEY):
            assert word not in error["message"]
    lines = [json.loads(line) for line in log if line.startswith("{")]
    ours = [line for line in lines if line["logger"] == "ecoalign.request"]
    told = [line for line in ours if expected.words in line["message"]]
    assert len(told) == 3
    assert not any(HIDDEN in line or KEY in line or "Traceback" in line for line in log)
    used = json.loads(run(tmp_path, "keys", "usage", "t", "--keys", store, "--json").stdout)
    tokens = json.dumps(used)
    spent = [window["tokens"] for window in _windows(used)]
    assert (sum(spent) > 0) == expected.sent, tokens
    unreachable = expected.fault == "down" or expected.cause in {"key", "proxy-password"}
    assert (ready == 503) == unreachable


def _windows(used: Any) -> list[dict[str, Any]]:
    found = used if isinstance(used, list) else used["windows"]
    assert isinstance(found, list)
    return found


BAD: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "a key with a line break": ((), {"OPENAI_API_KEY": "sk-a\nsk-b"}, "OPENAI_API_KEY"),
    "a key in curly quotes": ((), {"OPENAI_API_KEY": "\u201csk-a\u201d"}, "OPENAI_API_KEY"),
    "a SOCKS proxy": ((), {"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY"),
    "a proxy that is no address": ((), {"HTTPS_PROXY": "http://a b"}, "HTTPS_PROXY"),
    "a file of authorities that is not there": (
        (), {"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE"),
    "a file that holds none": ((), {"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
    "an address without a scheme": (("--base-url", "localhost:8000/v1"), {}, "http"),
    "an address with a port of six digits": (("--base-url", "https://h:123456/v1"), {}, "port"),
    "IPv6 without brackets": (("--base-url", "https://::1:8000/v1"), {}, "brackets"),
    "the whole address": (
        ("--base-url", "https://h.invalid/v1/chat/completions"), {}, "leave that out"),
    "/v1 twice": (("--base-url", "https://h.invalid/v1/v1"), {}, "twice"),
    "a query": (("--base-url", "https://h.invalid/v1?api-version=1"), {}, "query"),
    "a user in it": (("--base-url", "https://me:pw@h.invalid/v1"), {}, "user or password"),
    "settings that are no TOML": (("--config", "broken.toml"), {}, "broken.toml is not TOML"),
    "settings that are not there": (("--config", "none.toml"), {}, "none.toml cannot be read"),
    "settings that are a folder": (("--config", "."), {}, "cannot be read"),
    "settings that are not UTF-8": (("--config", "latin.toml"), {}, "is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_said_before_anything_is_asked(name: str, tmp_path: Path) -> None:
    """By one line and exit code 2, whatever was to be done with it."""
    arguments, variables, word = BAD[name]
    (tmp_path / "broken.toml").write_text("model = \n", encoding="utf-8")
    (tmp_path / "latin.toml").write_bytes('model = "\xfc"\n'.encode("latin-1"))
    (tmp_path / "rows.jsonl").write_text('{"question": "hi"}\n', encoding="utf-8")
    there = ("--model", "openai:m", *arguments)
    if "--base-url" not in arguments:
        there += ("--base-url", "https://h.invalid/v1")
    known = {"OPENAI_API_KEY": KEY, **variables}
    told = set()
    for line in (
        ("ask", "hi", *there),
        ("batch", "rows.jsonl", "out.jsonl", *there),
        ("serve", "--port", "0", *there),
        ("doctor", *there),
        ("bench", "run", "main", "--limit", "1", *there),
    ):
        done = run(tmp_path, *line, **plain(known))
        assert done.returncode == 2, (line, both(done))
        assert "Traceback" not in both(done)
        assert not any(secret in both(done) for secret in (KEY, "sk-a", ":pw@"))
        assert word in " ".join(both(done).split()), line
        told |= {each for each in done.stderr.decode().splitlines() if each.startswith("error: ")}
    assert len(told) == 1


def unreadable(request: Received) -> Reply:
    """As it should be, but no verdict can be read."""
    reply = well_behaved(request)
    verdict = '\\"safety\\": <0-' in request.body.decode() and '\\"key\\"' in request.body.decode()
    return Reply(completion("I would rather not say.")) if verdict else reply


def test_a_judge_that_cannot_be_read_is_an_error_by_every_route(tmp_path: Path) -> None:
    with HostileServer(unreadable) as server:
        there = ("--model", "m", "--base-url", server.url, "--budget", "60000")
        for method in ("ecoalign", "best-of-2"):
            done = run(tmp_path, "ask", SIGNS, QUESTION, *there, "--method", method, "--json")
            error = json.loads(done.stdout)["error"]
            assert (done.returncode, error["type"]) == (3, "VerdictError")
        with serving(tmp_path, *there, *ANY_METHOD) as served:
            for options in ({}, {"ecoalign": {"method": "best-of-2"}}):
                reply = served.post(asking("hi", **options))
                assert (reply.status_code, reply.json()["error"]["code"]) == (
                    502,
                    "evaluator_unreadable",
                )
            streamed = served.post(asking("hi", stream=True))
            assert "evaluator_unreadable" in streamed.text


@pytest.mark.parametrize("method", ["ecoalign", "best-of-2", "vlm-guard"])
def test_an_evaluator_that_fails_is_an_error_by_every_route(method: str, tmp_path: Path) -> None:
    def broken(request: Received) -> Reply:
        text = request.body.decode()
        asks = '\\"safety\\": <0-' in text and '\\"key\\"' in text
        if asks or '"stage": "check"' in text or "Reply with one word" in text:
            return Reply({"error": {"message": "out of memory"}}, 500)
        return well_behaved(request)

    with HostileServer(broken) as server:
        there = ("--model", "m", "--base-url", server.url, "--set", "retries=0", "-b", "60000")
        done = run(tmp_path, "ask", SIGNS, QUESTION, *there, "--method", method, "--json")
        body = json.loads(done.stdout)
        if method == "vlm-guard" and done.returncode == 0:
            # Its checks are prompts of its own, which this server answers.
            assert "safety" in body
            return
        assert (done.returncode, body["error"]["type"]) == (3, "ModelError")
        with serving(tmp_path, *there, *ANY_METHOD) as served:
            options = {"ecoalign": {"method": method}}
            reply = served.post(asking("hi", **options))
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "evaluator_server")
            streamed = served.post(asking("hi", stream=True, **options))
            assert "evaluator_server" in streamed.text
