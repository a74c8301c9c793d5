"""Requests and completions that the tests of the full dialect share."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from ecoalign.graph._thoughts import ROOT, Thought, ThoughtId, ThoughtKind
from ecoalign.models import Completion, ImagePart, TokenLogprob
from ecoalign.prompts.requests import ProposeRequest, ScanRequest, ScoreRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

FENCE = "k3v9x2q7m1"
KEY = "x2q7m1"
VIEW = ImagePart(b"png", "image/png", 64, 48, "low")
CAPTION = Thought(ROOT, ThoughtKind.ROOT, "A board with two signs.", 1.0, 0.0, 90.0)
STEP = Thought(ThoughtId(2), ThoughtKind.THINK, "Read both signs.", 1.0, 0.5, 40.0, (ROOT,))
OTHER = Thought(ThoughtId(4), ThoughtKind.LOOK, "The left sign says 12.", 1.0, 0.6, 70.0, (ROOT,))

SCAN = ScanRequest("What is the sum?", (VIEW,))
PROPOSE = ProposeRequest("What is the sum?", (VIEW, VIEW), (CAPTION, STEP), (OTHER,), 3, 2)


def score_request(text: str = "The sum is 19.", kind: str = "answer") -> ScoreRequest:
    return ScoreRequest("What is the sum?", (VIEW,), (CAPTION, STEP), kind, text, FENCE)


def said(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, None, finish_reason)


def verdict(safety: object = 8, utility: object = 7, key: str = KEY) -> str:
    return json.dumps({"key": key, "safety": safety, "utility": utility})


def spelled(
    text: str, tops: Mapping[int, Mapping[str, float]], finish_reason: str = "stop"
) -> Completion:
    """A completion of one-character tokens, with the alternatives' probabilities at offsets."""
    entries = []
    for offset, token in enumerate(text):
        top = {name: math.log(p) if p else -9999.0 for name, p in tops.get(offset, {}).items()}
        entries.append(TokenLogprob(token, top.get(token, -0.01), top))
    return Completion(text, None, finish_reason, tuple(entries))
