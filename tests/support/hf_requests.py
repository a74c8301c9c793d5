"""Requests to a local model, with pictures drawn for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from ecoalign.models import ChatRequest, Completion, ImagePart, Message, TextPart

Part = TextPart | ImagePart


def picture(width: int = 60, height: int = 40, seed: int = 0) -> ImagePart:
    """Noise, the same for the same seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return ImagePart(out.getvalue(), "image/png", width, height)


def turn(role: Literal["system", "user", "assistant"], *parts: Part | str) -> Message:
    return Message(role, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def ask(*parts: Part | str, system: str = "Be brief.", **values: Any) -> ChatRequest:
    """A question with a system message, greedy, with two alternatives of each token."""
    messages: Sequence[Message] = (turn("system", system), turn("user", *parts))
    given = {"max_tokens": 8, "stage": "test", "top_logprobs": 2, **values}
    return ChatRequest(tuple(messages), **given)


def told(completion: Completion) -> list[float]:
    """The log-probabilities of the tokens."""
    assert completion.logprobs is not None
    return [entry.logprob for entry in completion.logprobs]
