"""The images that a row names or holds, and where their files are."""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ecoalign._text import short
from ecoalign.errors import InputError
from ecoalign.query.tables._sources import ENDINGS, leads_out

Given: TypeAlias = "str | bytes"
"""An image as a row gives it: a path, a `data:` URI or base64; or its bytes."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "query"),
    "image": ("image", "images", "image_path", "image_paths", "file_name", "image_base64"),
}
"""The names that the columns of a question and its images may have; see `plain_name`."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{64,}=*\s*")


def plain_name(name: str) -> str:
    """A column's name as it is looked up: "Image Path" is "image_path"."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def meant(name: str, names: Mapping[str, tuple[str, ...]]) -> str | None:
    """The column that a plain name nearly is, of those that have these names; None if none is."""
    known = {each: canonical for canonical, several in names.items() for each in several}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return known[near[0]] if near else None


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing: no text, no number, an empty list."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and value != value)  # noqa: PLR0124 - not a number
        or (isinstance(value, list | tuple) and not value)
    )


def listed(text: str) -> list[object] | None:
    """A list that is written as JSON or as Python does; None if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list):
            return value
    return None


def images_in(value: object, *, flat: bool = False) -> list[Given]:
    """The images of a cell, one by one: a text, bytes, Hugging Face's {"bytes", "path"}, a list of
    these, or one that is written as JSON or Python does; none for an empty cell.

    Args:
        value: of the cell.
        flat: whether several are written "a | b", as in a table of text.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        found = listed(value)
        if found is None:
            raise InputError(f"image: {short(value, 60)!r} is no list")
        value = found
    elif isinstance(value, str) and flat and value[:5].lower() != "data:":
        value = value.split("|")
    entries = value if isinstance(value, list | tuple) else [value]
    entries = [
        one.get("bytes") or one.get("path") if isinstance(one, Mapping) else one for one in entries
    ]
    return [_image(entry) for entry in entries if not is_empty(entry)]


def _image(value: object) -> Given:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value
    raise InputError(
        f"an image is a path, a data: URI, base64 or bytes, not {type(value).__name__}"
    )


class ImageFolder:
    """Where the paths of images begin.

    Args:
        path: the folder.
        bounded: whether they may not lead out of it.
        option: how an option is given, for advice; see `Mistakes`.

    Raises:
        InputError: it is no folder.
    """

    def __init__(self, path: Path, *, bounded: bool = True, option: str = "{}={}") -> None:
        if not path.is_dir():
            raise InputError(f"there is no folder {str(path)!r} with the images")
        self.path = path
        self._bounded = bounded
        self._option = option

    def place(self, image: Given) -> bytes | str | Path:
        """The bytes of an image, its `data:` URI, or its file. Nothing is fetched.

        Raises:
            InputError: there is no such file in the folder, or it is an address.
        """
        if isinstance(image, bytes) or image[:5].lower() == "data:":
            return image
        if _BASE64.fullmatch(image) and not self.has(image):
            return f"data:;base64,{image}"
        if _URL.match(image):
            raise InputError(
                f"{short(image, 60)!r} is an address, and images are not fetched from the network: "
                "download it and give its path"
            )
        path = self.find(image)
        if path is None:
            raise InputError(f"there is no image {short(image, 200)!r}{self._near(image)}")
        return path

    def has(self, name: str) -> bool:
        """Whether it holds the image file of that name."""
        try:
            return self.find(name) is not None
        except InputError:
            return False

    def find(self, name: str) -> Path | None:
        """The image file of that name, under any usual ending; None if there is none.

        Raises:
            InputError: the name, or a link, leads out of the folder.
        """
        if len(name) > 1024 or "\0" in name:
            return None
        base = os.path.abspath(self.path)
        name = name.replace("\\", "/") if os.sep == "/" else name
        path = Path(os.path.normpath(os.path.join(base, name)))
        inside = path.is_relative_to(base)
        if self._bounded and not inside:
            raise InputError(
                f"the image {short(name, 200)!r} is outside the folder {str(self.path)!r}: name "
                f"the one that all images are in, {self._option.format('images', 'DIR')}"
            )
        if inside and not Path(name).is_absolute():
            path = self.path / path.relative_to(base)
        try:
            found = next((one for one in _endings(path) if one.is_file()), None)
        except (OSError, ValueError):
            return None
        if found is not None and self._bounded and leads_out(found, self.path):
            raise InputError(
                f"the image {short(name, 200)!r} is a link out of the folder {str(self.path)!r}: "
                "copy the picture into it"
            )
        return found

    def _near(self, name: str) -> str:
        place = Path(os.path.abspath(self.path)) / name.replace("\\", "/")
        try:
            there = [one.name for one in place.parent.iterdir()]
        except (OSError, ValueError):
            return f" in {str(self.path)!r}, and no such folder"
        near = difflib.get_close_matches(place.name, there, n=1, cutoff=0.6)
        low = [one for one in there if one.lower() == place.name.lower()]
        guess = low or near
        hint = f": did you mean {guess[0]!r}?" if guess else ""
        return f" in {str(self.path)!r}{hint}"


def _endings(path: Path) -> Iterable[Path]:
    yield path
    if path.name:
        yield from (path.with_suffix(ending) for ending in ENDINGS)
