"""The embedded model: a small vision-language transformer that knows one synthetic world."""

from __future__ import annotations

from ecoalign.models.embedded._model import EmbeddedModel

__all__ = ["EmbeddedModel"]
