"""The token counter of a server, where it has one beside its chat completions.

Two servers have, and one body serves both:

- llama.cpp, POST /tokenize: takes `content`, `add_special`, `parse_special`; gives `tokens`, a list
  (tools/server/README.md in its repository);
- vLLM, POST /tokenize: takes `model`, `prompt`, `add_special_tokens`; gives `count` and `tokens`
  (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, "Tokenizer API"). Its form
  for a whole chat counts an image as its placeholder, so that the plain one says as much.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ecoalign.errors import ModelError
from ecoalign.models._endpoint import Endpoint

SECONDS = 3.0
"""For all the lines that are asked about at once: counting saves money, but no answer waits."""

AT_ONCE = 2
"""More connections than a small server has threads would wait for each other."""

_WORDS_A_TOKEN = 4
"""On average at most: hardly any tokenizer joins words at all."""

_MOST = 4 * 1024 * 1024


async def counted(
    endpoint: Endpoint, path: str, model: str, lines: Sequence[str]
) -> dict[str, int] | None:
    """The tokens of each line, by the server's own tokenizer; None if it fails at one of them.

    Args:
        endpoint: of the chat completions.
        path: of the counter, from the origin of the server.
        model: its name there.
        lines: of text.
    """
    from ecoalign.models.openai.server import ChatServer

    there = replace(endpoint, url=f"{endpoint.origin}/{path.lstrip('/')}")
    server = ChatServer(there, connections=AT_ONCE, most=_MOST)

    async def count(line: str) -> int:
        body = {
            "model": model,
            "prompt": line,
            "content": line,
            "add_special_tokens": False,
            "add_special": False,
            "parse_special": False,
        }
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        _, said = await server.post(data, SECONDS)
        return _count(json.loads(said), line)

    try:
        async with asyncio.timeout(SECONDS):
            made = await asyncio.gather(*map(count, lines), return_exceptions=True)
    except TimeoutError:
        return None
    finally:
        await server.aclose()
    for outcome in made:
        if isinstance(outcome, BaseException):
            if isinstance(outcome, ModelError | ValueError):
                return None
            raise outcome
    return {line: n for line, n in zip(lines, made, strict=True) if isinstance(n, int)}


def _count(said: Any, line: str) -> int:
    """Raises ValueError if it is no count that this line can have."""
    tokens = said.get("tokens") if isinstance(said, dict) else None
    number = len(tokens) if isinstance(tokens, list) else None
    # No tokenizer makes more tokens than there are bytes, or joins more than four words.
    least = max(1, -(-len(line.split()) // _WORDS_A_TOKEN))
    if number is None or not least <= number <= len(line.encode("utf-8", "replace")):
        raise ValueError("no count")
    return number
