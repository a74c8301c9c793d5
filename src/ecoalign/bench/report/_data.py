"""What a report is made from: the rows of one or several runs, and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ecoalign.bench._experiments import EXPERIMENTS
from ecoalign.bench._metrics import Summary, summarise
from ecoalign.bench._rows import ROWS, Row, in_order, read_manifest, read_rows
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ecoalign.bench._rows import Row


@dataclass(frozen=True)
class RunData:
    """One experiment on one suite.

    Attributes:
        rows: the latest of each key.
        manifest: what the run said of itself; may be empty.
    """

    rows: tuple[Row, ...]
    manifest: Mapping[str, Any]

    def _said(self, name: str, other: str) -> str:
        value = self.manifest.get(name)
        return value if isinstance(value, str) and value else other

    @property
    def experiment(self) -> str:
        """Its name."""
        return self._said("experiment", self.rows[0].key.experiment)

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self._said("suite", self.rows[0].key.suite)

    @property
    def split(self) -> str:
        """The suite's split, "" if it has none."""
        return self._said("split", "")

    @property
    def model(self) -> str:
        """Who answered."""
        return self._said("model", self.rows[0].model)

    @property
    def command(self) -> str:
        """The command that makes these rows."""
        return self._said("command", f"ecoalign bench run {self.experiment} --suite {self.suite}")

    @property
    def question(self) -> str:
        """What the experiment is to show."""
        known = EXPERIMENTS.get(self.experiment)
        return known.question if known else ""

    @property
    def reference(self) -> str | None:
        """The variant that the others are compared with, where it was run."""
        known = EXPERIMENTS.get(self.experiment)
        names = [summary.variant for summary in self.plain]
        return known.reference if known and known.reference in names else None

    @property
    def figures(self) -> tuple[str, ...]:
        """What is to be drawn."""
        known = EXPERIMENTS.get(self.experiment)
        return known.figures if known else ("frontier", "stages", "bars", "groups")

    @cached_property
    def plain(self) -> list[Summary]:
        """The figures without comparisons, which is all it takes to know the names."""
        return summarise(self.rows)

    @cached_property
    def summaries(self) -> list[Summary]:
        """All figures."""
        return summarise(self.rows, self.reference)

    @cached_property
    def axes(self) -> dict[str, dict[str, float]]:
        """The variants on the axis of each curve: the axis' name, the variant's, its place."""
        found: dict[str, dict[str, float]] = {}
        for entry in self.manifest.get("variants") or []:
            if isinstance(entry, dict) and entry.get("axis"):
                axis = found.setdefault(str(entry["axis"]), {})
                axis[str(entry["name"])] = float(entry["at"])
        return found

    @property
    def totals(self) -> dict[str, dict[str, float]]:
        """The benchmark's own figures by variant, as they were when the run last ended."""
        said = self.manifest.get("totals")
        if not isinstance(said, dict):
            return {}
        return {
            str(variant): {
                str(name): float(value)
                for name, value in each.items()
                if isinstance(value, int | float)
            }
            for variant, each in said.items()
            if isinstance(each, dict)
        }

    @property
    def judges(self) -> list[str]:
        """The names of the judges, in the order of their verdicts."""
        said = self.manifest.get("judges")
        return [str(name) for name in said] if isinstance(said, list) else []

    @property
    def title(self) -> str:
        """What it is a run of: "main on world (test), embedded"."""
        split = f" ({self.split})" if self.split else ""
        return f"{self.experiment} on {self.suite}{split}, {self.model}"

    def of(self, variant: str) -> list[Row]:
        """The rows of one variant."""
        return [row for row in self.rows if row.key.variant == variant]

    def timed(self, variant: str) -> list[Row]:
        """Those of them whose seconds tell something: answered, and not by the cache."""
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
    known = list(EXPERIMENTS)
    runs.sort(
        key=lambda run: known.index(run.experiment) if run.experiment in known else len(known)
    )
    return runs
