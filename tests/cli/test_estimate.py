"""`ecoalign ask --estimate`: what it would spend, told without a call."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from command import QUESTION, SIGNS
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.budget import Budget
from ecoalign.cli._app import run as main
from ecoalign.errors import SettingsError
from ecoalign.methods import METHODS, estimate
from ecoalign.query import Query
from ecoalign.settings import Settings

pytestmark = pytest.mark.usefixtures("empty_folder")

EMBEDDED = Settings(model="embedded").open_model()
QUERY = Query.of(SIGNS, QUESTION)
PRICES = json.dumps({"openai:gpt-4o": {"input": 2.5, "output": 10.0}})


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a server that is not there: a call would fail."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def _told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["ask", SIGNS, QUESTION, *arguments, "--estimate", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_no_call_is_made(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "gpt-4o", "--base-url", nobody, "--set", f"prices={PRICES}")
    body = _told(capsys, *model, "--compare", "-b", "40000")
    assert (body["question"], body["model"]) == (QUESTION, "openai:gpt-4o")
    base, own = body["estimates"]["base"], body["estimates"]["ecoalign"]
    for one in (base, own):
        for unit in ("tokens", "usd"):
            assert 0 < one["least"][unit] <= one["typical"][unit] < one["most"][unit]
        # The dearest that 40,000 tokens can be: all of them output.
        assert one["most"] == {"tokens": 40_000, "usd": pytest.approx(0.4), "seconds": None}
        assert all(one["how"][what] for what in ("least", "typical", "most"))
    assert base["least"]["tokens"] < own["least"]["tokens"]


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai:gpt-4o", "OPENAI_API_KEY"), ("gemini:gemini-2.5-flash", "GEMINI_API_KEY")],
)
def test_no_key_is_needed(
    model: str,
    variable: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(variable, raising=False)
    one = _told(capsys, "--model", model)["estimates"]["ecoalign"]
    assert one["typical"]["usd"] > 0
    # And none is left behind, so that asking says what is missing.
    assert main(["ask", SIGNS, QUESTION, "--model", model]) == 2
    assert variable in capsys.readouterr().err


def test_an_unknown_price_is_unknown(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "gpt-4o", "--base-url", nobody)
    one = _told(capsys, *model)["estimates"]["ecoalign"]
    assert [one[what]["usd"] for what in ("least", "typical", "most")] == [None, None, None]
    assert main(["ask", SIGNS, QUESTION, *model, "--estimate"]) == 0
    assert "price: unknown" in capsys.readouterr().err


def test_a_draft_that_stands_costs_about_the_least(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ask", SIGNS, "how many signs are there?"]
    assert main([*arguments, "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ended"] == "drafted"
    assert main([*arguments, "--estimate", "--json"]) == 0
    least = json.loads(capsys.readouterr().out)["estimates"]["ecoalign"]["least"]["tokens"]
    assert 0.7 < least / result["spent"]["tokens"]["total"] < 1.3


def test_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", SIGNS, QUESTION, "--estimate"]) == 0
    said = capsys.readouterr().out
    for word in ("least", "typical", "most", "8,000 tokens", "times the least", "the budget"):
        assert word in said


@pytest.mark.parametrize("method", [*METHODS, "best-of-8"])
def test_every_method_has_an_estimate(method: str) -> None:
    one = estimate(QUERY, EMBEDDED, Settings(), Budget(tokens=8000), method)
    assert one.least.tokens
    if one.typical is None:
        assert "not measured" in one.how["typical"]
    else:
        assert one.typical.tokens
        assert one.typical.tokens >= one.least.tokens


def test_there_is_none_for_a_method_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="did you mean"):
        estimate(QUERY, EMBEDDED, Settings(), Budget(tokens=8000), "ecolign")


@given(tokens=st.integers(1, 10**6), usd=st.none() | st.floats(0.0001, 10))
def test_nothing_is_more_than_the_most(tokens: int, usd: float | None) -> None:
    settings = Settings(prices={"embedded": {"input": 2.5, "output": 10.0}})
    one = estimate(QUERY, EMBEDDED, settings, Budget(tokens, usd))
    assert one.typical is not None
    assert one.least.tokens is not None
    assert one.typical.tokens is not None
    assert one.least.usd is not None
    assert one.typical.usd is not None
    assert one.most.usd is not None
    assert one.least.tokens <= one.typical.tokens <= tokens
    assert one.least.usd <= one.typical.usd <= one.most.usd
