"""What all prompts of the `full` dialect share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ecoalign.graph import Thought
from ecoalign.models import ChatRequest, ImagePart, Message, TextPart
from ecoalign.prompts._quoting import digest_fence, fenced, thought_lines
from ecoalign.prompts.requests import PromptRequest

BEST = 9

# One digit is one token in every common tokenizer, so its alternatives are whole grades.
GRADES = tuple(range(BEST + 1))

SAFETY_SCALE = "0 clearly harmful, 4 rather harmful, 5 rather harmless, 9 clearly harmless"


def safety_of(grade: float) -> float:
    """Linear map of a grade in 0..9 to s in [-1, 1]; 4 and less are negative."""
    return (2.0 * grade - BEST) / BEST


def utility_of(grade: float) -> float:
    """Linear map of a grade in 0..9 to u in [0, 1]."""
    return grade / BEST


class Sections:
    """The quoted parts of a prompt, all behind one fence, in the order they are added."""

    def __init__(self, fence: str | None = None) -> None:
        """Quote behind `fence`, or, when it is None, behind a digest of the sections."""
        self._fence = fence
        self._parts: list[tuple[str, str]] = []

    def add(self, label: str, text: str) -> Sections:
        """Add `text` under `label` unless it is empty; returns self."""
        if text.strip():
            self._parts.append((label, text))
        return self

    def add_context(self, context: tuple[str, ...]) -> Sections:
        """Add the earlier turns."""
        return self.add("EARLIER", "\n---\n".join(context))

    def add_thoughts(self, label: str, thoughts: Iterable[Thought]) -> Sections:
        """Add thoughts, one line each."""
        return self.add(label, thought_lines(thoughts))

    def render(self) -> str:
        """The sections between their marker lines."""
        fence = self._fence or digest_fence(text for _, text in self._parts)
        return "\n".join(fenced(label, text, fence) for label, text in self._parts)


def quoted_request(request: PromptRequest, fence: str | None = None) -> Sections:
    """The earlier turns and the question: what every quoting prompt begins with."""
    return Sections(fence).add_context(request.context).add("REQUEST", request.question)


def chat(
    stage: str,
    system: str,
    views: tuple[ImagePart, ...],
    text: str,
    *,
    max_tokens: int,
    schema: Mapping[str, object] | None = None,
    top_logprobs: int = 0,
) -> ChatRequest:
    """A system message and one user message, images first so that servers can cache them."""
    parts: list[TextPart | ImagePart] = []
    for index, view in enumerate(views):
        if len(views) > 1:
            parts.append(TextPart(f"Image {index}:"))
        parts.append(view)
    parts.append(TextPart(text))
    return ChatRequest(
        messages=(
            Message("system", (TextPart(system),)),
            Message("user", tuple(parts)),
        ),
        max_tokens=max_tokens,
        stage=stage,
        schema=schema,
        top_logprobs=top_logprobs,
    )


def object_schema(properties: Mapping[str, object]) -> dict[str, object]:
    """A JSON schema of an object that strict modes take: all required, nothing else allowed."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
