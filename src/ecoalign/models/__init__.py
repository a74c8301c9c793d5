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
from ecoalign.models._endpoint import USER_AGENT, Endpoint, base_url_of_environment, read_base_url
from ecoalign.models._known import CountsLines, KnownTokens, SupportsSegments
from ecoalign.models._profile import (
    BoxConvention,
    Profile,
    profile_file,
    profile_of,
    read_profile,
    shipped_profile,
)
from ecoalign.models._registry import open_model
from ecoalign.models._reply import OWN_REPLY, FinishReason, Reply, finish_reason, reply_of, spoken
from ecoalign.models._sampling import SamplingParams, attribute_error, checked
from ecoalign.models._speech import Ending, Visible, ending, visible
from ecoalign.models._tokens import Segment, bound, image_family, image_tokens, segments

__all__ = [
    "OWN_REPLY",
    "USER_AGENT",
    "BoxConvention",
    "ChatModel",
    "ChatRequest",
    "Completion",
    "CountsLines",
    "Ending",
    "Endpoint",
    "FinishReason",
    "ImagePart",
    "KnownTokens",
    "Message",
    "Profile",
    "Reply",
    "SamplingParams",
    "Segment",
    "SupportsSegments",
    "TextPart",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "Visible",
    "attribute_error",
    "base_url_of_environment",
    "bound",
    "checked",
    "ending",
    "finish_reason",
    "image_family",
    "image_tokens",
    "open_model",
    "profile_file",
    "profile_of",
    "read_base_url",
    "read_profile",
    "reply_of",
    "request_key",
    "segments",
    "shipped_profile",
    "spoken",
    "visible",
]
