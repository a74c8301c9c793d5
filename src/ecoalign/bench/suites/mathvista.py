"""MathVista (arXiv 2310.02255): prompt, extraction, normalisation, equality."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from ecoalign.bench._files import (
    Entry,
    entries_of,
    read_json,
    read_parquet,
    read_tsv,
    table_files,
)
from ecoalign.bench._score import UNUSABLE, Score
from ecoalign.bench.suites._base import (
    Ask,
    Ruling,
    Sample,
    combined,
    details,
    entry_query,
    file_query,
    judge_prompt,
    percents,
    unusable_percent,
)
from ecoalign.bench.suites._rules import as_number, bare, lone_letter
from ecoalign.errors import InputError
from ecoalign.query import Query

FACETS = (
    "question_type",
    "answer_type",
    "language",
    "source",
    "category",
    "task",
    "context",
    "grade",
    "skills",
)
"""What the official totals are broken down by, beside the average."""

_BRACKETED = re.compile(r"\(([a-zA-Z])\)")

_HINTS = {
    "text": "and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the "
    "end.",
    "float1": "requiring a floating-point number with one decimal place and provide the final "
    "value, e.g., 1.2, 1.3, 1.4, at the end.",
    "float2": "requiring a floating-point number with two decimal places and provide the final "
    "value, e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], "
    "[1.2, 1.3, 1.4], at the end.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What prompt and scoring need to know of a problem.

    Attributes:
        question: as published.
        question_type: "multi_choice" or "free_form".
        answer_type: "text", "integer", "float" or "list".
        choices: of a multiple-choice question, else empty.
        unit: of the answer, or None.
        precision: decimals of a float, or None.
    """

    question: str
    question_type: str
    answer_type: str
    choices: tuple[str, ...] = ()
    unit: str | None = None
    precision: int | None = None

    @property
    def multiple_choice(self) -> bool:
        """Whether a choice is to be named."""
        return self.question_type == "multi_choice"

    @property
    def listed_choices(self) -> str:
        """The choices, a line each: "(A) 135°"."""
        return "\n".join(f"({chr(65 + i)}) {choice}" for i, choice in enumerate(self.choices))


def zero_shot_prompt(problem: Problem) -> str:
    """The official zero-shot prompt, byte for byte: hint, question with unit, choices."""
    kind = "text" if problem.multiple_choice else problem.answer_type
    if kind == "float":
        kind = "float1" if problem.precision == 1 else "float2"
    unit = f" (Unit: {problem.unit})" if problem.unit else ""
    hint = f"Hint: Please answer the question {_HINTS[kind]}"
    choices = f"\nChoices:\n{problem.listed_choices}" if problem.choices else ""
    return f"{hint}\nQuestion: {problem.question}{unit}{choices}".strip()


_FORMS = {
    "multi_choice": "the letter of the option that it chooses, as B",
    "integer": "a whole number, as 14",
    "float": "a number with {precision} decimals, as {example}",
    "list": "a Python list, as [2007, 2008]",
}


def extraction_prompt(problem: Problem, response: str) -> str:
    """Asks a judge which final answer a response gives."""
    kind = "multi_choice" if problem.multiple_choice else problem.answer_type
    digits = 1 if problem.precision is None else problem.precision
    form = _FORMS[kind].format(precision=digits, example=f"{1.234:.{digits}f}")
    options = {"OPTIONS": problem.listed_choices} if problem.choices else {}
    return judge_prompt(
        "A response to a question about an image has to be read: find the final answer that it "
        f"gives, in this form: {form}. Do not solve the question and do not correct the response. "
        "Leave out units and words around the answer.",
        {"QUESTION": problem.question, **options, "RESPONSE": response},
        "Reply with the answer alone. If the response gives none, reply: none",
    )


def bare_answer(problem: Problem, response: str) -> str | None:
    """The answer, if the response is nothing else; None if it has to be extracted.

    That is one of the choices or its letter alone, for an integer an int, for a float a number.
    An empty response is an empty answer.
    """
    if response == "":
        return ""
    if problem.multiple_choice:
        if response in problem.choices:
            return response
        letter = lone_letter(response)
        if letter is not None and 0 <= ord(letter) - 65 < len(problem.choices):
            return letter
    try:
        if problem.answer_type == "integer":
            return str(int(response))
        if problem.answer_type == "float":
            return str(float(response))
    except ValueError:
        return None
    return None


def normalised(problem: Problem, extraction: str, *, legacy_int: bool = False) -> str | None:
    """The extracted answer in the form in which it is compared with the true one.

    Multiple choice: the text of the letter's choice, else the nearest choice by edit distance,
    the first of several. Integers are cut to their whole part, floats rounded.

    Args:
        problem: the problem.
        extraction: what was extracted.
        legacy_int: read integers as the first release did ("250.0" is none), which is how the
            published result files were made.

    Returns:
        The answer, or None where it is not of its type.
    """
    if problem.multiple_choice:
        return _choice(problem.choices, extraction.strip())
    try:
        if problem.answer_type == "integer":
            return str(int(extraction) if legacy_int else int(float(extraction)))
        if problem.answer_type == "float":
            return str(round(float(extraction), problem.precision))
    except (ValueError, OverflowError):
        return None
    return extraction


def _choice(choices: Sequence[str], extraction: str) -> str | None:
    bracketed = _BRACKETED.search(extraction)
    letter = bracketed.group(1).upper() if bracketed else extraction
    index = ord(letter) - 65 if len(letter) == 1 else -1
    if 0 <= index < len(choices):
        return choices[index]
    # After a bracketed letter the letter alone is compared, as the official rule has it.
    return min(choices, key=lambda choice: edit_distance(letter, choice), default=None)


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements of characters."""
    previous = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        current = [i]
        for j, right in enumerate(second, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


def keys_of(facets: Mapping[str, Any]) -> list[str]:
    """The totals that an answer counts for: "accuracy", and "task/math word problem" and so on.

    Args:
        facets: of the problem, by the names in `FACETS`; `skills` are several. One that it has not
            is passed over.
    """
    keys = ["accuracy"]
    for facet in FACETS:
        value = facets.get(facet) or ()
        values = [value] if isinstance(value, str) else value
        keys += [f"{facet}/{each}" for each in values]
    return keys


_JSON = ("testmini.json", "data/testmini.json")

_COLUMNS = ("question", "answer", "question_type", "answer_type", "choices")

_TYPES = frozenset({"text", "integer", "float", "list"})

# What judges write for "none", which they are asked for.
_NOTHING = frozenset({"", "none", "n/a", "no answer", "none given", "nothing"})


@dataclass(frozen=True, slots=True)
class MathVista:
    """The suite.

    Attributes:
        path: the folder with `data/testmini.json` and `images/`, that file itself, parquet files
            or their folder (Hugging Face), or `MathVista_MINI.tsv` (VLMEvalKit).
        legacy_int: score as the published result files were: integers as the first release read
            them, and the nearest choice also for silence and for a letter that no choice has.
    """

    name: ClassVar[str] = "mathvista"
    judged: ClassVar[bool] = True

    path: Path
    legacy_int: bool = False

    def samples(self) -> Sequence[Sample]:
        """In the order of the file; a sample's group is its task.

        Raises:
            InputError: the file is not there or not in its format, or its answers are withheld.
        """
        kind, files = table_files(self.path, "MathVista", _JSON, "testmini*")
        if kind == "tsv":
            return [
                self._sample(entry.text("index"), entry, None)
                for entry in read_tsv(files[0], _COLUMNS)
            ]
        if kind == "parquet":
            entries = read_parquet(files, ("pid", *_COLUMNS), "decoded_image")
            return [self._sample(entry.text("pid"), entry, None) for entry in entries]
        parent = files[0].parent
        # Names are as "images/1.jpg", from the folder that holds data/ and images/.
        folders = (parent, parent.parent)
        items = entries_of(read_json(files[0]), repr(str(files[0]))).items()
        return [self._sample(entry.maybe("pid") or key, entry, folders) for key, entry in items]

    def _sample(self, index: str, entry: Entry, folders: tuple[Path, ...] | None) -> Sample:
        problem = _problem(entry)
        # VLMEvalKit's edition has the official hint in the question already.
        ready = problem.question.startswith("Hint: ")
        asked = problem.question if ready else zero_shot_prompt(problem)
        query: Callable[[], Query]
        if folders is None:
            query = entry_query(asked, entry)
        else:
            query = file_query(asked, folders, entry.text("image"), self.name)
        metadata = entry.part("metadata")
        answer, choices = entry.text("answer"), list(problem.choices)
        facts: dict[str, Any] = {
            "index": index,
            "answer": answer,
            # VLMEvalKit's scorer compares letters.
            "answer_option": chr(65 + choices.index(answer)) if answer in choices else None,
            **asdict(problem),
            "choices": choices,
        }
        for facet in FACETS[2:-1]:
            facts[facet] = metadata.maybe(facet) or entry.maybe(facet)
        facts["skills"] = list(metadata.texts("skills") or entry.texts("skills", written=True))
        return Sample(index, facts["task"] or "", query, facts)

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        """Right if the answer's final value, in its official form, is the true one.

        A bare answer is taken as it is; else the judges extract it, and without
        one that answers the label is "unusable", which counts as wrong. No answer is no choice:
        the published script, which takes the nearest one unless it is told to
        `--ignore_empty_extractions`, gives points for silence.
        """
        problem = problem_of(sample.facts)
        outright = bare_answer(problem, answer)
        if outright is not None:
            prediction = self._normalised(problem, outright)
            extracted: list[str | None] = [outright]
            ruling = Ruling(prediction or "")
        else:
            extracted = await self._extracted(problem, answer, ask)
            values = [None if e is None else self._normalised(problem, e) for e in extracted]
            shown = [None if e is None else v or "" for e, v in zip(extracted, values, strict=True)]
            # Of different readings equally many judges share, the first judge's counts.
            ruling = combined(shown, [text for text in shown if text is not None])
            prediction = dict(zip(shown, values, strict=True)).get(ruling.verdict)
        right = ruling.verdict is not None and prediction == sample.facts["answer"]
        label = UNUSABLE if ruling.verdict is None else "right" if right else "wrong"
        detail = details(
            {"extraction": ruling}, extracted=extracted, prediction=prediction, refused=refused
        )
        return Score(label, useful=float(right), detail=detail)

    def _normalised(self, problem: Problem, extraction: str) -> str | None:
        if problem.multiple_choice and not (self.legacy_int or extraction.strip()):
            return None
        return normalised(problem, extraction, legacy_int=self.legacy_int)

    async def _extracted(self, problem: Problem, answer: str, ask: Ask | None) -> list[str | None]:
        if ask is None:
            return []
        replies = await ask(extraction_prompt(problem, answer), None)
        read = _as_published if self.legacy_int else _read
        return [reply if reply is None else read(problem, reply) for reply in replies]

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """Percent right: "accuracy", and by facet and value ("task/math word problem")."""
        found = percents(
            (key, score.useful) for sample, score in scored for key in keys_of(sample.facts)
        )
        return {**found, "unusable": unusable_percent(scored)}


def problem_of(facts: Mapping[str, Any]) -> Problem:
    """The problem in a sample's facts."""
    values = {each.name: facts[each.name] for each in fields(Problem)}
    return Problem(**{**values, "choices": tuple(facts["choices"])})


def _problem(entry: Entry) -> Problem:
    kind, answer_type = entry.text("question_type"), entry.text("answer_type")
    choices = entry.texts("choices", written=True)
    chosen = kind == "multi_choice"
    if answer_type not in _TYPES or {chosen} != {bool(choices), answer_type == "text"}:
        raise InputError(
            f"{entry.where}: a {kind!r} question with a {answer_type!r} answer and {len(choices)} "
            "choices is none of MathVista's"
        )
    precision = entry.whole("precision")
    if answer_type == "float" and precision is None:
        precision = len(entry.text("answer").partition(".")[2])
    question, unit = entry.text("question"), entry.maybe("unit")
    return Problem(question, kind, answer_type, choices, unit or None, precision)


def _as_published(problem: Problem, reply: str) -> str:
    text = reply.strip().strip("`").strip()
    return "" if text.lower().rstrip(".") == "none" else text


def _read(problem: Problem, reply: str) -> str:
    """The extracted answer in a judge's reply, without what is put around it; "" for none.

    A letter that no choice has is none, too: the nearest choice would be another one.
    """
    text = reply.strip().strip("`").strip()
    if text in problem.choices:
        return text
    said = bare(text)
    if said.lower() in _NOTHING:
        return ""
    if problem.multiple_choice:
        if said in problem.choices:
            return said
        letter = (lone_letter(text) or "").upper()
        if letter:
            return letter if ord(letter) - 65 < len(problem.choices) else ""
        return text
    if problem.answer_type in {"integer", "float"} and as_number(said) is not None:
        return said.replace(",", "").rstrip("% ").lstrip("$\u20ac\u00a3 ")
    return text
