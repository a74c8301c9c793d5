"""Reports from rows alone: one self-contained HTML file, Markdown and CSV."""

from __future__ import annotations

from ecoalign.bench.report._data import RunData, load_runs
from ecoalign.bench.report._page import ReportFiles, write_report
from ecoalign.bench.report._tables import own_table

__all__ = ["ReportFiles", "RunData", "load_runs", "own_table", "write_report"]
