"""deploy/locks: what is locked is whole, fits what is declared, and names no address."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from types import ModuleType

import pytest
from command import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PLACES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.5",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    for python, machine in product(("3.11", "3.12", "3.13"), ("x86_64", "aarch64"))
]
"""Where a lock must hold."""


def _script() -> ModuleType:
    spec = spec_from_file_location("lock", ROOT / "deploy" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = _script()
NAMES = [*LOCK.EXTRAS, *LOCK.TOOLS]


def _text(name: str) -> str:
    text: str = (LOCK.LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    return text


def _locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """The lines of a lock, each with its hashes."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", _text(name)).replace("\\\n", " ")
    lines = [line.split(" --hash=") for line in text.splitlines() if line.strip()]
    return [(Requirement(line), [one.strip() for one in hashes]) for line, *hashes in lines]


def _wanted(lines: list[str]) -> Iterator[Requirement]:
    """What they ask for, our own extras taken apart."""
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == PROJECT["project"]["name"]:
            for extra in requirement.extras:
                yield from _wanted(EXTRAS[extra])
        else:
            yield requirement


def _asked(name: str) -> list[Requirement]:
    if name in LOCK.TOOLS:
        return list(_wanted(LOCK.TOOLS[name]))
    own = [line for extra in LOCK.EXTRAS[name] for line in EXTRAS[extra]]
    return list(_wanted([*PROJECT["project"]["dependencies"], *own]))


def _applies(requirement: Requirement, place: dict[str, str]) -> bool:
    environment = {name: str(value) for name, value in default_environment().items()} | place
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_there_is_no_lock_that_nothing_makes() -> None:
    assert {path.stem for path in LOCK.LOCKS.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_one_version_with_its_hashes(name: str) -> None:
    locked = _locked(name)
    assert locked
    for requirement, hashes in locked:
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("name", NAMES)
def test_no_address_is_in_it(name: str) -> None:
    text = re.sub(r"--hash=sha256:[0-9a-f]{64}", "", _text(name))
    assert re.search(r"://|@|--(?!hash)|\bwww\.|(?m:^-)", text) is None


@pytest.mark.parametrize(
    "place", PLACES, ids=lambda p: f"{p['python_version']}-{p['platform_machine']}"
)
@pytest.mark.parametrize("name", NAMES)
def test_it_holds_what_is_declared_in_its_range(name: str, place: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for requirement, _ in _locked(name):
        if _applies(requirement, place):
            own = canonicalize_name(requirement.name)
            assert own not in found, f"{own} is locked twice"
            found[own] = next(iter(requirement.specifier)).version
    for wanted in _asked(name):
        if _applies(wanted, place):
            version = found.get(canonicalize_name(wanted.name))
            assert version is not None, f"{wanted} is not locked: python deploy/lock.py"
            assert wanted.specifier.contains(version, prereleases=True), f"{wanted}: {version}"
