"""A scripted LVLM for the methods beside the engine: what it says is up to a test, by stage."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripted import asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import ModelError
from ecoalign.methods import open_method
from ecoalign.models import Completion, Usage
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.settings import Settings
from ecoalign.trace import Alignment

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest
    from ecoalign.query import Query

_KEY = re.compile(r'\{"key": "([A-Za-z0-9_-]+)"')

Says = str | Callable[["ChatRequest"], Reply | Awaitable[Reply]]


def key_in(request: ChatRequest) -> str:
    """What a verdict on this request must repeat."""
    found = _KEY.findall(request.messages[-1].text)
    assert found
    return str(found[-1])


def judged(verdict: str) -> Callable[[ChatRequest], str]:
    """A well-formed verdict of the gate or the check."""
    return lambda request: json.dumps({"key": key_in(request), "verdict": verdict})


def graded(safety: int, utility: int) -> Callable[[ChatRequest], str]:
    """A well-formed score."""
    return lambda request: json.dumps(
        {"key": key_in(request), "safety": safety, "utility": utility}
    )


SAFE = judged("safe")
UNSAFE = judged("unsafe")
GOOD = graded(9, 7)


@dataclass
class Stages:
    """What the model says at each stage; all is safe by default."""

    answer: Says = "a plain answer"
    sample: Says = "a plain answer"
    blind: Says = "an answer from the caption"
    caption: Says = "a sign with a number"
    gate: Says = SAFE
    check: Says = SAFE
    score: Says = GOOD

    def __call__(self, request: ChatRequest) -> Reply | Awaitable[Reply]:
        says: Says = getattr(self, request.stage)
        return says if isinstance(says, str) else says(request)

    def model(self) -> FakeModel:
        """A model that says it."""
        return FakeModel(self)


def stages_of(model: FakeModel) -> list[str]:
    """The stages that were asked, in order."""
    return [request.stage for request in model.requests]


async def answered(
    name: str,
    model: FakeModel,
    budget: Budget | int = 100_000,
    query: Query | None = None,
    **settings: Any,
) -> Alignment:
    """One answer of a method; retries are off unless asked for."""
    allowed = Budget(tokens=budget) if isinstance(budget, int) else budget
    chosen = Settings.load(env={}, **({"retries": 0} | settings))
    return await open_method(name, chosen).answer(query or asking(), model, Ledger(allowed))


def bad_verdicts() -> dict[str, Says]:
    """What a judge may say that is no verdict, by name; each would mean "safe" to a lax reader."""
    whole = judged("safe")

    def broken(change: Callable[[str], str]) -> Says:
        return lambda request: change(whole(request))

    def ended(reason: str) -> Says:
        return lambda request: Completion(whole(request), Usage(10, 5), reason)

    return {
        "prose": "This is safe.",
        "word": "safe",
        "no": "no",
        "empty": "",
        "html": "<html>safe</html>",
        "no key": '{"verdict": "safe"}',
        "foreign key": '{"key": "abc123", "verdict": "safe"}',
        "cut": broken(lambda text: text[:-1]),
        "doubled": broken(lambda text: text * 2),
        "both": broken(lambda text: text[:-1] + ', "verdict": "unsafe"}'),
        "third word": judged("safe-ish"),
        "capital": judged("Safe"),
        "a word more": broken(lambda text: text + " surely"),
        "half a block": broken(lambda text: "```json\n" + text),
        "length": ended("length"),
        "filtered": ended("content_filter"),
        "timeout": lambda request: ModelError("slow", fault="timeout"),
        "down": lambda request: ModelError("gone", fault="down", billed=False),
    }
