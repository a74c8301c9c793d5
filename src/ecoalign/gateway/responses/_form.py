"""An answer as a response of the API: whole, or as the sequence of events of a stream."""

from __future__ import annotations

import secrets
import time
from typing import Any

from ecoalign.gateway.chat._protocol import Json
from ecoalign.gateway.chat._response import dumped
from ecoalign.gateway.responses._protocol import ResponsesRequest
from ecoalign.gateway.responses._request import Asked

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not whole, by the finish reason of the chat completion."""


class ResponseForm:
    """Writes one answer as a response; see `Form`.

    Args:
        asked: the request.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._id = f"resp_{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._number = 0
        self._output: list[Json] = []
        self._part: Json | None = None
        self._reason: str | None = None
        self._usage: Json | None = None
        self._evidence: Json | None = None

    # -- whole ------------------------------------------------------------------------------------

    def whole(self, completion: Json) -> Json:
        """See `Form`."""
        choice = completion["choices"][0]
        message = choice["message"]
        logprobs = choice.get("logprobs")
        self._reason = choice["finish_reason"]
        self._usage, self._evidence = completion.get("usage"), completion.get("ecoalign")
        part = None
        if message.get("refusal") is not None:
            part = {"type": "refusal", "refusal": message["refusal"]}
        elif message.get("content") is not None:
            part = _text(message["content"], (logprobs or {}).get("content"))
        if part is not None:
            self._output.append({**_message(), "status": self._status, "content": [part]})
        self._output += [
            {**_call(call), "status": self._status} for call in message.get("tool_calls") or ()
        ]
        return self._response(self._status)

    # -- in a stream ------------------------------------------------------------------------------

    def begin(self) -> bytes:
        """See `Form`."""
        return self._event("response.created", response=self._response("in_progress")) + (
            self._event("response.in_progress", response=self._response("in_progress"))
        )

    def chunk(self, chunk: Json) -> bytes:
        """See `Form`."""
        self._usage = chunk.get("usage") or self._usage
        self._evidence = chunk.get("ecoalign") or self._evidence
        shown = b""
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if delta.get("content"):
                told = (choice.get("logprobs") or {}).get("content") or []
                shown += self._add("output_text", delta["content"], told)
            if delta.get("refusal"):
                shown += self._add("refusal", delta["refusal"], [])
            for call in delta.get("tool_calls") or ():
                shown += self._called(call)
            self._reason = choice.get("finish_reason") or self._reason
        return shown

    def end(self) -> bytes:
        """See `Form`."""
        shown = self._close()
        if not self._output:
            shown += self._open("output_text") + self._close()
        status = self._status
        for item in self._output:
            item["status"] = status
        return shown + self._event(f"response.{status}", response=self._response(status))

    def error(self, error: BaseException) -> bytes:
        """See `Form`."""
        told = self._asked.own(error)
        fields = {"code": told.code, "message": told.message, "param": told.param}
        # Once as the API describes it, and once as its clients look for it.
        return self._event("error", **fields, error={"type": told.kind, **fields})

    def _add(self, kind: str, words: str, logprobs: list[Json]) -> bytes:
        shown = b""
        if self._part is None or self._part["type"] != kind:
            shown += self._close() + self._open(kind)
        part: Any = self._part
        if kind == "refusal":
            part["refusal"] += words
            return shown + self._event("response.refusal.delta", **self._here, delta=words)
        part["text"] += words
        part["logprobs"] += logprobs
        return shown + self._event(
            "response.output_text.delta", **self._here, delta=words, logprobs=logprobs
        )

    @property
    def _here(self) -> Json:
        """Where the open part is."""
        item = self._output[-1]
        return {
            "item_id": item["id"],
            "output_index": len(self._output) - 1,
            "content_index": max(0, len(item["content"]) - 1),
        }

    def _open(self, kind: str) -> bytes:
        """Begin a part of the message, and the message where there is none yet."""
        shown = b""
        if not self._output or self._output[-1]["type"] != "message":
            item: Json = {**_message(), "status": "in_progress", "content": []}
            self._output.append(item)
            shown += self._added(item)
        self._part = _text("", []) if kind == "output_text" else {"type": kind, "refusal": ""}
        self._output[-1]["content"].append(self._part)
        return shown + self._event("response.content_part.added", **self._here, part=self._part)

    def _close(self) -> bytes:
        """End the open part, and its message."""
        if self._part is None:
            return b""
        part, self._part = self._part, None
        if part["type"] == "refusal":
            done = self._event("response.refusal.done", **self._here, refusal=part["refusal"])
        else:
            done = self._event(
                "response.output_text.done",
                **self._here,
                text=part["text"],
                logprobs=part["logprobs"],
            )
        self._output[-1]["status"] = self._status
        done += self._event("response.content_part.done", **self._here, part=part)
        return done + self._done()

    def _called(self, call: Json) -> bytes:
        """A call, which comes whole."""
        item = {**_call(call), "status": "completed"}
        shown = self._close()
        self._output.append(item)
        shown += self._added({**item, "arguments": "", "status": "in_progress"})
        at = {"item_id": item["id"], "output_index": len(self._output) - 1}
        name = "response.function_call_arguments"
        shown += self._event(f"{name}.delta", **at, delta=item["arguments"])
        shown += self._event(f"{name}.done", **at, name=item["name"], arguments=item["arguments"])
        return shown + self._done()

    def _added(self, item: Json) -> bytes:
        at = len(self._output) - 1
        return self._event("response.output_item.added", output_index=at, item=item)

    def _done(self) -> bytes:
        at = len(self._output) - 1
        return self._event("response.output_item.done", output_index=at, item=self._output[-1])

    def _event(self, kind: str, **fields: object) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + dumped(event) + b"\n\n"

    # -- both -------------------------------------------------------------------------------------

    @property
    def _status(self) -> str:
        return "incomplete" if self._reason in _INCOMPLETE else "completed"

    def _response(self, status: str) -> Json:
        over = status != "in_progress"
        reason = _INCOMPLETE.get(self._reason or "") if over else None
        made: Json = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "error": None,
            "incomplete_details": None if reason is None else {"reason": reason},
            **_echoed(self._asked.request),
            "output": self._output if over else [],
            "usage": _usage(self._usage) if over else None,
        }
        if over and self._evidence is not None:
            made["ecoalign"] = self._evidence
        return made


def _message() -> Json:
    return {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant"}


def _text(words: str, logprobs: list[Json] | None) -> Json:
    told = [] if logprobs is None else [*logprobs]
    return {"type": "output_text", "text": words, "annotations": [], "logprobs": told}


def _call(call: Json) -> Json:
    function = call["function"]
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
    }


def _usage(usage: Json | None) -> Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


def _echoed(asked: ResponsesRequest) -> Json:
    """What a response repeats of its request."""
    text = asked.text.model_dump(by_alias=True, exclude_none=True) if asked.text else {}
    effort = asked.reasoning.effort if asked.reasoning else None
    choice = asked.tool_choice or "auto"
    return {
        "model": asked.model,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": effort, "summary": None},
        "store": False,
        "background": False,
        "temperature": asked.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
        "tools": [
            {"strict": None, "parameters": None, **tool.model_dump(exclude_none=True)}
            for tool in asked.tools or ()
        ],
        "top_logprobs": asked.top_logprobs,
        "top_p": asked.top_p,
        "truncation": "disabled",
        "user": asked.user,
    }
