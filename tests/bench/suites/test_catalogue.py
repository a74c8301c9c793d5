"""Benchmarks by name, and their options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ecoalign.bench import SUITES, open_suite
from ecoalign.bench.suites.siuo import SIUO
from ecoalign.errors import InputError

PUBLISHED = [name for name in SUITES if name != "world"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_benchmark_says_its_name_and_needs_its_files(name: str, tmp_path: Path) -> None:
    suite = open_suite(name, tmp_path)
    assert suite.name == name
    with pytest.raises(InputError, match="give"):
        suite.samples()


def test_which_benchmarks_need_a_judge(tmp_path: Path) -> None:
    judged = {name for name in PUBLISHED if open_suite(name, tmp_path).judged}
    assert judged == {"mm-safetybench", "mssbench", "siuo", "mathvista"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mmbench", {}, "unknown suite 'mmbench': did you mean 'mssbench'"),
        ("siuo", {"tiny": True}, "siuo has no option 'tiny'; it has answers"),
        ("ocrbench", {"x": 1}, "it has none"),
        ("siuo", {"answers": "0"}, "number from 1, not '0'"),
        ("siuo", {"answers": True}, "number from 1"),
        ("siuo", {"answers": "²"}, "number from 1"),
        ("mm-safetybench", {"tiny": "perhaps"}, "tiny is true or false"),
        ("mm-safetybench", {"kinds": "SD,XX"}, "SD, SD_TYPO, TYPO, not 'XX'"),
        ("mm-safetybench", {"kinds": []}, "not nothing"),
        ("mssbench", {"parts": 3}, "is a list, not 3"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_suite(name, "anywhere", **options)


def test_options_as_text_and_as_values() -> None:
    for value in (3, "3", " 3 "):
        suite = open_suite("siuo", "anywhere", answers=value)
        assert isinstance(suite, SIUO)
        assert suite.answers == 3


def test_heavy_libraries_are_not_imported_before_they_are_needed() -> None:
    code = (
        "import sys, ecoalign.bench.suites, ecoalign.bench._spreadsheet\n"
        "import ecoalign.bench._judges, ecoalign.bench._session\n"
        "print([m for m in ('pyarrow', 'openpyxl', 'openai', 'PIL.Image') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
