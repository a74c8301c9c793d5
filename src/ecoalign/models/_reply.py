"""What comes with the text of an answer (finish reason, tool calls, log-probabilities), without
anything unscored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ecoalign._record import dataclass
from ecoalign.models._base import Completion, ToolCall
from ecoalign.models._speech import ending

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything about an answer but its text.

    Attributes:
        finish_reason: why it ends where it does; "length" if it was cut by its cap, or if its
            server gave no known reason, so that nobody knows whether it is whole.
        tool_calls: the calls of the client's tools in it. Their text is part of the answer's, and
            so was scored with it.
        logprobs: the `logprobs` of the choice, where the client asked for them, in the fields of
            the API alone. Tokens that are not shown, of hidden reasoning say, are left out, and so
            are alternatives to a token. None where they do not spell the answer: what they spell
            instead has not been scored.
    """

    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: Mapping[str, Any] | None = None

    def content(self, text: str) -> str | None:
        """`text`, the answer, less its tool calls; None if nothing is left."""
        if not self.tool_calls:
            return text
        return text.removesuffix(spoken(self.tool_calls)).rstrip() or None


OWN_REPLY = Reply()
"""The reply of a text that no model wrote, such as the fixed refusal."""


def finish_reason(said: str, tool_calls: Sequence[ToolCall] = ()) -> FinishReason:
    """The API's word for a server's `said`; "length" for one that nobody knows.

    Calls of tools end an answer with "tool_calls", though many servers say "stop"; and nothing
    else does.
    """
    match ending(said):
        case "stop" | "tool_calls":
            return "tool_calls" if tool_calls else "stop"
        case "refusal":
            return "stop"
        case "content_filter":
            return "content_filter"
        case "length" | "unknown":
            return "length"


def spoken(tool_calls: Sequence[ToolCall]) -> str:
    """Tool calls as a text to be scored, one a line."""
    return "\n".join(call.text for call in tool_calls)


def reply_of(completion: Completion, text: str) -> Reply:
    """The reply that goes with `text`, what is shown of `completion`."""
    calls = completion.tool_calls
    reason = finish_reason(completion.finish_reason, calls)
    # One for all that are alike: a search keeps the reply of each thought.
    reply = Reply(reason, calls) if calls or reason != "stop" else OWN_REPLY
    if completion.raw_logprobs is None:
        return reply
    shown = spelling(completion.raw_logprobs, reply.content(text) or "")
    return Reply(reply.finish_reason, calls, shown)


def spelling(raw: Mapping[str, Any], shown: str) -> Mapping[str, Any] | None:
    """`raw` cut down to the tokens that spell `shown`, white space around it aside."""
    entries = raw.get("content")
    if not isinstance(entries, list):
        return None
    pieces = [_bytes_of(entry) for entry in entries]
    if any(piece is None for piece in pieces):
        return None
    known = [piece for piece in pieces if piece is not None]
    whole, wanted = b"".join(known), shown.encode("utf-8", "replace").strip()
    # Nothing but the tokens: a refusal's own list, say, has not been scored.
    bare = {name: None for name in raw if name == "refusal"}
    if whole.strip() == wanted:
        return {"content": [*map(_plain, entries, known)], **bare}
    start = whole.rfind(wanted)
    if start < 0 or not wanted:
        return None
    end, place = start + len(wanted), 0
    kept: list[object] = []
    for entry, piece in zip(entries, known, strict=True):
        stop = place + len(piece)
        if stop > start and place < end:
            before, after = max(0, start - place), len(piece) - max(0, stop - end)
            if piece[:before].strip() or piece[after:].strip():
                return None
            kept.append(_plain(entry, piece))
        place = stop
    return {"content": kept, **bare}


def _plain(entry: object, piece: bytes) -> dict[str, object]:
    """A token with the text that its bytes spell, and the fields that the API knows.

    Of the alternatives only the token itself is left: all others are texts that nobody scored.
    """
    fields = entry if isinstance(entry, Mapping) else {}
    try:
        token = piece.decode()
    except UnicodeDecodeError:
        # How some servers write a token that is no whole character.
        token = "".join(f"\\x{byte:02x}" for byte in piece)
    plain: dict[str, object] = {"token": token}
    if "logprob" in fields:
        plain["logprob"] = _number(fields["logprob"])
    if "bytes" in fields:
        plain["bytes"] = None if fields["bytes"] is None else [*piece]
    if isinstance(top := fields.get("top_logprobs"), list):
        known = {name: value for name, value in fields.items() if name in _ALTERNATIVE}
        itself = any(_bytes_of(other) == piece for other in top)
        plain["top_logprobs"] = [_plain(known, piece)] if itself else []
    return plain


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


_ALTERNATIVE = frozenset({"token", "logprob", "bytes"})


def _bytes_of(entry: object) -> bytes | None:
    """The bytes of one token; its text stands in where the server gave none."""
    if not isinstance(entry, Mapping):
        return None
    token, given = entry.get("token"), entry.get("bytes")
    if not isinstance(token, str):
        return None
    if isinstance(given, list):
        try:
            return bytes(given)
        except (TypeError, ValueError):
            return None
    return token.encode("utf-8", "replace")
