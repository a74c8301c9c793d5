"""A name for a request that stays the same between runs and machines."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ecoalign.models.base import ImagePart

if TYPE_CHECKING:
    from ecoalign.models.base import ChatRequest, Message

__all__ = ["request_key"]


def request_key(request: ChatRequest) -> str:
    """SHA-256 (hexadecimal) of everything in a request that an answer can depend on.

    That is the messages with the bytes of their images, the cap, the sampling parameters, a
    client's own included, the schema and the stage. Not the timeout: it varies with the time that
    is left.

    Raises:
        TypeError, ValueError: `schema`, `extra` or `client` is not plain JSON.
    """
    canonical = {
        "messages": [_message(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "stage": request.stage,
        "temperature": float(request.temperature),
        "schema": request.schema,
        "top_logprobs": request.top_logprobs,
        "seed": request.seed,
        "extra": dict(request.extra),
    }
    if request.client:
        canonical["client"] = dict(request.client)
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _message(message: Message) -> dict[str, object]:
    parts: list[dict[str, object]] = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            digest = hashlib.sha256(part.data).hexdigest()
            size = [part.width, part.height]
            parts.append({"image": digest, "as": part.media_type, "size": size, "at": part.detail})
        else:
            parts.append({"text": part.text})
    return {"role": message.role, "parts": parts}
