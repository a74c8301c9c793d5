"""Traces: append-only JSON lines, one event each, from which a run can be seen and replayed."""

from __future__ import annotations

from ecoalign.trace._alignment import Alignment, Trace
from ecoalign.trace._critical_path import critical_path
from ecoalign.trace._files import TraceWriter, read_trace
from ecoalign.trace._recorder import Recorder

__all__ = ["Alignment", "Recorder", "Trace", "TraceWriter", "critical_path", "read_trace"]
