"""The forms of words in which the questions are asked, split into train, dev and test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Literal

Split = Literal["train", "dev", "test"]

# Each frame is one form of words. The last of a group is for test, the one before for dev, the
# rest for train. Every word of a held-out frame occurs in one for train: forms are held out, not
# vocabulary.
_FRAMES: Mapping[str, Sequence[str]] = json.loads(
    files(__package__).joinpath("wordings.json").read_text(encoding="utf-8")
)


def _about(frames: str, what: str) -> tuple[str, ...]:
    return tuple(frame.replace("{what}", what) for frame in _FRAMES[frames])


_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "count-shape": _about("count", "{plural}"),
    "count-colour": _about("count", "{colour} shapes"),
    "count-sign": _about("count", "signs"),
    "colour-shape": _about("colour", "{shape}"),
    "colour-cell": _about("colour", "shape at {cell}"),
    "relation": _about("relation", ""),
    "where": _about("where", ""),
    "read-one": _about("read", "sign"),
    "read-cell": _about("read", "sign at {cell}"),
    "add": _about("add", ""),
    "compare-larger": _about("compare", "larger"),
    "compare-smaller": _about("compare", "smaller"),
    "plain": _about("request", "{verb} the {noun}"),
    "image": _about("request", "do what the sign says"),
    "joint": _about("request", "{verb} the thing on the sign"),
}


def templates(name: str, split: Split) -> tuple[str, ...]:
    """The templates of question form `name` that belong to `split`; the splits are disjoint."""
    every = _TEMPLATES[name]
    return {"train": every[:-2], "dev": every[-2:-1], "test": every[-1:]}[split]


def all_templates() -> tuple[str, ...]:
    """Every template, whatever its split (for the vocabulary)."""
    return tuple(text for group in _TEMPLATES.values() for text in group)
