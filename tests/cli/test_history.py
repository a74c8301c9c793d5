from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import both, run

from ecoalign.cli._app import run as main
from ecoalign.history import History
from ecoalign.query import Query


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """An empty history of a user whose settings say nothing."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("ECOALIGN_HISTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    return History.open()


def note(history: History, question: str) -> str:
    return history.add(KeyboardInterrupt(), Query.of(None, question)).id


def test_a_newcomer_is_told_how_to_turn_it_on(tmp_path: Path) -> None:
    done = run(tmp_path, "history")
    assert (done.returncode, done.stdout) == (0, b"")
    assert "ECOALIGN_HISTORY=1" in both(done)
    assert str(tmp_path) in both(done)
    assert not list(tmp_path.glob("**/history.jsonl"))


def test_the_latest_are_listed_and_one_is_shown(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [note(history, f"question {number}?\x1b[31m") for number in range(25)]
    assert main(["history"]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ids[5:]
    assert "\x1b[31m" not in said.out
    assert main(["history", "--limit", "2", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in body["entries"]] == ids[23:]
    assert (body["kept"], body["skipped"]) == (False, 0)
    assert main(["history", "show", ids[3]]) == 0
    assert "question: question 3?" in capsys.readouterr().out
    assert main(["history", "show", "last", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == ids[-1]


def test_clearing_says_how_much_is_gone(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    note(history, "one")
    assert main(["history", "--clear"]) == 0
    assert "1 entry removed" in capsys.readouterr().out
    assert history.entries() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show",), "show ID"),
        (("delete", "x"), "show ID"),
        (("show", "nothing"), "no entry"),
        (("--clear", "--limit", "3"), "--clear"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_bad_usage(
    history: History,
    arguments: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note(history, "one")
    assert main(["history", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert len(history.entries()) == 1


def test_broken_lines_are_told(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    note(history, "one")
    with history.path.open("a") as file:
        file.write("not json\n")
    assert main(["history"]) == 0
    assert "1 unreadable line" in capsys.readouterr().err
