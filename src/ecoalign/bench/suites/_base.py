"""What a benchmark is to the runner: samples, and a score for each answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ecoalign.bench._files import find_image
from ecoalign.bench._judges import combined, parse_verdict
from ecoalign.errors import InputError
from ecoalign.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ecoalign.bench._files import Entry

__all__ = [
    "UNUSABLE",
    "Ask",
    "FileQuery",
    "Options",
    "Ruling",
    "Sample",
    "Score",
    "Suite",
    "ask_judges",
    "check_images",
    "details",
    "entry_query",
    "fixed",
    "percent",
    "rule",
    "unusable_percent",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a benchmark.

    Attributes:
        id: unique in its suite and stable between runs.
        group: the scenario, category or kind that results are told by.
        query: makes the question with its images, read only when it is asked.
        facts: the truth and whatever else scoring needs, as plain JSON.
    """

    id: str
    group: str
    query: Callable[[], Query] = field(compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth by the rules of its benchmark.

    Attributes:
        label: the verdict in the benchmark's own terms; "unusable" where a judge gave none.
        safe: whether the answer is safe; None where the question does not arise.
        useful: in [0, 1]; None where the question does not arise.
        refused_harmless: whether something harmless was refused; None where nothing harmless was
            asked.
        detail: verdicts of single judges, extracted answers and the like, as plain JSON.
    """

    label: str
    safe: bool | None = None
    useful: float | None = None
    refused_harmless: bool | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Ask = Callable[[str, "Query | None"], Awaitable[Sequence[str | None]]]
"""Asks the judges: a prompt and, where the rules show it, the question with its images; returns
an awaitable of one text per judge (None for a judge that failed)."""


class Suite(Protocol):
    """A benchmark.

    Attributes:
        name: as on the command line.
        judged: whether scoring needs a judge.
    """

    @property
    def name(self) -> str: ...

    @property
    def judged(self) -> bool: ...

    def samples(self) -> Sequence[Sample]:
        """All samples, in a fixed order.

        Raises:
            InputError: the files are not there or not in their format.
        """
        ...

    async def score(self, sample: Sample, answer: str, refused: bool, ask: Ask | None) -> Score:
        """Score an answer by the official rules."""
        ...

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """The official figures of a whole run, by name, in the benchmark's own scale."""
        ...


_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Options:
    """Reads the options of one suite, each at most once; what is left over is unknown.

    Args:
        suite: the suite's name, for messages.
        given: the options by name.
    """

    def __init__(self, suite: str, given: Mapping[str, object]) -> None:
        self._suite = suite
        self._left = dict(given)
        self._known: list[str] = []

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._left.pop(name, None)

    def flag(self, name: str) -> bool:
        """A switch; off where it is not given.

        Raises:
            InputError: it is neither true nor false.
        """
        value = self._take(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            value = _FLAGS.get(str(value).strip().lower())
        if value is None:
            raise InputError(f"{self._suite}: the option {name} is true or false")
        return bool(value)

    def count(self, name: str, default: int) -> int:
        """A whole number of 1 or more.

        Raises:
            InputError: it is something else.
        """
        value = self._take(name)
        if value is None:
            return default
        text = str(value).strip()
        if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < 1:
            raise InputError(f"{self._suite}: the option {name} is a number from 1, not {value!r}")
        return int(text)

    def words(self, name: str, allowed: Sequence[str]) -> tuple[str, ...]:
        """Some of `allowed`, as a list or as text with commas; all where it is not given.

        Raises:
            InputError: there is one that is not allowed, or none.
        """
        value = self._take(name)
        if value is None:
            return tuple(allowed)
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple):
            raise InputError(f"{self._suite}: the option {name} is a list, not {value!r}")
        chosen = tuple(str(entry).strip() for entry in entries)
        wrong = [entry for entry in chosen if entry not in allowed]
        if wrong or not chosen:
            raise InputError(
                f"{self._suite}: the option {name} takes {', '.join(allowed)}, not "
                f"{', '.join(map(repr, wrong)) or 'nothing'}"
            )
        return chosen

    def done(self) -> None:
        """Check that nothing is left.

        Raises:
            InputError: an option is unknown.
        """
        if self._left:
            known = f"it has {', '.join(self._known)}" if self._known else "it has none"
            raise InputError(
                f"{self._suite} has no option {', '.join(map(repr, self._left))}; {known}"
            )


UNUSABLE = "unusable"
"""The label where no judge gave a verdict that can be used."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the judges said to one question.

    Attributes:
        verdict: of all together, None if unusable.
        verdicts: of each, None for an unusable one; () where no judge was asked.
    """

    verdict: str | None
    verdicts: tuple[str | None, ...] = field(default=())


def fixed(verdict: str) -> Ruling:
    """A ruling by rule, for which no judge is needed."""
    return Ruling(verdict)


def rule(verdicts: Sequence[str | None], caution: Sequence[str]) -> Ruling:
    """The ruling of some verdicts; see `combined`."""
    return Ruling(combined(verdicts, caution), tuple(verdicts))


async def ask_judges(
    ask: Ask | None, prompt: str, query: Query | None, caution: Sequence[str]
) -> Ruling:
    """Ask the judges for one of the words `caution`, the most damning first."""
    if ask is None:
        return Ruling(None)
    replies = await ask(prompt, query)
    return rule([parse_verdict(reply, caution) for reply in replies], caution)


def details(rulings: Mapping[str, Ruling], **more: Any) -> dict[str, Any]:
    """A score's `detail`: the verdicts of single judges by question, and what else there is."""
    asked = {name: list(r.verdicts) for name, r in rulings.items() if r.verdicts}
    return {**more, **({"verdicts": asked} if asked else {})}


@dataclass(frozen=True, slots=True)
class FileQuery:
    """Makes the question about an image file, which is looked for when it is called.

    Attributes:
        question: what is asked.
        folders: where the image may be.
        image: its name in them.
        suite: the benchmark's name, for messages.
    """

    question: str
    folders: tuple[Path, ...]
    image: str
    suite: str

    def find(self) -> Path:
        """The image file.

        Raises:
            InputError: it is not there.
        """
        return find_image(self.folders, self.image, self.suite)

    def __call__(self) -> Query:
        """The question with its image.

        Raises:
            InputError: the image is not there or cannot be read.
        """
        return Query.of(self.find(), self.question)


def check_images(samples: Iterable[Sample]) -> None:
    """Check that every image file that the samples name is there, without reading any.

    Images inside parquet and TSV files are not looked at.

    Raises:
        InputError: some are missing; the message says how many, and where the first should be.
    """
    missing: list[InputError] = []
    looked = 0
    for sample in samples:
        if isinstance(sample.query, FileQuery):
            looked += 1
            try:
                sample.query.find()
            except InputError as error:
                missing.append(error)
    if missing:
        raise InputError(f"{len(missing)} of {looked} images are missing. The first: {missing[0]}")


def entry_query(question: str, entry: Entry) -> Callable[[], Query]:
    """Makes the question about the images in a table's row, read when it is called."""
    return partial(_entry_query, question, entry)


def _entry_query(question: str, entry: Entry) -> Query:
    return Query.of(entry.images() if entry.images else None, question)


def percent(of: Iterable[bool]) -> float:
    """How many of a hundred are true; 0 for none."""
    values = list(of)
    return 100.0 * sum(values) / len(values) if values else 0.0


def unusable_percent(scored: Sequence[tuple[Sample, Score]]) -> float:
    """How many of a hundred answers have no usable verdict."""
    return percent(score.label == UNUSABLE for _, score in scored)
