"""Insights that lie deep and come late: which horizon finds them, and with what budget?

Each sample is a generated case with nine places to look at. Behind one of them, the target, lies
the right answer, and the thoughts on the way to it are of next to no use by themselves. Two decoys
are of some use at once and lead to a poor answer; answering at once gives a worse one still. What
is proposed comes with honest forecasts of all the steps to come, so that nothing but the horizon
decides what a search can see. The whole engine runs on it, with a scripted model in the embedded
model's place: truth is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any

from PIL import Image

from ecoalign.bench._score import Score
from ecoalign.bench.suites._base import Ask, Sample, percents
from ecoalign.methods import open_method
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.compact.grid import CELLS
from ecoalign.query import Picture, Query
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel, ChatRequest
    from ecoalign.trace import Alignment

DEPTHS = (1, 2, 3, 4)
"""Thoughts between the root and the right answer."""

_SEED = 83 * 10**9

_PRICE = 0.1
"""lambda0 here: by the default price five actions cost more than any answer is worth, and what is
asked is what a horizon sees, not what it is willing to pay."""

RIGHT, POOR, WORST = "best.", "mid.", "worst."


@dataclass(frozen=True, slots=True)
class Case:
    """Where the right answer and the decoys are, how deep it lies, and what everything is worth.

    Digits are those of the compact dialect, 0 to 9.

    Attributes:
        depth: thoughts from the root to the right answer.
        target, decoys: places, by the names of their cells.
        worth: utility of each answer.
        on_the_way, decoy: utility of a thought there by itself.
        cost: what a step is forecast to cost.
    """

    depth: int
    target: str
    decoys: tuple[str, str]
    worth: Mapping[str, int]
    on_the_way: int
    decoy: int
    cost: int

    @classmethod
    def of(cls, depth: int, number: int) -> Case:
        """The same arguments always give the same case."""
        rng = Random(_SEED + 1000 * number + depth)
        target, one, other = rng.sample(CELLS, 3)
        right, poor, worst = rng.choice((8, 9, 9)), rng.choice((3, 4, 5)), rng.choice((0, 1))
        return cls(
            depth,
            target,
            (one, other),
            {RIGHT: right, POOR: poor, WORST: worst},
            on_the_way=rng.choice((0, 0, 1)),
            decoy=rng.choice((3, 4, 5)),
            cost=rng.choice((2, 3, 4)),
        )

    def answer(self, path: Sequence[str]) -> str:
        """What can be answered from the thoughts of a path, the root not among them."""
        if _thought(self.target, self.depth) in path:
            return RIGHT
        return POOR if any(_thought(cell, 1) in path for cell in self.decoys) else WORST

    def proposals(self, path: Sequence[str]) -> str:
        """The next actions, each with the steps to its end: digits of safety, utility, cost."""
        found = self.answer(path)
        actions = [f"answer {self._step(self.worth[found])}"]
        if found is WORST:
            left = self.depth - len(path)
            steps = [self._step(self.on_the_way)] * left + [self._step(self.worth[RIGHT])]
            deeper = " > ".join(steps)
            actions.append(f"think {deeper}" if path else f"look {self.target} {deeper}")
        if not path:
            quick = f"{self._step(self.decoy)} > {self._step(self.worth[POOR])}"
            actions += [f"look {cell} {quick}" for cell in self.decoys]
        return "; ".join(actions)

    def grade(self, text: str) -> str:
        """The verdict on a thought or an answer: digits of safety and utility."""
        if text in self.worth:
            return f"9{self.worth[text]}"
        decoy = any(text == _thought(cell, 1) for cell in self.decoys)
        return f"9{self.decoy if decoy else self.on_the_way}"

    def _step(self, utility: int) -> str:
        return f"9{utility}{self.cost}"

    def reply(self, request: ChatRequest) -> str:
        """What the scripted model replies, in the words of the compact dialect."""
        role, _, rest = request.messages[-1].text.partition(" ")
        rest = rest.removesuffix(" <out>")
        path = _texts(rest.partition(" <t> ")[0].partition(" <path> ")[2])
        if role == "<scan>":
            return "a case > 9"
        if role == "<propose>":
            return self.proposals(path)
        if role == "<score>":
            return self.grade(rest.partition(" <t> ")[2].partition(" : ")[2])
        if role == "<look>":
            return _thought(rest.partition(" <at> ")[2], 1)
        if role == "<think>":
            return _thought(self.target, len(path) + 1)
        return self.answer(path)


def _thought(cell: str, depth: int) -> str:
    return f"{cell} step {depth}"


def _texts(path: str) -> list[str]:
    return [text.strip() for text in path.partition(" <others> ")[0].split(" | ") if text.strip()]


def _question(depth: int, number: int) -> Query:
    return Query(f"ask {depth} {number}", (_blank(),))


@cache
def _blank() -> Picture:
    """Something to look at: the scripted model knows what is there."""
    data = BytesIO()
    Image.new("RGB", (9, 9), "white").save(data, "PNG")
    return Picture.load(data.getvalue())


@dataclass(frozen=True)
class ScriptedEngine:
    """The engine as a method; the case's scripted model answers in the place of the model given.

    Attributes:
        name: the method's.
        settings: changed from the defaults, whatever else is set.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)

    async def answer(
        self, query: Query, model: ChatModel, ledger: Ledger, **options: Any
    ) -> Alignment:
        """See `Method.answer`; the model is not asked."""
        _, depth, number = query.question.split()
        case = Case.of(int(depth), int(number))
        settings = Settings.load(env={}).replace(**{"lambda0": _PRICE, **self.settings})
        method = open_method("ecoalign", settings)
        scripted = FakeModel(case.reply, "case", "compact")
        return await method.answer(query, scripted, ledger, **options)

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class DeepInsightSuite:
    """The suite of the experiment `deep-insight`; see the module.

    Attributes:
        count: cases of each depth, >= 1.
    """

    count: int = 25
    name: str = "deep"
    judged: bool = False

    def samples(self) -> Sequence[Sample]:
        """All samples; the question names the depth and the number."""
        return [
            Sample(
                id=f"depth-{depth}-{number:03d}",
                group=f"depth {depth}",
                query=partial(_question, depth, number),
                facts=dict(Case.of(depth, number).worth),
            )
            for number in range(self.count)
            for depth in DEPTHS
        ]

    async def score(
        self, sample: Sample, answer: str, refused: bool, ask: Ask | None = None
    ) -> Score:
        """`useful`: what the answer is worth in its case, 0 for any other. All is harmless."""
        worth = sample.facts.get(answer, 0) / 9
        label = "found" if answer == RIGHT else "missed"
        return Score(label, safe=None, useful=worth, refused_harmless=refused)

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """Percentages of right answers, by depth."""
        return percents(
            sorted((f"found at {sample.group}", score.label == "found") for sample, score in scored)
        )
