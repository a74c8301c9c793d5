"""Rules that read an answer: letters, choices, numbers, exact and contained texts. Pure functions.

What several benchmarks share is here; the official rule of each stays in its own file.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

# What people and models put around an answer: quotes, stars, brackets, dollars, full stops.
_AROUND = " \t\r\n\"'`*_$()[]{}<>.:,;!#\u2018\u2019\u201c\u201d"

_PIECE = "[" + re.escape(_AROUND) + "]*"

_LEAD = re.compile(
    rf"{_PIECE}(?:(?:so|thus|therefore|hence)\b{_PIECE})?(?:(?:the|my)\s+)?"
    rf"(?:(?:final|correct|right|best)\s+)*(?:answer|option|choice|letter)\b(?:\s+is\b)?{_PIECE}",
    re.IGNORECASE,
)

_TEX = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\b")

_LONGEST = 120
"""Characters of a text that may still be nothing but an answer with something around it."""


def bare(text: str) -> str:
    """An answer without what is put around it: "**B**.", "Option B", "The answer is: $14$".

    Texts that are longer than an answer are given back stripped of blanks alone.
    """
    text = text.strip()
    if len(text) > _LONGEST:
        return text
    text = _TEX.sub("", text)
    # Three times at most: "The answer is: option (B)".
    for _ in range(3):
        lead = _LEAD.match(text)
        if lead is None or lead.end() == len(text):
            break
        text = text[lead.end() :]
    if text.startswith("-") or _opens_a_decimal(text):
        return text.rstrip(_AROUND)
    return text.strip(_AROUND)


def _opens_a_decimal(text: str) -> bool:
    return text[:1] == "." and text[1:2].isdigit()


def lone_letter(text: str) -> str | None:
    """The letter, as it is written, if the text is an option's letter and nothing else.

    "B", "(b)", "B.", "**B**", "Option B", "Answer: B" and the like are.
    """
    letter = bare(text)
    return letter if len(letter) == 1 and letter.isascii() and letter.isalpha() else None


def last_letter(text: str, letters: Sequence[str] = ("A", "B", "C", "D")) -> str | None:
    """The option letter that is named last, or None if none is.

    Letters named as an option ("(B)", "'B'", "B:", "option is B") go before bare ones ("B"), so
    that the article "A" does not win over an option.
    """
    marked, plain = _letter_patterns(letters)
    for pattern in (marked, plain):
        found = list(pattern.finditer(text))
        if found:
            return next(group for group in found[-1].groups() if group)
    return None


def _letter_patterns(letters: Sequence[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    any_of = "[" + "".join(re.escape(letter) for letter in letters) + "]"
    marked = re.compile(
        rf"\(({any_of})\)|'({any_of})'|\b({any_of}):"
        rf"|\b(?:[Oo]ption|[Aa]nswer)(?: is)?:? ({any_of})\b"
    )
    return marked, re.compile(rf"(?<![\w'])({any_of})(?![\w'])")


def letters_of(count: int) -> str:
    """The letters of so many options."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


# -- texts ----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """A text as it is compared: no case, no width, one blank for several, no full stop."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_STRAIGHT).split()).strip(_AROUND)


_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2212\u2013", "''\"\"--")


def is_exact(answer: str, known: Sequence[str]) -> bool:
    """Whether the answer is one of the known ones: case, blanks, quotes and "the answer is"
    before it do not count."""
    written = {plain(answer), plain(bare(answer))}
    return any(plain(one) in written for one in known)


def contains(answer: str, known: Sequence[str]) -> bool:
    """Whether one of the known answers stands in the answer, as whole words, in any case."""
    written = plain(answer)
    return any(places(written, plain(one)) for one in known)


def places(written: str, known: str) -> list[tuple[int, int]]:
    """Where `known` stands in `written` as whole words; both as `plain` gives them."""
    if not known:
        return []
    start = r"(?<!\w)" if _is_word(known[0]) else ""
    end = r"(?!\w)" if _is_word(known[-1]) else ""
    return [found.span() for found in re.finditer(f"{start}{re.escape(known)}{end}", written)]


def _is_word(char: str) -> bool:
    """Whether words that this character ends are set apart; Chinese and Japanese ones are not."""
    return char.isalnum() and unicodedata.east_asian_width(char) not in "WF"


# -- choices --------------------------------------------------------------------------------------

_SAYS = re.compile(r"\banswer(?:\s+is|\s*:)", re.IGNORECASE)

_STATED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+(?:is|would be|should be))?[\s:*\"'`(\[$]{0,6}"
    r"(?:\\boxed\{)?(?:option\s+)?[(\[]?([A-Z])\b(?!['\u2019])",
    re.IGNORECASE,
)


def chosen(answer: str, choices: Sequence[str], *, lettered: bool) -> int | None:
    """Which of the choices an answer names; None if none, or several and none of them last.

    Args:
        answer: what was written.
        choices: their texts.
        lettered: whether the question names them by letters, from A.
    """
    texts = [plain(choice) for choice in choices]
    for whole in (plain(answer), plain(bare(answer))):
        if whole in texts:
            return texts.index(whole)
    letters = letters_of(len(choices))
    if lettered:
        letter = lone_letter(answer)
        if letter is not None:
            return _index(letter.upper(), letters)
        # The statement of an answer, "B. Green" at its beginning, a letter that is marked.
        stated = [found[1] for found in _STATED.finditer(answer) if found[1].isupper()]
        if stated:
            return _index(stated[-1], letters)
        opening = re.match(rf"[\s*(\[\"'`]*([{letters}])[*\"'`]*[).\]:,](?=\s|\*|$)", answer)
        if opening:
            return letters.index(opening[1])
    said = list(_SAYS.finditer(answer))
    for part in (answer[said[-1].end() :] if said else "", answer):
        named = _named(plain(part), texts)
        if named is not None:
            return named
    letter = last_letter(answer, letters) if lettered else None
    return None if letter is None else letters.index(letter)


def _index(letter: str, letters: str) -> int | None:
    return letters.index(letter) if letter in letters else None


def _named(written: str, texts: Sequence[str]) -> int | None:
    """The one choice whose text is named; of several, the one that opens the text."""
    spans = [
        (start, end, i) for i, text in enumerate(texts) for start, end in places(written, text)
    ]
    # "red" is not named where "dark red" is.
    whole: list[tuple[int, int, int]] = []
    for start, end, i in sorted(spans, key=lambda span: (span[0], -span[1])):
        # What began no later and reaches as far holds it. A model may repeat itself by the page.
        if not whole or end > whole[-1][1] or (start, end) == whole[-1][:2]:
            whole.append((start, end, i))
    named = {i for _, _, i in whole}
    if len(named) == 1:
        return named.pop()
    opening = {i for start, _, i in whole if start == 0}
    return opening.pop() if len(opening) == 1 else None


# -- numbers --------------------------------------------------------------------------------------

_DIGITS = r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+|\.\d+)(?:[eE][-+]?\d+)?"

_NUMBER = re.compile(rf"(?<![\w.,])[$\u20ac\u00a3]?({_DIGITS})(?!\d|[.,]\d)")

_WHOLE = re.compile(rf"[$\u20ac\u00a3]?\s*({_DIGITS})\s*%?")

_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)

_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b", re.IGNORECASE)

_ANSWER_IS = re.compile(r"\banswer(?:\s+is|\s*:)|=", re.IGNORECASE)


def as_number(text: str) -> float | None:
    """The number that a text is: "14", "1,234.5", "-2", "50 %", "$3"; None if it is more."""
    found = _WHOLE.fullmatch(text.strip())
    if found is None:
        return None
    value = _value(found[1])
    return value if math.isfinite(value) else None


def _value(digits: str) -> float:
    return float(digits.replace(",", "").replace("\u2212", "-"))


def number_in(answer: str) -> float | None:
    """The number that an answer gives: its only one, the one after the last "answer is" or "=",
    else the last one; a number as a word, up to twenty, if there are no digits."""
    said = list(_ANSWER_IS.finditer(answer))
    for part in (answer[said[-1].end() :] if said else "", answer):
        values = (_value(one[1]) for one in _NUMBER.finditer(part))
        found = [value for value in values if math.isfinite(value)]
        if found:
            return found[0] if part is not answer else found[-1]
    words = [_WORDS.index(one[1].lower()) for one in _WORD.finditer(answer)]
    return float(words[-1]) if words else None


def is_near(value: float, truth: float, tolerance: float, *, relative: bool = False) -> bool:
    """Whether |value - truth| is at most the tolerance, of the truth if it is relative."""
    allowed = tolerance * abs(truth) if relative else tolerance
    # What the nearest floats of two decimals differ by is no difference.
    return abs(value - truth) <= allowed + 1e-9 * max(1.0, abs(truth))
