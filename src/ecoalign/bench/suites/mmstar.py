"""MMStar (arXiv 2403.20330): the prediction has to open with the right letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ecoalign.bench._files import Entry, read_parquet, read_tsv, table_files
from ecoalign.bench._score import Score
from ecoalign.bench.suites._base import Ask, Sample, entry_query, graded, percents
from ecoalign.bench.suites._rules import lone_letter
from ecoalign.errors import InputError

CAPABILITIES = (
    "coarse perception",
    "fine-grained perception",
    "instance reasoning",
    "logical reasoning",
    "science & technology",
    "math",
)
"""The six core capabilities, 250 questions each."""

_OPENINGS = ("", "(", "option ", "the answer is ")


def is_right(prediction: str, answer: str) -> bool:
    """Whether the prediction starts with the letter, or with it after "(", "option ", ...

    Case and outer blanks do not count. As in the official rule, what follows the letter is not
    looked at: "apple" is an answer A.
    """
    written = prediction.lower().strip().replace("\n", " ")
    letter = answer.lower().strip()
    return bool(letter) and any(written.startswith(opening + letter) for opening in _OPENINGS)


_COLUMNS = ("index", "question", "answer", "category", "l2_category")

_LETTERS = "ABCDEFGH"


@dataclass(frozen=True, slots=True)
class MMStar:
    """The suite.

    Attributes:
        path: `mmstar.parquet` (Hugging Face), `MMStar.tsv` (VLMEvalKit), or their folder.
    """

    name: ClassVar[str] = "mmstar"
    judged: ClassVar[bool] = False

    path: Path

    def samples(self) -> Sequence[Sample]:
        """In the order of the file; a sample's group is its core capability.

        Raises:
            InputError: the file is not there or not in its format.
        """
        kind, files = table_files(self.path, "MMStar", ())
        if kind == "json":
            raise InputError(f"MMStar is published as .parquet or .tsv, not {str(self.path)!r}")
        entries = (
            read_tsv(files[0], _COLUMNS[1:])
            if kind == "tsv"
            else read_parquet(files, _COLUMNS, "image")
        )
        return [self._sample(entry) for entry in entries]

    def _sample(self, entry: Entry) -> Sample:
        index, category = entry.text("index"), entry.text("category")
        if category not in CAPABILITIES:
            raise InputError(f"{entry.where}: {category!r} is none of MMStar's core capabilities")
        facts = {column: entry.text(column) for column in _COLUMNS}
        facts["bench"] = entry.maybe("bench") or entry.part("meta_info").maybe("source") or ""
        return Sample(index, category, entry_query(_asked(entry), entry), facts)

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        """Right if the answer opens with the right letter; no judge. A letter alone is taken out
        of what is put around it first, as in "**B**": the official rule does not see it there."""
        written = lone_letter(answer) or answer
        return graded(is_right(written, sample.facts["answer"]), refused=refused)

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """Percent right: "final score", by core capability, and by axis ("math/geometry")."""
        return {"final score": 0.0} | percents(
            (key, score.useful)
            for sample, score in scored
            for axis in (f"{sample.group}/{sample.facts['l2_category']}",)
            for key in ("final score", sample.group, axis)
        )


def _asked(entry: Entry) -> str:
    """The question with its options, which some editions keep in columns, and the form wanted."""
    options = [f"{letter}: {text}" for letter in _LETTERS if (text := entry.maybe(letter))]
    lines = [entry.text("question").strip()]
    if options and not any(word in lines[0] for word in ("Options:", "Choices:")):
        lines.append(f"Options: {', '.join(options)}")
    return "\n".join([*lines, "Answer with the letter of the right option first."])
