"""What a client is shown of an answer that is passed on: its text, the calls of its own tools, why
it ends and what it used. Nothing else that a server says goes out: no name or id of its own, no
hidden reasoning, no field that this API does not have.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ecoalign.errors import ModelError
from ecoalign.gateway.chat._form import ChatForm, Form
from ecoalign.gateway.chat._passed_calls import PassedCalls
from ecoalign.gateway.chat._protocol import Json
from ecoalign.gateway.chat._response import begins_json, dumped
from ecoalign.models import (
    THOUGHT_FIELDS,
    Completion,
    Reply,
    StreamedText,
    both_ends,
    content_of,
    reply_of,
    spelling,
    visible,
)
from ecoalign.models.openai import completion_of, reported_usage, usage_of, withheld_by

_LONGEST = 4 * 1024 * 1024
"""Bytes of one event; a longer one is no piece of an answer."""


@dataclass(frozen=True, slots=True)
class PassedAnswer:
    """How an answer is shown.

    Attributes:
        model: as the client asked for it.
        params: the client's own.
        thinks: whether the model may begin inside its thoughts.
        form: in which the client reads it.
        as_json: whether the client reads the content as JSON; then a refusal has its own field.
        id, created: of the completion.
    """

    model: str
    params: Mapping[str, object]
    thinks: bool = False
    form: Form = field(default_factory=ChatForm)
    as_json: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, data: bytes) -> tuple[bytes, object]:
        """The completion for the client, and the usage as its server gave it.

        Raises:
            ModelError: the server's answer is none.
        """
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise bad_answer("half an answer") from None
        done = self.read(body)
        text = visible(done.text).text
        reply = reply_of(done, text)
        content: str | None = text if text or not reply.tool_calls else None
        refused = done.finish_reason == "refusal" or self.refuses(text, reply)
        message: Json = {
            "role": "assistant",
            "content": None if refused else content,
            "refusal": text if refused else None,
        }
        if reply.tool_calls:
            message["tool_calls"] = [call.to_json() for call in reply.tool_calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None if reply.logprobs is None else dict(reply.logprobs),
            "finish_reason": reply.finish_reason,
        }
        # A text of no tokens is not believed: then nobody knows what it cost.
        usage = None if done.usage is None else reported_usage(body)
        shown = {**self.envelope("chat.completion"), "choices": [choice], "usage": told(usage)}
        return dumped(self.form.whole(shown)), usage

    def refuses(self, text: str, reply: Reply) -> bool:
        """Whether an answer that should be JSON is none."""
        whole = reply.finish_reason == "stop"
        return self.as_json and whole and bool(text) and not begins_json(text)

    def read(self, body: object) -> Completion:
        """The completion in a body.

        Raises:
            ModelError: it is none.
        """
        try:
            return completion_of(body, client=self.params, thinks=self.thinks, blank=True)
        except ModelError as error:
            error.role = "model"
            raise

    def envelope(self, kind: str) -> Json:
        """What every completion and every chunk has."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def told(usage: object) -> Json | None:
    """A server's usage in the fields of the API; None where it cannot be true."""
    read = usage_of(usage, "")
    if read is None:
        return None
    return {
        "prompt_tokens": read.prompt,
        "completion_tokens": read.completion,
        "total_tokens": read.total,
        "prompt_tokens_details": {"cached_tokens": read.cached, "image_tokens": read.image},
    }


def bad_answer(message: str, usage: object = None) -> ModelError:
    """The error where a server's answer cannot be used."""
    read = usage_of(usage, "")
    failure = ModelError(message, fault="bad-response", billed=True, usage=read)
    failure.role = "model"
    return failure


class PassedStream:
    """Makes the chunks that a client is sent of those that a server sends.

    The text is sent as it comes, once it is sure to be no thought, and to be JSON where that was
    asked for: what has none of it is a refusal. Calls of tools are sent at the end, when they are
    whole.

    Args:
        answer: how it is shown.
        wants_usage: whether the client does.

    Attributes:
        usage: as the server gave it; None if it has not.
        began_inside: whether the text began inside its thoughts.
    """

    def __init__(self, answer: PassedAnswer, *, wants_usage: bool) -> None:
        self.usage: object = None
        self.began_inside = False
        self._answer = answer
        self._wants_usage = wants_usage
        self._gate = StreamedText(inside=answer.thinks)
        self._rest = b""
        self._begun = self._over = self._spoken = False
        self._message: Json = {"content": [], "refusal": []}
        self._calls = PassedCalls()
        self._choice: Json = {}
        self._prose = ""

    def feed(self, piece: bytes) -> bytes:
        """The chunks that can be sent after `piece`.

        Raises:
            ModelError: it is no piece of an answer.
        """
        self._rest += piece
        shown = b""
        while (end := _end_of_event(self._rest)) >= 0:
            event, self._rest = self._rest[:end], self._rest[end:]
            shown += self._event(event)
        if len(self._rest) > _LONGEST:
            raise bad_answer("an event without an end", self.usage)
        return shown

    def end(self) -> bytes:
        """The last chunks, where the stream has ended without saying so.

        Raises:
            ModelError: what came is no answer.
        """
        return self._event(self._rest) + self._finish()

    def _event(self, event: bytes) -> bytes:
        data = b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        if not data.strip() or self._over:
            return b""
        if data.strip() == b"[DONE]":
            return self._finish()
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            raise bad_answer("an event that is no chunk of an answer", self.usage)
        reported = reported_usage(chunk)
        if reported is not None and (self.usage is None or usage_of(reported, "") is not None):
            self.usage = reported
        if chunk.get("error"):
            self._answer.read({"error": chunk["error"], "usage": self.usage})
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        return self._piece(choice) if isinstance(choice, dict) else b""

    def _piece(self, choice: Json) -> bytes:
        """What a piece of the answer shows; the rest of it is kept for its end."""
        delta = choice.get("delta") or (None if self._spoken else choice.get("message"))
        delta = delta if isinstance(delta, dict) else {}
        ends = self._choice.get("finish_reason", "")
        filters = self._choice.get("content_filter_results")
        self._choice |= {"index": 0} | {
            name: value
            for name, value in choice.items()
            if value and name not in {"delta", "message", "logprobs"}
        }
        if withheld_by({"content_filter_results": filters}):
            # What was withheld once is, whatever is said of the next piece.
            self._choice["content_filter_results"] = filters
        if ends and isinstance(again := choice.get("finish_reason"), str) and again:
            self._choice["finish_reason"] = both_ends(ends, again)
        if any(delta.get(name) for name in THOUGHT_FIELDS):
            self._message["reasoning"] = True
        try:
            self._calls.add(delta.get("tool_calls"))
        except ValueError as error:
            raise bad_answer(str(error), self.usage) from None
        self._calls.add_older(delta.get("function_call"))
        self._spoken = self._spoken or bool(delta)
        shown = b""
        if content := content_of(delta.get("content")):
            self._message["content"].append(content)
            text = self._held(self._gate.feed(content))
            raw = choice.get("logprobs")
            # Tokens go with the text that they spell; of what was held back there are none.
            spelled = (
                spelling(raw, text)
                if isinstance(raw, dict) and text == content and self._answer.params.get("logprobs")
                else None
            )
            shown += self._text({"content": text}, spelled) if text else b""
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._message["refusal"].append(refusal)
        return shown

    def _held(self, text: str) -> str:
        """What of `text`, and of what came before it, can be shown: nothing before its JSON."""
        if not self._answer.as_json or self._begun or not text:
            return text
        self._prose += text
        if not begins_json(text):
            return ""
        text, self._prose = self._prose, ""
        return text

    def _text(self, delta: Json, logprobs: Mapping[str, Any] | None = None) -> bytes:
        if self._begun:
            return self._chunk(delta, logprobs)
        self._begun = True
        return self._answer.form.begin() + self._chunk({"role": "assistant", **delta}, logprobs)

    def _chunk(
        self,
        delta: Json | None,
        logprobs: Mapping[str, Any] | None = None,
        finish: str | None = None,
        usage: Json | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk = {
            **self._answer.envelope("chat.completion.chunk"),
            "choices": [] if delta is None else [choice],
            **({"usage": usage} if self._wants_usage else {}),
        }
        return self._answer.form.chunk(chunk)

    def _finish(self) -> bytes:
        """What is left of the text, the calls, the reason and the usage: read as a whole answer
        is."""
        if self._over:
            return b""
        self._over = True
        if not self._choice and not self._begun:
            raise bad_answer("an empty stream", self.usage)
        message = {
            **self._message,
            "content": "".join(self._message["content"]),
            "refusal": "".join(self._message["refusal"]),
            "tool_calls": self._calls.whole(),
        }
        done = self._answer.read(
            {"choices": [{**self._choice, "message": message}], "usage": self.usage}
        )
        if done.usage is None:
            self.usage = None
        self.began_inside = self._gate.began_inside
        shown = b""
        seen = visible(done.text).text
        reply = reply_of(done, seen)
        if done.finish_reason == "refusal":
            shown += self._text({"refusal": done.text})
        elif not self._begun and self._answer.refuses(seen, reply):
            shown += self._text({"refusal": seen})
        elif done.text and (rest := self._prose + self._gate.end()):
            shown += self._text({"content": rest})
        for index, call in enumerate(reply.tool_calls):
            shown += self._text({"tool_calls": [{"index": index, **call.to_json()}]})
        if not self._begun:
            shown += self._text({"content": ""})
        shown += self._chunk({}, finish=reply.finish_reason)
        if self._wants_usage:
            shown += self._chunk(None, usage=told(self.usage))
        return shown + self._answer.form.end()


def _end_of_event(text: bytes) -> int:
    ends = [
        at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := text.find(mark)) >= 0
    ]
    return min(ends, default=-1)
