"""What a report is made from: the rows of one or several runs, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ecoalign.bench._experiments import EXPERIMENTS
from ecoalign.bench._metrics import Summary, summarise
from ecoalign.bench._rows import ROWS, Row, in_order, read_manifest, read_rows
from ecoalign.errors import InputError

_FIGURES = ("frontier", "stages", "bars", "groups")


class RunData:
    """One experiment on one suite.

    Args:
        rows: the latest of each key, at least one.
        manifest: `run.json` of the run; may be empty, and its values are checked.

    Attributes:
        experiment, suite, split, model: what was run; `split` is "" if the suite has none.
        command: the command that makes these rows.
        question: what the experiment is to show.
        reference: the variant that the others are compared with, where it was run.
        figures: what is to be drawn.
        judges: the names of the judges, in the order of their verdicts.
        title: what it is a run of: "main on world (test), embedded".
    """

    def __init__(self, rows: Sequence[Row], manifest: Mapping[str, Any]) -> None:
        def stated(name: str, otherwise: str) -> str:
            value = manifest.get(name)
            return value if isinstance(value, str) and value else otherwise

        self.rows = tuple(rows)
        self.manifest = manifest
        self.experiment = stated("experiment", rows[0].key.experiment)
        self.suite = stated("suite", rows[0].key.suite)
        self.split = stated("split", "")
        self.model = stated("model", rows[0].model)
        run = f"ecoalign bench run {self.experiment} --suite {self.suite}"
        self.command = stated("command", run)
        known = EXPERIMENTS.get(self.experiment)
        self.question = known.question if known else ""
        self.figures: Sequence[str] = known.figures if known else _FIGURES
        names = {row.key.variant for row in rows}
        self.reference = known.reference if known and known.reference in names else None
        judges = manifest.get("judges")
        self.judges = [str(name) for name in judges] if isinstance(judges, list) else []
        split = f" ({self.split})" if self.split else ""
        self.title = f"{self.experiment} on {self.suite}{split}, {self.model}"

    @cached_property
    def summaries(self) -> list[Summary]:
        """All figures."""
        return summarise(self.rows, self.reference)

    @property
    def axes(self) -> dict[str, dict[str, float]]:
        """The variants on the axis of each curve: the axis' name, the variant's, its place."""
        found: dict[str, dict[str, float]] = {}
        for entry in self.manifest.get("variants") or []:
            if isinstance(entry, dict) and entry.get("axis"):
                axis = found.setdefault(str(entry["axis"]), {})
                axis[str(entry["name"])] = float(entry["at"])
        return found

    @property
    def given(self) -> dict[str, Mapping[str, Any]]:
        """What differs in the experiment's own suite, by variant; of those that say."""
        entries = [e for e in self.manifest.get("variants") or [] if isinstance(e, dict)]
        return {
            str(e.get("name")): given
            for e in entries
            if isinstance(given := e.get("given"), dict) and given
        }

    @property
    def totals(self) -> dict[str, dict[str, float]]:
        """The benchmark's own figures by variant, as they were when the run last ended."""
        totals = self.manifest.get("totals")
        if not isinstance(totals, dict):
            return {}
        return {
            variant: {name: v for name, v in each.items() if isinstance(v, int | float)}
            for variant, each in totals.items()
            if isinstance(each, dict)
        }

    def of(self, variant: str) -> list[Row]:
        """The rows of one variant."""
        return [row for row in self.rows if row.key.variant == variant]

    def timed(self, variant: str) -> list[Row]:
        """Those of them with meaningful seconds: answered, and not by the cache."""
        return [row for row in self.of(variant) if not row.cached and row.failure is None]


def _names(manifest: Mapping[str, Any]) -> list[str]:
    entries = manifest.get("variants") or []
    return [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]


def load_runs(folder: Path) -> list[RunData]:
    """The runs in a folder and right beneath it, in the order of the experiments.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the --out of a run")
    places = [folder] if (folder / ROWS).exists() else []
    places += sorted(path.parent for path in folder.glob(f"*/{ROWS}"))
    runs = []
    for place in places:
        rows, manifest = read_rows(place), read_manifest(place)
        if rows:
            runs.append(RunData(tuple(in_order(rows, _names(manifest))), manifest))
    if not runs:
        raise InputError(f"no rows of a benchmark in {folder}: nothing was finished there yet")
    order = {name: place for place, name in enumerate(EXPERIMENTS)}
    return sorted(runs, key=lambda run: order.get(run.experiment, len(order)))
