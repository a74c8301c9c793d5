"""When two thoughts are the same. Merging is a safety decision: when in doubt, no.

No similarity threshold is safe by itself: "safe" and "not safe" are near, red and blue swapped are
nearer. So two thoughts are merged only if they are of one kind, look at one region, and either
read the same after normalisation or are near by `similarity` **and** agree in every guard. The
default guards are strict: with them a near text may differ in filler words only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher
from functools import lru_cache

from ecoalign.graph._thoughts import Region, Thought, ThoughtKind

Similarity = Callable[[str, str], float]
"""How near two texts are, in [0, 1]; 1 is equal."""

Guard = Callable[[str, str], bool]
"""Whether two texts agree in one respect; False forbids the merge."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    "red green blue yellow orange purple violet pink brown black white grey gray cyan magenta "
    "turquoise teal beige gold golden silver crimson scarlet indigo navy maroon lime olive tan "
    "ivory amber azure"
)

NEGATIONS = _words(
    "no not non never none nothing nobody nowhere neither nor without cannot hardly barely "
    "scarcely seldom rarely false untrue wrong fail fails failed lack lacks lacking avoid "
    "avoids except unless but stop deny denies refuse refuses"
)

RELATIONS = _words(
    "left right above below over under beneath top bottom up down upper lower inside outside "
    "within beyond in into out on off from to toward towards before after first last next "
    "previous front behind between near far north south east west more less greater smaller "
    "larger fewer higher lower bigger most least than same different equal all some any every "
    "each only both if then because therefore always sometimes may might must should can could "
    "will would and or as by"
)

FILLERS = frozenset(("an", "the", "please"))
"""May come and go between near texts. Not "a": it is also a name, as in vitamin A."""

_COUNTS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve half double twice "
    "thrice once hundred thousand million dozen pair"
)

_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis", "de", "anti", "mis")

_CONTRACTIONS = (("can't", "can not"), ("cannot", "can not"), ("won't", "will not"))

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\uff07": "'"})

_NUMBER = r"(?:\d+(?:[.,:/]\d+)*|\.\d+)"

# A number with its sign, a word with its apostrophes, or one mark.
_TOKEN = re.compile(rf"(?<![\w)])[-+]{_NUMBER}|{_NUMBER}|[^\W\d_]+(?:'[^\W\d_]+)*|\S")

_CLAUSE = frozenset(",;:.!")

_MARKS = frozenset("?%&@#*/\\_^|~-")


def normalise(text: str) -> tuple[str, ...]:
    """The words, numbers and meaningful marks of a text, in order.

    Unicode NFKC, case folded, white space and punctuation dropped, contractions of "not" spelled
    out. Kept, because they change the meaning: signs and decimals of numbers, symbols (+ < = $),
    "?", "%" and their like, superscripts (marked by "^": x² is not x2), and a pause right after a
    negation ("no, stop" is not "no stop").
    """
    return _tokens(text)


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    # ASCII has nothing to raise or to normalise.
    plain = text if text.isascii() else unicodedata.normalize("NFKC", "".join(map(_raise, text)))
    plain = plain.casefold()
    plain = plain.translate(_QUOTES).replace("\u2212", "-").replace("\u2013", "-")
    for short, spelled in _CONTRACTIONS:
        plain = plain.replace(short, spelled)
    plain = plain.replace("n't", " not")
    kept: list[str] = []
    for match in _TOKEN.finditer(plain):
        token = match.group()
        if token[0].isalnum() or len(token) > 1:
            kept.append(token)
        elif token in _CLAUSE and kept and kept[-1] in NEGATIONS:
            # At the very end of a text a pause separates nothing.
            if plain[match.end() :].strip():
                kept.append(",")
        elif _means_something(token, plain, match):
            kept.append(token)
    return tuple(kept)


def _raise(char: str) -> str:
    """Mark what NFKC would silently flatten: superscripts, subscripts, fractions."""
    kind = unicodedata.decomposition(char).partition(" ")[0]
    return f" ^{char} " if kind in ("<super>", "<sub>", "<fraction>") else char


def _means_something(mark: str, text: str, match: re.Match[str]) -> bool:
    if mark == "-":  # a hyphen joins words; before a number or alone it may be a minus
        after = text[match.end() : match.end() + 1]
        before = text[match.start() - 1 : match.start()] if match.start() else " "
        return after.isdigit() or after.isspace() or not before.isalnum()
    return mark in _MARKS or not unicodedata.category(mark).startswith("P")


def text_similarity(one: str, two: str) -> float:
    """The share of matching characters of the normalised texts, in [0, 1] (difflib's ratio)."""
    first, second = sorted((" ".join(normalise(one)), " ".join(normalise(two))))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def same_words(one: str, two: str) -> bool:
    """The same words in the same order, but for fillers ("an", "the", "please")."""
    return _without_fillers(one) == _without_fillers(two)


def same_numbers(one: str, two: str) -> bool:
    """The same numbers (digits or words) and marks (+ % ? and their like), in the same order."""
    return _pick(one, _is_number) == _pick(two, _is_number)


def same_colours(one: str, two: str) -> bool:
    """The same colours in the same order."""
    return _pick(one, COLOURS.__contains__) == _pick(two, COLOURS.__contains__)


def same_relations(one: str, two: str) -> bool:
    """The same words of place, order, degree and logic, in the same order."""
    return _pick(one, RELATIONS.__contains__) == _pick(two, RELATIONS.__contains__)


def same_negations(one: str, two: str) -> bool:
    """The same negations in the same order, and no word on one side that negates one on the other.

    "Negates" is read off the form: unsafe, illegal, non-toxic, careless beside careful.
    """
    if _pick(one, NEGATIONS.__contains__) != _pick(two, NEGATIONS.__contains__):
        return False
    first, second = set(normalise(one)), set(normalise(two))
    left, right = first - second, second - first
    return not any(_opposite(a, b) or _opposite(b, a) for a in left for b in right)


def same_order(one: str, two: str) -> bool:
    """What both texts mention comes in the same order ("A above B" is not "B above A")."""
    first, second = normalise(one), normalise(two)
    common = set(first) & set(second)
    return [t for t in first if t in common] == [t for t in second if t in common]


def same_entities(one: str, two: str) -> bool:
    """The same names: capitalised words (not at the start of a sentence) and quoted texts.

    Names are compared without case; one written small on either side still counts as the same.
    """
    first, second = set(normalise(one)), set(normalise(two))
    return _names(one) <= second and _names(two) <= first


def same_region(one: Region | None, two: Region | None, tolerance: float = 0.01) -> bool:
    """Neither has a region, or both have the same one of the same image.

    `tolerance` is how far each side may be off, as a share of the image.
    """
    if one is None or two is None:
        return one is two
    pairs = ((one.x0, two.x0), (one.y0, two.y0), (one.x1, two.x1), (one.y1, two.y1))
    return one.image == two.image and all(abs(a - b) <= tolerance for a, b in pairs)


GUARDS: tuple[Guard, ...] = (
    same_numbers,
    same_colours,
    same_relations,
    same_negations,
    same_entities,
    same_order,
    same_words,
)
"""What near texts must agree in. With a similarity that is worth it (an entailment model in both
directions, say) `same_words` may be left out; the others should stay."""


def mergeable(
    a: Thought,
    b: Thought,
    similarity: Similarity = text_similarity,
    threshold: float = 0.9,
    guards: tuple[Guard, ...] = GUARDS,
) -> bool:
    """Whether two thoughts mean the same, so that one may stand for both.

    Args:
        a, b: the thoughts; the order does not matter if `similarity` and `guards` are symmetric.
        similarity: asked only of texts that differ after normalisation and pass every guard.
        threshold: the least similarity of a near text, in [0, 1].
        guards: what near texts must agree in.

    Raises:
        ValueError: the threshold is outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be in [0, 1], not {threshold}.")
    if a.kind is not b.kind or a.kind is ThoughtKind.ROOT or not same_region(a.region, b.region):
        return False
    first, second = normalise(a.text), normalise(b.text)
    if not first or not second:
        return False
    if first == second:
        return True
    # Written so that a similarity of NaN does not pass.
    return all(guard(a.text, b.text) for guard in guards) and (
        similarity(a.text, b.text) >= threshold
    )


def likeness(thought: Thought) -> tuple[ThoughtKind, tuple[str, ...]]:
    """Its kind and its words but for fillers. Under `GUARDS` only equals can be mergeable.

    So the candidates for a merge can be looked up instead of compared one by one.
    """
    return thought.kind, tuple(_without_fillers(thought.text))


def _is_number(token: str) -> bool:
    return token in _COUNTS or not token[-1].isalpha()


def _pick(text: str, wanted: Callable[[str], bool]) -> list[str]:
    return [token for token in normalise(text) if wanted(token)]


def _without_fillers(text: str) -> list[str]:
    return [token for token in normalise(text) if token not in FILLERS]


def _opposite(word: str, other: str) -> bool:
    return any(word == prefix + other for prefix in _PREFIXES) or (
        word.endswith("less") and other in (word[:-4], word[:-4] + "ful")
    )


def _names(text: str) -> set[str]:
    names: set[str] = set()
    for quoted in re.findall(r"[\"“”„«»']([^\"“”„«»']+)[\"“”„«»']", text):
        names.update(normalise(quoted))
    start = True
    for word in text.split():
        bare = word.strip("\"'“”„«»()[].,;:!?")
        if bare[:1].isupper() and not start:
            names.update(normalise(bare))
        start = word.rstrip("\"'”»)").endswith((".", "!", "?"))
    return names
