"""A real server that is not ready yet, and one that ends in the middle of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import real_servers
from command import SIGNS, both, run
from hostile import Received, Reply
from real_servers import SHORT, WAIT, RealServer, relayed

QUESTION = "What is the capital of France?"
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
"""What llama.cpp's server says while it loads."""


def test_a_server_that_is_still_loading(tmp_path: Path, llama: RealServer) -> None:
    """It is asked again, and what it refused costs nothing."""

    def before(number: int, _: Received) -> Reply | None:
        return Reply(LOADING, 503) if number < 2 else None

    with relayed(llama.url, before) as (front, relay):
        where = ("--model", llama.model, "--base-url", front.url)
        done = run(tmp_path, "ask", SIGNS, QUESTION, *where, *SHORT, "--json", wait=WAIT)
    assert done.returncode == 0, both(done)
    spent = json.loads(done.stdout)["spent"]["tokens"]
    used = 0
    for reply in relay.replies:
        usage = reply["usage"]
        assert isinstance(usage, dict)
        used += usage["prompt_tokens"] + usage["completion_tokens"]
    assert spent["total"] == used


def test_a_server_that_dies_in_the_middle(tmp_path: Path) -> None:
    """Nothing unscored comes out; the run ends in time, as a failure of the server or as the fixed
    refusal."""
    if (why := real_servers.missing("llama.cpp")) is not None:
        pytest.skip(why)
    with real_servers.llama(tmp_path) as doomed:

        def before(number: int, _: Received) -> None:
            if number == 2:
                doomed.kill()

        with relayed(doomed.url, before) as (front, relay):
            where = ("--model", doomed.model, "--base-url", front.url)
            once = ("--set", "retries=1")
            done = run(tmp_path, "ask", SIGNS, QUESTION, *where, *SHORT, *once, "--json", wait=WAIT)
        assert doomed.process.poll() is not None
    said = [_said(reply) for reply in relay.replies]
    assert said
    told = json.loads(done.stdout) if done.stdout else {}
    if done.returncode == 0:
        assert told["refused"]
        assert told["stop_reason"] == "fail-closed"
    else:
        assert done.returncode == 3, both(done)
        assert "Traceback" not in both(done)
    assert told.get("answer", "") not in said


def _said(reply: dict[str, object]) -> str:
    choices = reply["choices"]
    assert isinstance(choices, list)
    return str(choices[0]["message"]["content"])
