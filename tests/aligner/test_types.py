"""Slips in Python are found by type checkers; what they read is what the settings are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from command import ROOT
from pydantic.fields import FieldInfo

from ecoalign.budget import Price
from ecoalign.settings import PRESETS, Options, Preset, Settings
from ecoalign.settings._endpoints import NamedEndpoint

SLIPS = (Path(__file__).parent / "slips.txt").read_text(encoding="utf-8")
MARKED = [n for n, line in enumerate(SLIPS.splitlines(), 1) if line.endswith("# slip")]
NO_OPTIONS = {"model", "evaluator", "budget", "history"}


@pytest.fixture
def slips(tmp_path: Path) -> str:
    """The file as Python: among the tests, they would be the project's own slips."""
    file = tmp_path / "slips.py"
    file.write_text(SLIPS, encoding="utf-8")
    return str(file)


def test_the_options_are_the_settings() -> None:
    hints = get_type_hints(Options)
    assert get_args(hints.pop("preset")) == tuple(PRESETS) == get_args(Preset)
    assert set(hints) == set(Settings.model_fields) - NO_OPTIONS
    assert Options.__required_keys__ == frozenset()
    for name, field in Settings.model_fields.items():
        if name not in NO_OPTIONS:
            assert options_of(hints[name]) == accepted(field), name


def accepted(field: FieldInfo) -> set[object]:
    """What a keyword for a setting may be: its type, or what it is read from."""
    found: set[object] = set()
    for kind in options_of(field.annotation):
        if isinstance(kind, type) and issubclass(kind, Enum):
            found |= {kind, *(member.value for member in kind)}
        elif get_args(kind)[1:] in {(NamedEndpoint,), (Price,)}:
            table: Any = get_args(kind)[1]
            found.add(Mapping[str, table | Mapping[str, Any]])
        else:
            found.add(get_args(kind)[0] if hasattr(kind, "__metadata__") else kind)
    return found


def options_of(annotation: Any) -> set[object]:
    """The alternatives of a type; of a Literal its values."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) is Mapping or not get_args(annotation):
        return {annotation}
    if hasattr(annotation, "__metadata__"):
        return {get_args(annotation)[0]}
    return set().union(*map(options_of, get_args(annotation)))


# mypy reads the package and what it imports, once: half a minute without its cache.
def test_mypy_finds_every_slip_and_nothing_else(slips: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--output=json",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "pyproject.toml"), slips],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {entry["severity"] for entry in found} <= {"error", "note"}
    errors = [entry["line"] for entry in found if entry["severity"] == "error"]
    assert sorted(set(errors)) == MARKED, done.stdout


def test_pyright_finds_every_slip_and_nothing_else(slips: str) -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent)) or shutil.which(
        "pyright"
    )
    if pyright is None:
        pytest.skip("pyright is not installed: pip install pyright")
    done = subprocess.run(
        [pyright, "--outputjson", "--pythonpath", sys.executable, slips],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout)[-200:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [
        entry["range"]["start"]["line"] + 1 for entry in found if entry["severity"] == "error"
    ]
    assert sorted(set(errors)) == MARKED, done.stdout
