"""Prompts: typed requests, the dialects that render and parse them, and quoting and strict reading
for whoever writes a prompt of its own.

The requests are in `ecoalign.prompts.requests`, the protocol in `ecoalign.prompts.dialect`.
"""

from __future__ import annotations

from ecoalign.prompts._boxes import CONVENTIONS
from ecoalign.prompts._limits import DEFAULT_POLICY, TokenLimits
from ecoalign.prompts._quoting import (
    DATA_RULE,
    check_fence,
    digest_fence,
    fenced,
    key_of,
    neutral,
)
from ecoalign.prompts._reading import excerpt, require_whole, token_mass, visible_text
from ecoalign.prompts._scoring import SAMPLE_TEMPERATURE
from ecoalign.prompts._turns import turn
from ecoalign.prompts.requests import VERIFIED

__all__ = [
    "CONVENTIONS",
    "DATA_RULE",
    "DEFAULT_POLICY",
    "SAMPLE_TEMPERATURE",
    "VERIFIED",
    "TokenLimits",
    "check_fence",
    "digest_fence",
    "excerpt",
    "fenced",
    "key_of",
    "neutral",
    "require_whole",
    "token_mass",
    "turn",
    "visible_text",
]
