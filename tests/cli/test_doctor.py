from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command import KEY, ROOT, both, run

from ecoalign import Settings
from ecoalign.cli._app import run as main
from ecoalign.cli._doctor import _EXTRAS


def test_doctor_as_json(tmp_path: Path) -> None:
    (tmp_path / "ecoalign.toml").write_text("batch = 3\n", encoding="utf-8")
    done = run(
        tmp_path,
        *("doctor", "--json", "--preset", "myopic"),
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"http://user:{KEY}@localhost:1/v1",
        ECOALIGN_DELTA="0.5",
    )
    assert done.returncode == 0, done.stderr
    assert KEY not in both(done)
    body = json.loads(done.stdout)
    assert body["ok"] is True
    rows = {row["name"]: row for row in body["settings"]}
    assert set(rows) == set(Settings.model_fields)
    assert (rows["batch"]["value"], rows["batch"]["origin"]) == ("3", "ecoalign.toml")
    assert (rows["delta"]["value"], rows["delta"]["origin"]) == (
        "0.5",
        "environment ECOALIGN_DELTA",
    )
    assert (rows["fixed_horizon"]["value"], rows["fixed_horizon"]["origin"]) == (
        "0",
        "preset myopic",
    )
    assert rows["look_ahead"]["origin"] == "default"
    assert all(row["range"] and row["description"] for row in rows.values())
    openai = body["providers"]["openai"]
    assert openai["OPENAI_API_KEY"] == "set"
    assert openai["OPENAI_BASE_URL"] == "http://localhost:1/v1"
    assert "needs" not in openai
    embedded = body["providers"]["embedded"]
    assert embedded["usable"] is True
    assert embedded["answer"]
    assert embedded["correct"] == (embedded["answer"].strip(" .") == embedded["expected"])


def test_doctor_says_which_extras_are_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = {"bench": ("pillow", "no-such-package-of-ecoalign"), "otel": ("pillow",)}
    monkeypatch.setattr("ecoalign.cli._doctor._EXTRAS", nowhere)
    assert main(["doctor", "--json"]) == 0
    extras = json.loads(capsys.readouterr().out)["extras"]
    assert extras == {
        "bench": {"installed": False, "missing": ["no-such-package-of-ecoalign"]},
        "otel": {"installed": True, "missing": []},
    }
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "extra bench: not installed; pip install 'ecoalign[bench]'" in said
    assert "extra otel: installed" in said


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, packages in _EXTRAS.items():
        listed = " ".join(project["optional-dependencies"][name])
        assert [one for one in packages if one.partition("-")[0] not in listed] == []


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", ECOALIGN_MODEL="openai:gpt-4o")
    assert done.returncode == 2
    said = done.stdout.decode()
    assert "OPENAI_API_KEY: not set" in said
    assert "problem: the model in force cannot be used" in said
    assert "environment ECOALIGN_MODEL" in said
    assert "needs: OPENAI_API_KEY" in said


BAD_ENVIRONMENT = {
    "OPENAI_API_KEY": [
        "sk-secret\nsk-secret",
        "sk-secret sk",
        "\u201csk-secret\u201d",
        "sk-secret\xe9",
    ],
    "OPENAI_BASE_URL": ["http://localhost:1/v1?key=sk-secret", "localhost:1/v1"],
    "ALL_PROXY": ["socks5://user:sk-secret@127.0.0.1:9", "http://127.0.0.1:port"],
    "SSL_CERT_FILE": ["/nowhere/ca.pem", __file__],
    "SSL_CERT_DIR": ["/nowhere"],
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(name, text) for name in BAD_ENVIRONMENT for text in BAD_ENVIRONMENT[name]],
)
def test_doctor_finds_what_no_server_can_be_asked_with(
    variable: str, value: str, tmp_path: Path
) -> None:
    for model in ("embedded", "openai:gpt-4o"):
        given: dict[str, Any] = {"OPENAI_API_KEY": KEY, variable: value}
        done = run(tmp_path, "doctor", ECOALIGN_MODEL=model, **given)
        assert done.returncode == 2
        assert variable in done.stdout.decode().partition("problem: ")[2]
        assert "secret" not in both(done)


def test_doctor_with_broken_settings(tmp_path: Path) -> None:
    (tmp_path / "ecoalign.toml").write_text("batch = 99\n", encoding="utf-8")
    done = run(tmp_path, "doctor", "--json")
    assert done.returncode == 2
    message = json.loads(done.stdout)["error"]["message"]
    assert "ecoalign.toml" in message
    assert "at most 16" in message
