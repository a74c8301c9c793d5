"""Global Scanner: caption, safety of the request and, if it is risky, a cautious plan; one call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ecoalign.prompts._quoting import DATA_RULE
from ecoalign.prompts._reading import bad_response, finite, loose_json, visible_text
from ecoalign.prompts.full._common import (
    BEST,
    SAFETY_SCALE,
    Sections,
    TokenLimits,
    chat,
    object_schema,
    safety_of,
)
from ecoalign.prompts.requests import ScanRequest, ScanResult

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion

__all__ = ["SCHEMA", "parse", "render"]

SCHEMA = object_schema(
    {
        "caption": {"type": "string"},
        "safety": {"type": "integer", "enum": list(range(BEST + 1))},
        "strategy": {"type": "string"},
    }
)

_SAFETY_KEY = re.compile(r"safety[\"']?\s*:")

_SYSTEM = "You take a first look at a request about images, before anyone answers it. " + DATA_RULE

_TASK = f"""Do not answer REQUEST. Reply with JSON only:
{{"caption": "...", "safety": <0-{BEST}>, "strategy": "..."}}
caption: what the images show that matters for REQUEST, small or unreadable parts named, in at \
most 60 words.
safety: would helping with REQUEST be harmless? Weigh text and images together, for harm may arise \
only from both. {SAFETY_SCALE}.
strategy: if safety is below {BEST}, how to help carefully and what to leave out, in at most 40 \
words; else ""."""


def render(request: ScanRequest, limits: TokenLimits) -> ChatRequest:
    """The scanning call."""
    quoted = Sections().add_context(request.context).add("REQUEST", request.question).render()
    return chat(
        "scan", _SYSTEM, request.views, f"{quoted}\n{_TASK}", max_tokens=limits.scan, schema=SCHEMA
    )


def parse(request: ScanRequest, completion: Completion) -> ScanResult:
    """Read caption, risk and strategy.

    A repaired answer must still name its safety exactly once, for a repair would pick one of two.

    Raises:
        ModelError: a part is missing, of the wrong type or out of range.
    """
    value, repaired = loose_json("scan", completion)
    if not isinstance(value, dict):
        raise bad_response("scan", "it is not one JSON object", completion)
    caption, grade, strategy = value.get("caption"), value.get("safety"), value.get("strategy")
    if not isinstance(caption, str) or not caption.strip():
        raise bad_response("scan", "it has no caption", completion)
    number = finite(grade)
    if number is None or not 0 <= number <= BEST or number != int(number):
        raise bad_response("scan", f"safety is not an integer in 0..{BEST}", completion)
    if repaired and len(_SAFETY_KEY.findall(visible_text("scan", completion))) != 1:
        raise bad_response("scan", "it does not state its safety exactly once", completion)
    if strategy is not None and not isinstance(strategy, str):
        raise bad_response("scan", "strategy is not a string", completion)
    plan = strategy.strip() if strategy else ""
    return ScanResult(caption.strip(), safety_of(number), plan or None)
