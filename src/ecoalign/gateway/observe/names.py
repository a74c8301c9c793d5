"""Names of OpenTelemetry's conventions for generative AI, all in this one place.

They are still in development: the page is
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md.
Where it has no name for a thing (dollars, stages, safety), ours begins with "ecoalign.".
"""

from __future__ import annotations

from typing import Final

__all__ = ["provider_of"]

OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
WORKFLOW: Final = "invoke_workflow"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
IMAGE_TOKENS: Final = "gen_ai.usage.image.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"

REQUEST_ID: Final = "ecoalign.request.id"
METHOD: Final = "ecoalign.method"
KEY_ID: Final = "ecoalign.key.id"
STAGE: Final = "ecoalign.stage"
ATTEMPT: Final = "ecoalign.attempt"
SPENT_TOKENS: Final = "ecoalign.spent.tokens"
"""Tokens charged: more than the usage where that is missing or not to be believed."""
SPENT_USD: Final = "ecoalign.spent.usd"
STOP_REASON: Final = "ecoalign.stop_reason"
REFUSED: Final = "ecoalign.refused"
SAFETY: Final = "ecoalign.safety"
CAUSE: Final = "ecoalign.fail_closed.cause"
STATUS_CODE: Final = "http.response.status_code"

_PROVIDERS = {"openai": "openai", "hf": "huggingface", "embedded": "ecoalign"}


def provider_of(model: str) -> str:
    """The convention's provider for a model named "provider:name".

    Any server that speaks OpenAI's API counts as "openai": the name tells the format.
    """
    return _PROVIDERS.get(model.partition(":")[0], "ecoalign")
