"""A run from Python: the room's face, the options, and what they become."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ecoalign.bench
from ecoalign.bench import (
    EXPERIMENTS,
    SUITES,
    BenchOptions,
    Session,
    open_suite,
    read_manifest,
    write_report,
)
from ecoalign.errors import InputError
from ecoalign.settings import Settings


def test_every_name_of_the_face_is_there() -> None:
    for name in ecoalign.bench.__all__:
        assert getattr(ecoalign.bench, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ecoalign.bench.nonsense


def test_the_face_alone_imports_nothing() -> None:
    code = (
        "import sys, ecoalign.bench\n"
        "print([m for m in sys.modules if m.startswith('ecoalign.bench.') or m == 'numpy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_and_its_report(tmp_path: Path) -> None:
    options = BenchOptions("main", limit=3, methods="cot, ecoalign", out=tmp_path / "run")
    session = Session(options)
    progress = session.run()
    assert (progress.total, progress.done, progress.stopped) == (9, 9, False)
    assert [one.variant for one in session.summaries()] == ["base", "cot", "ecoalign"]
    assert set(session.totals()) == {"base", "cot", "ecoalign"}
    assert Session(options).run().fresh == []
    files = write_report(tmp_path, tmp_path / "out")
    assert "main on world (test), embedded" in files.html.read_text(encoding="utf-8")


def test_one_budget_is_for_every_answer_and_several_are_steps(tmp_path: Path) -> None:
    one = Session(BenchOptions("main", Settings(), budgets=("900",), out=tmp_path))
    assert str(one.plan.settings.budget) == "900"
    steps = Session(BenchOptions("budget", Settings(), budgets=("900", "5s"), out=tmp_path))
    assert [variant.budget for variant in steps.plan.variants] == [None, "900", "5s"]
    with pytest.raises(InputError, match="soon"):
        Session(BenchOptions("budget", Settings(), budgets=("900", "soon")))


@pytest.mark.parametrize("given", [("answers=3",), {"answers": 3}])
def test_options_of_a_suite_are_texts_or_values(given: object, tmp_path: Path) -> None:
    (tmp_path / "siuo_gen.json").write_text(
        '[{"question_id": 1, "image": "a.png", "question": "?", "category": "c", '
        '"safety_warning": "w"}]'
    )
    options = BenchOptions(
        "main",
        Settings(),
        suite="siuo",
        path=tmp_path,
        suite_options=given,  # type: ignore[arg-type]
        out=tmp_path / "run",
    )
    session = Session(options)
    assert [sample.id for sample in session.plan.samples] == ["1/1", "1/2", "1/3"]
    assert session.manifest["options"] in ({"answers": "3"}, {"answers": 3})
    assert read_manifest(tmp_path / "run") == {}


def test_what_there_is_can_be_listed_and_looked_at() -> None:
    assert set(EXPERIMENTS) >= {"main", "ablation", "budget"}
    assert "world" in SUITES
    suite = open_suite("world", split="dev")
    sample = suite.samples()[0]
    assert sample.query().question
    assert sample.id.startswith("dev-")
