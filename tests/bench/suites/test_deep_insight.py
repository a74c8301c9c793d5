"""The suite of deep insights: honest forecasts, exact truth, and what each horizon can see."""

from __future__ import annotations

import pytest

from ecoalign.bench._experiments import experiment_named, fixed_horizon
from ecoalign.bench.suites._base import Sample
from ecoalign.bench.suites.deep_insight import (
    DEPTHS,
    POOR,
    RIGHT,
    WORST,
    Case,
    DeepInsightSuite,
    ScriptedEngine,
)
from ecoalign.budget import Budget, Ledger
from ecoalign.models.fake import FakeModel
from ecoalign.trace import Alignment

SUITE = DeepInsightSuite(2)
NOBODY = FakeModel(lambda request: "", name="none")


def samples(depth: int) -> list[Sample]:
    return [sample for sample in SUITE.samples() if sample.group == f"depth {depth}"]


async def answered(sample: Sample, settings: dict[str, object], tokens: int = 8_000) -> Alignment:
    method = ScriptedEngine("ecoalign", settings)
    return await method.answer(sample.query(), NOBODY, Ledger(Budget(tokens=tokens)))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("horizon", [0, 1, 2, 4])
async def test_a_fixed_horizon_finds_what_it_reaches_and_nothing_deeper(
    depth: int, horizon: int
) -> None:
    for sample in samples(depth):
        answer = await answered(sample, fixed_horizon(horizon))
        assert answer.answer == (RIGHT if depth <= horizon else POOR)
        assert answer.path[-1].kind == "answer"
        assert len(answer.path) == (depth + 2 if depth <= horizon else 3)


@pytest.mark.parametrize("depth", DEPTHS)
async def test_the_dynamic_horizon_finds_everything_while_there_is_money(depth: int) -> None:
    for sample in samples(depth):
        assert (await answered(sample, {})).answer == RIGHT


async def test_short_of_money_it_takes_what_is_near_where_a_far_sight_is_left_with_less() -> None:
    worth: dict[str, list[int]] = {"dynamic": [], "far": []}
    for number in range(6):
        case, sample = Case.of(3, number), DeepInsightSuite(6).samples()[4 * number + 2]
        assert sample.facts == case.worth
        for name, settings in (("dynamic", {}), ("far", fixed_horizon(4))):
            worth[name].append(case.worth[(await answered(sample, settings, tokens=1_200)).answer])
    assert sum(worth["dynamic"]) > sum(worth["far"])


async def test_answers_are_worth_what_the_case_says() -> None:
    sample = samples(1)[0]
    case = Case.of(1, 0)
    for text in (RIGHT, POOR, WORST):
        score = await SUITE.score(sample, text, False)
        assert score.useful == case.worth[text] / 9
        assert score.label == ("found" if text == RIGHT else "missed")
    assert (await SUITE.score(sample, "I do not know.", True)).useful == 0
    assert (await SUITE.score(sample, "I do not know.", True)).refused_harmless


def test_the_same_case_always_and_never_two_things_in_one_place() -> None:
    for depth in DEPTHS:
        for number in range(20):
            case = Case.of(depth, number)
            assert case == Case.of(depth, number)
            assert len({case.target, *case.decoys}) == 3
            assert case.worth[RIGHT] > case.worth[POOR] > case.worth[WORST]


def test_the_experiment_compares_every_horizon_at_every_budget() -> None:
    variants = experiment_named("deep-insight").variants([], "compact", ["500", "700"])
    assert len(variants) == len({one.name for one in variants}) == 10
    assert {one.budget for one in variants} == {"500", "700"}
