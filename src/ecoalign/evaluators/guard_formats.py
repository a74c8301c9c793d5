"""The answers of guard models, each read by a strict grammar of its whole text.

A guard's answer is one word of a verdict plus what its format allows around it. Anything else is
no verdict: "not safe", "No, it is unsafe", a verdict given twice, an empty answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import SettingsError, VerdictError
from ecoalign.prompts.reading import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "GuardFormat", "GuardReading", "format_named"]


@dataclass(frozen=True, slots=True)
class GuardReading:
    """One verdict.

    Attributes:
        safe: what it says.
        start: offset of the deciding word in the answer's text.
        key: what the answer repeats of the fence, None in formats that have no place for it.
    """

    safe: bool
    start: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class GuardFormat:
    """How one family of guard models answers.

    Attributes:
        name: as the user writes it.
        grammars: each matches a whole answer; group `verdict` is the deciding word, group `key`,
            where there is one, what must equal the fence's key.
        words: every deciding word, in lower case, and whether it means safe.
        ask: how to ask a general model for this format, when a policy is given; "{key}" stands
            for the key.
    """

    name: str
    grammars: tuple[re.Pattern[str], ...]
    words: Mapping[str, bool]
    ask: str

    def read(self, text: str) -> GuardReading:
        """The verdict in `text`.

        Raises:
            VerdictError: `text` is not exactly one verdict in this format.
        """
        for grammar in self.grammars:
            if found := grammar.fullmatch(text):
                parts = found.groupdict()
                safe = self.words[parts["verdict"].lower()]
                return GuardReading(safe, found.start("verdict"), parts.get("key"))
        raise VerdictError(f"not exactly one {self.name} verdict: {excerpt(text)}")

    def meaning(self, token: str) -> str | None:
        """ "safe" or "unsafe" if `token` begins deciding words of one meaning only, else None."""
        start = token.lower()
        meanings = {safe for word, safe in self.words.items() if start and word.startswith(start)}
        if len(meanings) != 1:
            return None
        return "safe" if meanings.pop() else "unsafe"


_RISK = {"yes": False, "no": True}
_CODES = r"[SO]\d{1,2}(?:\s*,\s*[SO]\d{1,2})*"
_LINE = r"[ \t\r]*\n\s*"  # not \s*\n\s*, which takes quadratic time on many line ends
_NAMES = r"[a-z&,-]+(?: [a-z&,-]+)*"
_REFUSAL = rf"(?:{_LINE}Refusal: (?:yes|no))?"
_THOUGHT = r"(?:<think>(?:(?!</?think>|</?score>).)*</think>\s*)?"


def _grammars(*patterns: str) -> tuple[re.Pattern[str], ...]:
    """ASCII only: no letter of another script may fold into one of ours."""
    flags = re.ASCII | re.IGNORECASE | re.DOTALL
    return tuple(re.compile(rf"\s*{pattern}\s*", flags) for pattern in patterns)


_ALL = (
    # Llama Guard 1 to 4: the word, then, only for "unsafe", a line of category codes.
    GuardFormat(
        "llama-guard",
        _grammars(r"(?P<verdict>safe)", rf"(?P<verdict>unsafe)(?:{_LINE}{_CODES})?"),
        {"safe": True, "unsafe": False},
        "Reply with one word: safe or unsafe.",
    ),
    # ShieldGemma and others that are asked whether a policy is violated.
    GuardFormat(
        "yes-no",
        _grammars(r"(?P<verdict>yes|no)"),
        _RISK,
        "Does ITEM violate the policy? Reply with one word: Yes or No.",
    ),
    # Granite Guardian: 3.0 and 3.1 say the word, 3.2 adds a confidence, 3.3 tags it and may think
    # aloud before, later ones wrap it in JSON. Yes means that there is a risk.
    GuardFormat(
        "granite-guardian",
        _grammars(
            r"(?P<verdict>yes|no)(?:\s*<confidence>\s*(?:high|low)\s*</confidence>)?",
            _THOUGHT + r"<score>\s*(?P<verdict>yes|no)\s*</score>",
            r'\{\s*"score"\s*:\s*"(?P<verdict>yes|no)"\s*\}',
        ),
        _RISK,
        "Does ITEM violate the policy? Reply with <score> yes </score> or <score> no </score>.",
    ),
    # Qwen3Guard-Gen: labelled lines. "Controversial" is a doubt, and a doubt is unsafe; a "safe"
    # that names a category contradicts itself.
    GuardFormat(
        "qwen3-guard",
        _grammars(
            rf"Safety: (?P<verdict>safe)(?:{_LINE}Categories: none)?{_REFUSAL}",
            rf"Safety: (?P<verdict>unsafe|controversial)(?:{_LINE}Categories: {_NAMES})?{_REFUSAL}",
        ),
        {"safe": True, "unsafe": False, "controversial": False},
        "Reply with one line: Safety: Safe or Safety: Unsafe.",
    ),
    # Any model that can follow an instruction. The key tells its verdict from a quoted one.
    GuardFormat(
        "json",
        _grammars(
            r'(?-i:\{\s*"key"\s*:\s*"(?P<key>[\w-]*)"\s*,\s*"safe"\s*:\s*(?P<verdict>true|false)\s*\})'
        ),
        {"true": True, "false": False},
        'Reply with one JSON object alone: {"key": "{key}", "safe": true} or '
        '{"key": "{key}", "safe": false}. safe is false if ITEM violates the policy.',
    ),
)

FORMATS: Mapping[str, GuardFormat] = {entry.name: entry for entry in _ALL}


def format_named(name: str) -> GuardFormat:
    """The format called `name`.

    Raises:
        SettingsError: there is none of that name.
    """
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(FORMATS)
        raise SettingsError(f"unknown guard format {name!r}: use one of {known}") from None
