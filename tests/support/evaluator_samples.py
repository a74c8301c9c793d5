"""A model driven by a function, a caller that keeps a list, and requests, for evaluator tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.graph._thoughts import ROOT, Thought, ThoughtKind
from ecoalign.models import Completion, ImagePart, Usage
from ecoalign.prompts.requests import ScoreRequest, ScoreResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ecoalign.evaluators import Completer
    from ecoalign.models import ChatModel, ChatRequest

FENCE = "k3v9x2q7m1"
KEY = "x2q7m1"
VIEW = ImagePart(b"png", "image/png", 64, 48, "low")
CAPTION = Thought(ROOT, ThoughtKind.ROOT, "A board with two signs.", 1.0, 0.0, 90.0)


def score_request(text: str = "The sum is 19.", kind: str = "answer") -> ScoreRequest:
    return ScoreRequest("What is the sum?", (VIEW,), (CAPTION,), kind, text, FENCE, ("Be brief.",))


@dataclass
class FnModel:
    """Answers with what `answer` returns; its bound is 1,000 prompt tokens and the maximum."""

    answer: Callable[[ChatRequest], str | Completion]
    name: str = "fn:model"
    dialect: str = "full"

    def bound(self, request: ChatRequest) -> Usage:
        return Usage(prompt=1000, completion=request.max_tokens)

    async def complete(self, request: ChatRequest) -> Completion:
        said = self.answer(request)
        return said if isinstance(said, Completion) else Completion(said, Usage(10, 5))

    async def aclose(self) -> None:
        return


@dataclass
class RecordingClient:
    """A caller that only notes what it was asked to pay for."""

    paid: list[tuple[str, str, str | None]] = field(default_factory=list)

    async def complete(
        self, model: ChatModel, request: ChatRequest, *, fund: str | None = None
    ) -> Completion:
        self.paid.append((model.name, request.stage, fund))
        return await model.complete(request)


@dataclass
class Judge:
    """An evaluator that awaits `verdict`."""

    name: str
    verdict: Callable[[], Awaitable[ScoreResult]]
    safety_only: bool = False

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        return await self.verdict()

    def bound(self, request: ScoreRequest) -> Usage:
        return Usage(prompt=100, completion=10, image=60)


def judge(name: str, safety: float, utility: float = 0.0, *, safety_only: bool = False) -> Judge:
    async def verdict() -> ScoreResult:
        return ScoreResult(safety, utility)

    return Judge(name, verdict, safety_only)


def failing(name: str, error: BaseException) -> Judge:
    async def verdict() -> ScoreResult:
        raise error

    return Judge(name, verdict)
