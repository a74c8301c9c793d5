"""No secret that a server was given can be seen: not in its command line, environment, logs,
metrics, answers or last words."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run
from hostile import HostileServer, Received, Reply, completion
from serving import Served, asking, serving

PASSWORD = "canaryP4ssword0123456789"  # noqa: S105
KEY = "canaryUpstreamKey0123456789"
CANARIES = (PASSWORD, KEY, PASSWORD[8:], KEY[8:])


def talkative(request: Received) -> Reply:
    """An upstream that quotes the key it was sent in whatever it says."""
    sent = request.headers.get("authorization", "")
    if "models" in request.path:
        return Reply({"data": [{"id": "m"}], "seen": sent})
    words = str(request.json["messages"])
    if "fail" in words:
        return Reply({"error": {"message": f"bad key {sent}", "code": sent}}, status=401)
    if "crash" in words:
        return Reply({"error": {"message": f"Traceback: {sent}"}}, status=500)
    return Reply(completion(f"You sent {sent}"))


def processes(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes(int(child))


def shown(served: Served, key: str) -> Iterator[tuple[str, str]]:
    """All that can be had of a server, by what it is."""
    for pid in processes(served.process.pid):
        for name in ("cmdline", "environ", "comm"):
            yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes().decode()
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json", "/v1/models", "/nowhere"):
        yield path, served.get(path, authorization=f"Bearer {key}").text
    for words in ("hello", "fail", "crash"):
        for change in ({}, {"stream": True}, {"ecoalign": {"trace": True, "method": "ecoalign"}}):
            body = asking(words, model="m", max_tokens=9, **change)
            answer = served.post(body, key)
            yield f"{words} {change}", f"{answer.headers}\n{answer.text}"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc to look into")
@pytest.mark.parametrize(
    ("store", "level"), [("a file", "debug"), ("a database that is down", "info")]
)
def test_nothing_shows_a_secret(store: str, level: str, tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text(f"{tmp_path}/k.sqlite3")
    policy = ("--may-choose", "budget,method,trace,base", "--trace", "--method", "base")
    made = run(tmp_path, "keys", "create", "one", *policy, "--keys", f"@{url}")
    key = made.stdout.decode().strip()
    assert key
    if store != "a file":
        # Nothing listens on port 1.
        url.write_text(f"postgresql://eco:{PASSWORD}@127.0.0.1:1/keys?sslpassword={PASSWORD}")
    (tmp_path / "key").write_text(f"{KEY}\n")
    with HostileServer(talkative) as upstream:
        options = ["--model", "openai:m", "--base-url", upstream.url, "--budget", "9000"]
        options += ["--keys", f"@{url}", "--log-level", level, "--log-content"]
        with serving(tmp_path, *options, OPENAI_API_KEY_FILE=str(tmp_path / "key")) as served:
            found = dict(shown(served, key))
            served.process.send_signal(signal.SIGTERM)
            served.process.wait(60)
            found["standard error"] = "".join(served.said)
        assert store != "a file" or any(KEY in str(r.headers) for r in upstream.received)
    for what, text in found.items():
        for canary in (*CANARIES, key, key.rpartition("-")[2]):
            assert canary not in text, f"{canary} in {what}: {text[:2000]}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ask", "What?", "--base-url", f"http://me:{KEY}@127.0.0.1:1/v1"), "password"),
        (("ask", "What?", "--base-url", f"http://127.0.0.1:1/v1?key={KEY}"), "query"),
        (("ask", "What?", "--set", f"api_key={KEY}"), "keys of services are not settings"),
        (("ask", "What?", "--set", f"openai_api_key={KEY}"), "keys of services are not settings"),
        (("serve", "--set", f"base_url=http://me:{KEY}@127.0.0.1:1/v1"), "password"),
        (("serve", "--api-key", KEY), "--api-key"),
        (("serve", "--keys", f"postgresql://me:{KEY}@127.0.0.1:1/k"), "ECOALIGN_KEYS"),
        (("doctor", "--base-url", f"http://me:{KEY}@127.0.0.1:1/v1"), "password"),
        (("probe", "--model", "openai:m", "--base-url", f"http://{KEY}@127.0.0.1:1/v1"), ""),
    ],
)
def test_a_secret_in_a_command_line_is_refused_and_not_repeated(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = run(tmp_path, *arguments)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 2, said
    assert KEY not in said
    assert words in said


def test_a_crash_shows_no_secret(tmp_path: Path) -> None:
    """Python's own last words, too: those of a signal that nothing catches."""
    (tmp_path / "key").write_text(KEY)
    options = ("--model", "openai:m", "--base-url", "http://127.0.0.1:1/v1")
    given = {"OPENAI_API_KEY_FILE": str(tmp_path / "key"), "PYTHONFAULTHANDLER": "1"}
    with serving(tmp_path, *options, **given) as served:
        os.kill(served.process.pid, signal.SIGABRT)
        assert served.process.wait(60) == -signal.SIGABRT
    said = "".join(served.said)
    assert "Fatal Python error" in said
    assert KEY not in said
