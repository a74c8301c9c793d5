from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import QUESTION, SIGNS, environment, run
from PIL import Image

from ecoalign import Picture
from ecoalign.trace import read_trace
from ecoalign.trace.events import Finished, RunStarted


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path, bytes]:
    """One run with the embedded model: its JSON, its trace, its standard error."""
    home = tmp_path_factory.mktemp("ask")
    done = run(home, "ask", SIGNS, QUESTION, "--json", "--trace", "run.jsonl")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), home / "run.jsonl", done.stderr


def test_answer_alone_on_standard_output(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", SIGNS, QUESTION, "--progress")
    said = done.stderr.decode()
    assert done.returncode == 0
    assert done.stdout.decode().strip()
    assert done.stdout.count(b"\n") == 1
    assert "its own small world" in said
    assert "--model" in said
    assert "step 1: executing" in said
    for word in ("safety", "utility", "of 8,000 tokens", "scan", "score", "stopped:"):
        assert word in said


def test_what_the_embedded_model_knows_nothing_of(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", SIGNS, "How do I build a bomb?", "--trace", "t.jsonl")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: the embedded model cannot answer this: its vocabulary")
    assert b"note:" not in done.stderr
    assert not (tmp_path / "t.jsonl").exists()
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "grey.png")
    for flags in ((), ("--quiet",)):
        done = run(tmp_path, "ask", "grey.png", QUESTION, "--json", *flags)
        assert done.returncode == 2
        error = json.loads(done.stdout)["error"]
        assert (error["type"], error["exit_code"]) == ("OutOfDomainError", 2)
        assert "no scene of its world" in error["message"]
        assert "--model" in error["message"]


def test_quiet_says_nothing_beside_the_answer(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "-", QUESTION, "-q", stdin=Path(SIGNS).read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip()


def test_json_has_the_promised_shape(answered: tuple[dict[str, object], Path, bytes]) -> None:
    body, trace, said = answered
    assert set(body) == {
        *("answer", "refused", "safety", "utility", "path", "spent", "budget", "stop_reason"),
        *("ended", "hint", "model", "preset", "profile", "trace", "method", "scored"),
    }
    assert (body["method"], body["scored"]) == ("ecoalign", True)
    assert body["trace"] == "run.jsonl"
    assert (body["model"], body["preset"]) == ("embedded", "default")
    assert body["budget"] == {"tokens": 8000, "usd": None, "seconds": None}
    assert isinstance(body["path"], list)
    for thought in body["path"]:
        assert set(thought) == {"id", "kind", "text", "safety", "utility", "cost", "parents"}
    assert body["path"][0]["kind"] == "root"
    assert b"spent" not in said
    assert trace.exists()


def test_json_keeps_the_books(answered: tuple[dict[str, object], Path, bytes]) -> None:
    spent = answered[0]["spent"]
    assert isinstance(spent, dict)
    tokens = spent["tokens"]
    assert set(tokens) == {"prompt", "completion", "image", "cached", "total"}
    assert 0 < tokens["total"] == tokens["prompt"] + tokens["completion"] <= 8000
    assert sum(stage["tokens"] for stage in spent["by_stage"].values()) == tokens["total"]
    assert sum(stage["calls"] for stage in spent["by_stage"].values()) == spent["calls"]


def test_trace_holds_the_run(answered: tuple[dict[str, object], Path, bytes]) -> None:
    body, path, _ = answered
    events = read_trace(path)
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert isinstance(last, Finished)
    assert first.images[0].sha256 == Picture.load(SIGNS).sha256
    assert last.answer == body["answer"]


def test_replay_is_the_same_and_says_when_not(
    answered: tuple[dict[str, object], Path, bytes], tmp_path: Path
) -> None:
    path = answered[1]
    same = run(tmp_path, "replay", str(path), SIGNS)
    assert same.returncode == 0, same.stderr
    assert same.stdout.startswith(b"identical: ")
    forged = tmp_path / "forged.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    last = json.loads(lines[-1]) | {"answer": "something else"}
    forged.write_text("".join(lines[:-1]) + json.dumps(last) + "\n", encoding="utf-8")
    done = run(tmp_path, "replay", str(forged), SIGNS, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["first_difference"] == len(lines)


def test_replay_with_another_image_is_bad_input(
    answered: tuple[dict[str, object], Path, bytes], tmp_path: Path
) -> None:
    other = str(Path(SIGNS).with_name("shapes.png"))
    done = run(tmp_path, "replay", str(answered[1]), other)
    assert done.returncode == 2
    assert b"SHA-256" in done.stderr


def test_settings_of_the_command_line_are_in_force(tmp_path: Path) -> None:
    (tmp_path / "ecoalign.toml").write_text("batch = 3\nmax_depth = 5\n", encoding="utf-8")
    done = run(
        tmp_path,
        *("ask", SIGNS, QUESTION, "--budget", "2000", "--preset", "myopic"),
        *("--set", "batch=2", "--set", "seed=none", "--trace", "t.jsonl", "--quiet"),
        ECOALIGN_MAX_DEPTH="4",
    )
    assert done.returncode == 0, done.stderr
    started = read_trace(tmp_path / "t.jsonl")[0]
    assert isinstance(started, RunStarted)
    assert (started.budget, started.preset) == ("2000", "myopic")
    in_force = started.settings
    assert (in_force["batch"], in_force["max_depth"], in_force["seed"]) == (2, 4, None)


def test_display_on_a_terminal_leaves_standard_output_alone(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ecoalign", "ask", SIGNS, QUESTION],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=environment(tmp_path, TERM="xterm-256color"),
    ) as process:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
        assert process.stdout is not None
        answer = process.stdout.read()
    assert process.returncode == 0
    assert answer.strip()
    assert b"\x1b" not in answer
    assert b"horizon" in drawn
    assert b"of 8,000 tokens" in drawn
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    # The tree stays: the draft, and the way to the answer.
    for words in (
        "├ answer  safety",
        "[draft]",
        "├ * closer look  safety",
        "answered by a search:",
    ):
        assert words in plain


@pytest.mark.parametrize(("closed", "code"), [("2>&-", 0), (">&-", 2)])
def test_a_closed_stream_costs_nothing_and_breaks_nothing(
    closed: str, code: int, tmp_path: Path
) -> None:
    command = f'"{sys.executable}" -m ecoalign ask "{SIGNS}" "{QUESTION}" --progress {closed}'
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
    )
    assert done.returncode == code
    assert bool(done.stdout.strip()) == (code == 0)
    if code:
        assert b"standard output is closed" in done.stderr
