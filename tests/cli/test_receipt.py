"""What is said of a run when it is over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import QUESTION, SIGNS, run
from hostile import HostileServer, Received, Reply, completion
from hypothesis import given
from hypothesis import strategies as st
from scripted import Script, action, actions, align, asking
from served import well_behaved

from ecoalign.budget import Budget, Spending
from ecoalign.cli._receipt import receipt, spending
from ecoalign.models import Usage
from ecoalign.trace import Alignment, outcome, reason

PRICES = json.dumps({"openai:gpt-4o": {"input": 2.5, "output": 10.0}})


def _said(result: Alignment) -> str:
    return "\n".join(receipt(result))


async def test_a_draft() -> None:
    script = Script(score=lambda prompt: (9, 9))
    result = await align(script.model(), query=asking(1), draft=True)
    assert result.ended == "drafted"
    assert _said(result).startswith("answered by its first draft: it was judged safe")


async def test_answers_that_were_judged_unsafe_are_counted() -> None:
    script = Script(
        score=lambda prompt: (0, 5),
        propose=lambda prompt: actions(action("answer", "x"), action("answer", "y")),
    )
    result = await align(script.model(), query=asking(1))
    assert outcome(result) == "refused"
    why = reason(result)
    assert "answers were written and judged unsafe (-1.00, -1.00)" in why
    assert "where 0 or more passes" in why
    assert "scores: none, the refusal is a fixed text" in _said(result)


async def test_a_request_that_was_judged_unsafe() -> None:
    script = Script(request_safety=0)
    result = await align(script.model(), query=asking(1), preset="paper")
    assert result.refused
    assert "the request itself was judged unsafe (-1.00" in reason(result)


@given(
    tokens=st.none() | st.integers(1, 10**9),
    usd=st.none() | st.floats(0.0001, 100),
    seconds=st.none() | st.floats(0.1, 1000),
    price=st.none() | st.floats(0, 1),
)
def test_what_was_spent_of_what_was_allowed(
    tokens: int | None, usd: float | None, seconds: float | None, price: float | None
) -> None:
    spent = Spending(Usage(500, 79), {}, price, 12.34, 1)
    said = spending(spent, Budget(tokens, usd, seconds))
    assert said.startswith("579 tokens" if tokens is None else f"579 of {tokens:,} tokens")
    assert ("12.3 s" if seconds is None else f"12.3 of {seconds:.1f} s") in said
    assert said.endswith(", 1 call")
    if price and usd:
        assert f"${price:.4f} of ${usd:.4f}" in said
    elif not price:
        assert "$" not in said


def _ask(server: HostileServer, home: Path, *arguments: str) -> tuple[int, str, str]:
    model = ("--model", "gpt-4o", "--base-url", server.url, "--set", f"prices={PRICES}")
    done = run(home, "ask", SIGNS, QUESTION, *model, *arguments)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _cut(request: Received) -> Reply:
    """As it should be, but every answer ends at its cap."""
    reply = well_behaved(request)
    assert isinstance(reply.body, dict)
    if reply.body["choices"][0]["message"]["content"] == "42":
        reply.body["choices"][0]["finish_reason"] = "length"
    return reply


@pytest.mark.parametrize("method", ["base", "ecoalign"])
def test_an_answer_that_was_cut_off_says_so(method: str, tmp_path: Path) -> None:
    with HostileServer(_cut) as server:
        code, said, told = _ask(server, tmp_path, "--method", method)
    assert (code, said) == (0, "42\n")
    assert "cut short: the answer reached the cap on its length" in told


def test_dollars_are_told_of_the_dollars_allowed(tmp_path: Path) -> None:
    with HostileServer(well_behaved) as server:
        code, _, told = _ask(server, tmp_path, "-b", "40000,$0.5")
    assert code == 0
    assert "of 40,000 tokens, $0.0" in told
    assert "of $0.5000" in told


def test_what_models_say_can_not_steer_a_comparison(tmp_path: Path) -> None:
    def rude(request: Received) -> Reply:
        reply = well_behaved(request)
        if isinstance(reply.body, dict) and reply.body["choices"][0]["message"]["content"] == "42":
            return Reply(completion("4[bold]\x1b]0;owned\x07\u202e2 \ud800\n\nmore"))
        return reply

    with HostileServer(rude) as server:
        code, said, told = _ask(server, tmp_path, "--compare", "--progress")
    assert code == 0
    assert said.startswith("base (answered, not scored)\n  4[bold]")
    assert not {"\x1b", "\x07", "\u202e"} & set(said + told)
