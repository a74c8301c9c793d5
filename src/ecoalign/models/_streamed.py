"""What of a model's text is meant for its reader, while the text is still coming."""

from __future__ import annotations

import re

from ecoalign.models._speech import begins_inside, holds_mark, visible

_PARTIAL = re.compile(r"(?:<[^<>\n]{0,90}|\[/?[A-Z]{0,5}|\[unused\d{0,2}|◁/?[a-z]{0,5})\Z")
"""The end of a text that may be the beginning of a mark."""

_OPENINGS = ("Here's my thought process:", "Here is my thought process:", "analysis", "assistant")
"""What thoughts may begin with at the very start of a text, without any mark."""

_LONGEST = 100
"""Characters of a mark."""

_MOST_MARKS = 64
"""At each mark all of the text is read again; after so many, only at its end."""


class StreamedText:
    """The visible part of a text that comes in pieces; see `visible`.

    Nothing is shown while it may still turn out to be a thought: within thoughts, at what may be a
    mark of them, and, of a model that begins inside its thoughts, before their end. Special tokens
    of the form <|...|> hold all that follows back until the end, which tells what they meant.

    Args:
        inside: whether the text may begin inside its thoughts.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._inside = inside
        self._pieces: list[str] = []
        self._fresh = self._head = ""
        self._shown: list[str] = []
        self._marks = 0
        self._held = inside

    @property
    def began_inside(self) -> bool:
        """Whether the text did: a mark closed what nothing had opened."""
        return self._marks > 0 and begins_inside("".join(self._pieces))

    def feed(self, piece: str) -> str:
        """What of `piece`, and of what was held back, can be shown now."""
        self._pieces.append(piece)
        # What a text begins with of blanks is never shown.
        self._fresh = self._fresh + piece if self._shown else (self._fresh + piece).lstrip()
        if not self._shown and not self._held and self._may_open(piece):
            return ""
        if holds_mark(self._fresh):
            self._marks += 1
            return self._read(whole=False)
        if self._held:
            self._fresh = self._fresh[-_LONGEST:]
            return ""
        return self._show(self._ready())

    def end(self, *, cut: bool = False) -> str:
        """What is left to be shown when there are no more pieces.

        Args:
            cut: whether the text was cut short; one that may have begun inside its thoughts and
                holds no mark is nothing but thoughts then.
        """
        if cut and self._inside and not self._marks:
            return ""
        if self._marks or self._held:
            return self._read(whole=True)
        return self._show(self._fresh)

    def _may_open(self, piece: str) -> bool:
        # Of the beginning so much as tells: a text of nothing but blanks may be of any length.
        self._head = (self._head + piece[: _LONGEST + len(piece) - len(piece.lstrip())]).lstrip()
        return any(one.startswith(self._head) for one in _OPENINGS)

    def _ready(self) -> str:
        """What came last, without what may be the beginning of a mark."""
        partial = _PARTIAL.search(self._fresh)
        cut = len(self._fresh) if partial is None else partial.start()
        ready, self._fresh = self._fresh[:cut], self._fresh[cut:]
        return ready

    def _show(self, ready: str) -> str:
        ready = ready if self._shown else ready.lstrip()
        if ready:
            self._shown.append(ready)
        return ready

    def _read(self, *, whole: bool) -> str:
        """Read all of the text again: a mark has come, or the end."""
        if self._marks > _MOST_MARKS and not whole:
            self._held, self._fresh = True, ""
            return ""
        text = "".join(self._pieces)
        seen = visible(text)
        self._held = not seen.whole or "<|" in text
        if not seen.whole or (self._held and not whole):
            self._fresh = self._fresh[-_LONGEST:]
            return ""
        shown = "".join(self._shown)
        if not seen.text.startswith(shown.rstrip()):
            # What was shown was a thought, as is known only now: the answer is yet to come.
            shown, self._shown = "", []
        bare = shown.rstrip()
        self._fresh = seen.text[len(bare) :].removeprefix(shown[len(bare) :])
        return self._show(self._fresh if whole else self._ready())
