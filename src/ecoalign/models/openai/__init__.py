"""Models behind an OpenAI-compatible server."""

from __future__ import annotations

from ecoalign.models.openai._model import DEFAULT_TIMEOUT, OpenAIModel

__all__ = ["DEFAULT_TIMEOUT", "OpenAIModel"]
