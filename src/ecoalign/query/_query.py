"""What is asked: a question about one image or several, or none, with earlier turns as context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ecoalign.errors import InputError
from ecoalign.models import SamplingParams
from ecoalign.query._pictures import Picture

if TYPE_CHECKING:
    from PIL import Image

ImageSource: TypeAlias = "str | Path | bytes | Image.Image | Picture"
"""What `Picture.load` reads. (A text: naming the classes must not import Pillow.)"""


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

    @classmethod
    def of(
        cls,
        images: ImageSource | Sequence[ImageSource] | None,
        question: str,
        context: Sequence[str] = (),
        sampling: SamplingParams | None = None,
        instructions: str = "",
    ) -> Query:
        """Load the images and check the question.

        Args:
            images: a path, bytes, a `data:` URI, a PIL image or a Picture, several, or None.
            question: what to answer.
            context: earlier turns, oldest first.
            sampling: what a client asks of the answer itself.
            instructions: the client's system prompt.

        Raises:
            InputError: the question is empty or not text, or an image cannot be used.
        """
        if not isinstance(question, str):
            raise InputError(f"the question is text, not {type(question).__name__}")
        if not question.strip():
            raise InputError("the question is empty: say what you want to know about the image")
        if images is None:
            pictures: tuple[Picture, ...] = ()
        elif isinstance(images, Sequence) and not isinstance(images, str | bytes):
            pictures = tuple(Picture.load(source) for source in images)
        else:
            pictures = (Picture.load(images),)
        asked = sampling or SamplingParams()
        return cls(question.strip(), pictures, tuple(context), asked, instructions.strip())
