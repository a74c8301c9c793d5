"""Reports from rows alone: one self-contained HTML file, Markdown and CSV."""

from __future__ import annotations

from ecoalign.bench.report._data import RunData, load_runs
from ecoalign.bench.report._page import ReportFiles, write_report

__all__ = ["ReportFiles", "RunData", "load_runs", "write_report"]
