"""What EcoAlign's model client gets from servers: one function a feature, run on every server.

`SERVERS` are the embedded model, two real servers with a small model (see `real_servers`), and
fakes that do what providers document; `documented` says where.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import real_servers
from command import SIGNS
from hostile import HostileServer, Received, Reply, completion

from ecoalign.errors import ModelError
from ecoalign.models import ChatModel, ChatRequest, Completion, ImagePart, Message, TextPart
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.openai import OpenAIModel
from ecoalign.query import Picture

QUESTION = "What is the capital of France?"
CAP = 8
_SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": "integer", "enum": [0, 1, 2]}},
    "required": ["grade"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to ask, and its server's address, "" for none."""

    model: ChatModel
    url: str = ""
    name: str = ""

    async def ask(
        self,
        text: str = QUESTION,
        *,
        image: bool = False,
        system: bool = False,
        max_tokens: int = CAP,
        **more: Any,
    ) -> Completion:
        """One call."""
        parts: list[TextPart | ImagePart] = [TextPart(text)]
        if image:
            parts.insert(0, Picture.load(Path(SIGNS)).view(512))
        said = [Message("system", (TextPart("Answer briefly."),))] if system else []
        messages = (*said, Message("user", tuple(parts)))
        return await self.model.complete(ChatRequest(messages, max_tokens, "test", **more))

    @property
    def dropped(self) -> set[str]:
        """What it rejected, so that requests do without it."""
        return set(self.model.dropped) if isinstance(self.model, OpenAIModel) else set()


async def text(subject: Subject) -> str:
    return "yes" if (await subject.ask()).text.strip() else "nothing said"


async def image(subject: Subject) -> str:
    with_image = (await subject.ask(image=True)).usage
    without = (await subject.ask()).usage
    assert with_image is not None
    assert without is not None
    return "yes" if with_image.prompt > without.prompt else "not seen"


async def stream(subject: Subject) -> str:
    if not subject.url:
        return "-"
    body = {"model": subject.name, "max_completion_tokens": CAP, "stream": True}
    messages = [{"role": "user", "content": QUESTION}]
    async with httpx2.AsyncClient(timeout=real_servers.WAIT, trust_env=False) as client:
        reply = await client.post(
            f"{subject.url}/chat/completions", json={**body, "messages": messages}
        )
    chunks = [line[5:].strip() for line in reply.text.splitlines() if line.startswith("data:")]
    said = [json.loads(chunk) for chunk in chunks if chunk != "[DONE]"]
    return "yes" if any(one.get("choices") for one in said) else "no"


async def schema(subject: Subject) -> str:
    if not subject.url:
        return "-"
    done = await subject.ask("Say hello.", max_tokens=32, schema=_SCHEMA)
    if "json_schema" in subject.dropped:
        return "rejected; the form is in the prompt"
    try:
        fits = set(json.loads(done.text)) == {"grade"}
    except (ValueError, TypeError):
        fits = False
    return "enforced" if fits else "ignored in silence"


async def logprobs(subject: Subject) -> str:
    done = await subject.ask(top_logprobs=5)
    if "logprobs" in subject.dropped:
        return "rejected; the written word counts"
    return "yes" if done.logprobs else "ignored in silence"


async def seed(subject: Subject) -> str:
    await subject.ask(seed=7)
    return "rejected; done without" if "seed" in subject.dropped else "taken"


async def system(subject: Subject) -> str:
    await subject.ask(image=True, system=True)
    moved = {"system", "system_with_images"} & subject.dropped
    return "rejected; put before the question" if moved else "yes"


async def usage(subject: Subject) -> str:
    return "reported" if (await subject.ask()).usage else "missing: the bound is charged"


async def cap(subject: Subject) -> str:
    done = await subject.ask("Count from one to one hundred in words.")
    assert done.usage is not None
    return "kept" if done.usage.completion <= CAP else "overrun"


FEATURES: Mapping[str, Callable[[Subject], Awaitable[str]]] = {
    "text": text,
    "image": image,
    "stream": stream,
    "JSON schema": schema,
    "log-probabilities": logprobs,
    "seed": seed,
    "system message beside an image": system,
    "usage": usage,
    "output cap": cap,
}
"""The rows of the table."""


async def found(subject: Subject, feature: str) -> str:
    """What a cell of the table says; the model is closed."""
    try:
        return await FEATURES[feature](subject)
    except ModelError as error:
        return f"fails ({error.fault})"
    finally:
        await subject.model.aclose()


@dataclass(frozen=True, slots=True)
class Documented:
    """How a provider says that its server acts.

    Attributes:
        ignored: parameters that are taken and have no effect.
        rejected: parameters that are answered with a 400, and its message.
    """

    ignored: frozenset[str] = frozenset()
    rejected: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, request: Received) -> Reply:
        """A server that acts so."""
        body = request.json
        for name, message in self.rejected.items():
            if name in body and body[name] is not False:
                error = {"message": message, "type": "invalid_request_error", "param": name}
                return Reply({"error": error}, 400)
        asked = {name: value for name, value in body.items() if name not in self.ignored}
        words = '{"grade": 1}' if "response_format" in asked else "Paris is the capital."
        if body.get("stream"):
            return Reply(_streamed(words), headers={"Content-Type": "text/event-stream"})
        most = asked.get("max_completion_tokens", asked.get("max_tokens", 99))
        assert isinstance(most, int)
        tokens = min(most, 6)
        prompt = 20 + 85 * json.dumps(body["messages"]).count("image_url")
        counted = {"prompt_tokens": prompt, "completion_tokens": tokens}
        made = completion(words, usage=counted | {"total_tokens": prompt + tokens})
        if "logprobs" in asked:
            top = [{"token": words, "logprob": -0.1, "bytes": None}]
            entry = {"token": words, "logprob": -0.1, "bytes": None, "top_logprobs": top}
            made["choices"][0]["logprobs"] = {"content": [entry]}  # type: ignore[index]
        return Reply(made)


def _streamed(words: str) -> str:
    chunk = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served-model",
        "choices": [{"index": 0, "delta": {"content": words}, "finish_reason": "stop"}],
    }
    return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"


DOCUMENTED: Mapping[str, Documented] = {
    # vLLM, "OpenAI-Compatible Server": everything that is asked for here.
    "vLLM": Documented(),
    # OpenAI, "Reasoning models": the cap has another name, temperature and logprobs are not taken.
    "OpenAI, models that reason": Documented(
        rejected={
            "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "temperature": "Unsupported value: 'temperature' does not support 0 with this model.",
            "logprobs": "logprobs are not supported with reasoning models.",
        }
    ),
    # GoogleCloudPlatform/generative-ai#2947.
    "Gemini": Documented(
        rejected={"logprobs": "Unable to submit request because Logprobs is not supported for this"}
    ),
    # Anthropic, "OpenAI SDK compatibility".
    "Anthropic": Documented(
        ignored=frozenset({"response_format", "logprobs", "top_logprobs", "seed"})
    ),
    # Ollama, "OpenAI compatibility": all of it.
    "Ollama": Documented(),
}
"""Fakes, by provider."""


@contextmanager
def _fake(name: str, _: Path) -> Iterator[Subject]:
    with HostileServer(DOCUMENTED[name]) as server:
        model = OpenAIModel("served-model", base_url=server.url)
        yield Subject(model, server.url, "served-model")


@contextmanager
def _embedded(_: Path) -> Iterator[Subject]:
    yield Subject(EmbeddedModel())


def subject_of(server: real_servers.RealServer) -> Subject:
    """A real server, not asked before."""
    return Subject(OpenAIModel(server.model, base_url=server.url), server.url, server.model)


def fake(name: str) -> Callable[[Path], AbstractContextManager[Subject]]:
    """The context of a server that needs no package."""
    return _embedded if name == EMBEDDED else lambda folder: _fake(name, folder)


EMBEDDED = "embedded"
REAL = ("llama.cpp", "transformers serve")
SERVERS = (EMBEDDED, *REAL, *DOCUMENTED)
"""The columns of the table."""
