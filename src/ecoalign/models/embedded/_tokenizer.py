"""The embedded model's own small tokenizer: words, digits, punctuation, letters as a fallback.

Text is lower-cased. A number is spelled digit by digit and an unknown word letter by letter, so
no number and no word of a to z is lost; what is neither (another script, a rare symbol) becomes
<unk>. A text never has more tokens than UTF-8 bytes, and decoded ids encode to no more than they
were. Decoding joins what was spelled: digits, and unknown words, that follow each other directly
become one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"

OUT = "<out>"

ROLES = (
    "<ask>",
    "<careful>",
    "<steps>",
    "<draft>",
    "<scan>",
    "<propose>",
    "<think>",
    "<look>",
    "<fuse>",
    "<answer>",
    "<refuse>",
    "<score>",
)

MARKS = (OUT, "<cap>", "<path>", "<others>", "<at>", "<t>")

SPECIALS = (PAD, EOS, UNK, *ROLES, *MARKS)

PIECE = re.compile(r"<[a-z]+>|[a-z]+(?:-[a-z]+)?|\d|[^\w\s]|_|[^\W\d_]")

_MARKS = re.compile(r"[<>|\s]+")

LETTERS = "abcdefghijklmnopqrstuvwxyz"

_NO_SPACE_BEFORE = frozenset(".,?!;:)")


class Tokenizer:
    """Maps text to ids and back over a fixed vocabulary.

    Args:
        vocabulary: the tokens in id order; SPECIALS first.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.tokens = tuple(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.pad, self.eos, self.unk = (self._ids[name] for name in (PAD, EOS, UNK))
        self.out = self._ids[OUT]

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Tokenizer:
        """The tokenizer that the packaged weights were trained with."""
        text = files(__package__).joinpath("vocabulary.txt").read_text(encoding="utf-8")
        return cls(text.splitlines())

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """The id of a token that is in the vocabulary (KeyError otherwise)."""
        return self._ids[token]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Marks such as `<scan>` are read as marks: see `plain`."""
        out: list[int] = []
        for piece in PIECE.findall(text.lower()):
            known = self._ids.get(piece)
            if known is not None:
                out.append(known)
            elif piece[0] in LETTERS:
                # A letter is its own token, marked so that it joins its word again.
                out.extend(self._ids[f"##{c}"] for c in piece if c != "-")
            else:
                out.append(self.unk)
        return out

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, specials left out, numbers and spelled words joined."""
        text = ""
        before = ""
        for i in ids:
            token = self.tokens[i]
            if token in SPECIALS:
                continue
            joined = (
                (token.isdigit() and before.isdigit())
                or (token.startswith("##") and before.startswith("##"))
                or token in _NO_SPACE_BEFORE
                or before == "("
            )
            text += ("" if joined or not text else " ") + token.removeprefix("##")
            before = token
        return text


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """`text` with nothing in it that the tokenizer or the dialect would read as a mark."""
    return _MARKS.sub(" ", text).strip()
