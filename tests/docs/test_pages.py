"""What the documentation says is what the code does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
import typer
from command import ROOT
from documented import PAGES, blocks
from settings_page import rows
from typer.core import TyperCommand, TyperGroup

from ecoalign import Budget, InputError, Settings
from ecoalign.cli._app import app
from ecoalign.settings import PRESETS
from ecoalign.trace.events import _TYPES

DOCS = ROOT / "docs"
ELSEWHERE = {"bench": "bench.md", "keys": "keys.md"}
"""Commands whose options stand, all or some, on a page of their own."""


def test_every_setting_is_documented_as_it_is() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    documented = [line for line in page.splitlines() if line.startswith("| `")]
    presets = [line for line in documented if line.split("`")[1] in PRESETS]
    assert [line for line in documented if line not in presets] == rows()
    assert {line.split("`")[1] for line in presets} == set(PRESETS)


def test_every_event_is_documented() -> None:
    page = (DOCS / "traces.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(_TYPES)


def _leaves(group: TyperGroup, *path: str) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _leaves(command, *path, name)
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield (*path, name), command


def _commands() -> list[tuple[tuple[str, ...], TyperCommand]]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return list(_leaves(root))


def _section(name: str) -> str:
    """What docs/command-line.md, and a page of its own, say of a command."""
    own = (DOCS / ELSEWHERE[name]).read_text(encoding="utf-8") if name in ELSEWHERE else ""
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    found = re.search(rf"^## ecoalign {name}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/command-line.md has no section on {name}"
    return f"{found[0]}{own}"


@pytest.mark.parametrize(("path", "command"), _commands(), ids=str)
def test_every_option_is_documented_with_its_command(
    path: tuple[str, ...], command: TyperCommand
) -> None:
    section = _section(path[0])
    told = set(re.findall(r"--[a-z][a-z-]+", section))
    missing = [
        parameter.opts[0]
        for parameter in command.params
        if parameter.param_type_name == "option"
        and not getattr(parameter, "hidden", False)
        and "--help" not in parameter.opts
        and not told & {*parameter.opts, *parameter.secondary_opts}
    ]
    assert missing == []


def test_every_command_has_a_section_or_a_page() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for path, _ in _commands():
        assert f"## ecoalign {path[0]}" in page


def test_the_command_line_knows_the_exit_codes() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert {"0", "1", "2", "3", "4", "5", "130", "143"} == set(
        re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    )


def test_settings_in_toml_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of TOML is a file of settings that loads."""
    monkeypatch.setenv("GUARD_KEY", "sk-test")
    found = [block for page in PAGES for block in blocks(page, "toml")]
    assert len(found) >= 4
    for block in found:
        values = tomllib.loads(block.text)
        Settings.load(env={}, **values)


def test_budgets_are_written_as_the_page_says() -> None:
    page = (DOCS / "budget.md").read_text(encoding="utf-8")
    rows = page.partition("| written | is |")[2].partition("\n\n")[0]
    spellings = [text for row in rows.splitlines() for text in re.findall("`([^`]+)`", row)]
    assert len(spellings) >= 10
    for text in spellings:
        assert not Budget.parse(text.strip("'")).is_empty
    with pytest.raises(InputError):
        Budget.parse("$1,500")


def test_the_documentation_needs_no_network() -> None:
    """No remote fonts or scripts, and no plugin but the one that reads docstrings."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    project = config["project"]
    assert project["theme"]["font"] is False
    assert set(project["plugins"]) == {"mkdocstrings"}
    assert "inventories" not in project["plugins"]["mkdocstrings"]["handlers"]["python"]
    assert not {"extra_javascript", "extra_css"} & set(project)
