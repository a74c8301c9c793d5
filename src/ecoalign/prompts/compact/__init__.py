"""The `compact` dialect: short marked prompts that the embedded model was trained on."""

from __future__ import annotations

from ecoalign.prompts.compact._dialect import CompactDialect
from ecoalign.prompts.compact.wording import REFUSAL_LOOKS

__all__ = ["REFUSAL_LOOKS", "CompactDialect"]
