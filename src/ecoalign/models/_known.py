"""What a model object remembers of its server from run to run: token counts, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from ecoalign.models._base import ChatRequest, ImagePart
from ecoalign.models._tokens import Segment, size_of

IMAGES_KEPT = 64

TEXTS_KEPT = 512

SHORTEST_COUNTED = 32
"""Characters of a line that is worth a request to a token counter."""


def kind_of(image: ImagePart) -> str:
    """What the tokens of an image depend on: "WIDTHxHEIGHT DETAIL"."""
    return f"{size_of(image)} {image.detail}"


def digest_of(line: str) -> str:
    """Sixteen hexadecimal digits for a line of text."""
    return hashlib.sha256(line.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(slots=True)
class KnownTokens:
    """Upper bounds that a server has told. The oldest are forgotten first.

    Attributes:
        images: by `kind_of`, from the usage that it reported.
        texts: of lines, by `digest_of`, as its tokenizer counts them.
        doubted: whether one was proved wrong once. Then no later run learns anything, as each would
            be overdrawn by the same reports.
    """

    images: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    doubted: bool = False

    def add(self, images: Mapping[str, int] = {}, texts: Mapping[str, int] = {}) -> None:
        """Remember more; of two bounds of one thing the later counts."""
        for kept, new, most in (
            (self.images, images, IMAGES_KEPT),
            (self.texts, texts, TEXTS_KEPT),
        ):
            for name, tokens in new.items():
                kept.pop(name, None)
                kept[name] = tokens
            while len(kept) > most:
                kept.pop(next(iter(kept)))

    def forget(self) -> None:
        """A report of the server's has proved them wrong."""
        self.doubted = True
        self.images.clear()
        self.texts.clear()

    def uncounted(self, lines: Iterable[str]) -> list[str]:
        """The lines, each once, that are worth counting and were not counted yet;
        none where no count would be believed."""
        if self.doubted:
            return []
        worth = (line for line in dict.fromkeys(lines) if len(line) >= SHORTEST_COUNTED)
        return [line for line in worth if digest_of(line) not in self.texts][:TEXTS_KEPT]

    def to_json(self) -> dict[str, Any]:
        """A snapshot, as the trace keeps it."""
        return {"images": dict(self.images), "texts": dict(self.texts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(dict(value.get("images", {})), dict(value.get("texts", {})))


@runtime_checkable
class CountsLines(Protocol):
    """A model whose server has a tokenizer at hand."""

    async def count_lines(self, lines: Iterable[str]) -> None:
        """Have lines of text counted that are not `known` yet. Where that fails, bytes bound them
        as before."""
        ...


@runtime_checkable
class SupportsSegments(Protocol):
    """A model whose bound is the sum over the pieces of a prompt, and may be learned piece by
    piece. One whose bound is exact has no use for it.

    Attributes:
        known: what it remembers of its server; None where nothing is to be learned.
    """

    @property
    def known(self) -> KnownTokens | None: ...

    def segments(self, request: ChatRequest) -> list[Segment]:
        """All of the prompt of `request`; their bounds add up to the prompt of `bound`."""
        ...
