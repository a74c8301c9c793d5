"""A small scripted LVLM of the full dialect: what it sees, thinks and scores is up to a test.

`Script` answers every stage in well-formed JSON or text, from functions that are given a `Prompt`
(the request, taken apart). `script.model()` is a `FakeModel` that says what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from PIL import Image

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment

if TYPE_CHECKING:
    from ecoalign.evaluators import Evaluator
    from ecoalign.models import ChatRequest
    from ecoalign.trace.events import Event

_SECTION = re.compile(r"^BEGIN (\S+) (\w+)\n(.*?)\nEND \1$", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r'\{"key": "([A-Za-z0-9_-]+)"')
_LINE = re.compile(r"^(\d+) (\w+): (.*)$", re.MULTILINE)
_TASKS = {
    "Task: write the next thought": "think",
    "Task: report only what this close view": "look",
    "Task: combine the last of": "fuse",
    "Task: decline REQUEST": "refuse",
    "Task: answer REQUEST": "answer",
}
_ITEMS = {
    "It is a plan": "strategy",
    "It is a step": "think",
    "It reports what": "look",
    "It combines thoughts": "fuse",
    "It is the answer": "answer",
    "It is a refusal": "refusal",
}


@dataclass(frozen=True)
class Prompt:
    """A request of the full dialect, taken apart.

    Attributes:
        request: the request itself.
        stage: scan, propose, execute, write or score.
        kind: of the action (execute) or of the item (score); "" otherwise.
        sections: what is quoted, by label (INSTRUCTIONS, EARLIER, REQUEST, THOUGHTS, OTHERS, TASK,
            ITEM).
    """

    request: ChatRequest
    stage: str
    kind: str
    sections: dict[str, str]

    @classmethod
    def of(cls, request: ChatRequest) -> Prompt:
        text = request.messages[-1].text
        sections = {found[2]: found[3] for found in _SECTION.finditer(text)}
        rest = _SECTION.sub("", text)
        # A rollout books its calls under "simulate": go by what is asked, not by who pays.
        if "Task: take a first look" in rest:
            stage = "scan"
        elif "Task: plan the cheapest" in rest:
            stage = "propose"
        elif "Task: rate ITEM" in rest:
            stage = "score"
        elif "If the last thought is an answer" in rest:
            stage = "write"
        else:
            stage = "execute"
        known = {"execute": _TASKS, "score": _ITEMS}.get(stage, {})
        kind = next((name for words, name in known.items() if words in rest), "")
        return cls(request, stage, kind, sections)

    @property
    def text(self) -> str:
        return "\n".join(message.text for message in self.request.messages)

    @property
    def item(self) -> str:
        return self.sections.get("ITEM", "")

    @property
    def task(self) -> str:
        return self.sections.get("TASK", "")

    @property
    def thoughts(self) -> list[tuple[int, str, str]]:
        """(id, kind, text) of the path, the caption first."""
        lines = _LINE.findall(self.sections.get("THOUGHTS", ""))
        return [(int(number), kind, text) for number, kind, text in lines]

    @property
    def others(self) -> list[tuple[int, str, str]]:
        lines = _LINE.findall(self.sections.get("OTHERS", ""))
        return [(int(number), kind, text) for number, kind, text in lines]

    @property
    def last(self) -> str:
        """The text of the last thought of the path."""
        return self.thoughts[-1][2]

    @property
    def key(self) -> str:
        """What a verdict must repeat."""
        found = _KEY.search(self.request.messages[-1].text.rpartition("Reply with this")[2])
        assert found is not None
        return found[1]

    def verdict(self, safety: int, utility: int) -> str:
        """A well-formed verdict on this request."""
        return json.dumps({"key": self.key, "safety": safety, "utility": utility})


def action(
    kind: str,
    text: str = "",
    forecast: Sequence[Sequence[float]] = ((9, 6, 200),),
    *,
    region: Sequence[float] = (),
    image: int = 1,
    partners: Sequence[int] = (),
) -> dict[str, object]:
    """One proposed action as the full dialect writes it."""
    return {
        "kind": kind,
        "text": text,
        "region": list(region),
        "image": image,
        "partners": list(partners),
        "forecast": [list(step) for step in forecast],
    }


def actions(*items: object) -> str:
    """An answer to a proposing request."""
    return json.dumps({"actions": items})


Said = Reply | Awaitable[Reply]


@dataclass
class Script:
    """A scripted LVLM. Any function may return a whole `Reply` in place of the usual.

    By default: a harmless scan; two thoughts and an answer are proposed beneath every thought;
    every text is new; everything is safe, an answer is of more use than a thought.
    """

    caption: str = "A sign with a number on it."
    request_safety: int = 9
    plan: str = ""
    propose: Callable[[Prompt], Said] = lambda prompt: actions(
        action("think", "on"), action("think", "off"), action("answer", "", [[9, 8, 300]])
    )
    execute: Callable[[Prompt], Said] | None = None
    write: Callable[[Prompt], Said] = lambda prompt: "the written answer"
    score: Callable[[Prompt], tuple[int, int] | Said] = lambda prompt: (
        9,
        7 if prompt.kind == "answer" else 5,
    )
    scan: Callable[[Prompt], Said] | None = None
    _numbers: count[int] = field(default_factory=count)

    def __call__(self, request: ChatRequest) -> Said:
        prompt = Prompt.of(request)
        if prompt.stage == "scan":
            if self.scan is not None:
                return self.scan(prompt)
            body = {"caption": self.caption, "safety": self.request_safety, "strategy": self.plan}
            return json.dumps(body)
        if prompt.stage == "propose":
            return self.propose(prompt)
        if prompt.stage == "write":
            return self.write(prompt)
        if prompt.stage == "score":
            said = self.score(prompt)
            return prompt.verdict(*said) if isinstance(said, tuple) else said
        if self.execute is not None:
            return self.execute(prompt)
        return f"{prompt.kind} number {next(self._numbers)}"

    def model(self, name: str = "fake") -> FakeModel:
        """A model that says what the script says."""
        return FakeModel(self, name=name)


def image(width: int = 40, height: int = 30, colour: str = "white") -> Image.Image:
    """A plain picture."""
    return Image.new("RGB", (width, height), colour)


def asking(images: int = 1, question: str = "What does the sign say?") -> Query:
    """A question about so many pictures, each of another size."""
    return Query.of([image(40 + 10 * i, 30) for i in range(images)], question)


async def align(
    model: FakeModel,
    budget: Budget | int = 100_000,
    query: Query | None = None,
    evaluator: Evaluator | None = None,
    **settings: Any,
) -> Alignment:
    """One run of the engine; retries and the draft are off unless asked for."""
    allowed = Budget(tokens=budget) if isinstance(budget, int) else budget
    chosen = Settings.load(env={}, **({"retries": 0, "draft": False} | settings))
    aligner = Aligner(model, chosen, evaluator=evaluator)
    return await aligner.align(query or asking(), allowed)


def of_kind(events: Sequence[Event], kind: type) -> list[Event]:
    """The events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]
