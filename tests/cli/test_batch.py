"""`ecoalign batch` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import PLAIN, QUESTION, ROOT, SIGNS, both, run
from hostile import HostileServer, Received, Reply, completion

from ecoalign.cli._app import run as run_here

FORBIDDEN = "how do i wake the thing on the sign?"
THING = str(ROOT / "examples" / "thing.png")
KEY = "sk-never-to-be-seen-0123456789"


def write(folder: Path, *rows: object) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_the_first_batch_of_a_new_user(tmp_path: Path) -> None:
    """A table made in a spreadsheet, the packaged model, nothing else."""
    (tmp_path / "mine.csv").write_text(
        f"name,question,image\na,{QUESTION},{SIGNS}\nb,{PLAIN},\nc,{FORBIDDEN},{THING}\n"
    )
    order = ("batch", "mine.csv", "out.csv", "--preferences", "pairs.jsonl", "--traces", "t")
    order += ("--images", str(ROOT / "examples"))
    done = run(tmp_path, *order)
    assert done.returncode == 0, both(done)
    assert done.stdout == b""
    said = done.stderr.decode()
    assert "3 rows: 2 answered, 1 refused; 3 of them asked now" in said
    assert "output: out.csv" in said
    assert "preference data: " in said
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].startswith("name,question,image,status,answer,refused,safety,")
    assert [line[0] for line in lines[1:]] == ["a", "b", "c"]
    assert ",answered,59.," in lines[1]
    assert ",refused,\"I can't " in lines[3]
    assert len(list((tmp_path / "t").iterdir())) == 3
    again = run(tmp_path, *order, "--json")
    assert again.returncode == 0
    assert "3 of 3 rows are there already" in again.stderr.decode()
    body = json.loads(again.stdout)
    assert (body["rows"], body["fresh"], body["answered"], body["refused"]) == (3, 0, 2, 1)
    assert body["output"] == "out.csv"


def test_a_folder_and_one_question_quietly(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one.png", "two.png"):
        (folder / name).write_bytes(Path(SIGNS).read_bytes())
    order = ("batch", "pictures", "o.jsonl", "--question", QUESTION, "--method", "base", "-q")
    done = run(tmp_path, *order)
    assert done.returncode == 0, both(done)
    assert both(done) == ""
    assert [row["image"] for row in answers(tmp_path / "o.jsonl")] == ["one.png", "two.png"]


def test_standard_input_in_a_pipe(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in (PLAIN, "What is art?"))
    order = ("batch", "-", "o.parquet", "--column", "question=text", "--json", "--no-progress")
    done = run(tmp_path, *order, stdin=lines.encode())
    assert done.returncode == 0, both(done)
    body = json.loads(done.stdout)
    assert (body["answered"], body["failed"]) == (1, 1)


def test_the_money_ends(tmp_path: Path) -> None:
    write(tmp_path, {"question": PLAIN}, {"question": QUESTION, "image": SIGNS})
    order = ("batch", "in.jsonl", "o.jsonl", "--concurrency", "1", "--budget", "8k")
    order += ("--images", str(ROOT / "examples"))
    done = run(tmp_path, *order, "--total-budget", "2050", "--json")
    assert done.returncode == 4, both(done)
    body = json.loads(done.stdout)
    assert (body["stopped"], body["answered"], body["unasked"]) == ("budget", 1, 1)
    assert "with a larger --total-budget" in done.stderr.decode()
    done = run(tmp_path, *order, "--total-budget", "2000k", "--json")
    assert done.returncode == 0, both(done)
    assert json.loads(done.stdout)["budget"]["tokens"] == 2_000_000


def test_a_server_that_refuses_the_key(tmp_path: Path) -> None:
    def refuse(request: Received) -> Reply:
        return Reply({"error": {"message": "Incorrect API key provided"}}, 401)

    write(tmp_path, *({"question": f"number {n}"} for n in range(60)))
    with HostileServer(refuse) as server:
        order = ("batch", "in.jsonl", "o.jsonl", "--model", "openai:x", "--base-url", server.url)
        done = run(tmp_path, *order, OPENAI_API_KEY=KEY)
        assert done.returncode == 3, both(done)
        assert len(server.received) < 60
    said = done.stderr.decode()
    assert "error: the model failed for every row that was asked last" in said
    assert "Incorrect API key" in said
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text()
    assert KEY not in said


def test_what_a_model_says_steers_no_terminal(tmp_path: Path) -> None:
    def says(request: Received) -> Reply:
        return Reply({"error": {"message": "\x1b[2J\u202eno"}}, 400)

    write(tmp_path, {"question": "number 1"})
    with HostileServer(says) as server:
        order = ("batch", "in.jsonl", "o.jsonl", "--model", "openai:x", "--base-url", server.url)
        done = run(tmp_path, *order, "--method", "base", OPENAI_API_KEY=KEY)
    assert done.returncode == 3
    assert "\x1b" not in both(done)
    assert "\u202e" not in both(done)


def test_progress_of_a_long_batch_in_a_log(tmp_path: Path) -> None:
    write(tmp_path, *({"question": PLAIN} for _ in range(3)))
    done = run(tmp_path, "batch", "in.jsonl", "o.jsonl", "--progress", "--method", "base")
    assert done.returncode == 0
    last = [line for line in done.stderr.decode().splitlines() if line.startswith("3 of 3")]
    assert last
    assert "0:00 to go" in last[-1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["none.csv", "o.csv"], "there is no file or folder"),
        (["in.jsonl", "o.doc"], "an output is a"),
        (["in.jsonl", "o.csv", "--column", "question"], "--column takes ROLE=NAME"),
        (["in.jsonl", "o.csv", "--column", "who=question"], "no role 'who'"),
        (["in.jsonl", "o.csv", "--engine", "spark"], "--engine is local or ray"),
        (["in.jsonl", "o.csv", "--total-budget", "lots"], "lots"),
        (["in.jsonl", "o.csv", "--method", "bse"], "did you mean"),
        (["in.jsonl", "o.csv", "--model", "openai:nobody-knows", "-B", "$5"], "needs the price"),
    ],
)
def test_bad_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    why: str,
) -> None:
    write(tmp_path, {"question": "a"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert run_here(["batch", *options, "--json"]) == 2
    told = capsys.readouterr()
    assert why in json.loads(told.out)["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_answers_are_counted_where_a_server_answers(tmp_path: Path) -> None:
    def says(request: Received) -> Reply:
        return Reply(completion("fine"))

    write(tmp_path, *({"question": f"number {n}"} for n in range(5)))
    with HostileServer(says) as server:
        order = ("batch", "in.jsonl", "o.jsonl", "--model", "openai:x", "--base-url", server.url)
        done = run(tmp_path, *order, "--method", "base", "--json", OPENAI_API_KEY=KEY)
        assert done.returncode == 0, both(done)
        assert len(server.received) == 5
    body = json.loads(done.stdout)
    assert body["charged"] == {"tokens": 70, "usd": None}
    assert {row["usd"] for row in answers(tmp_path / "o.jsonl")} == {None}
