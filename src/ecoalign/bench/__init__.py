"""Benchmarks: suites of samples, runs that survive, metrics with intervals, and reports.

    session = Session(BenchOptions("main", Settings.load(model="openai:gpt-4o"), limit=100))
    session.run()
    for summary in session.summaries():
        print(summary.variant, summary.estimates["safety"], summary.tokens_ratio)

`EXPERIMENTS` and `SUITES` say what there is; `suite=` may also be a file of one's own, or a suite
made in Python. `write_report` makes one page of finished runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.bench._experiments import EXPERIMENTS, BenchOptions, Experiment, Variant
    from ecoalign.bench._metrics import Estimate, Summary, summarise
    from ecoalign.bench._rows import Row, read_manifest, read_rows
    from ecoalign.bench._score import Score
    from ecoalign.bench._session import Session
    from ecoalign.bench._starter import write_starter
    from ecoalign.bench.progress import Bar, BenchProgress
    from ecoalign.bench.report import ReportFiles, write_report
    from ecoalign.bench.suites import SUITES, open_suite
    from ecoalign.bench.suites._base import Ask, Sample, Suite

__all__ = [
    "EXPERIMENTS",
    "SUITES",
    "Ask",
    "Bar",
    "BenchOptions",
    "BenchProgress",
    "Estimate",
    "Experiment",
    "ReportFiles",
    "Row",
    "Sample",
    "Score",
    "Session",
    "Suite",
    "Summary",
    "Variant",
    "open_suite",
    "read_manifest",
    "read_rows",
    "summarise",
    "write_report",
    "write_starter",
]

# Loaded when they are first used, so that `ecoalign bench --help` stays quick.
_HOMES = {
    "_experiments": ("EXPERIMENTS", "BenchOptions", "Experiment", "Variant"),
    "_metrics": ("Estimate", "Summary", "summarise"),
    "_rows": ("Row", "read_manifest", "read_rows"),
    "_session": ("Session",),
    "_starter": ("write_starter",),
    "progress": ("Bar", "BenchProgress"),
    "report": ("ReportFiles", "write_report"),
    "suites": ("SUITES", "open_suite"),
    "_score": ("Score",),
    "suites._base": ("Ask", "Sample", "Suite"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
