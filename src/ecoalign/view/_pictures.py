"""The images of a run, small enough to be part of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecoalign.errors import InputError
from ecoalign.query import Picture

_SIDE = 1024
"""Pixels of the longest side on a page."""

_LARGE = 200_000
"""Bytes from which a drawing is taken for a photograph, which JPEG makes smaller."""


def pictures(paths: Iterable[str | Path], stories: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """`data:` URIs of image files by their SHA-256, for `page` and `drawing`.

    Args:
        paths: image files of the runs, in any order.
        stories: as `Story.to_json` gives them; a file has to be an image of one of them.

    Raises:
        InputError: a file cannot be read as an image, or belongs to none of the runs.
    """
    wanted = {
        image["sha256"]: f"image {i}"
        for story in stories
        for i, image in enumerate(story.get("run", {}).get("images", ()), 1)
    }
    found: dict[str, str] = {}
    for path in paths:
        picture = Picture.load(path)
        if picture.sha256 not in wanted:
            there = ", ".join(f"{name} is {sha[:12]}…" for sha, name in wanted.items())
            raise InputError(
                f"{path} is not an image of this run: its SHA-256 is {picture.sha256[:12]}…, and "
                + (f"of the run {there}" if there else "the run has no image")
            )
        found[picture.sha256] = data_uri(picture)
    return found


def data_uri(picture: Picture) -> str:
    """The picture as a `data:` URI, its longest side at most 1,024 px."""
    part = picture.view(min(_SIDE, max(picture.width, picture.height)))
    data, kind = part.data, part.media_type
    if len(data) > _LARGE and kind != "image/jpeg":
        from PIL import Image

        out = io.BytesIO()
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").save(out, "JPEG", quality=85)
        if len(out.getvalue()) < len(data):
            data, kind = out.getvalue(), "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
