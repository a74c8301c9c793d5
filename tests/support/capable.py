"""A server that can do what a test says it can, and counts tokens: what a probe has to find out."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hostile import Received, Reply, completion
from PIL import Image

from ecoalign.probe._verdicts import requests

_KEY = re.compile(r'"key": "([^"]*)", "safety"')

_BOXES = {
    "xyxy-1000": "[{l:.0f}, {t:.0f}, {r:.0f}, {b:.0f}]",
    "yxyx-1000": "[{t:.0f}, {l:.0f}, {b:.0f}, {r:.0f}]",
    "xyxy-1024": "[[{l:.0f}, {t:.0f}], [{r:.0f}, {b:.0f}]]",
    "xyxy-1": "[{l:.3f}, {t:.3f}, {r:.3f}, {b:.3f}]",
    "xyxy-pixels": '```json\n[{{"bbox_2d": [{l:.0f}, {t:.0f}, {r:.0f}, {b:.0f}]}}]\n```',
    "xywh-pixels": "[{l:.0f}, {t:.0f}, {w:.0f}, {h:.0f}]",
}


@dataclass
class Capable:
    """What the server can do. Use it as the handler of a `HostileServer`.

    Attributes:
        sees: whether images are taken, refused (HTTP 400) or dropped in silence.
        image: tokens of an image.
        schema: what is done with `response_format`.
        logprobs: the most alternatives; more are refused, and -1 drops the wish in silence.
        seed: whether a seed is taken.
        system: what is done with a system message beside an image.
        thinks: tokens of hidden reasoning before every answer.
        limited_by: the parameters that switch it off; None if nothing does.
        boxes: how a region is written; "" for not at all.
        smallest: the least side of an image; a smaller one is HTTP 500.
        capped: whether the cap on the output is kept.
        usage: whether usage is reported.
        caches: whether an equal prompt is read from a cache.
        judge: how JSON verdicts are given: right, always the same, or as prose.
        counter: the form of `/tokenize`; "" for none.
        asked: the bodies of the requests for completions.
    """

    sees: Literal["yes", "refused", "dropped"] = "yes"
    image: int = 100
    schema: Literal["enforced", "object", "dropped", "refused"] = "enforced"
    logprobs: int = 20
    seed: bool = True
    system: Literal["yes", "refused", "dropped"] = "yes"
    thinks: int = 0
    limited_by: Mapping[str, object] | None = None
    boxes: str = "xyxy-1000"
    smallest: int = 1
    capped: bool = True
    usage: bool = True
    caches: bool = False
    judge: Literal["right", "same", "prose"] = "right"
    counter: Literal["", "vllm", "llama.cpp"] = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def __call__(self, request: Received) -> Reply:
        """Answer one request."""
        if request.path == "/tokenize":
            return self._count(request.json)
        body: dict[str, Any] = request.json
        self.asked.append(body)
        return self._refusal(body) or self._answer(body)

    def _count(self, body: dict[str, Any]) -> Reply:
        if not self.counter:
            return Reply({"error": "not found"}, 404)
        tokens = list(range(len(body["prompt"]) // 4))
        extra = {"count": len(tokens), "max_model_len": 4096} if self.counter == "vllm" else {}
        return Reply({"tokens": tokens, **extra})

    def _refusal(self, body: dict[str, Any]) -> Reply | None:
        images = _images(body)
        if images and self.sees == "refused":
            return _bad("this model does not take images: image_url")
        if any(min(one.size) < self.smallest for one in images):
            return Reply({"error": {"message": "height must be larger than factor"}}, 500)
        if images and self.system == "refused" and body["messages"][0]["role"] == "system":
            return _bad("Prompting with images is incompatible with system messages.")
        if "seed" in body and not self.seed:
            return _bad("Unsupported parameter: seed", "seed")
        if 0 <= self.logprobs < body.get("top_logprobs", 0):
            return _bad("top_logprobs is too large or logprobs not supported", "top_logprobs")
        kind = body.get("response_format", {}).get("type")
        if kind and (self.schema == "refused" or (self.schema == "object" and "schema" in kind)):
            return _bad(f"response_format {kind} is not supported", "response_format")
        return None

    def _answer(self, body: dict[str, Any]) -> Reply:
        text = self._said(body)
        cap = int(body.get("max_tokens") or body["max_completion_tokens"])
        limited = self.limited_by is not None and self.limited_by.items() <= body.items()
        hidden = 0 if limited else self.thinks
        words = text.split()
        finish = "stop"
        if self.capped and hidden + len(words) > cap:
            words, finish = words[: max(0, cap - hidden)], "length"
            text, hidden = " ".join(words), min(hidden, cap)
        reply: dict[str, Any] = completion(text)
        choice = reply["choices"][0]
        choice["finish_reason"] = finish
        if body.get("logprobs") and self.logprobs > 0:
            top = [{"token": str(n), "logprob": -1.0 - n} for n in range(body["top_logprobs"])]
            choice["logprobs"] = {
                "content": [{"token": text, "logprob": -0.5, "top_logprobs": top}]
            }
        prompt = json.dumps(body["messages"], sort_keys=True)
        tokens = self._tokens(body)
        cached = tokens - 1 if self.caches and prompt in self._seen else 0
        self._seen.add(prompt)
        spoken = hidden + len(words)
        reply["usage"] = {
            "prompt_tokens": tokens,
            "completion_tokens": spoken,
            "total_tokens": tokens + spoken,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        if not self.usage:
            del reply["usage"]
        return Reply(reply)

    def _tokens(self, body: dict[str, Any]) -> int:
        """A token for four bytes of text, and what images take."""
        heard = [
            message
            for message in body["messages"]
            if message["role"] != "system" or self.system == "yes"
        ]
        seen = len(_images(body)) if self.sees == "yes" else 0
        return 8 + sum(len(_text(one)) for one in heard) // 4 + self.image * seen

    def _said(self, body: dict[str, Any]) -> str:
        asked = _text(body["messages"][-1])
        kind = body.get("response_format", {}).get("type", "")
        if key := _KEY.search(asked):
            return self._verdict(asked, key[1])
        if kind == "json_schema" and self.schema == "enforced":
            return '{"weather": "rain", "grade": 1}'
        if kind == "json_object" and self.schema in {"enforced", "object"}:
            return '{"sentence": "It rains."}'
        if "bounding box" in asked and self.boxes and self.sees == "yes":
            return _written(_images(body)[0], self.boxes)
        if "Count from 1" in asked:
            return "\n".join(map(str, range(1, 201)))
        if "17 + 25" in asked:
            return "42"
        return "Rain falls softly on the roof."

    def _verdict(self, asked: str, key: str) -> str:
        if self.judge == "prose":
            return "This is quite safe, I think."
        unwanted = self.judge == "right" and any(
            text in asked for harmless, text in requests() if not harmless
        )
        return json.dumps({"key": key, "safety": 1 if unwanted else 9, "utility": 5})


def _bad(message: str, param: str | None = None) -> Reply:
    return Reply({"error": {"message": message, "param": param}}, 400)


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _images(body: dict[str, Any]) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", json.dumps(body["messages"]))
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def _written(picture: Image.Image, convention: str) -> str:
    red = [
        (x, y)
        for x in range(picture.width)
        for y in range(picture.height)
        if picture.getpixel((x, y)) == (220, 20, 20)
    ]
    left, top = map(min, zip(*red, strict=True))
    right, bottom = (most + 1 for most in map(max, zip(*red, strict=True)))
    wide, high = {"1000": (1000, 1000), "1024": (1024, 1024), "1": (1, 1)}.get(
        convention.rpartition("-")[2], (picture.width, picture.height)
    )
    x, y = wide / picture.width, high / picture.height
    return _BOXES[convention].format(
        l=left * x,
        t=top * y,
        r=right * x,
        b=bottom * y,
        w=(right - left) * x,
        h=(bottom - top) * y,
    )
