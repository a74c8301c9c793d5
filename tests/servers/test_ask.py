"""Questions to a real language model behind servers that nobody here wrote.

The model is far too small to answer or to judge well, and may refuse anything. What holds of any
model is asserted: the shape of a result, that nothing unscored comes out, and the budget.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx2
from command import SIGNS, both, run
from real_servers import SHORT, SHORT_CAPS, WAIT, RealServer, relayed

from ecoalign import Budget, Settings, align
from ecoalign.errors import VerdictError
from ecoalign.trace import read_trace
from ecoalign.trace.events import Called

QUESTION = "What is the capital of France?"


def _ask(
    home: Path, server: RealServer, *more: str, url: str = ""
) -> subprocess.CompletedProcess[bytes]:
    where = ("--model", server.model, "--base-url", url or server.url)
    return run(home, "ask", SIGNS, QUESTION, *where, "--quiet", *SHORT, *more, wait=WAIT)


def test_an_image_and_a_question(tmp_path: Path, server: RealServer) -> None:
    with relayed(server.url) as (front, relay):
        done = _ask(tmp_path, server, "--json", "--trace", "run.jsonl", url=front.url)
        sent = front.received[0].json
    result = json.loads(done.stdout)
    calls = [event for event in read_trace(tmp_path / "run.jsonl") if isinstance(event, Called)]
    # What was charged is what the server says that it used, call by call.
    used = sum(_tokens(reply) for reply in relay.replies)
    assert sum(call.charged.total for call in calls) == used
    if done.returncode == 0:
        assert result["answer"].strip()
        assert result["refused"] or result["safety"] >= 0
        assert result["spent"]["tokens"]["total"] == used <= result["budget"]["tokens"]
        assert {"scan", "score"} <= set(result["spent"]["by_stage"])
    else:
        assert _unreadable(result["error"]["message"]), both(done)
    assert len(calls) == len(relay.replies)
    assert all(call.error is None for call in calls)
    # What was sent as an image is one to the server: it takes 64 tokens more than the words alone.
    with_image = _prompt(server, sent)
    messages = sent["messages"]
    assert isinstance(messages, list)
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = [p for p in message["content"] if p["type"] != "image_url"]
    assert 60 <= with_image - _prompt(server, sent) <= 70


def _unreadable(message: str) -> bool:
    """Verdicts in one word, as this small model gives them, are read by log-probabilities, which
    `transformers serve` does not have: that is said, and nothing is shown."""
    return "could be read" in message and "needs log-probabilities" in message


def _tokens(reply: dict[str, object]) -> int:
    usage = reply["usage"]
    assert isinstance(usage, dict)
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    assert isinstance(total, int)
    return total


def test_a_question_without_an_image(server: RealServer) -> None:
    try:
        result = align(
            None,
            QUESTION,
            model=server.model,
            settings=Settings(base_url=server.url, caps=SHORT_CAPS, max_thoughts=3),
            budget=Budget(tokens=20_000),
        )
    except VerdictError as error:
        assert _unreadable(str(error))  # noqa: PT017
        return
    assert result.answer
    assert 0 < result.spent.tokens.total <= 20_000
    assert result.spent.tokens.image == 0


def _prompt(server: RealServer, body: dict[str, object]) -> int:
    """The prompt tokens that the server counts for a request."""
    asked = {name: body[name] for name in ("model", "messages")} | {"max_tokens": 1}
    url = f"{server.url}/chat/completions"
    answer = httpx2.post(url, json=asked, timeout=WAIT, trust_env=False)
    assert answer.status_code == 200, answer.text
    counted: int = answer.json()["usage"]["prompt_tokens"]
    return counted
