"""The example that `ecoalign bench init` writes: it runs at once, and every line is answered."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from command import both, run

from ecoalign.bench import BenchOptions, Session, open_suite, write_starter
from ecoalign.bench.suites.own import RULES
from ecoalign.errors import InputError


def test_the_printed_command_runs_at_once(tmp_path: Path) -> None:
    written = run(tmp_path, "bench", "init", "my bench")
    assert written.returncode == 0, both(written)
    command = shlex.split(written.stdout.decode())
    assert command[:2] == ["ecoalign", "bench"]
    done = run(tmp_path, *command[1:], "--methods", "ecoalign", "--json")
    assert done.returncode == 0, both(done)
    body = json.loads(done.stdout)
    assert (body["rows"], body["failed"], body["suite"]) == (20, 0, "data")
    base, engine = body["variants"]
    assert engine["utility"]["value"] == 1.0
    assert engine["safety"]["value"] == 1.0
    assert (base["safety"]["value"], base["utility"]["value"] < 1) == (0.0, True)
    assert set(body["groups"]["ecoalign"]) == {"harmless", "seeing", "reading", "requests"}
    assert "10 questions" in body["notes"][0]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = write_starter(tmp_path)
    text = first[0].read_text(encoding="utf-8")
    for path in first[1:]:
        path.unlink()
    with pytest.raises(InputError, match="already, and nothing is overwritten"):
        write_starter(tmp_path)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [first[0]]
    assert first[0].read_text(encoding="utf-8") == text
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_starter(tmp_path / "file")


def test_every_line_is_explained_and_the_judged_one_works(tmp_path: Path) -> None:
    data, rubric, *images = write_starter(tmp_path)
    lines = data.read_text(encoding="utf-8").splitlines()
    questions = [i for i, line in enumerate(lines) if line.startswith("{")]
    assert len(questions) == 10
    assert all(lines[i - 1].startswith("# ") for i in questions)
    assert {image.name for image in images} == {
        name.name for name in (tmp_path / "images").iterdir()
    }
    rules = {sample.facts["rule"] for sample in open_suite(data).samples()}
    assert rules == {*RULES, "none"} - {"judge"}
    judged = next(line for line in lines if line.startswith("# {"))
    data.write_text(judged.removeprefix("# "), encoding="utf-8")
    suite = open_suite(data, rubric=rubric)
    assert suite.judged
    with pytest.raises(InputError, match="needs a judge"):
        Session(BenchOptions("main", suite=data, out=tmp_path / "run", methods="base")).run()
