"""Traces: append-only JSON lines, one event each, from which a run can be seen and replayed."""

from __future__ import annotations

from ecoalign.trace._files import TraceWriter, read_trace

__all__ = ["TraceWriter", "read_trace"]
