"""Chat models: the protocol, requests and replies, and upper bounds of what a call may use.

The models themselves are in `openai`, `embedded` and `fake`, the HTTP client is in `http`.
"""

from __future__ import annotations

from ecoalign.models._base import (
    ChatModel,
    ChatRequest,
    Completion,
    ImagePart,
    Message,
    TextPart,
    TokenLogprob,
    ToolCall,
    Usage,
    request_key,
)
from ecoalign.models._causes import LASTING, NOBODY, Failure, cause_of_answer
from ecoalign.models._domain import check_domain, check_judge
from ecoalign.models._endpoint import (
    OPENAI_URL,
    USER_AGENT,
    Endpoint,
    base_url_of_environment,
    read_base_url,
    read_proxy,
)
from ecoalign.models._known import CountsLines, KnownTokens, SupportsSegments
from ecoalign.models._parameters import DEARER, Thinking
from ecoalign.models._profile import (
    BoxConvention,
    Profile,
    known_profile,
    profile_file,
    profile_of,
    profiles_folder,
    read_profile,
    shipped_profile,
)
from ecoalign.models._providers import PROVIDERS, Provider, provider_of
from ecoalign.models._registry import open_model
from ecoalign.models._reply import (
    OWN_REPLY,
    FinishReason,
    Reply,
    finish_reason,
    reply_of,
    spelling,
    spoken,
)
from ecoalign.models._sampling import SamplingParams, attribute_error, checked
from ecoalign.models._speech import (
    ENDINGS,
    THOUGHT_FIELDS,
    Ending,
    Visible,
    both_ends,
    content_of,
    ending,
    visible,
)
from ecoalign.models._streamed import StreamedText
from ecoalign.models._tokens import (
    Segment,
    bound,
    check_family,
    image_family,
    image_tokens,
    segments,
)

__all__ = [
    "DEARER",
    "ENDINGS",
    "LASTING",
    "NOBODY",
    "OPENAI_URL",
    "OWN_REPLY",
    "PROVIDERS",
    "THOUGHT_FIELDS",
    "USER_AGENT",
    "BoxConvention",
    "ChatModel",
    "ChatRequest",
    "Completion",
    "CountsLines",
    "Ending",
    "Endpoint",
    "Failure",
    "FinishReason",
    "ImagePart",
    "KnownTokens",
    "Message",
    "Profile",
    "Provider",
    "Reply",
    "SamplingParams",
    "Segment",
    "StreamedText",
    "SupportsSegments",
    "TextPart",
    "Thinking",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "Visible",
    "attribute_error",
    "base_url_of_environment",
    "both_ends",
    "bound",
    "cause_of_answer",
    "check_domain",
    "check_family",
    "check_judge",
    "checked",
    "content_of",
    "ending",
    "finish_reason",
    "image_family",
    "image_tokens",
    "known_profile",
    "open_model",
    "profile_file",
    "profile_of",
    "profiles_folder",
    "provider_of",
    "read_base_url",
    "read_profile",
    "read_proxy",
    "reply_of",
    "request_key",
    "segments",
    "shipped_profile",
    "spelling",
    "spoken",
    "visible",
]
