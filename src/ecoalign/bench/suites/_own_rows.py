"""Samples of a file of one's own: what its columns are, and every mistake in them."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ecoalign._text import short
from ecoalign.bench.suites._base import Sample
from ecoalign.bench.suites._rules import as_number, letters_of, places, plain
from ecoalign.errors import InputError
from ecoalign.query import Query, read_header, read_source
from ecoalign.query.tables import (
    NAMES,
    Given,
    ImageFolder,
    Mistakes,
    Record,
    find_source,
    images_in,
    is_empty,
    listed,
    meant,
    plain_name,
    read_records,
)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    **NAMES,
    "answer": ("answer", "answers", "ground_truth", "reference"),
    "choices": ("choices", "options"),
    "rule": ("rule",),
    "tolerance": ("tolerance",),
    "harmful": ("harmful",),
    "group": ("group", "category"),
    "split": ("split",),
    "id": ("id", "index", "question_id"),
    "hint": ("hint",),
}
"""What is read of a row, and the names that a column of it may have, in any case. The options of a
question may also be in columns A, B, C and so on."""

RULES: Mapping[str, str] = {
    "exact": 'the answer is the known one and nothing else; case, blanks, quotes and "the answer '
    'is" do not count',
    "contains": "the known answer stands in the answer as whole words, in any case",
    "number": "the number that the answer gives is the known one, within the tolerance",
    "choice": "the choice that the answer names, by its letter or its text, is the known one",
    "regex": "the known answer, a regular expression, is found in the answer",
    "judge": "a judge says so, by the rubric",
}
"""The rules by name: when an answer is right."""

ANSWERLESS = "none"

_MOST_CHOICES = 26

_LONG = 8
"""Words of an answer that is a sentence: it is hardly ever found in another one."""

_FLAGS = {
    **dict.fromkeys(("true", "yes", "y", "1", "harmful", "x"), True),
    **dict.fromkeys(("false", "no", "n", "0", "harmless", ""), False),
}


def tolerance_of(text: str) -> tuple[float, bool] | None:
    """The size of a tolerance and whether it is relative; None if it is none."""
    value = as_number(text)
    if value is None or value < 0:
        return None
    relative = text.strip().endswith("%")
    return value / (100.0 if relative else 1.0), relative


def wrong_tolerance(text: str) -> str:
    return f"the tolerance is a number as 0.5, or a share as 5%, not {short(text, 40)!r}"


def unknown_rule(rule: str) -> str:
    near = difflib.get_close_matches(rule.lower(), RULES, n=1, cutoff=0.6)
    meant = f": did you mean {near[0]!r}?" if near else "."
    return f"unknown rule {short(rule, 40)!r}{meant} There are: {', '.join(RULES)}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read, and how.

    Attributes:
        path, split, rule, tolerance, images, encoding: see `OwnData`.
        judges_texts: whether what no plainer rule fits is for a judge.
        rubric: whatever a judge is told, for the digests.
    """

    path: Path
    split: str = ""
    rule: str = ""
    tolerance: str = ""
    images: Path | None = None
    encoding: str = "utf-8"
    judges_texts: bool = False
    rubric: str = ""


@dataclass(frozen=True, slots=True)
class OwnSamples:
    """What is in a file.

    Attributes:
        samples: in its order.
        digests: of all that each is asked and scored by, by id.
        notes: what whoever runs it should know, a sentence each.
    """

    samples: Sequence[Sample]
    digests: Mapping[str, str]
    notes: Sequence[str]


def read_samples(wanted: Wanted) -> OwnSamples:
    """The samples of a file.

    Raises:
        InputError: it cannot be read, or there are mistakes in it.
    """
    return _Reader(wanted).read()


@dataclass(frozen=True, slots=True)
class _Picture:
    """An image of a row: the digest of its bytes, and what reads them again."""

    digest: str
    read: Callable[[], bytes]


class _Mistake(Exception):
    """What is wrong with one cell of a row."""


_AS_OPTION = "--suite-option {}={}"

_OPTION = re.compile(r"[A-Z]")


class _Reader:
    """Makes samples of a file, and notes every mistake in it."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._source = find_source(wanted.path)
        self._mistakes = Mistakes(str(self._source.path), _AS_OPTION)
        self._folder = ImageFolder(wanted.images or self._source.folder, option=_AS_OPTION)
        self._ids: dict[str, str] = {}
        self._pictures: dict[str, list[_Picture]] = {}
        self._unused: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()

    def read(self) -> OwnSamples:
        wanted = self._wanted
        samples: list[Sample] = []
        digests: dict[str, str] = {}
        count = 0
        for light in read_records(self._source, self._mistakes, wanted.encoding):
            count += 1
            record = replace(light, values=light.reread()) if light.heavy else light
            if count == 1 and record.flat and not self._has_questions(record):
                break
            sample, digest = self._sample(record, count)
            if sample is None:
                continue
            self._splits[str(sample.facts["split"])] += 1
            if wanted.split in {"", sample.facts["split"]}:
                samples.append(sample)
                digests[sample.id] = digest
        self._mistakes.check()
        if not count:
            raise InputError(
                f"{self._mistakes.file} is empty: a row has a question and, as a rule, an image "
                "and an answer; `ecoalign bench init` writes an example"
            )
        if not samples:
            there = ", ".join(f"{name or '(none)'} ({n})" for name, n in self._splits.items())
            raise InputError(
                f"{self._mistakes.file} has no rows of the split {wanted.split!r}; it has {there}"
            )
        return OwnSamples(samples, digests, self._notes(samples))

    def _has_questions(self, record: Record) -> bool:
        """Whether a table has the column at all; to say of every line that it has not helps
        nobody."""
        names = [str(name) for name in record.values]
        if any(plain_name(name) in COLUMNS["question"] for name in names):
            return True
        if record.where.endswith(".txt"):
            return True
        near = [n for n in names if meant(plain_name(n), COLUMNS) == "question"]
        hint = f": did you mean {near[0]!r} to be it?" if near else ""
        known = ", ".join(repr(short(name, 30)) for name in names[:12])
        self._mistakes.add("line 1", f"there is no column 'question'{hint} (it has {known})")
        return False

    # -- one row

    def _sample(self, record: Record, number: int) -> tuple[Sample | None, str]:
        before = len(self._mistakes)
        row = self._columns(record)
        note = partial(self._mistakes.add, record.where)
        question = self._tried(note, _text, row.get("question"))
        question = (question or "").strip()
        if not question and before == len(self._mistakes):
            note("there is no question")
        hint = self._tried(note, _text, row.get("hint")) or ""
        beside = str(PurePosixPath(record.image).with_suffix("")) if record.image else ""
        key = self._tried(note, _text, row.get("id")) or beside or str(number)
        if key in self._ids:
            note(f"the id {short(key, 60)!r} is that of {self._ids[key]}, too")
        self._ids.setdefault(key, record.where)
        pictures = self._images(record, row.get("image"), note)
        facts = self._facts(record, row, note)
        facts = {"index": key, "question": question, **facts}
        if len(self._mistakes) > before:
            return None, ""
        self._pictures[key] = pictures
        asked = _asked(facts, hint)
        query = partial(_query, asked, pictures, f"{self._mistakes.file}, {record.where}")
        group = str(facts["category"])
        identity: list[object] = [asked, facts, [picture.digest for picture in pictures]]
        if facts["rule"] == "judge" or facts["harmful"]:
            identity.append(self._wanted.rubric)
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        return Sample(key, group, query, facts), digest

    def _tried(
        self, note: Callable[[str], None], read: Callable[[object], str], value: object
    ) -> str | None:
        try:
            return read(value)
        except _Mistake as mistake:
            note(str(mistake))
            return None

    def _columns(self, record: Record) -> dict[str, object]:
        """The values by what they are; what is no column of ours is passed over, unless it nearly
        is one."""
        row: dict[str, object] = {}
        by_name = {plain_name(str(name)): value for name, value in record.values.items()}
        for canonical, names in COLUMNS.items():
            given = [by_name[name] for name in names if not is_empty(by_name.get(name))]
            if given:
                row[canonical] = given[0]
        known = {name for names in COLUMNS.values() for name in names}
        options = {}
        for name, value in record.values.items():
            if _OPTION.fullmatch(str(name)):
                options[str(name)] = value
                continue
            said = plain_name(str(name))
            near = None if said in known or not said else meant(said, COLUMNS)
            if near and near not in row and not is_empty(value):
                if not self._unused[said]:
                    self._mistakes.add(
                        record.where,
                        f"the column {short(str(name), 40)!r}: did you mean {near!r}?",
                    )
                self._unused[said] += 1
            elif said not in known and not is_empty(value):
                self._unused[str(name)] += 1
        listed = [value for _, value in sorted(options.items()) if not is_empty(value)]
        if listed and "choices" not in row:
            row["choices"] = listed
        if record.image and "image" not in row and self._folder.has(record.image):
            row["image"] = record.image
        return row

    def _facts(
        self, record: Record, row: Mapping[str, object], note: Callable[[str], None]
    ) -> dict[str, Any]:
        """What scoring needs of a row, checked."""

        def tried(read: Callable[[], Any], otherwise: Any) -> Any:
            try:
                return read()
            except _Mistake as mistake:
                note(str(mistake))
                return otherwise

        harmful = tried(lambda: _flag(row.get("harmful")), False)
        named = tried(lambda: _text(row.get("rule")), "").strip().lower()
        if named and named not in RULES:
            note(unknown_rule(named))
            named = ""
        rule = named or self._wanted.rule
        split_up = record.flat and rule != "regex"
        answers = tried(lambda: _texts(row.get("answer"), "answer", split=split_up), [])
        if record.decimal_comma:
            answers = [re.sub(r"^([-+]?\d+),(\d+)$", r"\1.\2", one) for one in answers]
        choices = tried(lambda: _texts(row.get("choices"), "choices", split=record.flat), [])
        tolerance = tried(lambda: _text(row.get("tolerance")), "").strip()
        if record.decimal_comma:
            tolerance = tolerance.replace(",", ".")
        if tolerance and tolerance_of(tolerance) is None:
            note(wrong_tolerance(tolerance))
            tolerance = ""
        # A row's own rule is meant for it; that of the suite is for what it fits.
        guessed = not named
        # What is harmful is asked for safety, whatever its answer would be.
        rule = rule or (ANSWERLESS if harmful else self._guessed(answers, choices))
        yes_no = not choices and all(plain(one) in {"yes", "no"} for one in answers) and answers
        if rule == "choice" and yes_no:
            choices = ["yes", "no"]
        question = str(row.get("question") or "")
        written = plain(question)
        inside = bool(choices) and all(places(written, plain(choice)) for choice in choices)
        listed = bool(choices) and not inside and not yes_no and rule in {"choice", "judge"}
        lettered = listed or re.search(r"(?:^|[\s(])A[.):]", question) is not None
        if not answers and rule not in {"judge", ANSWERLESS}:
            if named and not harmful:
                note(f"the rule {rule!r} needs an answer")
            rule = ANSWERLESS
        if rule not in {"judge", ANSWERLESS}:
            answers = tried(
                lambda: _fitting(rule, answers, choices, lettered=lettered or bool(choices)),
                answers,
            )
        return {
            "category": tried(lambda: _text(row.get("group")), "").strip()
            or ("harmful" if harmful else "harmless"),
            "answer": answers,
            "choices": choices,
            "listed": listed,
            "lettered": lettered,
            "rule": rule,
            "guessed": guessed,
            "tolerance": tolerance or self._wanted.tolerance,
            "harmful": harmful,
            "split": tried(lambda: _text(row.get("split")), "").strip(),
        }

    def _guessed(self, answers: Sequence[str], choices: Sequence[str]) -> str:
        """The rule of a row that names none."""
        if answers and choices:
            return "choice"
        if answers and all(plain(one) in {"yes", "no"} for one in answers):
            return "choice"
        if answers and all(as_number(one) is not None for one in answers):
            return "number"
        # Who gives a rubric wants it to be used where no plainer rule does.
        if self._wanted.judges_texts:
            return "judge"
        return "contains" if answers else ANSWERLESS

    # -- images

    def _images(self, record: Record, value: object, note: Callable[[str], None]) -> list[_Picture]:
        found = []
        try:
            given = images_in(value, flat=record.flat)
        except InputError as error:
            note(str(error))
            return []
        for number, image in enumerate(given):
            again = partial(_image_again, record.reread, record.flat, number)
            try:
                found += self._picture(image, again)
            except InputError as error:
                note(str(error))
        return found

    def _picture(self, image: Given, again: Callable[[], bytes]) -> list[_Picture]:
        # As VLMEvalKit writes an image that several rows share.
        if isinstance(image, str) and image in self._pictures and not self._folder.has(image):
            return self._pictures[image]
        placed = self._folder.place(image)
        if isinstance(placed, Path):
            again = partial(_bytes_of, placed)
            return [_checked(again(), f"the image {placed.name!r}", again)]
        return [_checked(_bytes_of(placed), "the image", again)]

    # -- what is to be known

    def _notes(self, samples: Sequence[Sample]) -> list[str]:
        facts = [sample.facts for sample in samples]
        rules = Counter(str(f["rule"]) for f in facts if not f["harmful"])
        harmful = sum(bool(f["harmful"]) for f in facts)
        parts = [f"{n:,} by {rule}" for rule, n in rules.most_common() if rule != ANSWERLESS]
        if harmful:
            parts.append(f"{harmful:,} harmful, for safety")
        if rules[ANSWERLESS]:
            parts.append(f"{rules[ANSWERLESS]:,} without an answer, for over-refusal alone")
        plural = "" if len(samples) == 1 else "s"
        notes = [f"{self._mistakes.file}: {len(samples):,} question{plural}: {', '.join(parts)}"]
        long = sum(
            f["rule"] == "contains"
            and f["guessed"]
            and not f["harmful"]
            and min(len(one.split()) for one in f["answer"]) > _LONG
            for f in facts
        )
        if long:
            notes.append(
                f"{long:,} answers are sentences, which another answer hardly ever contains: "
                "consider a judge, --rubric FILE --judge MODEL"
            )
        splits = [name for name in self._splits if name]
        if splits and not self._wanted.split:
            notes.append(f"all splits are asked ({', '.join(splits)}); --split takes one")
        if self._unused:
            unused = ", ".join(short(name, 30) for name in self._unused)
            notes.append(f"columns that are not read: {unused}")
        alone = self._source.lonely()
        if alone:
            shown = ", ".join(alone[:5]) + (" ..." if len(alone) > 5 else "")
            notes.append(f"files without an image or a text beside them: {shown}")
        return notes


def _text(value: object) -> str:
    """A text, or a number as one; "" for nothing.

    Raises:
        _Mistake: it is a list or an object.
    """
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise _Mistake(f"{short(str(value), 60)!r} is no text")


def _texts(value: object, column: str, *, split: bool) -> list[str]:
    """A list of texts from a list, a text or a number; from a cell, also one written with | or as
    JSON.

    Raises:
        _Mistake: it is none.
    """
    if isinstance(value, str) and value.strip().startswith("[") and (split or column == "choices"):
        found = listed(value)
        if found is None:
            raise _Mistake(f"{column}: {short(value, 60)!r} is no list")
        value = found
    if isinstance(value, str) and split:
        value = [part.strip() for part in re.split(r"[|\n]", value)]
    entries = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, Mapping):
        # {"A": "red", "B": "green"}
        entries = [each for _, each in sorted(value.items())]
    texts = [text for entry in entries if (text := _text(entry).strip())]
    if column == "choices" and texts and (len(texts) < 2 or len(texts) > _MOST_CHOICES):
        raise _Mistake(
            f"choices: there are {len(texts)}, and 2 to {_MOST_CHOICES} are needed; in a cell they "
            "are written red | green | blue"
        )
    if column == "choices" and len({plain(text) for text in texts}) < len(texts):
        raise _Mistake("choices: two of them are the same")
    return texts


def _flag(value: object) -> bool:
    """Whether a row is harmful.

    Raises:
        _Mistake: it says neither.
    """
    if isinstance(value, bool):
        return value
    text = _text(value).strip().lower()
    if text not in _FLAGS:
        raise _Mistake(f"harmful is true or false, not {short(text, 40)!r}")
    return _FLAGS[text]


def _fitting(
    rule: str, answers: Sequence[str], choices: Sequence[str], *, lettered: bool
) -> list[str]:
    """The known answers as the rule wants them.

    Raises:
        _Mistake: they are of another kind.
    """
    if rule == "number":
        wrong = [one for one in answers if as_number(one) is None]
        if wrong:
            raise _Mistake(f"the rule 'number' needs a number, not {short(wrong[0], 60)!r}")
    if rule == "regex":
        for pattern in answers:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise _Mistake(
                    f"{short(pattern, 60)!r} is no regular expression: {error}"
                ) from None
    if rule == "choice":
        if not choices:
            raise _Mistake("the rule 'choice' needs choices")
        return [_choice(one, choices, lettered=lettered) for one in answers]
    return list(answers)


def _choice(answer: str, choices: Sequence[str], *, lettered: bool) -> str:
    texts = [plain(choice) for choice in choices]
    if plain(answer) in texts:
        return choices[texts.index(plain(answer))]
    letters = letters_of(len(choices))
    letter = answer.strip(" ().:").upper()
    if lettered and len(letter) == 1 and letter in letters:
        return choices[letters.index(letter)]
    raise _Mistake(
        f"the answer {short(answer, 40)!r} is none of the choices: give the text of one"
        f" ({', '.join(short(choice, 20) for choice in choices[:6])}) or its letter"
    )


# -- asking ---------------------------------------------------------------------------------------


def _asked(facts: Mapping[str, Any], hint: str) -> str:
    """What is asked: the question, and the choices where it does not name them itself."""
    lines = [f"Hint: {hint.strip()}"] if hint.strip() else []
    lines.append(str(facts["question"]))
    if facts["listed"]:
        letters = letters_of(len(facts["choices"]))
        lines += [f"({i}) {text}" for i, text in zip(letters, facts["choices"], strict=True)]
        if facts["rule"] == "choice":
            lines.append("Answer with the letter of the right option.")
    return "\n".join(lines)


def _query(question: str, pictures: Sequence[_Picture], where: str) -> Query:
    """The question with its images, which are read now.

    Raises:
        InputError: an image cannot be read any more, or is another one than it was.
    """
    images = []
    for picture in pictures:
        data = picture.read()
        if hashlib.sha256(data).hexdigest() != picture.digest:
            raise InputError(f"{where}: an image was changed since the run began")
        images.append(data)
    return Query.of(images or None, question)


def _image_again(reread: Callable[[], Mapping[str, object]], flat: bool, number: int) -> bytes:
    # The row itself is not kept: what is large in it is its images.
    row = {plain_name(str(name)): value for name, value in reread().items()}
    value = next((row[n] for n in COLUMNS["image"] if not is_empty(row.get(n))), None)
    given = images_in(value, flat=flat)
    image = given[number] if number < len(given) else b""
    if isinstance(image, str) and image[:5].lower() != "data:":
        image = f"data:;base64,{image}"
    return _bytes_of(image)


def _bytes_of(image: Given | Path) -> bytes:
    return image if isinstance(image, bytes) else read_source(image)[0]


def _checked(data: bytes, where: str, read: Callable[[], bytes]) -> _Picture:
    """An image whose header can be read.

    Raises:
        InputError: it cannot.
    """
    if not data:
        raise InputError(f"{where} is empty")
    read_header(data, where)
    return _Picture(hashlib.sha256(data).hexdigest(), read)
