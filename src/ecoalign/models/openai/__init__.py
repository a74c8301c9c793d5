"""Models behind an OpenAI-compatible server."""

from __future__ import annotations

from ecoalign.models.openai._model import DEFAULT_TIMEOUT, OpenAIModel
from ecoalign.models.openai._response import said, scrub, usage_of
from ecoalign.models.openai._server import MAX_ANSWER_BYTES, ChatServer, ServerError

__all__ = [
    "DEFAULT_TIMEOUT",
    "MAX_ANSWER_BYTES",
    "ChatServer",
    "OpenAIModel",
    "ServerError",
    "said",
    "scrub",
    "usage_of",
]
