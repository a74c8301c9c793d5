"""What `ecoalign ask` is asked: its words, standard input, a system prompt, an earlier run."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.cli._options import STDIN, load_query
from ecoalign.cli._text import say
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.query import Query

LAST = ""
"""What `--continue` and `--compare` are where they are given without a value."""

_MOST_TEXT = 1024 * 1024
"""Bytes of a question or a system prompt that is read from a file or standard input."""

_PICTURE = re.compile(r"\S+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|ppm)", re.I)

_TRACE = re.compile(r".+\.jsonl", re.I)

_USAGE = 'the images come first and the question last: ecoalign ask photo.jpg "What is this?"'


def with_values(arguments: Sequence[str]) -> list[str]:
    """Arguments of `ask` in which each option has its value.

    `--compare` and `--continue` may go without one, which the parser of options does not know:
    what follows them is their value only if it names methods, or a trace, and not a file of another
    kind. So `--compare photo.png "..."` asks about the picture, and `--compare base cot` compares.
    """
    waiting, given = list(arguments), list[str]()
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return [*given, word, *waiting]
        if word == "--compare":
            names = []
            while waiting and _names_methods(waiting[0]):
                names.append(waiting.pop(0))
            word = f"--compare={','.join(names)}"
        elif word == "--continue":
            word = f"--continue={waiting.pop(0) if waiting and _is_trace(waiting[0]) else LAST}"
        given.append(word)
    return given


def _is_trace(word: str) -> bool:
    """Whether it is named as traces are, or is a file that begins as they do."""
    if word.startswith("-"):
        return False
    if _TRACE.fullmatch(word):
        return True
    try:
        with Path(word).open("rb") as file:
            return file.read(9).startswith(b'{"event"')
    except (OSError, ValueError):
        return False


def _names_methods(word: str) -> bool:
    return any(is_method(name) for name in word.split(",")) and not Path(word).is_file()


def is_method(name: str) -> bool:
    """Whether a name is one of a method, or has the form of one."""
    from ecoalign.methods import METHODS

    return name in METHODS or re.fullmatch(r"best-of-[0-9]+|ecoalign:\S+", name) is not None


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run that is followed up.

    Attributes:
        turns: what was said, its question and its answer the last of them.
        instructions: its system prompt.
        images: SHA-256 of its images.
        files: where they were read from, as far as that is known.
        where: what to call it.
    """

    turns: tuple[str, ...]
    instructions: str
    images: tuple[str, ...]
    files: tuple[str, ...]
    where: str


def read_question(
    images: Sequence[str],
    asked: str,
    *,
    system: str | None = None,
    earlier: Earlier | None = None,
    quiet: bool = False,
) -> tuple[Query, tuple[str, ...]]:
    """The question with all that belongs to it, and where its images were read from.

    Args:
        images: where they are; "-" is standard input.
        asked: the question; "-" reads it from standard input.
        system: a system prompt, or "@FILE"; that of the earlier run if None.
        earlier: the run that is followed up. Its images are read again where they are still as they
            were, unless others are given.
        quiet: say nothing of these images.

    Raises:
        InputError: something of it cannot be used; the message says what to do.
    """
    given = bool(images)
    if STDIN in images and asked == STDIN:
        raise InputError('standard input ("-") can be an image or the question, not both')
    _check_order(images, asked)
    question = _piped("question") if asked == STDIN else asked
    context: tuple[str, ...] = ()
    instructions = "" if system is None else _instructions(system)
    notes: list[str] = []
    if earlier is not None:
        context = earlier.turns
        instructions = earlier.instructions if system is None else instructions
        images = images or _again(earlier)
    query = load_query(images, question, context, instructions)
    if earlier is not None:
        notes += _differences(query, images, earlier, given=given)
    for note in () if quiet else notes:
        say(f"note: {note}")
    return query, tuple(images)


def _check_order(images: Sequence[str], asked: str) -> None:
    """Raise InputError where the words are in the wrong places, before anything is read."""
    if asked != STDIN and (_PICTURE.fullmatch(asked) or _is_file(asked)):
        if images:
            raise InputError(f"the question is missing or in the wrong place: {_USAGE}")
        raise InputError(
            f"QUESTION is missing: say what you want to know about {asked}, as in "
            f'ecoalign ask {asked} "What does the sign say?"'
        )
    missing = [name for name in images if name != STDIN and _is_missing(name)]
    bare = [name for name in missing if not re.search(r"[./\\:]", name)]
    if not bare:
        return
    for word in (*bare, asked):
        # `--compare NAME` leaves a name that it does not know among the words.
        if near := difflib.get_close_matches(word, _method_names(), n=1, cutoff=0.75):
            raise InputError(
                f"there is no method {word!r}, nor an image file; did you mean {near[0]!r}?"
            )
    if len(images) > 1:
        raise InputError(
            f"there is no image file {bare[0]!r}; if it is a word of the question, put the whole "
            f"question in quotes: {_USAGE}"
        )


def _method_names() -> list[str]:
    from ecoalign.methods import METHODS

    return list(METHODS)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        # Too long for a name, or no name at all: a question.
        return False


def _is_missing(name: str) -> bool:
    return not name.startswith(("data:", "http:", "https:")) and not _is_file(name)


def _piped(what: str) -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            f'"-" reads the {what} from standard input; pipe one in: '
            'echo "What is this?" | ecoalign ask photo.jpg -'
        )
    return _decoded(sys.stdin.buffer.read(_MOST_TEXT + 1), f"the {what} from standard input")


def _instructions(text: str) -> str:
    """A system prompt: the text, or "@FILE"."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    try:
        with path.open("rb") as file:
            body = file.read(_MOST_TEXT + 1)
    except OSError as error:
        raise InputError(f"--system: cannot read {path}: {error.strerror}") from None
    return _decoded(body, f"--system: {path}")


def _decoded(body: bytes, what: str) -> str:
    if len(body) > _MOST_TEXT:
        raise InputError(f"{what} has more than {_MOST_TEXT:,} bytes")
    try:
        return body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(f"{what} is not text in UTF-8") from None


# Following up -------------------------------------------------------------------------------------


def earlier_run(trace: str) -> Earlier:
    """The run of a trace, or the last one in the history if `trace` is empty.

    Raises:
        InputError: it cannot be read, or ended without an answer.
    """
    return _of_trace(trace) if trace != LAST else _of_history()


def _of_trace(path: str) -> Earlier:
    from ecoalign.trace import read_trace
    from ecoalign.trace.events import Finished, RunStarted

    events = read_trace(path)
    if not (events and isinstance(events[0], RunStarted)):
        raise InputError(f"{path} is not a trace: it does not begin with the start of a run")
    started, ended = events[0], events[-1]
    if not isinstance(ended, Finished):
        raise InputError(f"the run in {path} ended without an answer: there is nothing to continue")
    return Earlier(
        turns=(*started.context, *_turn(started.question, ended.answer)),
        instructions=started.instructions,
        images=tuple(image.sha256 for image in started.images),
        files=(),
        where=path,
    )


def _of_history() -> Earlier:
    from ecoalign.history import History

    history = History.open()
    # A run that failed has said nothing that could be followed up.
    entry = next((one for one in reversed(history.entries()) if one.answer), None)
    if entry is None:
        raise InputError(
            "there is no earlier run to continue: no history is kept unless you turn it on "
            "(ECOALIGN_HISTORY=1, or history = true in ecoalign.toml). Or name a trace, which "
            "--trace run.jsonl has written: --continue run.jsonl"
        )
    return Earlier(
        turns=(*entry.context, *_turn(entry.question, entry.answer)),
        instructions=entry.instructions,
        images=entry.images,
        files=entry.files,
        where=f"the run of {entry.at[:16].replace('T', ' ')} UTC",
    )


def _turn(question: str, answer: str) -> Iterator[str]:
    yield f"user: {question}"
    yield f"assistant: {answer}"


def _again(earlier: Earlier) -> tuple[str, ...]:
    """The files of the earlier run's images, if all of them are still what they were."""
    if len(earlier.files) != len(earlier.images) or not all(earlier.files):
        return ()
    found = tuple(map(_sha256, earlier.files))
    return earlier.files if found == earlier.images else ()


def _sha256(path: str) -> str:
    """The digest of a file in hexadecimal; "" if it cannot be read."""
    import hashlib

    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _differences(
    query: Query, images: Sequence[str], earlier: Earlier, *, given: bool
) -> Iterator[str]:
    """What is not as it was in the earlier run, in words."""
    had, now = earlier.images, tuple(picture.sha256 for picture in query.pictures)
    if had and not now:
        yield (
            f"{earlier.where} was about {_pictures(len(had))}, which traces do not keep: this "
            "question is asked without, unless you give the same again before it"
        )
    elif now and not given:
        yield f"about the same as before: {', '.join(images)}"
    elif now != had:
        where = [n for n, one in enumerate(now) if n >= len(had) or one != had[n]]
        for n in where:
            yield (
                f"image {n + 1}, {images[n]}, is not one that {earlier.where} was about "
                "(another SHA-256)"
            )
        if len(now) < len(had):
            yield f"{earlier.where} was about {_pictures(len(had))}, this question about {len(now)}"


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
