"""The embedded model: a small vision-language transformer that knows one synthetic world."""

from __future__ import annotations

from ecoalign.models.embedded._model import EmbeddedModel
from ecoalign.models.embedded._world import (
    CELLS,
    COLOURS,
    NOUNS,
    RELATIONS,
    SHAPES,
    VERBS,
    plural,
)

__all__ = [
    "CELLS",
    "COLOURS",
    "NOUNS",
    "RELATIONS",
    "SHAPES",
    "VERBS",
    "EmbeddedModel",
    "plural",
]
