"""Trace files: nothing but a trace is ever overwritten, and there is none without content."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command import QUESTION, SIGNS, environment, run

from ecoalign.errors import InputError
from ecoalign.trace import Trace, TraceWriter, read_trace
from ecoalign.trace.events import ActionFailed, ActionsChosen, Event, RunFailed, to_json

MANY: tuple[Event, ...] = (
    ActionFailed(1, "execute", "ModelError", "a\u2028b \x85 \ud800"),
    ActionsChosen(1, (1, 2)),
    RunFailed("ModelError", "gone", {"calls": 2}),
)
LINES = "".join(to_json(event) + "\n" for event in MANY).encode()


def save(path: Path) -> None:
    Trace(MANY).save(path)


@pytest.mark.parametrize(
    "content",
    [
        b"my notes\n",
        b'{"question": "what?"}\n',
        b'{"event": "Party"}\n',
        b"\x89PNG\r\n",
        b"\n",
        b'[{"event":"Finished"}]',
        b"\xef\xbb\xbf" + LINES,
        b'{"event":',
    ],
)
def test_what_is_no_trace_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for attempt in (TraceWriter, save):
        with pytest.raises(InputError, match=r"no trace.*name another file"):
            attempt(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"", LINES, LINES[:50], b' { "event" : "RunStarted", "schema": 99}\nmore']
)
def test_a_trace_is_replaced_even_one_that_was_cut_off_or_is_of_later_versions(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with TraceWriter(path) as writer:
        assert path.read_bytes() == content  # until something has happened
        writer.write(MANY[0])
        assert read_trace(path) == MANY[:1]
    save(path)
    assert path.read_bytes() == LINES


def test_without_an_event_there_is_no_file(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "run.jsonl"):
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_what_comes_about_before_the_first_event_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = TraceWriter(path)
    path.write_text("somebody else's")
    with pytest.raises(InputError, match="no trace"):
        writer.write(MANY[0])
    assert path.read_text() == "somebody else's"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    save(link)  # it led nowhere
    assert link.is_symlink()
    assert target.read_bytes() == LINES
    save(link)
    assert target.read_bytes() == LINES
    target.write_text("a diary")
    with pytest.raises(InputError, match="no trace"):
        save(link)
    link.unlink()
    link.symlink_to(link.name)
    with pytest.raises(InputError, match="cannot write the trace"):
        save(link)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".", "it is a folder"),
        ("no/such/folder/t.jsonl", "there is no folder"),
        ("a\0b", "no name of a file"),
        ("x" * 300, "too long"),
    ],
)
def test_what_cannot_be_a_file_is_said_at_once(
    path: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=why):
        TraceWriter(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_of_the_write_and_closing_is_none(tmp_path: Path) -> None:
    writer = TraceWriter("/dev/full")
    with pytest.raises(OSError, match="space"):
        writer.write(MANY[0])
    writer.close()
    link = tmp_path / "link.jsonl"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="space"):
        save(link)
    assert Path("/dev/full").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_gets_all_of_it_and_one_that_nobody_reads_does_not_wait(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = TraceWriter(pipe)
    with pytest.raises(InputError, match="start its reader"):
        writer.write(MANY[0])
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    there = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # whether or not the thread has begun
    long = ActionFailed(1, "execute", "E", "x" * 300_000)  # more than a pipe holds
    with TraceWriter(pipe) as again:
        again.write(long)
    reader.join(20)
    os.close(there)
    assert found == [(to_json(long) + "\n").encode()]


def test_the_standard_output_is_shared_and_not_overwritten(tmp_path: Path) -> None:
    """Where standard output is a file, /dev/stdout opened once more begins at its beginning."""
    if not Path("/dev/stdout").exists():
        pytest.skip("no such device")
    command = [sys.executable, "-m", "ecoalign", "ask", SIGNS, QUESTION, "-q"]
    for target, name in (("out.txt", "/dev/stdout"), ("same.jsonl", "same.jsonl")):
        with (tmp_path / target).open("wb") as out:
            done = subprocess.run(
                [*command, "--trace", name],
                stdout=out,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                env=environment(tmp_path),
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        *lines, answer = (tmp_path / target).read_bytes().rstrip(b"\n").split(b"\n")
        assert answer.isascii()
        assert all(line.startswith(b'{"event":') for line in lines)
        assert len(lines) > 5


def test_asking_says_it_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")
    done = run(tmp_path, "ask", SIGNS, QUESTION, "--trace", "notes.txt")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is no trace, so it is not overwritten" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "dear diary"
