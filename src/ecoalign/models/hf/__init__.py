"""`hf:NAME`: vision-language models in this process, by transformers and torch (extra `hf`)."""

from __future__ import annotations

from ecoalign.models.hf._model import HFModel, bound_of

__all__ = ["HFModel", "bound_of"]
