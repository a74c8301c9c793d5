from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command import KEY, QUESTION, SIGNS, both, environment, run
from hostile import Handler, HostileServer, Received, Reply, completion
from served import well_behaved

from ecoalign.trace import read_trace
from ecoalign.trace.events import Finished, RunFailed

HOSTILE: dict[str, tuple[Handler, str]] = {
    "page": (
        lambda _: Reply("<html>busy</html>", headers={"Content-Type": "text/html"}),
        "answered with an HTML page",
    ),
    "500": (lambda _: Reply({"error": {"message": f"boom {KEY}"}}, 500), "server failed"),
    "429": (
        lambda _: Reply({"error": {"message": "slow"}}, 429, {"retry-after": "0.01"}),
        "limits the rate",
    ),
    "slow": (lambda _: Reply(hang=True), "did not answer"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_server(name: str, tmp_path: Path) -> None:
    handler, complaint = HOSTILE[name]
    with HostileServer(handler) as server:
        done = run(
            tmp_path,
            *("ask", SIGNS, QUESTION, "--model", "gpt-4o", "--base-url", server.url),
            *("--set", "retries=1", "--set", f"timeout={0.2 if name == 'slow' else 20}"),
            *("--trace", "t.jsonl"),
            OPENAI_API_KEY=KEY,
        )
        assert server.received
    assert (done.returncode, done.stdout) == (3, b"")
    assert complaint in done.stderr.decode()
    assert KEY not in both(done)
    assert "Traceback" not in both(done)
    trace = tmp_path / "t.jsonl"
    assert KEY not in trace.read_text(encoding="utf-8")
    assert isinstance(read_trace(trace)[-1], RunFailed)


def test_server_that_is_down(tmp_path: Path) -> None:
    with socket.socket() as held:
        # Bound, but not listening: nobody else can take the port meanwhile.
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        arguments = ("--model", "gpt-4o", "--base-url", url, "--set", "retries=0", "--json")
        done = run(tmp_path, "ask", SIGNS, QUESTION, *arguments)
    assert done.returncode == 3
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("ModelError", 3)
    assert "cannot be reached" in error["message"]


def test_the_embedded_model_judges_no_other_one(tmp_path: Path) -> None:
    with HostileServer(well_behaved) as server:
        arguments = ("ask", SIGNS, QUESTION, "--model", "gpt-4o", "--base-url", server.url)
        done = run(tmp_path, *arguments, "--evaluator", "embedded", "--json")
        asked = len(server.received)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "SettingsError"
    assert "cannot judge what gpt-4o writes" in error["message"]
    assert not asked


def _says_unscorable(request: Received) -> Reply:
    """As it should be, but every verdict is "not safe"."""
    reply = well_behaved(request)
    if '\\"safety\\": <0-' in request.body.decode() and '\\"key\\"' in request.body.decode():
        return Reply(completion("This is not safe."))
    return reply


def test_nothing_without_a_score_gets_out(tmp_path: Path) -> None:
    with HostileServer(_says_unscorable) as server:
        arguments = ("--model", "gpt-4o", "--base-url", server.url, "-b", "40000", "--json")
        done = run(tmp_path, "ask", SIGNS, QUESTION, *arguments)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"], error["exit_code"]) == (3, "VerdictError", 3)
    assert "verdicts could be read" in error["message"]
    assert "probe MODEL --judge" in error["message"]
    assert "42" not in both(done)


def test_a_real_server_is_asked_and_paid_in_every_unit(tmp_path: Path) -> None:
    prices = {"openai:gpt-4o": {"input": 2.5, "output": 10.0}}
    with HostileServer(well_behaved) as server:
        done = run(
            tmp_path,
            *("ask", SIGNS, QUESTION, "-m", "gpt-4o", "--base-url", server.url),
            *("-b", "40000,$0.5,50s", "--set", f"prices={json.dumps(prices)}"),
            *("--trace", "t.jsonl", "--json"),
            OPENAI_API_KEY=KEY,
        )
        calls = len(server.received)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["answer"], body["model"]) == ("42", "openai:gpt-4o")
    assert body["spent"]["calls"] == calls
    assert 0 < body["spent"]["usd"] <= 0.5
    assert body["spent"]["seconds"] <= 50
    assert isinstance(read_trace(tmp_path / "t.jsonl")[-1], Finished)
    replayed = run(tmp_path, "replay", "t.jsonl", SIGNS)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_what_a_model_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    def rude(request: Received) -> Reply:
        reply = well_behaved(request)
        if isinstance(reply.body, dict) and reply.body["choices"][0]["message"]["content"] == "42":
            return Reply(completion("4\x1b]0;owned\x07\u202e2 \ud800"))
        return reply

    with HostileServer(rude) as server:
        arguments = ("--model", "gpt-4o", "--base-url", server.url, "-b", "40000")
        done = run(tmp_path, "ask", SIGNS, QUESTION, *arguments, "--trace", "t.jsonl", "--progress")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("4")
    assert not {"\x1b", "\x07", "\u202e"} & set(both(done))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_keeps_the_trace_and_says_what_was_spent(
    sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    reached = threading.Event()

    def stuck_after_the_scan(request: Received) -> Reply:
        reply = well_behaved(request)
        if b"Propose at most" in request.body:
            reached.set()
            return Reply(hang=True)
        return reply

    with HostileServer(stuck_after_the_scan) as server:
        arguments = ("--model", "gpt-4o", "--base-url", server.url, "-b", "40000")
        recorded = ("--trace", "t.jsonl", "--set", "draft=false")
        with subprocess.Popen(
            [sys.executable, "-m", "ecoalign", "ask", SIGNS, QUESTION, *arguments, *recorded],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(tmp_path),
        ) as process:
            assert reached.wait(60)
            process.send_signal(sent)
            answer, said = process.communicate(timeout=60)
    assert (process.returncode, answer) == (code, b"")
    assert b"charged before the run failed" in said
    assert b"t.jsonl" in said
    assert b"Traceback" not in said
    last = read_trace(tmp_path / "t.jsonl")[-1]
    assert isinstance(last, RunFailed)
    assert last.error == "Cancelled"
    # The hanging call may be billed: it is charged at its worst case.
    assert last.spent["tokens"]["total"] > 0
    again = run(tmp_path, "replay", "t.jsonl", SIGNS)
    assert again.returncode == 2
    assert b"interrupted" in again.stderr
