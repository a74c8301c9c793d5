"""What one prefix is worth: a run against a server that caches prefixes, as many servers do.

    python perf/prefix_cache.py [--before DIR] [--rules vllm|openai] [--view-pixels N]
                                [--set NAME=VALUE] [--json]

starts an OpenAI-compatible server on a real socket, asks it one question about two pictures with
`ecoalign ask`, and prints what it computed and what it read from its cache. `--before` names the
checkout of another release, which is asked the same for comparison.

The server is a mock, and this is what it assumes. Tokens: a short word or a sign each, with the
space before it; an image one per 28 x 28 pixels. A request is the row of its tokens, roles and
image bytes included, and what it shares with the start of an earlier one is cached: by `vllm` in
whole blocks of 16 tokens, by `openai` from 1,024 tokens on in steps of 128, the JSON schema
standing before the messages. Time: 2,000 tokens a second are read where they are not cached, 50 a
second written. Dollars: 2.50 a million tokens read, 10 a million written; cached tokens cost a
tenth or a half of the price of reading, and both are shown. What it answers is well-formed and of
little use, so that the search goes on to its limits.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

READ = 2000.0
WRITTEN = 50.0
PRICES = {"input": 2.5, "output": 10.0}
SHARES = {"a tenth": 0.1, "half": 0.5, "no discount": 1.0}
"""What a cached token costs, as a share of one that is not."""
MODEL = "qwen2.5-vl-mock"
QUESTION = "Which of the two signs shows the larger number, and by how much?"
SETTINGS = ("draft=true", "max_thoughts=12", "max_depth=4")

_WORD = re.compile(r" ?[A-Za-z]{1,8}| ?\d{1,3}| ?\w{1,4}| ?[^\w\s]|\s")
_KEY = re.compile(r'"key": ("[^"]*"), "safety"')

Token = tuple[str, str, int]


@cache
def _image(url: str) -> tuple[Token, ...]:
    data = base64.b64decode(url.partition(",")[2])
    width, height = Image.open(io.BytesIO(data)).size
    digest = hashlib.sha256(data).hexdigest()
    return tuple(("image", digest, n) for n in range(-(-width // 28) * -(-height // 28)))


def tokens_of(body: dict[str, Any], *, schema_first: bool) -> Iterator[Token]:
    """The tokens of a request, in the order in which a server reads them."""
    if schema_first and body.get("response_format", {}).get("type") == "json_schema":
        yield from (
            ("schema", word, 0) for word in _WORD.findall(json.dumps(body["response_format"]))
        )
    for message in body["messages"]:
        yield ("role", message["role"], 0)
        content = message["content"]
        parts = content
        if isinstance(content, str):
            parts = [{"type": "text", "text": content}]
        for part in parts:
            if part["type"] == "text":
                yield from (("text", word, 0) for word in _WORD.findall(part["text"]))
            else:
                yield from _image(part["image_url"]["url"])


@dataclass
class Call:
    """One request as the server saw it, in tokens."""

    prompt: int
    cached: int
    completion: int
    views: int
    views_cached: int


@dataclass
class Caching:
    """What the server remembers."""

    rules: str
    timed: bool
    views: frozenset[str] = frozenset()
    calls: list[Call] = field(default_factory=list)
    _seen: list[list[Token]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=count)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion, with the usage that it is billed by."""
        tokens = list(tokens_of(body, schema_first=self.rules == "openai"))
        with self._lock:
            cached = self._cached(tokens)
            number = next(self._numbers)
        text = _said(body, number)
        views = [n for n, token in enumerate(tokens) if token[0] == "image" and self._view(token)]
        call = Call(
            len(tokens),
            cached,
            len(_WORD.findall(text)),
            len(views),
            sum(n < cached for n in views),
        )
        if self.timed:
            time.sleep((call.prompt - cached) / READ + call.completion / WRITTEN)
        with self._lock:
            # A prefix can be read from the cache once it has been computed.
            self._seen.append(tokens)
            self.calls.append(call)
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {
                "prompt_tokens": call.prompt,
                "completion_tokens": call.completion,
                "total_tokens": call.prompt + call.completion,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }

    def _view(self, token: Token) -> bool:
        """The views are the images of the first request; all others are close views."""
        if not self.views:
            self.views = frozenset({token[1]})
        return token[1] in self.views

    def _cached(self, tokens: list[Token]) -> int:
        longest = max((_shared(tokens, seen) for seen in self._seen), default=0)
        if self.rules == "vllm":
            # The last token is always computed: something has to come out.
            return min(longest, len(tokens) - 1) // 16 * 16
        return longest // 128 * 128 if longest >= 1024 else 0


def _shared(one: list[Token], two: list[Token]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def _said(body: dict[str, Any], number: int) -> str:
    last = body["messages"][-1]["content"]
    text = last if isinstance(last, str) else last[-1]["text"]
    # As the prompts of either release ask for it, whatever the schema's way.
    text = text.partition("Answer with one JSON object")[0]
    if '{"actions": [' in text:
        action = {"image": 1, "region": [], "partners": [], "forecast": [[9, 6, 900], [9, 8, 900]]}
        x, y = 250 * (number % 4), 250 * (number // 4 % 4)
        look = {"kind": "look", "region": [x, y, x + 200, y + 200]}
        return json.dumps(
            {
                "actions": [
                    action | {"kind": "think", "text": f"point {number}"},
                    action | look | {"text": f"sign {number}"},
                    action | {"kind": "answer", "text": ""},
                ]
            }
        )
    if key := _KEY.search(text):
        return f'{{"key": {key[1]}, "safety": 9, "utility": 3}}'
    if '"caption": "..."' in text:
        return json.dumps({"safety": 9, "strategy": "", "caption": "Two signs with a number each."})
    return f"Thought {number}: the left sign may show {number}, the right one is larger."


def serve(caching: Caching) -> ThreadingHTTPServer:
    """The server, started."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            data = json.dumps(caching.answer(body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pictures(folder: Path) -> list[str]:
    """Two boards with a small sign each."""
    names = []
    for n, number in enumerate((417, 1093)):
        image = Image.new("RGB", (1280, 960), (225 - 30 * n, 230, 235))
        draw = ImageDraw.Draw(image)
        draw.rectangle((200, 300, 420, 380), fill="white", outline="black")
        draw.text((270, 330), str(number), fill="black")
        names.append(str(folder / f"{n}.png"))
        image.save(names[-1])
    return names


def measured(
    source: Path, rules: str, pixels: int, settings: list[str], *, timed: bool
) -> dict[str, float]:
    """One question, asked by the package in `source`; what it took by the server's account."""
    caching = Caching(rules, timed)
    server = serve(caching)
    base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("ECOALIGN_", "OPENAI_"))}
    with tempfile.TemporaryDirectory() as folder:
        images = pictures(Path(folder))
        caching.views = _views(source, images, pixels)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ecoalign", "ask", images[0], QUESTION, "--image", images[1]]
            + ["--model", MODEL]
            + ["--base-url", base, "--budget", "150000", "--json"]
            + [
                word
                for setting in (*SETTINGS, f"view_pixels={pixels}", *settings)
                for word in ("--set", setting)
            ],
            env=quiet
            | {"PYTHONPATH": str(source / "src"), "HOME": folder, "NO_PROXY": "127.0.0.1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    server.shutdown()
    server.server_close()
    if done.returncode:
        raise SystemExit(f"ecoalign ended with {done.returncode}: {done.stdout}{done.stderr}")
    calls = caching.calls
    prompt, cached = sum(c.prompt for c in calls), sum(c.cached for c in calls)
    completion = sum(c.completion for c in calls)
    seeing = [c for c in calls if c.views]
    later = seeing[1:]
    dollars = {
        f"dollars, cached at {name}": (
            (prompt - cached + share * cached) * PRICES["input"] + completion * PRICES["output"]
        )
        / 1e6
        for name, share in SHARES.items()
    }
    return {
        "calls": len(calls),
        "calls with the views": len(seeing),
        "prompt tokens": prompt,
        "cached tokens": cached,
        "completion tokens": completion,
        "tokens charged to B": json.loads(done.stdout)["spent"]["tokens"]["total"],
        "views' tokens after the first call": sum(c.views for c in later),
        "of these cached, %": 100
        * sum(c.views_cached for c in later)
        / sum(c.views for c in later),
        "least in one call, %": min(100 * c.views_cached / c.views for c in later),
        **dollars,
        "seconds": seconds,
    }


def _views(source: Path, images: list[str], pixels: int) -> frozenset[str]:
    """Digests of the views, as the package in `source` makes them."""
    where = "ecoalign.query" if (source / "src/ecoalign/query").exists() else "ecoalign.pictures"
    code = (
        f"import sys, hashlib; from {where} import Picture; side = {pixels}\n"
        "for name in sys.argv[1:]:\n"
        "    print(hashlib.sha256(Picture.load(name).view(side).data).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *images],
        env=os.environ | {"PYTHONPATH": str(source / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(done.stdout.split())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="the checkout of another release")
    parser.add_argument("--rules", choices=["vllm", "openai"], default="vllm")
    parser.add_argument("--view-pixels", type=int, default=512)
    parser.add_argument("--set", action="append", default=[], help="a setting, now only")
    parser.add_argument("--json", action="store_true", help="print JSON, and wait for nothing")
    chosen = parser.parse_args()
    sources = {"before": chosen.before} if chosen.before else {}
    sources["now"] = Path(__file__).parents[1]
    found = {
        name: measured(
            source.resolve(),
            chosen.rules,
            chosen.view_pixels,
            chosen.set if name == "now" else [],
            timed=not chosen.json,
        )
        for name, source in sources.items()
    }
    if chosen.json:
        print(json.dumps(found))
        return
    print(f"{f'rules: {chosen.rules}':38}" + "".join(f"{name:>12}" for name in found))
    for row in found["now"]:
        values = [result[row] for result in found.values()]
        form = (
            "{:>12.4f}"
            if "dollars" in row
            else "{:>12,.1f}"
            if "%" in row or row == "seconds"
            else "{:>12,.0f}"
        )
        print(f"{row:38}" + "".join(form.format(value) for value in values))


if __name__ == "__main__":
    main()
