"""Without the extra `serve`: one line that says what to install, and keys that work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment

SERVE = ("fastapi", "starlette", "uvicorn", "prometheus_client")


def without(modules: tuple[str, ...], code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` where these modules are not installed."""
    absent = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", absent + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment(home),
    )


@pytest.mark.parametrize("missing", [SERVE, ("fastapi",), ("prometheus_client",)], ids=str)
def test_the_app_says_what_to_install(tmp_path: Path, missing: tuple[str, ...]) -> None:
    done = without(missing, "from ecoalign.gateway import create_app", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.endswith(
        "InputError: the gateway needs fastapi and uvicorn: pip install 'ecoalign[serve]'"
    )


def test_keys_need_no_server(tmp_path: Path) -> None:
    code = (
        "from ecoalign.cli import main\n"
        "sys.argv = ['ecoalign', 'keys', 'create', 'a', '--keys', 'keys.sqlite3']\n"
        "main()\n"
    )
    done = without(SERVE, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("eco-")


def test_another_module_that_is_missing_is_named(tmp_path: Path) -> None:
    done = without(("pydantic_core",), "from ecoalign.gateway import create_app", tmp_path)
    assert "ecoalign[serve]" not in done.stderr
    assert "pydantic_core" in done.stderr
