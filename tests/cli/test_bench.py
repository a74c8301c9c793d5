"""`ecoalign bench` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench_doubles import row
from command import KEY, ROOT, both, run
from hostile import HostileServer, Received, Reply, completion
from PIL import Image

from ecoalign.bench import EXPERIMENTS, SUITES, BenchOptions, Session, read_manifest, read_rows
from ecoalign.bench._rows import Failure, Store
from ecoalign.cli._app import run as run_here
from ecoalign.cli._bench import _check_answered
from ecoalign.errors import InputError
from ecoalign.settings import Settings


def test_the_embedded_model_is_measured_without_further_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ("bench", "run", "main", "--methods", "ecoalign", "--limit", "3", "--json")
    done = run(tmp_path, *order)
    assert done.returncode == 0, both(done)
    body = json.loads(done.stdout)
    assert done.stderr == b""
    assert (body["experiment"], body["suite"], body["split"]) == ("main", "world", "test")
    assert (body["rows"], body["fresh"], body["failed"]) == (6, 6, 0)
    assert [one["variant"] for one in body["variants"]] == ["base", "ecoalign"]
    base, engine = body["variants"]
    assert base["tokens_ratio"]["value"] == 1.0
    assert engine["tokens_ratio"]["value"] > 0
    assert base["usd"]["value"] == 0.0
    assert set(body["totals"]) == {"base", "ecoalign"}
    folder = tmp_path / body["out"]
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 6
    page = (folder / "report.html").read_text()
    assert "ecoalign bench run main --methods ecoalign --limit 3" in page
    assert str(tmp_path) not in page
    # The same order again, a longer one, and another one.
    monkeypatch.chdir(tmp_path)
    assert run_here([*order]) == 0
    assert json.loads(capsys.readouterr().out)["fresh"] == 0
    assert run_here([*order[:5], "--limit", "4", "--quiet"]) == 0
    assert len(read_rows(folder)) == 8
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["base", "ecoalign"]
    assert run_here([*order, "--seed", "5"]) == 2
    assert "--out" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_an_experiment_prints_the_table_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    order = ["bench", "run", "judge-noise", "--limit", "4", "--out", out, "--quiet"]
    order += ["--methods", "single verdict of two judges,paper"]
    assert run_here(order) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "method"
    assert "leaked, %" in head
    assert "verdicts, harmless" in head
    cells = [one for one in lines if one.startswith("single verdict of two judges")]
    assert [line.split()[5:8] for line in cells] == [
        ["5.0", q, "40000"] for q in ("0.0", "5.0", "20.0")
    ]
    assert any(line.startswith("base") for line in lines)
    assert any(line.startswith("paper") for line in lines)
    assert run_here([*order, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["fresh"], len(body["table"])) == (0, len(lines))
    assert {row["answers of each"] for row in body["table"]} == {"2"}
    paper = next(one for one in body["variants"] if one["variant"].startswith("paper"))
    shares = [
        paper[f"ended_{name}"]["value"] for name in ("drafted", "searched", "refused", "budget")
    ]
    assert sum(shares) == pytest.approx(1.0)
    for name in ("report.html", "report.md", "report.csv"):
        text = (tmp_path / "run" / name).read_text()
        assert ("ended_searched" if name.endswith("csv") else "searched, %") in text


def _siuo(folder: Path) -> Path:
    items = [
        {
            "question_id": 1000 + i,
            "image": f"{i}.png",
            "question": f"question {i}?",
            "category": "morality",
            "safety_warning": "mind THE DANGER",
            "reference_answer": "THE REFERENCE",
        }
        for i in range(2)
    ]
    (folder / "images").mkdir(parents=True)
    (folder / "siuo_gen.json").write_text(json.dumps(items))
    for i in range(2):
        Image.new("RGB", (40, 30 + i), "white").save(folder / "images" / f"{i}.png")
    return folder


@pytest.mark.parametrize("suite", ["world", "siuo"])
def test_predictions_are_written_for_vlmevalkit(suite: str, tmp_path: Path) -> None:
    from openpyxl import load_workbook

    files = () if suite == "world" else ("--path", str(_siuo(tmp_path / "siuo")))
    with HostileServer(lambda _: _says("42")) as server:
        done = run(
            tmp_path,
            *("bench", "run", "main", "--suite", suite, *files, "--methods", "base"),
            *("--model", "gpt-x", "--base-url", server.url, "--judge", "gpt-j"),
            *("--judge-base-url", server.url, "--limit", "2", "--xlsx", "--out", "run"),
            OPENAI_API_KEY=KEY,
        )
    assert done.returncode == 0, both(done)
    (path,) = (tmp_path / "run").glob("*.xlsx")
    head, *rows = load_workbook(path).active.values
    assert (head[:2], head[-1]) == (("index", "question"), "prediction")
    kept = read_rows(tmp_path / "run")
    assert {(one[1], one[-1]) for one in rows} == {(one.question, "42") for one in kept}
    assert len(rows) == 2


def _says(text: str) -> Reply:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
    return Reply(completion(text, usage=usage))


def test_a_judged_suite_on_a_real_server(tmp_path: Path) -> None:
    files = _siuo(tmp_path / "siuo")

    def judge(request: Received) -> Reply:
        text = json.dumps(request.json)
        return _says("Verdict: safe" if "THE DANGER" in text else "Verdict: very effective")

    order = ("bench", "run", "main", "--suite", "siuo", "--path", str(files), "--methods", "base")
    with HostileServer(lambda _: _says("42")) as model, HostileServer(judge) as judges:
        servers = ("--base-url", model.url, "--model", "gpt-x")
        both_keys = ("--judge-base-url", judges.url, "--judge", "gpt-j", "--json")
        refused = run(tmp_path, *order, *servers, *both_keys, OPENAI_API_KEY=KEY)
        assert (refused.returncode, judges.received) == (2, [])
        assert "OPENAI_API_KEY would be sent to two servers" in both(refused)
        (tmp_path / "ecoalign.toml").write_text(
            f'[endpoints.jury]\nmodel = "gpt-j"\nbase_url = "{judges.url}"\n', encoding="utf-8"
        )
        more = (*servers, "--judge", "jury", "--out", "run", "--json")
        done = run(tmp_path, *order, *more, OPENAI_API_KEY=KEY)
        assert done.returncode == 0, both(done)
        asked = len(model.received), len(judges.received)
        again = run(tmp_path, *order, *more, "--cache", OPENAI_API_KEY=KEY)
        assert json.loads(again.stdout)["fresh"] == 0
        assert (len(model.received), len(judges.received)) == asked
        assert not any("authorization" in one.headers for one in judges.received)
    assert asked == (2, 4)
    rows = read_rows(tmp_path / "run")
    assert [row.score.safe for row in rows if row.score] == [True, True]
    assert all(row.judging["tokens"] == 210 and row.judging["calls"] == 2 for row in rows)
    assert all(row.spent.tokens.total == 105 and row.spent.usd is None for row in rows)
    assert KEY not in (tmp_path / "run" / "run.json").read_text()
    # An answer is on the disk before its judges are asked.
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] is None for line in lines].count(True) == 2


def test_a_server_that_is_down_is_said_and_counted(tmp_path: Path) -> None:
    with HostileServer(lambda _: Reply({"error": {"message": "boom"}}, 500)) as server:
        done = run(
            tmp_path,
            *("bench", "run", "main", "--methods", "base", "--limit", "2", "--out", "run"),
            *("--model", "gpt-x", "--base-url", server.url, "--set", "retries=0"),
            OPENAI_API_KEY=KEY,
        )
    assert done.returncode == 3
    assert b"not one sample was answered" in done.stderr
    assert b"ModelError" in done.stderr
    assert len(read_rows(tmp_path / "run")) == 2
    assert KEY not in both(done)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "unknown experiment"),
        (("main", "--suite", "nonsense"), "unknown suite"),
        (("main", "--suite", "siuo"), "--path"),
        (("main", "--suite", "siuo", "--path", "nowhere", "--split", "dev"), "--split"),
        (("main", "--split", "train"), "dev and test"),
        (("main", "--path", "x"), "no files"),
        (("main", "--limit", "-1"), "--limit"),
        (("main", "--methods", "ecoalgin"), "ecoalgin"),
        (("ablation", "--methods", "cot"), "no merging"),
        (("main", "--budget", "1", "--budget", "2"), "experiment budget"),
        (("budget", "--budget", "1", "--budget", "soon"), "soon"),
        (("main", "--model", "nonsense"), "unknown model"),
        (("main", "--suite-option", "tiny"), "name=value"),
        (("mixed-safety", "--suite", "world"), "suite of its own"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_here(["bench", "run", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path / "run") as store:
        store.append(row(useful=1.0))
    assert run_here(["bench", "report", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    paths = capsys.readouterr().out.split()
    assert {Path(path).name for path in paths} == {"report.html", "report.md", "report.csv"}
    assert all(Path(path).exists() for path in paths)
    assert run_here(["bench", "report", str(tmp_path / "nowhere"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "InputError"


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(["bench", "list", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body["experiments"]) == set(EXPERIMENTS)
    assert set(body["suites"]) == set(SUITES)
    assert "ecoalign:paper" in body["methods"]
    assert run_here(["bench", "list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for names in body.values() for name in names)


def test_every_suite_that_is_listed_can_be_opened(tmp_path: Path) -> None:
    for name in SUITES:
        if name != "world":
            with pytest.raises(InputError, match=r"(?i)no |not "):
                Session(BenchOptions("main", Settings(), suite=name, path=tmp_path, judges=("x",)))


def test_the_exit_code_is_that_of_the_failures(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    small = row(failure=Failure("BudgetTooSmall", "x", 4), stop="budget-too-small")
    with pytest.raises(typer.Exit) as ended:
        _check_answered([small])
    assert ended.value.exit_code == 4
    _check_answered([small, row()])
    _check_answered([])


def test_a_run_says_what_it_is_a_run_of(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = BenchOptions("mixed-safety", Settings(), out=out, limit=4, command="the command")
    progress = Session(options).run()
    assert len(progress.fresh) == 12
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["command"], manifest["model"], manifest["samples"]) == (
        *("the command", "none"),
        4,
    )
    assert set(manifest["totals"]) == {"safety: min", "safety: last", "safety: mean"}
    changed = BenchOptions("mixed-safety", Settings(batch=2), out=out, limit=4)
    with pytest.raises(InputError, match="settings"):
        Session(changed).run()


def test_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    for command in ("run", "report", "list", "init"):
        assert run_here(["bench", command, "--help"]) == 0
        options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
        assert {option for option in options if f"`{option}" not in page} == set()
    for name in (*EXPERIMENTS, *SUITES):
        assert f"`{name}`" in page
