"""Whether a question is one of the embedded model's world, by its words.

A question is read as what it is about (a shape, a sign, a request), what it wants to know of it
(how many, colour, where), and function words. Each kind of question says what it has in it and what
else it may have, so that other wordings than those of training are taken and no word is left over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ecoalign.models.embedded._network import LONGEST
from ecoalign.models.embedded._tokenizer import PIECE, Tokenizer, plain
from ecoalign.models.embedded._world import (
    CELLS,
    COLOURS,
    NOUNS,
    RELATIONS,
    SHAPES,
    VERBS,
    plural,
)

_SILENT = frozenset(".,?!;:\"'()")
"""Punctuation that a question may have anywhere."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _words(
    "a and are at can do does hello i if image in is it look me name of on one or photo picture "
    "please scene see tell that the there this to two us what which you"
)
"""Words that a question of any kind may have."""


def _one_of(names: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(names, key=len, reverse=True))})"


_THE = "(?:(?:a|the|this|that) )?"

_AT = f"(?:at|in) {_THE}{_one_of(CELLS)}"

_MARKS = {
    "SAYS": f"do what {_THE}sign says|{_one_of(VERBS)} {_THE}thing on {_THE}sign",
    "DOES": f"{_one_of(VERBS)} {_THE}{_one_of(NOUNS)}",
    "SHAPE": f"shape {_AT}|{_one_of(SHAPES)}",
    "SIGN": f"sign(?: {_AT})?",
    "THING": f"{_one_of(COLOURS)} {_one_of(SHAPES)}",
    "SHAPES": f"{_one_of(COLOURS)} shapes|{_one_of(map(plural, SHAPES))}",
    "RELATION": f"(?:to the )?{_one_of(RELATIONS)}",
}
"""What a question may be about, by the mark that takes its place."""

_FIND = re.compile("|".join(f"(?<!\\S)(?P<{mark}>{form})(?!\\S)" for mark, form in _MARKS.items()))


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of question: what it has in it, in either order, and the words that it may have beside
    the common ones."""

    wants: re.Pattern[str]
    about: re.Pattern[str]
    words: frozenset[str]
    needs_picture: bool = True

    def fits(self, words: Sequence[str]) -> bool:
        """Whether a question in these words and marks is of this kind."""
        marks = [word for word in words if word in _MARKS]
        asked = " ".join(words)
        return (
            self.about.fullmatch(" ".join(marks)) is not None
            and self.wants.search(asked) is not None
            and {word for word in words if word not in _MARKS} <= self.words
        )


def _kind(wants: str, about: str, words: str, *, needs_picture: bool = True) -> _Kind:
    return _Kind(
        re.compile(f"(?<!\\S)(?:{wants})(?!\\S)"),
        re.compile(about),
        _COMMON | _words(words),
        needs_picture,
    )


_HOW = "explain help how know let want way"

_KINDS = (
    _kind(
        "(how many|count|number of) .*(SHAPES|signs)", "(SHAPES)?", "count how many number signs"
    ),
    _kind("colou?r", "SHAPE", "color colour"),
    _kind("RELATION", "THING RELATION THING", "no say true yes"),
    _kind("where|place", "THING", "place where"),
    _kind("read|says?|text|what .*on .*SIGN", "SIGN", "read say says text"),
    _kind(
        "(add|sum) .*(numbers|signs)|(numbers|signs) .*(add|sum)",
        "",
        "add numbers read signs sum up",
    ),
    _kind(
        "(larger|smaller) .*numbers?|numbers? .*(larger|smaller)",
        "",
        "larger number numbers read signs smaller",
    ),
    _kind("how|way|explain|help", "SAYS", _HOW),
    _kind("how|way|explain|help", "DOES", _HOW, needs_picture=False),
)


def outside(question: str, has_picture: bool) -> str:
    """Why the model cannot answer `question`, as the end of a sentence; "" if it can.

    Args:
        question: as the user wrote it.
        has_picture: whether there is a picture to answer it from.
    """
    pieces = [one for one in PIECE.findall(plain(question).lower()) if one not in _SILENT]
    if len(pieces) > LONGEST:
        return f"it reads at most {LONGEST} words, and this has {len(pieces)}"
    strange = list(dict.fromkeys(one for one in pieces if one not in _vocabulary()))
    if strange:
        shown = ", ".join(f'"{one[:20]}"' for one in strange[:3])
        return f"its vocabulary of {len(_vocabulary())} words does not have {shown}"
    words = _FIND.sub(lambda found: found.lastgroup or "", " ".join(pieces)).split()
    kinds = [kind for kind in _KINDS if kind.fits(words)]
    if not kinds:
        return "this is no question of a kind that it knows"
    if not has_picture and all(kind.needs_picture for kind in kinds):
        return "there is no picture to answer this from"
    return ""


@lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    tokens = Tokenizer.load().tokens
    return frozenset(token for token in tokens if token[0].isalpha())
