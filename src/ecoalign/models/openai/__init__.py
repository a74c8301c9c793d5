"""Models behind an OpenAI-compatible server."""

from __future__ import annotations

from ecoalign.models.openai._listed import Listed, listed
from ecoalign.models.openai._model import HOSTED_TIMEOUT, LOCAL_TIMEOUT, OpenAIModel
from ecoalign.models.openai._request import under, unknown_name
from ecoalign.models.openai._response import (
    apart_of,
    completion_of,
    reported_usage,
    said,
    scrub,
    usage_of,
    withheld_by,
)

__all__ = [
    "HOSTED_TIMEOUT",
    "LOCAL_TIMEOUT",
    "Listed",
    "OpenAIModel",
    "apart_of",
    "completion_of",
    "listed",
    "reported_usage",
    "said",
    "scrub",
    "under",
    "unknown_name",
    "usage_of",
    "withheld_by",
]
