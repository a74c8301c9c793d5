"""What `ecoalign ask` is asked: words, standard input, a system prompt, an earlier run."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from command import PLAIN, QUESTION, ROOT, SIGNS
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.cli._app import run as main
from ecoalign.cli._question import with_values
from ecoalign.trace import read_trace
from ecoalign.trace.events import RunStarted

pytestmark = pytest.mark.usefixtures("empty_folder")

THING = str(ROOT / "examples" / "thing.png")
COUNT = "how many signs are there?"


def _started(path: str = "t.jsonl") -> RunStarted:
    started = read_trace(path)[0]
    assert isinstance(started, RunStarted)
    return started


def _piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


# Words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((SIGNS,), 2, "QUESTION is missing"),
        (("photo.png",), 2, "QUESTION is missing"),
        ((QUESTION, SIGNS), 2, "the question last"),
        ((SIGNS, "What", "is", "this?"), 2, "put the whole question in quotes"),
        (("What", QUESTION), 2, "no image file 'What'"),
        (("-", "-"), 2, "an image or the question, not both"),
        ((SIGNS, "-"), 2, "the question is empty"),
        ((SIGNS, THING, QUESTION), 2, "one picture at a time"),
        (("x" * 5000,), 2, "the embedded model"),
        (("What is\0this?",), 2, "the embedded model"),
    ],
)
def test_words_in_the_wrong_places(
    arguments: tuple[str, ...],
    code: int,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _piped(monkeypatch, b"")
    assert main(["ask", *arguments, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert complaint in error["message"]


def test_a_question_needs_no_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", PLAIN, "-q"]) == 0
    assert "gate" in capsys.readouterr().out
    assert main(["ask", "Who was Ada Lovelace?", "-q"]) == 2
    assert "name a real model" in capsys.readouterr().err


@pytest.mark.parametrize("question", [f"{COUNT}\n", f"\ufeff{COUNT}\r\n"])
def test_the_question_from_standard_input(
    question: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _piped(monkeypatch, question.encode())
    assert main(["ask", THING, "-", "-q", "--trace", "t.jsonl"]) == 0
    assert _started().question == COUNT


@pytest.mark.parametrize("data", [b"\xff\xfe\xfa", b"x" * (1024 * 1024 + 1)])
def test_what_is_no_question_on_standard_input(
    data: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _piped(monkeypatch, data)
    assert main(["ask", THING, "-"]) == 2
    assert "the question from standard input" in capsys.readouterr().err


def test_an_image_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _piped(monkeypatch, Path(THING).read_bytes())
    assert main(["ask", "-", COUNT, "-q"]) == 0
    assert capsys.readouterr().out == "1.\n"


@given(
    st.lists(
        st.sampled_from(
            [
                "--compare",
                "--continue",
                "base",
                "cot,base",
                "run.jsonl",
                "a.png",
                "what?",
                "-q",
                "--",
            ]
        )
    )
)
def test_options_without_a_value_lose_no_word(arguments: list[str]) -> None:
    spelled = with_values(arguments)
    apart = [
        part
        for word in spelled
        for part in (word.split("=") if word.startswith(("--compare=", "--continue=")) else [word])
    ]
    names = [one for word in arguments for one in word.split(",")]
    assert [one for word in apart for one in word.split(",") if one] == names
    # What follows "--" is as it was.
    if "--" in arguments:
        rest = arguments[arguments.index("--") :]
        assert spelled[len(spelled) - len(rest) :] == rest


# A system prompt ----------------------------------------------------------------------------------


def test_a_system_prompt_of_words_or_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("role.txt").write_text("Answer as a pirate.\n", encoding="utf-8")
    for given_as in ("Answer as a pirate.", "@role.txt"):
        arguments = ["ask", THING, COUNT, "--system", given_as, "--trace", "t.jsonl"]
        assert main(arguments) == 0
        assert _started().instructions == "Answer as a pirate."
        assert "it reads no earlier turns and no system prompt" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "data"), [("no.txt", None), ("bad.txt", b"\xff\xfe\xfa")])
def test_a_system_prompt_that_cannot_be_read(
    name: str, data: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        Path(name).write_bytes(data)
    assert main(["ask", THING, COUNT, "--system", f"@{name}"]) == 2
    assert name in capsys.readouterr().err


# An earlier run -----------------------------------------------------------------------------------


@pytest.fixture
def earlier(capsys: pytest.CaptureFixture[str]) -> str:
    """The trace of a run about THING."""
    arguments = [THING, COUNT, "--system", "Be brief.", "--trace", "first.jsonl", "-q"]
    assert main(["ask", *arguments]) == 0
    capsys.readouterr()
    return "first.jsonl"


def test_a_follow_up_knows_what_was_said(earlier: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ask", THING, "what does the sign say?", "--continue", earlier]
    assert main([*arguments, "--trace", "second.jsonl"]) == 0
    assert "SHA-256" not in capsys.readouterr().err
    first_turns = (f"user: {COUNT}", "assistant: 1.")
    started = _started("second.jsonl")
    assert (started.context, started.instructions) == (first_turns, "Be brief.")
    arguments = ["ask", "--continue", "second.jsonl", THING, COUNT, "--system", "Be long."]
    assert main([*arguments, "--trace", "third.jsonl"]) == 0
    third = _started("third.jsonl")
    assert third.context[:2] == first_turns
    assert third.context[2:] == ("user: what does the sign say?", "assistant: owl.")
    assert third.instructions == "Be long."


def test_a_trace_of_any_name(earlier: str) -> None:
    Path(earlier).rename("run.log")
    arguments = ["ask", "--continue", "run.log", THING, COUNT, "--trace", "t.jsonl", "-q"]
    assert main(arguments) == 0
    assert _started().context


def test_another_picture_is_told_of(earlier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", SIGNS, COUNT, "--continue", earlier]) == 0
    assert "is not one that first.jsonl was about (another SHA-256)" in capsys.readouterr().err
    assert main(["ask", PLAIN, "--continue", earlier]) == 0
    assert "was about 1 picture, which traces do not keep" in capsys.readouterr().err


def test_the_last_run_of_the_history_with_its_pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ask", PLAIN, "--continue"]) == 2
    assert "no history is kept" in capsys.readouterr().err
    monkeypatch.setenv("ECOALIGN_HISTORY", "true")
    shutil.copy(THING, "mine.png")
    assert main(["ask", "mine.png", COUNT, "-q"]) == 0
    capsys.readouterr()
    assert main(["ask", "--continue", "what does the sign say?", "--trace", "t.jsonl"]) == 0
    said = capsys.readouterr()
    assert said.out == "owl.\n"
    assert "the same as before" in said.err
    assert _started().context == (f"user: {COUNT}", "assistant: 1.")
    # A picture that has changed is not taken for the one it was.
    shutil.copy(SIGNS, "mine.png")
    assert main(["ask", "--continue", PLAIN]) == 0
    assert "1 picture, which traces do not keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "is not a trace"), ("not json\n", "not a line of a trace"), (None, "cannot read")],
)
def test_what_is_no_trace(
    text: str | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        Path("x.jsonl").write_text(text, encoding="utf-8")
    assert main(["ask", PLAIN, "--continue", "x.jsonl"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_run_without_an_answer(earlier: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(earlier).read_text(encoding="utf-8").splitlines(keepends=True)
    Path(earlier).write_text("".join(lines[:-1]), encoding="utf-8")
    assert main(["ask", PLAIN, "--continue", earlier]) == 2
    assert "ended without an answer" in capsys.readouterr().err


def test_a_failed_run_is_noted_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOALIGN_HISTORY", "true")
    assert main(["ask", THING, COUNT, "-b", "20"]) == 4
    assert main(["ask", THING, COUNT, "--compare", "-q"]) == 0
    capsys.readouterr()
    assert main(["history", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    noted = [(entry["outcome"], entry["method"]) for entry in entries]
    assert noted == [("failed", "ecoalign"), ("answered", "base"), ("answered", "ecoalign")]
