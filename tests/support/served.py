"""A well-behaved model behind a real socket: answers every stage of the full dialect."""

from __future__ import annotations

import json
import re

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
