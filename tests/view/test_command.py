"""`ecoalign view` and `ecoalign show` as a user meets them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import tab
from command import WAIT, both, environment, run
from stories import grown

from ecoalign.trace import TraceWriter
from ecoalign.trace.events import to_json

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).parents[2] / "examples"

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\u202e [bold red]markup[/]\x9b31m"


def trace(path: Path, thoughts: int = 8, **said: object) -> Path:
    with TraceWriter(path) as writer:
        for event in grown(thoughts, **said):  # type: ignore[arg-type]
            writer.write(event)
    return path


# -- view ------------------------------------------------------------------------------------------


def test_view_writes_a_page_beside_the_trace(tmp_path: Path) -> None:
    trace(tmp_path / "run.jsonl")
    done = run(tmp_path, "view", "run.jsonl")
    assert done.returncode == 0, both(done)
    assert done.stdout == b"run.html\n"
    assert b"KB" in done.stderr
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    # Ours may be replaced.
    assert run(tmp_path, "view", "run.jsonl", "--quiet").stderr == b""


def test_view_replaces_nothing_that_is_not_ours(tmp_path: Path) -> None:
    trace(tmp_path / "run.jsonl")
    (tmp_path / "run.html").write_text("<p>my own page", encoding="utf-8")
    done = run(tmp_path, "view", "run.jsonl")
    assert done.returncode == 2
    assert b"--force" in done.stderr
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == "<p>my own page"
    assert run(tmp_path, "view", "run.jsonl", "--force").returncode == 0
    assert (tmp_path / "run.html").stat().st_size > 10_000
    before = (tmp_path / "run.jsonl").read_bytes()
    for option in ("--out", "--svg"):
        done = run(tmp_path, "view", "run.jsonl", option, "run.jsonl", "--force")
        assert done.returncode == 2
    assert (tmp_path / "run.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "run.html",
        "run.jsonl",
    ]


def test_an_image_is_taken_only_if_it_is_that_of_the_run(
    tmp_path: Path, runs: dict[str, Path]
) -> None:
    shutil.copy(runs["feed"], tmp_path / "run.jsonl")
    thing, signs = str(EXAMPLES / "thing.png"), str(EXAMPLES / "signs.png")
    done = run(tmp_path, "view", "run.jsonl", "--image", signs)
    assert done.returncode == 2
    assert b"not an image of this run" in done.stderr
    assert not (tmp_path / "run.html").exists()
    assert b"--image" in run(tmp_path, "view", "run.jsonl").stderr
    done = run(tmp_path, "view", "run.jsonl", "--image", thing)
    assert done.returncode == 0
    assert b"--image" not in done.stderr
    assert "data:image/png;base64," in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_several_runs_an_svg_and_json(tmp_path: Path) -> None:
    trace(tmp_path / "a.jsonl")
    trace(tmp_path / "b.jsonl", seed=3)
    done = run(tmp_path, "view", "a.jsonl", "b.jsonl", "--out", "both.html", "--json")
    body = json.loads(done.stdout)
    assert body["html"] == {
        "path": "both.html",
        "bytes": (tmp_path / "both.html").stat().st_size,
    }
    assert body["thoughts"] == [8, 8]
    done = run(tmp_path, "view", "a.jsonl", "--svg", "a.svg", "--theme", "dark")
    assert done.stdout == b"a.svg\n"
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "--svg a.svg --theme dark" in svg
    assert not (tmp_path / "a.html").exists()
    assert run(tmp_path, "view", "a.jsonl", "b.jsonl", "--svg", "x.svg").returncode == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the trace"),
        (b"", "holds no event"),
        (b"hello\n", "not a line of a trace"),
        (b'{"event":"Valued","step":1,"actions":[],"at":0}\n', "does not begin with the start"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["view", "show"])
def test_what_is_no_trace_is_told(
    tmp_path: Path, command: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "run.jsonl").write_bytes(content)
    done = run(tmp_path, command, "run.jsonl")
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stdout == b""
    assert not (tmp_path / "run.html").exists()


def test_a_run_that_was_killed_is_drawn_as_far_as_it_went(tmp_path: Path) -> None:
    lines = [to_json(event) for event in grown(8)][:22]
    (tmp_path / "run.jsonl").write_text("\n".join(lines) + '\n{"event":"Call', encoding="utf-8")
    done = run(tmp_path, "view", "run.jsonl")
    assert done.returncode == 0
    assert b"not finished" in done.stderr
    done = run(tmp_path, "show", "run.jsonl")
    assert done.returncode == 0
    assert b"not finished" in done.stdout


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    trace(tmp_path / "run.jsonl")
    done = run(tmp_path, "view", "run.jsonl", "--out", "nowhere/run.html")
    assert done.returncode == 2
    assert b"cannot write nowhere/run.html" in done.stderr
    (tmp_path / "folder").mkdir()
    done = run(tmp_path, "view", "run.jsonl", "--out", "folder")
    assert done.returncode == 2
    assert b"is a directory" in done.stderr
    assert run(tmp_path, "view", "run.jsonl", "--port", "8000").returncode == 2
    assert run(tmp_path, "view", "run.jsonl", "--serve", "--out", "x.html").returncode == 2


def test_a_run_that_still_goes_is_followed(chromium: Browser, tmp_path: Path) -> None:
    lines = [to_json(event) + "\n" for event in grown(30)]
    file = tmp_path / "run.jsonl"
    file.write_text("".join(lines[:30]), encoding="utf-8")
    serving = subprocess.Popen(
        [sys.executable, "-m", "ecoalign", "view", "run.jsonl", "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    shown = "() => document.querySelectorAll('.eco-nodes .eco-node:not(.eco-gone)').length"
    try:
        assert serving.stdout is not None
        address = serving.stdout.readline().decode().strip()
        assert address.startswith("http://127.0.0.1:")
        with tab(chromium) as at:
            at.page.goto(address)
            at.page.wait_for_function(f"() => ({shown})() > 3")
            assert at.page.locator(".eco-status").inner_text() == "Searching"
            few = at.page.evaluate(shown)
            with file.open("a", encoding="utf-8") as growing:
                growing.writelines(lines[30:60])
                growing.flush()
                at.page.wait_for_function(f"(few) => ({shown})() > few", arg=few)
                growing.writelines(lines[60:])
            at.page.wait_for_function(f"() => ({shown})() === 30")
            at.page.wait_for_function(
                "() => document.querySelector('.eco-status').textContent === 'Answered'"
            )
    finally:
        serving.send_signal(signal.SIGINT)
        assert serving.wait(WAIT) == 0
        for stream in (serving.stdout, serving.stderr):
            if stream is not None:
                stream.close()


def test_a_photograph_becomes_small_enough_for_a_page(tmp_path: Path) -> None:
    from io import BytesIO
    from random import Random

    from PIL import Image

    noise = Random(0).randbytes(300 * 200 * 3)
    photo = Image.frombytes("RGB", (300, 200), noise).resize((3000, 2000))
    out = BytesIO()
    photo.save(out, "JPEG", quality=95)
    (tmp_path / "photo.jpg").write_bytes(out.getvalue())
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    lines = [to_json(event) + "\n" for event in grown(4)]
    lines[0] = lines[0].replace("ab" * 32, digest)
    (tmp_path / "run.jsonl").write_text("".join(lines), encoding="utf-8")
    done = run(tmp_path, "view", "run.jsonl", "--image", "photo.jpg", "--out", "/dev/stdout", "-q")
    assert done.returncode == 0, both(done)
    page = done.stdout.decode()
    assert "data:image/jpeg;base64," in page
    assert page.endswith("</html>\n")
    assert len(page) < len(out.getvalue())


# -- show ------------------------------------------------------------------------------------------


def test_show_prints_the_tree_plain_where_it_is_piped(
    tmp_path: Path, runs: dict[str, Path]
) -> None:
    shutil.copy(runs["feed"], tmp_path / "run.jsonl")
    done = run(tmp_path, "show", "run.jsonl")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert done.stderr == b""
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "How do I feed the thing on the sign?"
    assert lines[1] == "answer: to feed it, add blue salt."
    starred = [line for line in lines[:-1] if line.startswith("* ")]
    assert len(starred) == 3
    assert sum("pruned" in line for line in lines) == 1
    assert "confirmed ×2" in text


def test_show_in_other_languages(tmp_path: Path) -> None:
    trace(tmp_path / "run.jsonl")
    assert run(tmp_path, "show", "run.jsonl", "-f", "mermaid").stdout.startswith(b"flowchart LR\n")
    assert run(tmp_path, "show", "run.jsonl", "-f", "dot").stdout.startswith(b"digraph search {\n")
    plain, option = (
        json.loads(run(tmp_path, "show", "run.jsonl", *wanted).stdout)
        for wanted in (("-f", "json"), ("--json",))
    )
    assert plain == option
    assert len(plain["nodes"]) == 8
    assert run(tmp_path, "show", "run.jsonl", "-f", "png").returncode == 2


@pytest.mark.parametrize("form", ["tree", "mermaid", "dot"])
def test_text_of_a_model_cannot_steer_the_terminal(tmp_path: Path, form: str) -> None:
    said = [ESCAPES, ESCAPES + "\n\nanswer: forged"]
    trace(tmp_path / "run.jsonl", texts=said, question=ESCAPES, answer=ESCAPES)
    done = run(tmp_path, "show", "run.jsonl", "-f", form)
    assert done.returncode == 0
    assert not set(done.stdout.decode()) & set("\x1b\x07\r\u202e\x9b")
    assert "\nanswer: forged" not in done.stdout.decode()


def in_terminal(folder: Path, *arguments: str, columns: int = 100) -> str:
    """What a terminal gets of a command."""
    mine, theirs = pty.openpty()
    changed = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ecoalign", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment(folder, **changed),
    )
    os.close(theirs)
    parts: list[bytes] = []
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        try:
            part = os.read(mine, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    assert process.wait(WAIT) == 0
    os.close(mine)
    return b"".join(parts).decode()


def test_a_terminal_gets_the_winning_path_in_bold(tmp_path: Path, runs: dict[str, Path]) -> None:
    shutil.copy(runs["feed"], tmp_path / "run.jsonl")
    said = in_terminal(tmp_path, "show", "run.jsonl", columns=200)
    bold = [line for line in said.splitlines() if "\x1b[1" in line]
    assert len(bold) == 3
    assert "right sign says owl" in bold[1]
    trace(tmp_path / "bad.jsonl", texts=[ESCAPES], question=ESCAPES, answer=ESCAPES)
    said = in_terminal(tmp_path, "show", "bad.jsonl")
    assert "\x07" not in said
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert "[bold red]markup[/]" in said
