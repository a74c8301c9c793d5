"""Insights that lie deep and come late: which horizon finds them, and with what budget?

Each sample is a hill with nine places to dig. One place hides a vein: the thoughts on the way down
are of next to no use, and the answer from its bottom is right. Two decoys are of some use at once
and lead to a poor answer; the top gives a worse one still. What is proposed comes with honest
forecasts of all the steps to come, so that nothing but the horizon decides what a search can see.
The whole engine runs on it, with a scripted model in the embedded model's place: truth is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING

from PIL import Image

from ecoalign.bench.suites._base import Ask, Sample, Score
from ecoalign.methods._ecoalign import EcoAlign
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.compact.grid import CELLS
from ecoalign.query import Picture, Query
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ecoalign.bench._experiments import Variant
    from ecoalign.budget import Ledger
    from ecoalign.models import ChatModel, ChatRequest
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

__all__ = ["DEPTHS", "DeepSuite", "Digger", "Hill"]

DEPTHS = (1, 2, 3, 4)
"""Thoughts between the root and the right answer."""

_SEED = 83 * 10**9

GOLD, TIN, STONE = "gold.", "tin.", "stone."


@dataclass(frozen=True, slots=True)
class Hill:
    """Where the vein and the decoys are, how deep the vein goes, and what everything is worth.

    Digits are those of the compact dialect, 0 to 9.

    Attributes:
        depth: thoughts from the root to the bottom of the vein.
        vein, decoys: places, by the names of their cells.
        worth: of each answer.
        on_the_way, decoy: what a thought there is worth by itself.
        cost: what a step is forecast to cost.
    """

    depth: int
    vein: str
    decoys: tuple[str, str]
    worth: Mapping[str, int]
    on_the_way: int
    decoy: int
    cost: int

    @classmethod
    def of(cls, depth: int, number: int) -> Hill:
        """The same arguments always give the same hill."""
        rng = Random(_SEED + 1000 * number + depth)
        vein, one, other = rng.sample(CELLS, 3)
        worth = {GOLD: rng.choice((8, 9, 9)), TIN: rng.choice((3, 4, 5)), STONE: rng.choice((0, 1))}
        return cls(
            depth,
            vein,
            (one, other),
            worth,
            on_the_way=rng.choice((0, 0, 1)),
            decoy=rng.choice((3, 4, 5)),
            cost=rng.choice((2, 3, 4)),
        )

    def answer(self, path: Sequence[str]) -> str:
        """What can be answered from the thoughts of a path, the root not among them."""
        if _place(self.vein, self.depth) in path:
            return GOLD
        return TIN if any(_place(cell, 1) in path for cell in self.decoys) else STONE

    def proposals(self, path: Sequence[str]) -> str:
        """The next actions, each with the steps to its end: digits of safety, utility, cost."""
        found = self.answer(path)
        actions = [f"answer {self._step(self.worth[found])}"]
        if found is STONE:
            left = self.depth - len(path)
            down = " > ".join([self._step(self.on_the_way)] * left + [self._step(self.worth[GOLD])])
            actions.append(f"think {down}" if path else f"look {self.vein} {down}")
        if not path:
            quick = f"{self._step(self.decoy)} > {self._step(self.worth[TIN])}"
            actions += [f"look {cell} {quick}" for cell in self.decoys]
        return "; ".join(actions)

    def grade(self, text: str) -> str:
        """The verdict on a thought or an answer: digits of safety and utility."""
        if text in self.worth:
            return f"9{self.worth[text]}"
        decoy = any(text == _place(cell, 1) for cell in self.decoys)
        return f"9{self.decoy if decoy else self.on_the_way}"

    def _step(self, utility: int) -> str:
        return f"9{utility}{self.cost}"

    def says(self, request: ChatRequest) -> str:
        """What the scripted model says, in the words of the compact dialect."""
        role, _, rest = request.messages[-1].text.partition(" ")
        rest = rest.removesuffix(" <out>")
        path = _texts(rest.partition(" <t> ")[0].partition(" <path> ")[2])
        if role == "<scan>":
            return "a hill > 9"
        if role == "<propose>":
            return self.proposals(path)
        if role == "<score>":
            return self.grade(rest.partition(" <t> ")[2].partition(" : ")[2])
        if role == "<look>":
            return _place(rest.partition(" <at> ")[2], 1)
        if role == "<think>":
            return _place(self.vein, len(path) + 1)
        return self.answer(path)


def _place(cell: str, depth: int) -> str:
    return f"{cell} down {depth}"


def _texts(path: str) -> list[str]:
    return [text.strip() for text in path.partition(" <others> ")[0].split(" | ") if text.strip()]


def _asked(depth: int, number: int) -> Query:
    return Query(f"dig {depth} {number}", (_ground(),))


@cache
def _ground() -> Picture:
    """Something to look at: the scripted model knows what is beneath it."""
    data = BytesIO()
    Image.new("RGB", (9, 9), "white").save(data, "PNG")
    return Picture.load(data.getvalue())


@dataclass(frozen=True)
class Digger:
    """The engine under the settings of a variant, as a method, on the hill of the question.

    Attributes:
        variant: of the experiment; its settings go with the defaults, whatever else is set.
    """

    variant: Variant

    @property
    def name(self) -> str:
        """The variant's own."""
        return self.variant.method

    async def answer(
        self,
        query: Query,
        model: ChatModel,
        ledger: Ledger,
        *,
        price: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """See `Method.answer`; the scripted model answers in place of `model`."""
        _, depth, number = query.question.split()
        hill = Hill.of(int(depth), int(number))
        settings = Settings.load(env={}).replace(**self.variant.settings)
        method = EcoAlign(self.name, settings)
        return await method.answer(
            query, FakeModel(hill.says, "hill", "compact"), ledger, on_event=on_event
        )

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class DeepSuite:
    """The suite of the experiment `deep-insight`; see the module.

    Attributes:
        count: hills of each depth, >= 1.
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
                query=partial(_asked, depth, number),
                facts=dict(Hill.of(depth, number).worth),
            )
            for number in range(self.count)
            for depth in DEPTHS
        ]

    async def score(
        self, sample: Sample, answer: str, refused: bool, ask: Ask | None = None
    ) -> Score:
        """`useful`: what the answer is worth on its hill, 0 for any other. All is harmless."""
        worth = sample.facts.get(answer, 0) / 9
        label = "found" if answer == GOLD else "missed"
        return Score(label, safe=None, useful=worth, refused_harmless=refused)

    def totals(self, scored: Sequence[tuple[Sample, Score]]) -> dict[str, float]:
        """Percentages of veins found, by depth."""
        found: dict[str, list[bool]] = {}
        for sample, score in scored:
            found.setdefault(f"found at {sample.group}", []).append(score.label == "found")
        return {name: 100.0 * sum(each) / len(each) for name, each in sorted(found.items())}
