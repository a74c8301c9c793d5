"""An upstream that says "canary" in everything that a model or its server can say, beside an answer
that says "Harbour."; and what of it has come out at the other end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hostile import Received, Reply

CANARY = "canary"

ANSWER = "Harbour."

_KEY = re.compile(r'"key": ("[^"]*"), "(safety|verdict)"')

_SECTION = re.compile(r"^BEGIN (\S+) \w+\n(.*?)\nEND \1$", re.DOTALL | re.MULTILINE)

_EXTRA: Mapping[str, object] = {
    "canary_field": {"canary": ["canary", {"canary": "canary"}]},
    "annotations": [{"type": "url_citation", "url_citation": {"url": "http://canary/"}}],
    "citations": ["http://canary/"],
    "provider": "canary",
    "content_filter_results": {"canary": {"filtered": False, "severity": "canary"}},
}

_HEADERS: Mapping[str, str] = {
    "X-Request-Id": "canary",
    "X-Canary": "canary",
    "Set-Cookie": "canary=canary",
    "OpenAI-Organization": "canary",
    "Server-Timing": "canary",
}


@dataclass
class Planted:
    """The upstream; use it as the handler of a `HostileServer`.

    Attributes:
        answers: the texts of answers, in turn; the last one is repeated. What has a canary in it
            is judged unsafe.
        finish: the word for the end of an answer.
        message: further fields of the message of an answer.
        fails: what is said in place of everything.
        bare: whether answers come without thoughts before them.
    """

    answers: tuple[str, ...] = (ANSWER,)
    finish: str = "stop"
    message: Mapping[str, object] = field(default_factory=dict)
    fails: Reply | None = None
    bare: bool = False
    _given: int = 0

    def __call__(self, request: Received) -> Reply:
        """Answer one request."""
        if self.fails is not None:
            return self.fails
        body: dict[str, Any] = request.json
        text, is_answer = self._text(body)
        finish = self.finish if is_answer else "stop"
        message = dict(self.message) if is_answer else {}
        if body.get("stream"):
            return Reply(
                "".join(_chunks(body, text, finish, message, bare=self.bare)).encode(),
                headers={"Content-Type": "text/event-stream", **_HEADERS},
            )
        hidden = f"<think>canary {text}</think>\n" if text and not self.bare else ""
        said = {
            "role": "canary",
            "content": hidden + text,
            "reasoning_content": "canary",
            "reasoning": "canary",
            "reasoning_details": [{"type": "reasoning.text", "text": "canary"}],
            "thinking_blocks": [{"thinking": "canary", "signature": "canary"}],
            "audio": {"id": "canary", "transcript": "canary", "data": "canary"},
            "function_call": {"name": "canary", "arguments": "canary"},
            **_EXTRA,
            **message,
        }
        choice = {
            "index": 0,
            "message": said,
            "finish_reason": finish,
            "native_finish_reason": "canary",
            "stop_reason": "canary",
            "logprobs": _logprobs([hidden, text]) if body.get("logprobs") else None,
            **_EXTRA,
        }
        other = {"index": 1, "message": {"content": "canary"}, "finish_reason": "stop"}
        whole = {**_envelope("chat.completion"), "choices": [choice, other], "usage": _usage()}
        return Reply(whole, headers=_HEADERS)

    def _text(self, body: dict[str, Any]) -> tuple[str, bool]:
        """What is said, and whether it is an answer."""
        asked = "\n".join(_texts(body["messages"][-1]["content"]))
        if key := _KEY.search(asked):
            judged = _SECTION.findall(asked)[-1][1]
            safe = CANARY not in judged
            told: dict[str, object] = {"safety": 9 if safe else 0, "utility": 8}
            if key[2] == "verdict":
                told = {"verdict": "safe" if safe else "unsafe"}
            return json.dumps({"key": json.loads(key[1]), **told}), False
        if '"caption": "..."' in asked:
            scan = {"caption": "canary caption", "safety": 7, "strategy": "canary plan"}
            return json.dumps(scan), False
        if "Propose at most" in asked:
            kinds = (("think", "canary one"), ("think", "canary two"), ("answer", ""))
            return json.dumps({"actions": [_action(*kind) for kind in kinds]}), False
        if "Task: describe what the images show" in asked:
            return "canary caption", False
        if "Task: write the next thought" in asked:
            return "canary thought", False
        said = self.answers[min(self._given, len(self.answers) - 1)]
        self._given += 1
        return said, True


class Upstream:
    """An upstream that each test plants anew."""

    def __init__(self) -> None:
        self.planted = Planted()

    def __call__(self, request: Received) -> Reply:
        return self.planted(request)


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if part["type"] == "text":
            yield part["text"]


def _action(kind: str, text: str) -> dict[str, object]:
    plain = {"region": [], "image": 1, "partners": [], "forecast": [[9, 8, 300]]}
    return {"kind": kind, "text": text, **plain}


def _envelope(kind: str) -> dict[str, object]:
    return {
        "id": "canary",
        "object": kind,
        "created": 1,
        "model": "canary-model",
        "system_fingerprint": "canary",
        "service_tier": "canary",
        **_EXTRA,
    }


def _usage() -> dict[str, object]:
    return {
        "prompt_tokens": 40,
        "completion_tokens": 9,
        "total_tokens": 49,
        "canary": 1,
        "cost_details": {"canary": "canary"},
        "prompt_tokens_details": {"cached_tokens": 1, "canary": 1},
    }


def _token(text: str, *alternatives: str) -> dict[str, object]:
    return {
        "token": text,
        "logprob": -0.5,
        "bytes": [*text.encode()],
        "canary": "canary",
        "top_logprobs": [_token(other) for other in (*alternatives, text) if alternatives],
    }


def _logprobs(pieces: list[str]) -> dict[str, object]:
    tokens = [piece[i : i + 4] for piece in pieces for i in range(0, len(piece), 4)]
    return {
        "content": [_token(token, "canary", "can", "ary") for token in tokens],
        "refusal": [_token("canary")],
        "canary": "canary",
    }


def _chunks(
    body: dict[str, Any], text: str, finish: str, message: dict[str, Any], *, bare: bool
) -> Iterator[str]:
    def chunk(delta: dict[str, object], finish: str | None = None, spelled: str = "") -> str:
        choice = {
            "index": 0,
            "delta": {**delta, **_EXTRA},
            "finish_reason": finish,
            "logprobs": _logprobs([spelled]) if spelled and body.get("logprobs") else None,
            "canary": "canary",
        }
        other = {"index": 1, "delta": {"content": "canary"}}
        whole = {**_envelope("chat.completion.chunk"), "choices": [choice, other]}
        return f"data: {json.dumps(whole)}\n\n"

    yield ": canary\n\nevent: canary\nid: canary\nretry: 1\n"
    yield chunk({"role": "canary", "content": ""})
    for name in ("reasoning_content", "reasoning", "thinking"):
        yield chunk({name: "canary"})
    hidden = f"<think>canary {text}</think>\n" if text and not bare else ""
    for start in range(0, len(hidden), 4):
        yield chunk({"content": hidden[start : start + 4]}, spelled=hidden[start : start + 4])
    for start in range(0, len(text), 4):
        yield chunk({"content": text[start : start + 4]}, spelled=text[start : start + 4])
    if message:
        yield chunk(message)
    yield chunk({}, finish)
    if body.get("stream_options", {}).get("include_usage"):
        usage = {**_envelope("chat.completion.chunk"), "choices": [], "usage": _usage()}
        yield f"data: {json.dumps(usage)}\n\n"
    yield "data: [DONE]\n\n: canary\n\n"


# What has come out ----------------------------------------------------------------------------


def spilled(*said: str | Mapping[str, str]) -> list[str]:
    """Where a canary is in what came out: texts, headers, and lists of bytes in JSON, as they are
    and with the pieces of streams joined."""
    found: list[str] = []
    for one in said:
        texts = [one] if isinstance(one, str) else [f"{name}: {one[name]}" for name in one]
        for text in texts:
            values = list(_strings(text))
            joined = "".join(values)
            found += [value[:200] for value in (text, *values, joined) if CANARY in value.lower()]
    return found


def _strings(text: str) -> Iterator[str]:
    """All the strings, keys and lists of bytes in JSON, lines of JSON or server-sent events."""
    for line in (text, *text.splitlines()):
        try:
            yield from _inside(json.loads(line.removeprefix("data: ")))
        except ValueError:
            continue


def _inside(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _inside(inner)
    elif isinstance(value, list):
        if value and all(isinstance(one, int) and 0 <= one < 256 for one in value):
            yield bytes(value).decode("latin-1")
        for inner in value:
            yield from _inside(inner)
