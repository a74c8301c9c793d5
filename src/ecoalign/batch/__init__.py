"""A file of questions under one budget, answered in any number at once, and resumable.

from ecoalign.batch import Batch
result = Batch("questions.jsonl", "answers.jsonl", total_budget="2000k").run()
"""

from __future__ import annotations

from ecoalign.batch._batch import Batch, BatchOptions, BatchResult, run
from ecoalign.batch._progress import BatchProgress

__all__ = ["Batch", "BatchOptions", "BatchProgress", "BatchResult", "run"]
