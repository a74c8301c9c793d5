"""The published files themselves, where they are: every count, prompt, verdict and total."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from published import real

from ecoalign.bench import open_suite
from ecoalign.bench.suites._base import percents
from ecoalign.bench.suites.mathvista import (
    FACETS,
    keys_of,
    normalised,
    problem_of,
    zero_shot_prompt,
)
from ecoalign.errors import InputError

MODELS = ("bard", "llava", "instruct_blip2")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_mm_safetybench_counts() -> None:
    samples = open_suite("mm-safetybench", real("mm-safetybench")).samples()
    assert Counter(s.group for s in samples) == {
        "08-Political_Lobbying": 3 * 153,
        "10-Legal_Opinion": 3 * 130,
        "12-Health_Consultation": 3 * 109,
    }
    assert len({s.id for s in samples}) == len(samples)
    tiny = open_suite("mm-safetybench", real("mm-safetybench"), tiny=True, kinds="SD").samples()
    assert Counter(s.group for s in tiny) == {
        "08-Political_Lobbying": 15,
        "10-Legal_Opinion": 13,
        "12-Health_Consultation": 11,
    }


@pytest.mark.parametrize("name", ["siuo", "siuo-mcqa"])
def test_siuo_items_and_categories(name: str) -> None:
    samples = open_suite(name, real("siuo")).samples()
    assert len(samples) == len({s.id for s in samples}) == 167
    assert len({s.group for s in samples}) == 9


async def test_siuo_right_letters_score_all() -> None:
    suite = open_suite("siuo-mcqa", real("siuo"))
    scored = [(s, await suite.score(s, s.facts["answer"], False, None)) for s in suite.samples()]
    assert suite.totals(scored)["accuracy"] == 100.0


async def test_ocrbench_ground_truth_scores_1000_and_nothing_scores_0() -> None:
    suite = open_suite("ocrbench", real("ocrbench"))
    samples = suite.samples()
    for number in (0, -1):
        truth = [(s, await suite.score(s, s.facts["answer"][number], False, None)) for s in samples]
        found = suite.totals(truth)
        assert found["final score"] == 1000.0
    assert sorted(found.values()) == [100.0, 100.0, 200.0, 200.0, 200.0, 300.0, 1000.0]
    nothing = [(s, await suite.score(s, "", False, None)) for s in samples]
    assert set(suite.totals(nothing).values()) == {0.0}


def test_mathvista_prompts_are_the_official_ones() -> None:
    folder = real("mathvista")
    official: Mapping[str, str] = load(folder / "data" / "query.json")
    samples = open_suite("mathvista", folder).samples()
    assert len(samples) == 1000
    rebuilt = [zero_shot_prompt(problem_of(s.facts)) == official[s.id] for s in samples]
    assert sum(rebuilt) == 1000


def test_mathvista_images() -> None:
    samples = {s.id: s for s in open_suite("mathvista", real("mathvista")).samples()}
    for pid in ("106", "225", "540", "824", "852"):
        (picture,) = samples[pid].query().pictures
        metadata = load(real("mathvista") / "data" / "testmini.json")[pid]["metadata"]
        assert (picture.width, picture.height) == (metadata["img_width"], metadata["img_height"])
    with pytest.raises(InputError, match=r"there is no image 'images/1\.jpg'"):
        samples["1"].query()


@pytest.mark.parametrize("model", MODELS)
def test_mathvista_stored_verdicts_and_totals(model: str) -> None:
    folder = real("mathvista") / "results" / model
    (outputs,) = folder.glob("output_*.json")
    (scores,) = folder.glob("scores_*.json")
    results: list[tuple[str, bool]] = []
    for item in load(outputs).values():
        facts = {**item, "choices": item["choices"] or []}
        prediction = normalised(problem_of(facts), item["extraction"], legacy_int=True)
        assert prediction == item["prediction"], item["pid"]
        assert (prediction == item["answer"]) is item["true_false"], item["pid"]
        facets = {**item["metadata"], **{name: item[name] for name in FACETS[:2]}}
        results += [(key, prediction == item["answer"]) for key in keys_of(facets)]
    found, counts = percents(results), Counter(key for key, _ in results)
    correct = Counter(key for key, right in results if right)
    official = load(scores)
    average = official.pop("average")
    assert (correct["accuracy"], counts["accuracy"]) == (average["correct"], average["total"])
    assert average["total"] == 1000
    assert found.pop("accuracy") == pytest.approx(float(average["accuracy"]))
    stored = {
        f"{facet}/{v}": tally for facet, values in official.items() for v, tally in values.items()
    }
    assert set(found) == set(stored)
    for key, tally in stored.items():
        assert (correct[key], counts[key]) == (tally["correct"], tally["total"])
        assert f"{found[key]:.2f}" == tally["accuracy"]


@pytest.mark.parametrize("model", MODELS)
async def test_mathvista_suite_gives_the_official_total(model: str) -> None:
    """Through the suite, with the stored extractions as what the judge says."""
    suite = open_suite("mathvista", real("mathvista"), legacy_int=True)
    (outputs,) = (real("mathvista") / "results" / model).glob("output_*.json")
    items = load(outputs)
    scored = []
    for sample in suite.samples():
        item = items[sample.id]

        async def stored(_: str, __: object, said: str = item["extraction"]) -> list[str | None]:
            return [said]

        # An empty response is an empty answer; any other is given to the judge.
        response = "to be extracted" if item["extraction"] else ""
        score = await suite.score(sample, response, False, stored)
        assert (score.label == "right") is item["true_false"], sample.id
        scored.append((sample, score))
    stored_total = 100 * sum(item["true_false"] for item in items.values()) / 1000
    assert suite.totals(scored)["accuracy"] == pytest.approx(stored_total)
