"""OCRBench (arXiv 2305.07895): is one of the known answers in the prediction?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ecoalign.bench._files import (
    Entry,
    FileKind,
    entries_of,
    read_json,
    read_parquet,
    read_tsv,
    table_files,
)
from ecoalign.bench._score import Score
from ecoalign.bench.suites._base import Ask, Sample, entry_query, file_query, graded
from ecoalign.errors import InputError
from ecoalign.query import Query

FORMULA_TYPE = "Handwritten Mathematical Expression Recognition"

_RECOGNITION = "Text Recognition"

GROUPS = {
    "Regular Text Recognition": _RECOGNITION,
    "Irregular Text Recognition": _RECOGNITION,
    "Artistic Text Recognition": _RECOGNITION,
    "Handwriting Recognition": _RECOGNITION,
    "Digit String Recognition": _RECOGNITION,
    "Non-Semantic Text Recognition": _RECOGNITION,
    "Scene Text-centric VQA": "Scene Text-centric VQA",
    "Doc-oriented VQA": "Doc-oriented VQA",
    "Key Information Extraction": "Key Information Extraction",
    FORMULA_TYPE: FORMULA_TYPE,
}
"""The group of each type: 300 + 200 + 200 + 200 + 100 questions in the whole benchmark."""


def is_right(prediction: str, answers: Sequence[str], *, formula: bool = False) -> bool:
    """Whether any of the answers stands in the prediction.

    Args:
        prediction: what the model wrote.
        answers: any of which is right; an answer of nothing but blanks never is.
        formula: the question is of HME100k: case counts and blanks do not. Else case does not
            count, and a line break is a blank.
    """
    read = _formula if formula else _text
    written = read(prediction)
    return any(known in written for answer in answers if (known := read(answer)))


def _text(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def points(results: Iterable[tuple[str, bool]]) -> dict[str, int]:
    """Right answers by group, and "final score", their sum: at most 1000 over the whole benchmark.

    Args:
        results: type and rightness of each answer.

    Raises:
        KeyError: a type is none of OCRBench's.
    """
    totals = dict.fromkeys(GROUPS.values(), 0)
    for kind, right in results:
        totals[GROUPS[kind]] += right
    return {**totals, "final score": sum(totals.values())}


_JSON = ("OCRBench.json", "OCRBench/OCRBench.json")

# The columns of the type, the answers and the source in each edition.
_COLUMNS: Mapping[FileKind, tuple[str, str, str]] = {
    "json": ("type", "answers", "dataset_name"),
    "parquet": ("question_type", "answer", "dataset"),
    "tsv": ("category", "answer", "dataset"),
}


@dataclass(frozen=True, slots=True)
class OCRBench:
    """The suite.

    Attributes:
        path: the folder with `OCRBench.json` and the images (`OCRBench_Images/` or beside it),
            parquet files or their folder (Hugging Face), or `OCRBench.tsv` (VLMEvalKit).
    """

    name: ClassVar[str] = "ocrbench"
    judged: ClassVar[bool] = False

    path: Path

    def samples(self) -> Sequence[Sample]:
        """In the order of the file; ids are positions, from "0", or a TSV's index.

        Raises:
            InputError: the file is not there or not in its format.
        """
        kind, files = table_files(self.path, "OCRBench", _JSON)
        file, columns = files[0], _COLUMNS[kind]
        if kind == "json":
            entries = list(entries_of(read_json(file), repr(str(file))).items())
        elif kind == "tsv":
            read = read_tsv(file, ("question", *columns[:2]))
            entries = [(entry.text("index"), entry) for entry in read]
        else:
            read = read_parquet(files, ("question", *columns), "image")
            entries = [(str(number), entry) for number, entry in enumerate(read)]
        return [self._sample(index, entry, kind, file) for index, entry in entries]

    def _sample(self, index: str, entry: Entry, kind: FileKind, file: Path) -> Sample:
        types, answers, source = _COLUMNS[kind]
        question, category = entry.text("question"), entry.text(types)
        query: Callable[[], Query] = entry_query(question, entry)
        if kind == "json":
            near = (file.parent, file.parent.parent)
            folders = (*(folder / "OCRBench_Images" for folder in near), *near)
            query = file_query(question, folders, entry.text("image_path"), self.name)
        if category not in GROUPS:
            raise InputError(f"{entry.where}: {category!r} is none of OCRBench's types")
        known = entry.texts(answers, written=kind == "tsv")
        if not known:
            raise InputError(f"{entry.where} has no answer in {answers!r}")
        facts = {
            "index": index,
            "question": question,
            "answer": list(known),
            "category": category,
            "dataset": entry.maybe(source),
        }
        return Sample(index, GROUPS[category], query, facts)

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        """Right if one of the known answers is in the answer; no judge."""
        formula = sample.facts["category"] == FORMULA_TYPE
        right = is_right(answer, sample.facts["answer"], formula=formula)
        return graded(right, refused=refused)

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """Points: one for each right answer, by group, and their sum "final score", of 1000 for
        the whole benchmark; "final score norm" is in percent of the questions that were asked.
        """
        results = [(str(s.facts["category"]), bool(score.useful)) for s, score in scored]
        totals: dict[str, float] = {name: float(of) for name, of in points(results).items()}
        asked = max(1, len(results))
        return {**totals, "final score norm": 100.0 * totals["final score"] / asked}
