"""Where a table of questions is: a file that a user named, or a folder, and what is wrong in it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from ecoalign._text import short
from ecoalign.errors import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""The endings of the files that are read."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""The endings that an image is looked for under. They say nothing: the bytes are sniffed."""

_IMAGES = frozenset({*ENDINGS, ".tif", ".tiff", ".avif"})
"""The endings of what counts as an image in a folder. What it is, its bytes say."""

# Of several files in a folder, the one with the questions. "metadata" is Hugging Face's name.
_USUAL = ("data", "metadata", "questions", "index")

Values = Mapping[str, object]

_MOST_SHOWN = 10


class Mistakes:
    """What is wrong in a file, in the order in which it is found.

    Args:
        file: its name, as the user gave it.
        option: how an option is given, for advice: "--{} {}" with its name and value.
    """

    def __init__(self, file: str, option: str = "{}={}") -> None:
        self.file = file
        self.option = option
        self._found: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note a mistake.

        Args:
            where: "line 3".
            what: is wrong, and what to do.
        """
        self._found.append(f"{where}: {short(what, 400)}")

    def __len__(self) -> int:
        return len(self._found)

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InputError: there is a mistake; the message holds the first ten of them, a line each.
        """
        if not self._found:
            return
        if len(self._found) == 1:
            raise InputError(f"{self.file}, {self._found[0]}")
        lines = [f"  {text}" for text in self._found[:_MOST_SHOWN]]
        more = len(self._found) - _MOST_SHOWN
        if more > 0:
            lines.append(f"  and {more:,} more")
        raise InputError("\n".join([f"{self.file} has {len(self._found):,} mistakes:", *lines]))


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file.

    Attributes:
        values: by column, as they stand there, but for those that are heavy.
        where: "line 3".
        reread: reads all of them, so that nobody has to keep the images among them.
        flat: whether the values are texts in cells, so that a list is written in one of them.
        image: the file that the entry belongs to where a folder says so, else "".
        decimal_comma: whether numbers in it are written "1,5".
        heavy: the columns that hold bytes, and may be large.
    """

    values: Values
    where: str
    reread: Callable[[], Values] = field(compare=False)
    flat: bool = False
    image: str = ""
    decimal_comma: bool = False
    heavy: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from.

    Attributes:
        path: the file, or the folder where its questions are in a file beside each image.
        folder: what the paths of images start from.
        shards: the files, where a Parquet table has several, or images and the texts beside them;
            else the one.
        data: what is in the file, where it is none on a disk.
        bare: whether an image without a text beside it is an entry, too.
    """

    path: Path
    folder: Path
    shards: tuple[Path, ...]
    data: bytes | None = None
    bare: bool = False

    @property
    def parquet(self) -> bool:
        """Whether it is a Parquet table."""
        return self.shards[0].suffix.lower() == ".parquet"

    @property
    def beside(self) -> bool:
        """Whether the questions are in files beside the images."""
        return self.shards[0].suffix.lower() not in SUFFIXES

    def lonely(self) -> list[str]:
        """Images of a folder without a text beside them, and texts without an image, by name."""
        sides = [_by_stem(self.shards, images=images) for images in (True, False)]
        return sorted(
            path.relative_to(self.folder).as_posix()
            for one, other in (sides, sides[::-1])
            for stem, path in one.items()
            if self.beside and stem not in other
        )


def find_source(given: str | Path, *, bare: bool = False) -> Source:
    """The file with the questions that a user named, or the one in the folder.

    Args:
        given: a file of one of `SUFFIXES`, or a folder.
        bare: whether images need no question. In a folder that has some, only a table with a usual
            name counts then: any other may be what was answered about them.

    Raises:
        InputError: there is none, there are several, or it is of no format that is read.
    """
    path = Path(given)
    try:
        if path.is_file():
            if path.suffix.lower() not in SUFFIXES:
                raise InputError(_unread(path))
            return Source(path, path.parent, (path,))
        if not path.is_dir():
            raise InputError(f"there is no file or folder {str(given)!r}{_near(path)}")
        files = sorted(one for one in path.iterdir() if one.is_file())
        tables = [one for one in files if one.suffix.lower() in SUFFIXES]
        usual = [one for one in tables if one.stem.lower() in _USUAL]
        beside: tuple[Path, ...] = ()
        if not usual and (bare or not tables):
            beside = _below(path, {*_IMAGES, ".txt"})
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {short(str(given))!r}: {said}") from None
    if bare and any(one.suffix.lower() in _IMAGES for one in beside):
        return Source(path, path, beside, bare=True)
    if len(tables) > 1 and all(one.suffix.lower() == ".parquet" for one in tables):
        return Source(path, path, tuple(tables))
    if len(tables) > 1:
        if len(usual) != 1:
            names = ", ".join(one.name for one in tables)
            raise InputError(
                f"the folder {str(given)!r} has several files with questions ({names}): name the "
                "one that is meant"
            )
        tables = usual
    if tables:
        return Source(tables[0], path, (tables[0],))
    if not bare and any(one.suffix.lower() == ".txt" for one in beside):
        return Source(path, path, beside)
    raise InputError(
        f"the folder {str(given)!r} has no {'images and no ' if bare else ''}questions: put a "
        "data.jsonl, data.csv or data.json there, or a NAME.txt beside each image NAME.png"
    )


def images_below(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder and those below it, by their names; hidden ones are left out."""
    return _below(folder, _IMAGES)


def _below(folder: Path, endings: AbstractSet[str]) -> tuple[Path, ...]:
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )
    return tuple(sorted(found, key=lambda path: path.relative_to(folder).as_posix()))


def with_texts(source: Source) -> Iterator[tuple[Path, Path | None]]:
    """The images of a folder, in order, each with the text beside it."""
    texts = _by_stem(source.shards, images=False)
    for path in source.shards:
        text = texts.get(path.with_suffix(""))
        if path.suffix.lower() in _IMAGES and (text is not None or source.bare):
            yield path, text


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a file is a link out of a folder: what somebody packed up must not send other
    pictures or texts of this machine to a model. Hugging Face's cache links its snapshots to its
    blobs."""
    base, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    allowed = [base]
    if "snapshots" in base.parts:
        allowed.append(Path(*base.parts[: base.parts.index("snapshots")], "blobs"))
    return not any(real.is_relative_to(one) for one in allowed)


def _by_stem(files: Iterable[Path], *, images: bool) -> dict[Path, Path]:
    return {one.with_suffix(""): one for one in files if (one.suffix.lower() in _IMAGES) == images}


def _unread(path: Path) -> str:
    advice = ""
    if path.suffix.lower() in {".xlsx", ".xls", ".ods"}:
        advice = "; save the sheet as CSV (UTF-8)"
    return f"{path.name!r} is none of the files that are read: {', '.join(SUFFIXES)}{advice}"


def _near(path: Path) -> str:
    """The name that was meant, if one in the same folder is near it."""
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f": did you mean {str(path.parent / near[0])!r}?" if near else ""
