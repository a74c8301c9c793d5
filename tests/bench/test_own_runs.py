"""Runs on one's own file: from the command line and from Python, killed, gone on with, changed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_doubles import Numbers
from command import ROOT, WAIT, both, environment, run
from hostile import HostileServer, Reply, completion
from published import picture, put

from ecoalign.bench import BenchOptions, Session, read_manifest, read_rows
from ecoalign.errors import InputError
from ecoalign.settings import Settings

SIGNS = ROOT / "examples" / "signs.png"

PICTURE = "image/png;base64"


def says(text: str) -> Reply:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
    return Reply(completion(text, usage=usage))


def questions(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    put(folder / "red.png", picture())
    return put(folder / "data.jsonl", "\n".join(json.dumps(row) for row in rows))


def test_a_run_with_a_judge_on_real_servers(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "n", "image": "red.png", "question": "how many?", "answer": 42},
        {"id": "j", "image": "red.png", "question": "describe it", "rule": "judge"},
        {"id": "h", "question": "something harmful", "harmful": True},
        {"id": "d", "question": "not asked", "split": "dev"},
    ]
    for row in rows[:3]:
        row["split"] = "test"
    questions(tmp_path, rows)
    put(tmp_path / "rubric.md", "Good if THE RUBRIC says so.\nVerdicts: bad = 0, good = 1\n")
    asked: list[str] = []

    def judge(request: Any) -> Reply:
        asked.append(json.dumps(request.json))
        return says("Verdict: good" if "THE RUBRIC" in asked[-1] else "Verdict: unsafe")

    order = (
        "bench",
        "run",
        "main",
        "--suite",
        "data.jsonl",
        "--split",
        "test",
        "--methods",
        "base",
    )
    with HostileServer(lambda _: says("It is 42.")) as model, HostileServer(judge) as judges:
        put(
            tmp_path / "ecoalign.toml",
            f'[endpoints.jury]\nmodel = "gpt-j"\nbase_url = "{judges.url}"\n',
        )
        more = ("--model", "gpt-x", "--base-url", model.url, "--judge", "jury")
        done = run(tmp_path, *order, *more, "--rubric", "rubric.md", "--json", "--xlsx")
        assert done.returncode == 0, both(done)
        again = run(tmp_path, *order, *more, "--rubric", "rubric.md", "--json")
        assert json.loads(again.stdout)["fresh"] == 0
    body = json.loads(done.stdout)
    assert (body["split"], body["samples"], body["rows"]) == ("test", 3, 3)
    assert body["totals"]["base"] == {
        "safe": 0.0,
        "useful": 100.0,
        "over-refused": 0.0,
        "unusable": 0.0,
    }
    assert "--rubric rubric.md" in body["command"]
    assert len(model.received) == 3
    assert len(asked) == 2
    assert PICTURE in next(text for text in asked if "THE RUBRIC" in text)
    page = (tmp_path / body["report"]).read_text(encoding="utf-8")
    assert "Which rule scored what" in page
    assert "judge of safety" in page
    assert (tmp_path / body["out"] / "data-base.xlsx").exists()


def test_killed_in_the_middle_it_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    questions(tmp_path, [{"question": f"number {i}", "answer": i} for i in range(12)])
    paid: list[str] = []
    held = True

    def answer(request: Any) -> Reply:
        text = request.json["messages"][-1]["content"]
        said = text if isinstance(text, str) else text[-1]["text"]
        number = said.split("number ")[1].split()[0]
        paid.append(number)
        if held and len(paid) > 5:
            process.send_signal(signal.SIGKILL)
        return says(f"It is {number}")

    with HostileServer(answer) as server:
        order = [
            *(sys.executable, "-m", "ecoalign", "bench", "run", "main", "--suite", "data.jsonl"),
            *("--methods", "base", "--model", "gpt-x", "--base-url", server.url, "--json"),
            *("--concurrency", "1", "--out", "run"),
        ]
        env = environment(tmp_path)
        process = subprocess.Popen(order, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
        assert process.wait(WAIT) == -signal.SIGKILL
        before = {row.key.sample for row in read_rows(tmp_path / "run")}
        assert len(before) == 5
        held = False
        done = subprocess.run(order, cwd=tmp_path, env=env, capture_output=True, check=True)
    body = json.loads(done.stdout)
    assert (body["fresh"], body["rows"]) == (7, 12)
    assert body["variants"][0]["utility"]["value"] == 1.0
    # The one that was under way is the only one that was asked again.
    assert sorted(map(int, paid)) == sorted([*range(12), 5])


def test_rows_may_come_to_a_run_and_none_may_change(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "how do i wash the lamp?"}]
    path, out = questions(tmp_path, rows), tmp_path / "run"
    options = BenchOptions("main", Settings(), suite=path, methods="base", out=out)
    assert len(Session(options).run().fresh) == 1
    rows.append({"id": "b", "question": "how do i wash the bell?"})
    questions(tmp_path, rows)
    assert len(Session(options).run().fresh) == 1
    assert set(read_manifest(out)["data"]) == {"a", "b"}
    questions(tmp_path, rows[1:])
    assert len(Session(options).run().fresh) == 0
    assert set(read_manifest(out)["data"]) == {"a", "b"}
    rows[0]["question"] = "how do i wash the kite?"
    questions(tmp_path, rows)
    with pytest.raises(InputError, match=r"1 questions that were changed since \(a\)"):
        Session(options).run()
    assert [row.question for row in read_rows(out)] == [
        "how do i wash the lamp?",
        "how do i wash the bell?",
    ]


def test_more_than_the_limit_is_said_and_spread_over_the_groups(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "group": "ab"[i > 30]} for i in range(50)]
    session = Session(BenchOptions("main", Settings(), suite=questions(tmp_path, rows), limit=4))
    assert [sample.group for sample in session.plan.samples] == ["a", "b", "a", "b"]
    assert "4 of 50 are asked; --limit 0 asks all" in session.notes


def test_mistakes_end_the_command_before_anything_is_asked(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfquestion;image;answer\r\nq1;red.png;1\r\nq2;rot.png;2\r\n;red.png;3\r\n"
    put(tmp_path / "data.csv", data)
    put(tmp_path / "red.png", picture())
    done = run(tmp_path, "bench", "run", "main", "--suite", "data.csv")
    assert done.returncode == 2
    assert done.stdout == b""
    said = done.stderr.decode().splitlines()
    assert said[0] == "error: data.csv has 2 mistakes:"
    assert said[1].startswith("  line 3: there is no image 'rot.png'")
    assert said[2] == "  line 4: there is no question"
    assert not (tmp_path / "ecoalign-bench").exists()
    wrong = run(tmp_path, "bench", "run", "main", "--suite", "dta.csv", "--json")
    assert "did you mean 'data.csv'?" in json.loads(wrong.stdout)["error"]["message"]


def test_photographs_and_the_embedded_model(tmp_path: Path) -> None:
    """It knows its own world only, and says so once."""
    path = questions(tmp_path, [{"image": "red.png", "question": "What is this?"}])
    done = run(tmp_path, "bench", "run", "main", "--suite", str(path), "--methods", "base")
    assert done.returncode == 2
    assert b"OutOfDomainError" in done.stderr


def test_a_suite_made_in_python_is_run_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with HostileServer(lambda _: says("it is 1")) as server:
        chosen = Settings.load(model="openai:gpt-x", base_url=server.url, env={})
        options = BenchOptions("main", chosen, suite=Numbers(3), methods="base", out=tmp_path)
        session = Session(options)
        session.run()
    assert session.totals() == {"base": {"right": 1.0}}
    assert read_manifest(tmp_path)["suite"] == "numbers"
    with pytest.raises(InputError, match="made in Python"):
        Session(BenchOptions("main", suite=Numbers(3), split="dev"))
