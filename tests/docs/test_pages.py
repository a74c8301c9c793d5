"""What the documentation says is what the code does."""

from __future__ import annotations

import re
import tomllib

import pytest
from command import ROOT
from settings_page import rows

from ecoalign.cli._app import run
from ecoalign.settings import PRESETS
from ecoalign.trace.events import _TYPES

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_as_it_is() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = [line for line in page.splitlines() if line.startswith("| `")]
    presets = [line for line in documented if line.split("`")[1] in PRESETS]
    assert [line for line in documented if line not in presets] == rows()
    assert {line.split("`")[1] for line in presets} == set(PRESETS)


def test_every_event_is_documented() -> None:
    page = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(_TYPES)


@pytest.mark.parametrize("command", ["ask", "doctor", "probe", "replay", "serve"])
def test_every_option_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert run([command, "--help"]) == 0
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options
    assert {option for option in options if option not in page} == set()


def test_the_readme_knows_the_exit_codes_and_presets() -> None:
    assert {"0", "1", "2", "3", "4", "130"} == set(
        re.findall(r"^\| (\d+) \|", README, re.MULTILINE)
    )
    assert all(f"`{name}`" in README for name in PRESETS)


def test_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_examples_of_the_documentation_compile() -> None:
    pages = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page, re.S)]
    assert len(blocks) >= 3
    for block in blocks:
        compile(block, "documentation", "exec")


def test_the_documentation_needs_no_network() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    project = config["project"]
    assert project["theme"]["font"] is False
    assert "plugins" not in project
    pages = {next(iter(entry.values())) for entry in project["nav"]}
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")}
