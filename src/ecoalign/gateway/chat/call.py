"""One request for a chat completion, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.query import Sampling

if TYPE_CHECKING:
    from ecoalign.budget import Budget

__all__ = ["ChatCall", "EcoOptions", "ImageRef"]


@dataclass(frozen=True, slots=True)
class EcoOptions:
    """The `ecoalign` object of a request. None is not given.

    Attributes:
        budget: what the answer may spend.
        preset, method: names, as in the settings.
        trace: whether the trace is kept.
    """

    budget: Budget | None = None
    preset: str | None = None
    method: str | None = None
    trace: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as the request names it.

    Attributes:
        url: a `data:` URI or an address.
        param: where it stands in the request.
    """

    url: str = field(repr=False)
    param: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request, read and checked.

    Attributes:
        raw: the JSON body as it came, less `ecoalign`.
        model: as asked for.
        question: the last user turn's text.
        images: the images of all user turns, in order, not loaded yet.
        context: system prompts and the other turns, oldest first, each with its role.
        stream, include_usage: how the answer is sent.
        sampling: what the client asks of the answer itself.
        options: the `ecoalign` object.
    """

    raw: Mapping[str, object] = field(repr=False)
    model: str
    question: str = field(default="", repr=False)
    images: tuple[ImageRef, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = field(default=(), repr=False)
    stream: bool = False
    include_usage: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    options: EcoOptions = field(default_factory=EcoOptions)
