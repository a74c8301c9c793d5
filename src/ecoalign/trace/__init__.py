"""Traces: append-only JSON lines, one event each, from which a run can be seen and replayed."""

from __future__ import annotations

from ecoalign.trace.files import TraceWriter, read_trace
from ecoalign.trace.replay import replay

__all__ = ["TraceWriter", "read_trace", "replay"]
