from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command import KEY, ROOT, both, run
from hostile import HostileServer, Reply
from image_host import hosting
from listening import listening
from proxy_server import proxying

from ecoalign import Settings
from ecoalign.cli._app import run as main
from ecoalign.cli._connection import State, ask_server
from ecoalign.cli._doctor import _EXTRAS
from ecoalign.models import Endpoint


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
    assert main(["doctor", "--all"]) == 0
    said = capsys.readouterr().out
    assert "extra bench: not installed; pip install 'ecoalign[bench]'" in said
    assert "extra otel: installed" in said


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, packages in _EXTRAS.items():
        listed = " ".join(project["optional-dependencies"][name])
        assert [one for one in packages if one.partition("-")[0] not in listed] == []


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--all", ECOALIGN_MODEL="openai:gpt-4o")
    assert done.returncode == 2
    said = " ".join(done.stdout.decode().split())
    assert "PROBLEM model it cannot be used: no key for https://api.openai.com/v1" in said
    assert "OPENAI_API_KEY: not set" in said
    assert "environment ECOALIGN_MODEL" in said
    assert "needs: OPENAI_API_KEY" in said


def words(tmp_path: Path, *arguments: str, code: int = 0, **environment: Any) -> str:
    """What the doctor says, its lines made one."""
    done = run(tmp_path, "doctor", *arguments, **environment)
    assert done.returncode == code, both(done)
    return " ".join(done.stdout.decode().split())


def test_a_newcomer_sees_a_few_lines_and_what_to_do_next(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor")
    said = done.stdout.decode()
    assert len(said.strip().splitlines()) <= 8
    assert "--model" in said
    assert said.rstrip().endswith("--all shows every setting, the profile and the packages")
    assert "lambda0" not in said
    whole = run(tmp_path, "doctor", "--all").stdout.decode()
    assert all(name in whole for name in Settings.model_fields)
    assert "versions: ecoalign" in whole


def test_it_checks_what_ask_would_run_with_the_same_options(tmp_path: Path) -> None:
    said = words(
        tmp_path,
        *("--model", "openai:gpt-4o", "--set", "batch=2", "--preset", "myopic"),
        *("--evaluator", "llama-guard", "--base-url", "http://127.0.0.1:9/v1"),
        OPENAI_API_KEY=KEY,
    )
    assert "ok model openai:gpt-4o at http://127.0.0.1:9/v1, with the key in OPENAI_API_KEY" in said
    assert "ok evaluator openai:llama-guard at http://127.0.0.1:9/v1" in said
    assert "batch 2 command line" in said
    assert "fixed_horizon 0 preset myopic" in said
    assert "ecoalign probe openai:gpt-4o" in said
    assert KEY not in said


def test_a_budget_is_tried_before_it_is_given(tmp_path: Path) -> None:
    said = words(tmp_path, "--budget", "300", code=2)
    assert "PROBLEM budget the budget of 300 tokens is too small for any scored answer" in said
    least = said.partition("sure to do is '")[2].partition("'")[0]
    assert "note budget" in words(tmp_path, "--budget", least)
    assert "ok budget 8,000 tokens, as by default" in words(tmp_path)
    model = ("--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    said = words(tmp_path, *model, "--budget", "$0.02", code=2)
    assert "PROBLEM budget a budget in dollars needs the price of 'openai:m'" in said
    assert "note price not known" in words(tmp_path, *model)
    priced = ("--set", 'prices={"m": {"input": 2.5, "output": 10}}')
    assert "ok price" in words(tmp_path, *model, *priced, "--budget", "$0.20")


def test_a_history_is_told_of(tmp_path: Path) -> None:
    assert "note history" in words(tmp_path, ECOALIGN_HISTORY="1")
    assert "history" not in words(tmp_path)


def test_no_server_is_asked_unless_it_is_to_connect(tmp_path: Path) -> None:
    listed = json.dumps({"data": [{"id": "other"}, {"id": "models/m"}]}).encode()
    with listening(lambda _: (200, listed)) as server:
        model = ("--model", "m", "--base-url", f"{server.url}/v1")
        assert "server" not in words(tmp_path, *model, OPENAI_API_KEY=KEY)
        assert server.paths == []
        said = words(tmp_path, *model, "--connect", OPENAI_API_KEY=KEY)
        assert server.paths == ["/v1/models"]
        assert f"Authorization: Bearer {KEY}" in server.heads[0]
        assert re.search(r"ok server http://\S+ answers in \S+ s and has m", said)
    assert "none is asked" in words(tmp_path, "--connect")


def answered(status: int, body: object) -> tuple[State, str]:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    with listening(lambda _: (status, said)) as server:
        return asyncio.run(ask_server(Endpoint.of(f"{server.url}/v1", KEY), "gpt-4o"))


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, {"data": [{"id": "gpt-4o"}]}, "ok", "and has gpt-4o"),
        (200, {"data": [{"id": f"m{n}\x1b[31m"} for n in range(20)]}, "note", "and 12 more"),
        (200, {"data": []}, "note", "it lists nothing"),
        (200, b"<!doctype html>", "problem", "answered with an HTML page"),
        (200, b"[" * 100_000, "problem", "something else than a list of models"),
        (200, {"data": [3]}, "problem", "something else than a list of models"),
        (401, {"error": KEY}, "problem", "refuses the key in OPENAI_API_KEY"),
        (404, b"", "note", "lists no models (HTTP 404)"),
        (429, b"", "note", "limits the rate"),
        (302, b"", "problem", "redirects elsewhere"),
        (500, b"", "problem", "HTTP 500: it is not well"),
    ],
)
def test_what_a_server_answers_is_told_in_a_line(
    status: int, body: object, state: str, words: str
) -> None:
    found, said = answered(status, body)
    assert (found, words in said) == (state, True), said
    assert KEY not in said
    assert "\x1b" not in said
    assert "\n" not in said


async def unreached(url: str) -> str:
    state, said = await ask_server(Endpoint.of(url, KEY), "m")
    assert state == "problem"
    assert KEY not in said
    return said


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy and no certificates of one's own in the environment."""
    for name in [n for n in os.environ if "proxy" in n.lower() or n.startswith("SSL_CERT")]:
        monkeypatch.delenv(name)
    return monkeypatch


async def test_why_a_server_is_not_reached_is_told_with_the_cure(
    direct: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{held.getsockname()[1]}"
        assert "nothing listens there; start it" in await unreached(f"http://{closed}/v1")
        said = await unreached("http://no-such-host.invalid/v1")
        assert "the name no-such-host.invalid is not known" in said
        async with hosting(tls=True) as host:
            said = await unreached(f"https://127.0.0.1:{host.port}/v1")
            assert "certificate of 127.0.0.1 is not trusted" in said
            assert "SSL_CERT_FILE" in said
            said = await unreached(f"http://127.0.0.1:{host.port}/v1")
            assert "does it want https://?" in said
        with listening() as server:
            said = await unreached(server.url.replace("http:", "https:"))
            assert "write http:// in place of https://" in said
        direct.setenv("HTTP_PROXY", f"http://{closed}")
        said = await unreached("http://example.invalid/v1")
        assert "the proxy in HTTP_PROXY cannot be reached: nothing listens there" in said
        assert "NO_PROXY" in said


@pytest.mark.parametrize(
    ("status", "words"), [(407, "wants a user and a password"), (403, "HTTP 403")]
)
async def test_a_proxy_that_refuses_is_told_from_a_server_that_does(
    status: int, words: str, direct: pytest.MonkeyPatch
) -> None:
    refusal = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    async with proxying(refusal, tunnel=refusal) as proxy:
        direct.setenv("HTTPS_PROXY", proxy.url)
        said = await unreached("https://example.invalid/v1")
    assert "the proxy in HTTPS_PROXY" in said
    assert words in said


async def test_a_server_that_hangs_is_given_up_on(
    direct: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecoalign.cli._connection._PATIENCE", 0.3)
    with HostileServer(lambda _: Reply(hang=True)) as server:
        assert "or it is loading its model" in await unreached(server.url)


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
        assert variable in done.stdout.decode().partition("PROBLEM")[2]
        assert "secret" not in both(done)


def test_doctor_with_broken_settings(tmp_path: Path) -> None:
    (tmp_path / "ecoalign.toml").write_text("batch = 99\n", encoding="utf-8")
    done = run(tmp_path, "doctor", "--json")
    assert done.returncode == 2
    message = json.loads(done.stdout)["error"]["message"]
    assert "ecoalign.toml" in message
    assert "at most 16" in message
