from __future__ import annotations

from pathlib import Path

import pytest

from ecoalign.bench import BenchOptions, Session
from ecoalign.bench._experiments import EXPERIMENTS, experiment_named, method_names
from ecoalign.bench._metrics import summarise
from ecoalign.bench._rows import Row, RowKey
from ecoalign.bench.suites.mixed_safety import (
    PLACES,
    REFUSAL,
    ExtractionOnly,
    MixedSafetySuite,
    chains_of,
    graph_of,
)
from ecoalign.budget import Budget, Ledger, Spending
from ecoalign.errors import InputError
from ecoalign.graph.economics import SafetyAggregator, path_safety
from ecoalign.methods import METHODS, is_refusal, open_method
from ecoalign.models.fake import FakeModel
from ecoalign.settings import Settings


@pytest.mark.parametrize("name", list(EXPERIMENTS))
@pytest.mark.parametrize("dialect", ["compact", "full"])
def test_every_variant_can_be_opened(name: str, dialect: str) -> None:
    experiment = EXPERIMENTS[name]
    variants = experiment.variants(method_names(), dialect, [])
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names) >= 3
    assert experiment.reference in names
    for variant in variants:
        settings = Settings(**dict(variant.settings))
        if variant.budget:
            settings = settings.replace(budget=variant.budget)
        if experiment.own is None:
            assert open_method(variant.method, settings).name == variant.method
        else:
            made = experiment.own(BenchOptions(name, Settings()))[1](variant, settings)
            assert made.name == variant.method


def test_no_two_variants_are_the_same_thing() -> None:
    for experiment in EXPERIMENTS.values():
        kinds = [
            (variant.method, str([variant.settings, variant.given]), variant.budget)
            for variant in experiment.variants(method_names(), "compact", [])
        ]
        assert len(set(kinds)) == len(kinds), experiment.name


def test_the_ablation_has_what_the_paper_ablates() -> None:
    variants = EXPERIMENTS["ablation"].variants(method_names(), "compact", [])
    assert [variant.name for variant in variants[:2]] == ["base", "ecoalign"]
    changed = {name for variant in variants for name in variant.settings}
    assert {"aggregator", "economy", "merge", "fuse", "look", "strategy"} <= changed


def test_main_has_every_method_once() -> None:
    names = method_names()
    assert set(names) <= set(METHODS)
    assert {"base", "cot", "cod", "ecso", "vlm-guard", "best-of-n", "ecoalign"} <= set(names)
    assert "ecoalign:default" not in names


def test_budgets_asked_for_are_the_steps() -> None:
    variants = EXPERIMENTS["budget"].variants(method_names(), "full", ["5s", "$0.1"])
    assert [variant.budget for variant in variants] == [None, "5s", "$0.1"]
    assert [variant.at for variant in variants[1:]] == [0.0, 1.0]


def test_an_unknown_experiment_is_told_what_there_is() -> None:
    with pytest.raises(InputError, match="ablation"):
        experiment_named("nonsense")


# -- mixed safety ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_chains_are_as_they_are_called(place: str) -> None:
    for number in range(20):
        chains = chains_of(place, number)
        assert chains == chains_of(place, number)
        harmful = [chain for chain in chains if chain.harmful]
        assert len(harmful) == (0 if place == "none" else 2)
        assert sum(not chain.harmful for chain in chains) == 2
        for chain in harmful:
            (at,) = [i for i, step in enumerate(chain.steps) if step.harmful]
            last = len(chain.steps) - 1
            assert {"early": at == 0, "middle": 0 < at < last, "late": at == last}[place]


@pytest.mark.parametrize("aggregator", list(SafetyAggregator))
async def test_the_extraction_takes_the_best_path_by_its_rule(aggregator: SafetyAggregator) -> None:
    model = FakeModel(lambda asked: "")
    samples = MixedSafetySuite(count=15).samples()
    for sample in samples:
        place, number = sample.query().question.split()
        worth = {REFUSAL: 0.15}
        for chain in chains_of(place, int(number)):
            if all(step.safety >= 0 for step in chain.steps):
                safety = path_safety([step.safety for step in chain.steps], aggregator)
                worth[chain.name] = safety * chain.steps[-1].utility
        answer = await ExtractionOnly(aggregator.value).answer(
            sample.query(), model, Ledger(Budget(tokens=1))
        )
        assert answer.answer == max(worth, key=lambda name: worth[name])
        assert answer.refused is (answer.answer == REFUSAL)
    assert model.calls == 0


async def test_the_weakest_link_is_the_safest_rule() -> None:
    suite = MixedSafetySuite(count=60)
    rows = []
    for name in ("min", "last", "mean"):
        method = ExtractionOnly(name)
        for sample in suite.samples():
            ledger = Ledger(Budget(tokens=1))
            answer = await method.answer(sample.query(), FakeModel(lambda asked: ""), ledger)
            score = await suite.score(sample, answer.answer, answer.refused)
            key = RowKey("mixed-safety", name, method.name, suite.name, sample.id, 0)
            rows.append(
                Row(key, sample.group, "none", answer.answer, answer.refused, score, Spending())
            )
    least, last, average = summarise(rows, "min")
    for other in (last, average):
        assert other.differences["safety"].high < -0.1
    # The last step alone sees a late harm as well as the weakest link does, and no early one.
    assert last.groups["late"]["safety"].value > last.groups["early"]["safety"].value + 0.2
    assert least.groups["none"]["safety"].value == 1.0
    assert least.estimates["safety"].value > 0.9


async def test_mixed_scores_are_the_truth() -> None:
    suite = MixedSafetySuite(count=1)
    early, none = suite.samples()[0], suite.samples()[-1]
    assert (early.group, none.group) == ("early", "none")
    harm = await suite.score(early, "mixed 0", False)
    assert (harm.safe, harm.useful) == (False, 0.0)
    good = await suite.score(early, "harmless 0", False)
    assert good.safe is True
    assert good.useful is not None
    assert 0 < good.useful <= 1
    refusal = await suite.score(none, REFUSAL, True)
    assert (refusal.safe, refusal.useful, refusal.refused_harmless) == (True, 0.0, True)
    with pytest.raises(InputError, match="no chain"):
        await suite.score(none, "mixed 0", False)
    totals = suite.totals([(early, harm), (none, refusal)])
    assert totals == {"harmful_early": 100.0, "harmful_none": 0.0}


def test_a_whole_run_scores_every_row_and_refusals_as_such(tmp_path: Path) -> None:
    session = Session(BenchOptions("mixed-safety", Settings(), out=tmp_path / "run"))
    session.run()
    rows = session.rows()
    assert len(rows) == 1200
    assert not any(row.unusable or row.failure for row in rows)
    # How the bench knows that a row is refused.
    assert is_refusal(REFUSAL)
    assert not any(is_refusal(chain.name) for chain in chains_of("early", 0))


def test_what_the_evaluator_sees_as_unsafe_is_pruned() -> None:
    for number in range(30):
        graph = graph_of(chains_of("early", number))
        assert all(thought.safety >= 0 for thought in list(graph)[1:])
