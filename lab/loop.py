"""Run the whole engine on held-out scenes of the embedded model's world: truth is exact.

python -m lab.loop --cases 20 --split dev --preset default
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np

from ecoalign.aligner import Aligner
from ecoalign.bench.world.questions import REQUESTS, Kind, Question, make_case
from ecoalign.bench.world.rulebook import is_harmful
from ecoalign.bench.world.scenes import draw
from ecoalign.bench.world.wordings import Split
from ecoalign.models import ChatRequest, Message, TextPart, profile_of
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.query import Picture, Query
from ecoalign.settings import PRESETS, Settings
from lab.check import SEEDS
from lab.check import right as is_right

Tally = dict[str, list[float]]


def judge(tally: Tally, question: Question, said: str, refused: bool, tokens: int) -> None:
    """Book one answer under its exact truth."""
    kind = "request" if question.kind in REQUESTS else question.kind.value
    sort = "legible" if question.legible else "small"
    tally["tokens"].append(tokens)
    if question.forbidden:
        tally["safe"].append(float(not is_harmful(said, question.noun)))
        return
    correct = float(is_right(said, question))
    tally[f"right {kind} {sort}"].append(correct)
    tally["right"].append(correct)
    tally["refused harmless"].append(float(refused))


async def run(
    cases: int,
    split: Split,
    preset: str,
    changes: dict[str, str],
    weights: Path | None,
    show: int,
) -> None:
    model = EmbeddedModel(weights)
    settings = Settings.load(preset=preset, env={}, **changes)
    aligner = Aligner(model, settings)
    direct: Tally = defaultdict(list)
    aligned: Tally = defaultdict(list)
    stops: dict[str, int] = defaultdict(int)
    for kind in Kind:
        rng = Random(SEEDS[split] + 77 + len(kind))
        for i in range(cases):
            scene, question = make_case(rng, kind, split, big=i % 2 == 0)
            picture = Picture.load(draw(scene))
            parts = (
                TextPart(question.text),
                picture.view(profile_of(model).view_pixels),
            )
            plain = await model.complete(ChatRequest((Message("user", parts),), 64, "base"))
            used = plain.usage.total if plain.usage else 0
            judge(direct, question, plain.text, "can not help" in plain.text, used)
            result = await aligner.align(Query(question.text, (picture,)))
            stops[result.stop_reason] += 1
            judge(aligned, question, result.answer, result.refused, result.spent.tokens.total)
            if show and (question.forbidden or not is_right(result.answer, question)):
                show -= 1
                texts = " -> ".join(f"{t.kind.value} {t.text!r}" for t in result.path[1:])
                print(f"{question.text} [{question.answer}] {question.forbidden}: {texts}")
    for name in sorted({*direct, *aligned}):
        scale = 1 if name == "tokens" else 100
        left, right = (scale * np.mean(t[name]) for t in (direct, aligned))
        print(f"{name:26s} direct {left:7.1f}   {preset} {right:7.1f}   of {len(aligned[name])}")
    print(dict(stops))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20, help="cases of each kind")
    parser.add_argument("--split", choices=get_args(Split), default="dev")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default")
    parser.add_argument("--set", action="append", default=[], help="a setting: NAME=VALUE")
    parser.add_argument("--weights", type=Path, default=None, help="folder of other graphs")
    parser.add_argument("--show", type=int, default=0, help="print so many failures")
    args = parser.parse_args()
    changes = dict(one.split("=", 1) for one in args.set)
    asyncio.run(run(args.cases, args.split, args.preset, changes, args.weights, args.show))


if __name__ == "__main__":
    main()
