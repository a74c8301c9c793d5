"""The examples run as they are written, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile import HostileServer
from served import well_behaved

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(
    name: str, *args: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OPENAI_", "ECOALIGN_")) and key != "MODEL"
    }
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**kept, **(env or {})},
    )


def test_every_example_is_listed_with_a_line_and_is_short() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"]({name})" in listed
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 70
    assert NAMES == [
        "custom_evaluator.py",
        "custom_method.py",
        "custom_model.py",
        "custom_suite.py",
        "fake_model.py",
        "openai_compatible.py",
        "python_api.py",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("custom_method.py", "green. {'green.': 3} 141 tokens\n"),
        ("custom_model.py", "it is red. (3 calls, parrot)\n"),
        ("custom_suite.py", "base {'right': 50.0}\necoalign {'right': 100.0}\n"),
    ],
)
def test_what_contributing_shows_how_to_add_runs(name: str, said: str) -> None:
    ran = run(name)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, said, "")


def test_the_python_api_answers_and_shows_its_events() -> None:
    ran = run("python_api.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert any(line.startswith("  root: ") for line in lines)
    assert any(" of 4000: stopped by " in line for line in lines)
    # The same question again, under the same settings: the same answer.
    assert f"answer: {lines[0]}" in lines
    assert [line.startswith(f"Alignment('{lines[0]}', refused=False") for line in lines[-2:]] == [
        True,
        True,
    ]


def test_an_evaluator_of_one_s_own_has_a_veto() -> None:
    ran = run("custom_evaluator.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    free, vetoed = ran.stdout.splitlines()
    assert free.startswith("unspoken (): ")
    assert "green" not in vetoed.removeprefix("unspoken ('green',): ")


def test_a_fake_model_answers_without_a_network() -> None:
    ran = run("fake_model.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    answered, stages, refused = ran.stdout.splitlines()
    assert answered.startswith("it is red. (")
    assert stages == "['scan', 'execute', 'score']"  # a good draft is all it takes
    assert "it is red" not in refused


@pytest.mark.parametrize("env", [{}, {"MODEL": "m"}, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}])
def test_without_a_server_named_the_compatible_example_says_what_to_set(
    env: dict[str, str],
) -> None:
    ran = run("openai_compatible.py", str(EXAMPLES / "signs.png"), "what?", env=env)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("set MODEL, and OPENAI_BASE_URL or OPENAI_API_KEY")


def test_the_compatible_example_wants_an_image_and_a_question() -> None:
    env = {"MODEL": "m", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    ran = run("openai_compatible.py", env=env)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("usage: ")


def test_the_compatible_example_asks_the_server_that_is_named() -> None:
    with HostileServer(well_behaved) as server:
        env = {"MODEL": "any-model", "OPENAI_BASE_URL": server.url}
        ran = run("openai_compatible.py", str(EXAMPLES / "signs.png"), "what is it?", env=env)
    assert (ran.returncode, ran.stdout) == (0, "42\n")
    assert "tokens, unknown" in ran.stderr
    assert {request.json["model"] for request in server.received} == {"any-model"}


def test_the_compatible_example_ends_with_the_error_s_own_code() -> None:
    env = {"MODEL": "m", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    ran = run("openai_compatible.py", str(EXAMPLES / "missing.png"), "what is it?", env=env)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "missing.png" in ran.stderr
    assert "Traceback" not in ran.stderr
