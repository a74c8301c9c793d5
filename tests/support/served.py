"""A well-behaved model behind a real socket: answers every stage of the full dialect."""

from __future__ import annotations

import json
import re
from typing import Any

from hostile import Received, Reply, completion

_KEY = re.compile(r'"key": ("[^"]*"), "safety"')


def well_behaved(request: Received) -> Reply:
    """Scan, look once, answer "42", score everything as safe and good."""
    messages = request.json["messages"]
    assert isinstance(messages, list)
    said = messages[-1]["content"]
    parts = [{"type": "text", "text": said}] if isinstance(said, str) else said
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if key := _KEY.search(text):
        body = f'{{"key": {key[1]}, "safety": 9, "utility": 8}}'
    elif '"caption": "..."' in text:
        body = json.dumps({"caption": "two signs", "safety": 9, "strategy": ""})
    elif "Propose at most" in text:
        body = json.dumps({"actions": [_action("look"), _action("answer")]})
    else:
        body = "42"
    usage = {"prompt_tokens": len(text) // 4, "completion_tokens": len(body) // 3 + 1}
    return Reply(completion(body, usage=usage | {"total_tokens": sum(usage.values())}))


def _action(kind: str) -> dict[str, object]:
    return {
        "kind": kind,
        "text": "the sign" if kind == "look" else "",
        "region": [600, 0, 1000, 400] if kind == "look" else [],
        "image": 1,
        "partners": [],
        "forecast": [[9, 8, 300]],
    }


def in_events(reply: Reply, asked: dict[str, Any]) -> Reply:
    """A whole answer as server-sent events, where `asked`, the body of the request, says so: a word
    an event, each call of a tool in one."""
    if not asked.get("stream") or not isinstance(reply.body, dict):
        return reply
    (choice,) = reply.body["choices"]
    message = dict(choice["message"])
    calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls", None) or ())]
    words = (message.pop("content", None) or "").split(" ")
    deltas: list[dict[str, Any]] = [{"content": f"{word} "} for word in words[:-1]]
    deltas = [*deltas, {"content": words[-1]}, *({"tool_calls": [call]} for call in calls)]
    deltas[0] = message | deltas[0]
    said = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    said.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    chunks: list[dict[str, Any]] = [{"choices": [one]} for one in said]
    if asked.get("stream_options"):
        chunks.append({"choices": [], "usage": reply.body["usage"]})
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return Reply(lines, headers={"Content-Type": "text/event-stream"})
