"""Every name of ours that the documentation imports or mentions by its full path is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from command import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "lab" / "README.md"])
# "ecoalign.toml" and the like are files and units, not names.
_NOT_NAMES = {"ecoalign.toml", "ecoalign.service"}


def _resolves(path: str) -> bool:
    """Whether a dotted path leads to a module, or to something in one."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_imported_or_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`(ecoalign(?:\.[A-Za-z_]+)+)`", text)) - _NOT_NAMES
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ecoalign"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert {name for name in names if not _resolves(name)} == set()


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert [_resolves(f"ecoalign.{name}") for name in ("budget.Budget", "trace")] == [True, True]
    assert [_resolves(f"ecoalign.{name}") for name in ("budget.Purse", "house")] == [False, False]
