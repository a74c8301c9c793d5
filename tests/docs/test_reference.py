"""The reference names what is public, and everything that it names is there."""

from __future__ import annotations

import importlib
import re

from command import ROOT

import ecoalign

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
NAMED = re.findall(r"^::: ([\w.]+)$", PAGE, re.MULTILINE)


def _found(path: str) -> object:
    """The object that a dotted path leads to, by import and attribute."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"there is no {path}")


def test_all_that_it_names_is_there_and_has_a_docstring() -> None:
    assert len(NAMED) == len(set(NAMED))
    assert [path for path in NAMED if not getattr(_found(path), "__doc__", None)] == []


def test_all_that_the_package_exports_is_in_it() -> None:
    exported = {f"ecoalign.{name}" for name in ecoalign.__all__ if not name.startswith("_")}
    assert exported - set(NAMED) == set()
