"""Models behind an OpenAI-compatible server."""

from __future__ import annotations

from ecoalign.models.openai._model import DEFAULT_TIMEOUT, OpenAIModel
from ecoalign.models.openai._request import RESERVED
from ecoalign.models.openai._response import said, scrub, usage_of

__all__ = ["DEFAULT_TIMEOUT", "RESERVED", "OpenAIModel", "said", "scrub", "usage_of"]
