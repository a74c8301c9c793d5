"""What can be ordered: an experiment on a suite, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.settings import Settings

__all__ = ["DEFAULT_LIMIT", "SUITES", "Order", "method_names"]

DEFAULT_LIMIT = 40
"""Samples where nothing else is asked for: a first look, on the embedded model in minutes."""

SUITES: Mapping[str, str] = {
    "world": "the embedded model's synthetic world: exact truth, no judge, no files",
    "mm-safetybench": "harmful requests carried by an image, 13 scenarios (judged)",
    "mssbench": "situational safety: one request, a safe and an unsafe image (judged)",
    "siuo": "safe inputs whose combination is not, open answers (judged)",
    "siuo-mcqa": "the same as multiple choice",
    "ocrbench": "text in images, 1,000 questions",
    "mathvista": "mathematics in images, testmini",
    "mmstar": "vision-indispensable multiple choice",
}
"""The suites by name, a line each. All but `world` need the files of their authors."""

_ABLATIONS = ("myopic", "fixed-horizon", "last-safety", "mean-safety", "no-cost")


def method_names() -> list[str]:
    """The methods that the experiment `main` compares: every one, but once; the presets that are
    ablations are told by the experiment `ablation`."""
    from ecoalign.methods import METHODS

    left_out = {f"ecoalign:{preset}" for preset in ("default", *_ABLATIONS)}
    return [name for name in METHODS if name not in left_out]


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        experiment: its name.
        settings: in force; the model is one of them.
        suite: its name; None for the experiment's own, or `world`.
        path: the files of the suite; not for `world`.
        split: of `world`: "test" (if None) or "dev".
        options: of the other suites, see `ecoalign.bench.suites._catalogue.open_suite`.
        methods: variants or methods to run; none for all of the experiment.
        judges: models that judge the answers.
        judge_base_url: the server of the judges.
        budgets: the steps of the experiment `budget`.
        limit: samples at most, spread over the groups; 0 for all; None for `DEFAULT_LIMIT` (all of
            an experiment's own suite).
        repeats: how often each sample is asked.
        out: where the rows go; None for a folder named for the run.
        concurrency: samples at once; None for the experiment's own, or 4.
        cache: file of the response cache; None for none.
        retry_failed: ask again what failed.
        xlsx: write the predictions of each variant for VLMEvalKit, too.
        command: as the report is to show it.
    """

    experiment: str
    settings: Settings
    suite: str | None = None
    path: Path | None = None
    split: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[str] = ()
    judges: Sequence[str] = ()
    judge_base_url: str | None = None
    budgets: Sequence[str] = ()
    limit: int | None = None
    repeats: int = 1
    out: Path | None = None
    concurrency: int | None = None
    cache: Path | None = None
    retry_failed: bool = False
    xlsx: bool = False
    command: str = ""
