"""What is asked of each row: question, images and what the row says of how it is answered."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecoalign.batch._rows import InputRow, Picture, Source, column_of, pictures_of
from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.query import Query

ROLES = ("question", "image", "budget", "method", "system", "context")
"""What a column may be for. Each is the column of its own name, unless another one is named."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

File = tuple[int, int, str]
"""Size in bytes, time of change in nanoseconds, and the digest of an image file ("" unread)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row as it is asked. Plain data: it can be sent to another process.

    Attributes:
        id: hash of all that is asked, and which of several equal rows it is.
        number: of the row, from 0.
        question: the text.
        images: paths, `data:` URIs or bytes.
        budget: of this answer alone; None for the batch's.
        method: who answers.
        system: system prompt.
        context: earlier turns, the oldest first.
        wrong: why the row cannot be asked; "" if it can.
        stored: reads the images, where the input holds them; see `loaded`.
    """

    id: str
    number: int
    question: str = ""
    images: tuple[Picture, ...] = ()
    budget: Budget | None = None
    method: str = "ecoalign"
    system: str = ""
    context: tuple[str, ...] = ()
    wrong: str = ""
    stored: Callable[[], tuple[Picture, ...]] | None = field(default=None, repr=False)

    def loaded(self) -> Item:
        """The same, with the images that the input holds in it: it can be sent elsewhere.

        Raises:
            InputError: they cannot be read.
        """
        return self if self.stored is None else replace(self, images=self.stored(), stored=None)

    def query(self) -> Query:
        """The question, its images loaded.

        Raises:
            InputError: an image cannot be used, or the question is empty.
        """
        images = self.loaded().images
        return Query.of(images, self.question, self.context, instructions=self.system)

    def files(self, query: Query | None = None) -> tuple[File, ...]:
        """What the image files are now; digests of those that `query` has read."""
        digests = [picture.sha256 for picture in query.pictures] if query is not None else []
        found = []
        for place, image in enumerate(self.images):
            if isinstance(image, str) and not image.startswith("data:"):
                size, time = _stat(image)
                found.append((size, time, digests[place] if place < len(digests) else ""))
        return tuple(found)

    def same_files(self, files: Sequence[File]) -> bool:
        """Whether the image files are those that were asked about: by size and time, else by
        content."""
        paths = [one for one in self.images if isinstance(one, str) and one[:5] != "data:"]
        if len(paths) != len(files):
            return False
        for path, (size, time, digest) in zip(paths, files, strict=True):
            if _stat(path) != (size, time) and (not digest or _digest(path) != digest):
                return False
        return True


def items_of(
    source: Source, question: str | None, method: str, system: str, columns: Mapping[str, str]
) -> list[Item]:
    """The rows of an input as they are asked, in order.

    Args:
        source: the rows.
        question, method, system: for rows without one of their own.
        columns: the column of each role.

    Raises:
        InputError: no question is to be found, or a column that was named.
    """
    if not source.rows:
        raise InputError(f"{source.name} has no rows")
    if question is not None and not question.strip():
        raise InputError("the question for all rows is empty")
    known = {role: column_of(role, source.columns, columns.get(role)) for role in ROLES}
    for role, column in columns.items():
        if role not in ROLES:
            raise InputError(
                f"there is no role {role!r} for a column; there are {', '.join(ROLES)}"
            )
        if column not in source.columns:
            raise InputError(
                f"{source.name} has no column {column!r}; it has {', '.join(source.columns)}"
            )
    if question is None and known["question"] not in source.columns:
        there = ", ".join(source.columns) or "none"
        raise InputError(
            f"{source.name} has no column 'question' (its columns: {there}): name it, "
            "--column question=NAME, or give one question for all, --question TEXT"
        )
    seen: Counter[str] = Counter()
    items = []
    for number, row in enumerate(source.rows):
        made = _item(row, number, source.folder, question or "", method, system, known)
        seen[made.id] += 1
        if seen[made.id] > 1:
            made = _again(made, seen[made.id])
        items.append(made)
    return items


def _again(item: Item, time: int) -> Item:
    """The same question once more: an item of its own."""
    return replace(item, id=f"{item.id}-{time}")


def _item(
    row: InputRow,
    number: int,
    folder: Path,
    question: str,
    method: str,
    system: str,
    known: Mapping[str, str],
) -> Item:
    def text(role: str) -> str:
        value = row.values.get(known[role])
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise InputError(f"{known[role]!r} is a text, not {type(value).__name__}")
        # NaN is how tables say that a cell is empty.
        empty = value is None or (isinstance(value, float) and math.isnan(value))
        return "" if empty else _valid(str(value)).strip()

    asked = ""
    images: tuple[Picture, ...] = ()
    budget = None
    context: tuple[str, ...] = ()
    wrong = ""
    try:
        asked = text("question") or question.strip()
        if not asked:
            raise InputError("the row has no question")
        named = row.values.get(known["image"])
        images = (
            row.stored() if row.stored is not None else pictures_of(named, "'image'", flat=row.flat)
        )
        images = tuple(_placed(one, folder) for one in images)
        budget = _budget(row.values.get(known["budget"]))
        method = text("method") or method
        system = text("system") or system
        context = _turns(row.values.get(known["context"]))
    except InputError as error:
        wrong = str(error)
    key = {
        "question": asked,
        # Images are known by their names here, bytes by their digest; files are compared apart.
        "images": [
            one if isinstance(one, str) else hashlib.sha256(one).hexdigest() for one in images
        ],
        "budget": None if budget is None else str(budget),
        "method": method,
        "system": system,
        "context": list(context),
        "wrong": wrong,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    # Bytes are read again when they are needed.
    kept = images if row.stored is None else ()
    return Item(digest, number, asked, kept, budget, method, system, context, wrong, row.stored)


def _budget(value: Any) -> Budget | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    empty = value is None or (isinstance(value, float) and math.isnan(value))
    return None if empty or (isinstance(value, str) and not value.strip()) else Budget.of(value)


def _placed(image: Picture, folder: Path) -> Picture:
    if isinstance(image, bytes) or _ADDRESS.match(image):
        return image
    return str(folder / image)


def _turns(value: Any) -> tuple[str, ...]:
    """Earlier turns: a text, a list of texts, or messages with a role and a content.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            value = json.loads(value)
    if value is None or value == "":
        return ()
    turns = []
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str):
            turns.append(_valid(one))
        elif isinstance(one, Mapping) and {one.get("role")} <= {"user", "assistant"}:
            content = one.get("content")
            if not isinstance(content, str):
                raise InputError("a turn of 'context' has no text as its content")
            turns.append(f"{one['role']}: {_valid(content)}")
        else:
            raise InputError(
                "'context' is a list of texts, or of messages with role (user, assistant) and "
                "content"
            )
    return tuple(turns)


def _valid(text: str) -> str:
    """`text` without halves of characters, which could not be sent or saved."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _stat(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return ""
