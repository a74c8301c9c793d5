from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import QUESTION, SIGNS, environment, run

import ecoalign


def _modules_after(code: str, home: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        env=environment(home),
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "onnxruntime", "aiohttp", "numpy", "PIL", "pydantic", "rich", "typer", "networkx"}


def test_importing_the_package_loads_next_to_nothing(tmp_path: Path) -> None:
    assert not HEAVY & _modules_after("import ecoalign", tmp_path)


def test_the_front_door_needs_no_runtime_and_no_client(tmp_path: Path) -> None:
    loaded = _modules_after("from ecoalign import align, Aligner, Settings, Budget", tmp_path)
    assert not {"torch", "onnxruntime", "aiohttp"} & loaded


def test_the_command_line_starts_light(tmp_path: Path) -> None:
    code = "from ecoalign.cli._app import run\nrun(['ask', '--help'])"
    assert not {"torch", "onnxruntime", "aiohttp", "numpy", "PIL"} & _modules_after(code, tmp_path)


def test_the_ledger_and_its_client_are_light(tmp_path: Path) -> None:
    heavy = HEAVY | {"genai_prices", "pydantic_settings"}
    assert not heavy & _modules_after("import ecoalign.budget", tmp_path)


def test_version(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert done.returncode == 0
    assert done.stdout.decode() == f"ecoalign {ecoalign.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_a_newcomer_is_shown_the_commands(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    said = (done.stdout + done.stderr).decode()
    for command in ("ask", "doctor", "replay"):
        assert command in said


def test_the_gateway_without_its_extra_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fastapi'] = sys.modules['uvicorn'] = None\n"
        "from ecoalign.cli._app import run; sys.exit(run(['serve', '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment(tmp_path), check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "error: the gateway needs fastapi and uvicorn: pip install 'ecoalign[serve]'\n"
    )


def test_a_command_is_a_call_that_python_can_make(capsys: pytest.CaptureFixture[str]) -> None:
    from ecoalign.cli._ask import AskOptions, ask
    from ecoalign.cli._options import SettingsOptions

    settings = SettingsOptions(preset="myopic", pairs=["batch=2"])
    ask(AskOptions(images=[SIGNS], question=QUESTION, settings=settings, as_json=True, quiet=True))
    assert json.loads(capsys.readouterr().out)["preset"] == "myopic"
