"""What is asked: a question about one image or several, or none, with earlier turns as context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ecoalign.errors import InputError
from ecoalign.models import SamplingParams
from ecoalign.query._pictures import ImageSource, Picture
from ecoalign.query._sources import AllowUrls

Images: TypeAlias = "ImageSource | Sequence[ImageSource] | None"
"""The images of a question: one, several in a list or a tuple, or none."""

_ENCODED = (str, bytes, bytearray, memoryview)
"""Sequences that are one image, each."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    Attributes:
        question: the text, stripped; never empty.
        pictures: the images it is about, in order.
        context: earlier turns, oldest first; quoted to the model as data. Images of earlier turns
            belong to `pictures`.
        sampling: what is asked of the answer itself, beside its content.
        instructions: the client's system prompt: obeyed as to role, style, format and language
            where an answer is written, data where anything is judged.
    """

    question: str
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    instructions: str = ""

    @property
    def length(self) -> int:
        """Characters of all its texts."""
        return len(self.question) + len(self.instructions) + sum(map(len, self.context))

    @classmethod
    def of(
        cls,
        images: Images,
        question: str,
        context: Sequence[str] = (),
        sampling: SamplingParams | None = None,
        instructions: str = "",
        *,
        allow_urls: AllowUrls = False,
    ) -> Query:
        """Load the images and check the question.

        Args:
            images: what `Picture.load` takes, several of them in a list or a tuple, or None.
            question: what to answer.
            context: earlier turns, oldest first.
            sampling: what a client asks of the answer itself.
            instructions: the client's system prompt.
            allow_urls: whether images are fetched from http and https addresses; see
                `Picture.load`.

        Raises:
            InputError: the question is empty or not text, or an image cannot be used.
        """
        if not isinstance(question, str):
            raise InputError(f"the question is text, not {type(question).__name__}")
        if not question.strip():
            raise InputError("the question is empty: say what you want to know about the image")
        if isinstance(context, str):
            raise InputError("the context is a list of earlier turns, not one text")
        one = not isinstance(images, Sequence) or isinstance(images, _ENCODED)
        several = cast("Sequence[ImageSource]", [images] if one else images)
        pictures = tuple(
            Picture.load(source, allow_urls=allow_urls)
            for source in ([] if images is None else several)
        )
        asked = sampling or SamplingParams()
        return cls(question.strip(), pictures, tuple(context), asked, instructions.strip())
