"""Every command of the documentation works as it is written (`tests/support/reading.py`).

A command that no line of its table knows is a failure, so nothing is left out in silence.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command import ROOT
from documented import PAGES, Block, Command, blocks, commands
from reading import HOW, WAIT, bare, has_extra, how, parse, read, steady
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ecoalign.cli._app import app

WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh")]
LISTED = [command for page in PAGES for block in blocks(page, "sh") for command in commands(block)]


def test_every_command_is_known_and_every_line_of_the_table_is_used() -> None:
    used = {how(command).pattern for command in LISTED}
    assert [line.pattern for line in HOW if line.pattern not in used] == []


def test_code_of_other_blocks_is_no_command() -> None:
    """A command stands in a block for the shell, so that it is found."""
    strays = [
        f"{block}: {line}"
        for page in PAGES
        for block in blocks(page)
        if block.language in {"", "bash", "shell", "console"}
        for line in block.text.splitlines()
        if re.match(r"\s*\$? ?(ecoalign|python|pip|curl) ", line)
    ]
    indented = [
        f"{page.name}: {line}"
        for page in PAGES
        for line in page.read_text("utf-8").splitlines()
        if re.match(r" {4}(ecoalign|python|pip|curl) ", line)
    ]
    assert strays + indented == []


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    for block, said in read(page, tmp_path):
        assert steady(block.text) == steady(said), f"{block}: run tests/support/reading.py"
    if page.name == "README.md" and page.parent == ROOT:
        for picture in ("search-light.svg", "search-dark.svg"):
            kept = (ROOT / "examples" / picture).read_text("utf-8")
            drawn = (tmp_path / "examples" / picture).read_text("utf-8")
            assert steady(kept) == steady(drawn), f"{picture}: draw it again, as the README says"


@pytest.mark.parametrize(
    "command",
    [one for one in LISTED if re.match(r"python (-m )?perf[./]", one.text)],
    ids=lambda one: one.text[:60],
)
def test_options_of_scripts_are_there(command: Command) -> None:
    """They measure, which takes minutes: their own help names every option that a page uses."""
    words = command.words
    program = words[1:3] if words[1] == "-m" else words[1:2]
    done = subprocess.run(
        [sys.executable, *program, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert {option for option in options if option not in done.stdout} == set()


def test_a_wrong_command_is_found_out(tmp_path: Path) -> None:
    page = ROOT / "docs" / "index.md"
    block = Block(page, 1, "sh", "", "")
    for text in ("ecoalign ask photo.jpg hi --modle x", "ecoalign aks photo.jpg hi"):
        with pytest.raises((TyperException, AssertionError)):
            parse(Command(block, text))
    with pytest.raises(AssertionError):
        how(Command(block, "ecoalgin ask photo.jpg hi"))
    with pytest.raises(AssertionError):
        has_extra(Command(block, "pip install 'ecoalign[srve]'"))
    assert shlex.split(bare("ecoalign ask 'a # b' # c")) == ["ecoalign", "ask", "a # b"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_mentioned_are_there(page: Path) -> None:
    """In running text and tables: `ecoalign NAME`, and the options that stand behind it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for mention in re.findall(r"`ecoalign ([a-z][^`\n]*)`", text):
        found = typer.main.get_command(app)
        for word in mention.replace("\\|", "|").split():
            if isinstance(found, TyperGroup) and re.fullmatch(r"[a-z]+", word):
                assert word in found.commands, mention
                found = found.commands[word]
            elif word.startswith("--"):
                known = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
                assert word.partition("=")[0] in known, mention


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_mentioned_are_there(page: Path) -> None:
    """In running text and tables: `python FILE`, and the options that stand behind it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for mention in re.findall(r"`python3? (-m [\w.]+[^`\n]*|[\w./]+\.py[^`\n]*)`", text):
        module, *rest = mention.removeprefix("-m ").split()
        path = ROOT / (module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
        source = path.read_text("utf-8")
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert {option for option in options if f'"{option}"' not in source} == set(), mention
