"""What is built and declared: the wheel, the sdist, the metadata, the dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from command import ROOT

import ecoalign

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Ray, and what local models need, are large and no part of the extra `test`.
NOT_INSTALLED = {"ray", "torch", "transformers", "huggingface_hub", "llguidance"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist"]
    subprocess.run(
        [*command, "-d", str(folder)], cwd=ROOT, check=True, capture_output=True, timeout=120
    )
    return folder


@pytest.fixture(scope="module")
def metadata(built: Path) -> Message:
    """The wheel's metadata; its payload is the README as a package index shows it."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_sdist_has_what_a_reader_needs_and_no_checkpoint(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "lab/train.py",
        "tests/cli/test_ask.py",
    } <= names
    assert "lab/checkpoint.pt" not in names


def test_the_version_is_the_same_everywhere(metadata: Message) -> None:
    assert metadata["Version"] == ecoalign.__version__


def test_links_of_the_readme_work_on_a_package_index(metadata: Message) -> None:
    page = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)]+)\)", page) + re.findall(r'(?:src|srcset)="([^"]+)"', page)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_project_urls_and_authors_are_told(metadata: Message) -> None:
    assert metadata["Author"]
    told = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= told


def _canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!;~]", requirement)[0]).lower()


def _imported() -> dict[str, set[str]]:
    """The modules of others that src imports anywhere, each with the rooms that do."""
    found: dict[str, set[str]] = {}
    package = ROOT / "src" / "ecoalign"
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "ecoalign":
                    found.setdefault(top, set()).add(room)
    return found


def test_what_is_imported_is_declared() -> None:
    base = {_canonical(one) for one in PROJECT["dependencies"]}
    extras = {
        _canonical(one)
        for name in ("serve", "bench", "otel", "postgres", "ray")
        for one in PROJECT["optional-dependencies"][name]
    }
    known = packages_distributions()
    undeclared = {}
    for module, rooms in _imported().items():
        if module in NOT_INSTALLED:
            continue
        makers = {_canonical(one) for one in known.get(module, [module])}
        # Only the gateway, the benchmarks, the batch and the tables of both may lean on an extra.
        allowed = base | extras if rooms <= {"gateway", "bench", "batch", "query"} else base
        if not makers & allowed:
            undeclared[module] = sorted(rooms)
    assert undeclared == {}


def test_what_is_declared_is_imported() -> None:
    known = packages_distributions()
    used = {_canonical(one) for module in _imported() for one in known.get(module, [module])}
    # typer draws with rich by itself; uvloop is found by its name alone.
    declared = {_canonical(one) for one in PROJECT["dependencies"]}
    assert declared - used == set()
