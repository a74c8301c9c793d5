from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from command import QUESTION, SIGNS, both, run

from ecoalign.cli._app import run as main


def _bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


IMAGES = {
    "missing": (None, "no image file"),
    "truncated": (Path(SIGNS).read_bytes()[:700], "truncated"),
    "bomb": (_bomb(), "decompression bombs"),
    "page": (b"<!doctype html><p>404", "web page"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_unusable_image(name: str, tmp_path: Path) -> None:
    data, complaint = IMAGES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = run(tmp_path, "ask", name, QUESTION, "--trace", "t.jsonl")
    assert (done.returncode, done.stdout) == (2, b"")
    assert complaint in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not (tmp_path / "t.jsonl").exists()


USAGE = {
    "budget no budget": ((SIGNS, QUESTION, "--budget", "lots"), 2, "setting budget"),
    "unknown setting": ((SIGNS, QUESTION, "--set", "bacth=9"), 2, "did you mean 'batch'?"),
    "not a pair": ((SIGNS, QUESTION, "--set", "batch"), 2, "name=value"),
    "set twice": ((SIGNS, QUESTION, "--set", "seed=1", "--seed", "2"), 2, "set twice"),
    "unknown model": ((SIGNS, QUESTION, "--model", "opnai:x"), 2, "did you mean 'openai:x'?"),
    "no key": ((SIGNS, QUESTION, "--model", "openai:gpt-4o"), 2, "OPENAI_API_KEY"),
    "address alone": ((SIGNS, QUESTION, "--base-url", "http://127.0.0.1:1/v1"), 2, "--model"),
    "no settings": ((SIGNS, QUESTION, "--config", "no.toml"), 2, "no.toml"),
    "no question": ((SIGNS,), 2, "QUESTION"),
    "no such option": ((SIGNS, QUESTION, "--bugdet", "1"), 2, "--budget"),
    "an address": (("https://example.org/a.png", QUESTION), 2, "does not fetch"),
}


FAILURES = {
    "empty question": ((SIGNS, "  "), 2, "question is empty"),
    "budget too small": ((SIGNS, QUESTION, "--budget", "20"), 4, "least budget that is sure to do"),
    "unknown preset": ((SIGNS, QUESTION, "--preset", "papr"), 2, "did you mean 'paper'?"),
    "out of range": ((SIGNS, QUESTION, "--set", "batch=99"), 2, "at most 16"),
}


def _check_error(text: str | bytes, code: int, complaint: str) -> None:
    body = json.loads(text)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message", "exit_code"}
    assert body["error"]["exit_code"] == code
    assert complaint.lower() in body["error"]["message"].lower()


@pytest.mark.parametrize("name", FAILURES)
def test_failure_as_json(name: str, tmp_path: Path) -> None:
    arguments, code, complaint = FAILURES[name]
    done = run(tmp_path, "ask", *arguments, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (code, b"")
    _check_error(done.stdout, code, complaint)


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_as_json(
    name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, complaint = USAGE[name]
    assert main(["ask", *arguments, "--json"]) == code
    said = capsys.readouterr()
    assert said.err == ""
    _check_error(said.out, code, complaint)


def test_unforeseen_errors_are_one_line_unless_debugging(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("it broke")

    monkeypatch.setattr("ecoalign.settings.Settings.load", broken)
    assert main(["ask", SIGNS, QUESTION]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError: it broke" in said
    assert "--debug" in said
    with pytest.raises(ZeroDivisionError):
        main(["ask", SIGNS, QUESTION, "--debug"])


def test_too_small_a_budget_names_one_that_answers(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", SIGNS, QUESTION, "-b", "20", "--trace", "t.jsonl")
    assert (done.returncode, done.stdout) == (4, b"")
    said = done.stderr.decode()
    assert "the trace so far is kept in t.jsonl" in said
    smallest = said.partition("sure to do is '")[2].partition("'")[0]
    again = run(tmp_path, "ask", SIGNS, QUESTION, "-b", smallest, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["spent"]["tokens"]["total"] <= int(smallest)


def test_a_trace_never_overwrites_what_it_is_about(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(Path(SIGNS).read_bytes())
    done = run(tmp_path, "ask", "a.png", QUESTION, "--trace", str(image))
    assert done.returncode == 2
    assert b"would overwrite" in done.stderr
    assert image.read_bytes() == Path(SIGNS).read_bytes()


def test_a_trace_that_cannot_be_written_is_said_before_anything_is_spent(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", SIGNS, QUESTION, "--trace", "no/such/folder/t.jsonl", "-q")
    assert done.returncode == 2
    assert "cannot write the trace" in both(done)


def test_a_secret_in_the_settings_is_not_repeated(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", SIGNS, QUESTION, "--set", "api_key=sk-abcdefgh12345")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in both(done)
    assert "sk-abcdefgh12345" not in both(done)


def test_a_file_that_is_no_trace(tmp_path: Path) -> None:
    done = run(tmp_path, "replay", SIGNS, SIGNS)
    assert done.returncode == 2
    assert "not a trace" in both(done)


def test_help_shows_examples_and_exit_codes(tmp_path: Path) -> None:
    done = run(tmp_path, "ask", "--help", COLUMNS="200")
    assert done.returncode == 0
    assert "ecoalign ask examples/signs.png" in done.stdout.decode()
    assert "Exit codes" in done.stdout.decode()
