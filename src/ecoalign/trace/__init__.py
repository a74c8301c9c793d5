"""Traces: append-only JSON lines, one event each, from which a run can be seen and replayed."""

from __future__ import annotations

from ecoalign.trace._alignment import Alignment, Trace
from ecoalign.trace._critical_path import critical_path
from ecoalign.trace._drawing import drawing, mark_word
from ecoalign.trace._files import TraceWriter, read_trace
from ecoalign.trace._layout import layout
from ecoalign.trace._outcome import is_fixed, is_search, outcome, reason, threshold
from ecoalign.trace._recorder import Recorder
from ecoalign.trace._redacted import WITHHELD, redacted
from ecoalign.trace._showing import dollars, html_table
from ecoalign.trace._story import Node, Option, Story
from ecoalign.trace._stream import stream_events

__all__ = [
    "WITHHELD",
    "Alignment",
    "Node",
    "Option",
    "Recorder",
    "Story",
    "Trace",
    "TraceWriter",
    "critical_path",
    "dollars",
    "drawing",
    "html_table",
    "is_fixed",
    "is_search",
    "layout",
    "mark_word",
    "outcome",
    "read_trace",
    "reason",
    "redacted",
    "stream_events",
    "threshold",
]
