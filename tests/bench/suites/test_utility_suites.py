"""OCRBench, MathVista and MMStar: from each published format to the official figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from published import picture, put, put_parquet, put_tsv

from ecoalign.bench import open_suite
from ecoalign.bench.suites._base import Sample
from ecoalign.errors import InputError
from ecoalign.query import Query

# -- OCRBench -----------------------------------------------------------------------------------

FORMULA = "Handwritten Mathematical Expression Recognition"
OCR = [
    ("IIIT5K", "what is written?", ["CENTRE"], "Regular Text Recognition", "a/1.png"),
    ("docVQA", "what is the date?", ["May 1", "1 May"], "Doc-oriented VQA", "b/2.jpg"),
    ("HME100k", "write the formula", ["y _ 2"], FORMULA, "c/3.jpg"),
]


def ocrbench_json(root: Path, images: str = "OCRBench_Images") -> Path:
    rows = [
        {
            "dataset_name": dataset,
            "id": 5,
            "image_path": image,
            "question": question,
            "answers": answers if len(answers) > 1 else answers[0],
            "type": kind,
        }
        for dataset, question, answers, kind, image in OCR
    ]
    put(root / "OCRBench" / "OCRBench.json", rows)
    for *_, image in OCR:
        put(root / images / image, picture())
    return root


def ocrbench_parquet(root: Path) -> Path:
    rows = [
        {
            "dataset": dataset,
            "question": question,
            "question_type": kind,
            "answer": answers,
            "image": {"bytes": picture(), "path": None},
        }
        for dataset, question, answers, kind, _ in OCR
    ]
    put_parquet(root / "data" / "test-00000-of-00001.parquet", rows)
    return root


def ocrbench_tsv(root: Path) -> Path:
    rows = [
        {
            "index": number,
            "image": picture(),
            "question": question,
            "answer": str(answers),
            "category": kind,
        }
        for number, (_, question, answers, kind, _) in enumerate(OCR)
    ]
    return put_tsv(root / "OCRBench.tsv", rows).parent


@pytest.mark.parametrize("publish", [ocrbench_json, ocrbench_parquet, ocrbench_tsv])
async def test_ocrbench_in_every_format(tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    suite = open_suite("ocrbench", publish(tmp_path))
    samples = suite.samples()
    assert [s.id for s in samples] == ["0", "1", "2"]
    assert [s.group for s in samples] == ["Text Recognition", "Doc-oriented VQA", FORMULA]
    assert [list(s.facts["answer"]) for s in samples] == [answers for _, _, answers, _, _ in OCR]
    query = samples[1].query()
    assert (query.question, len(query.pictures)) == ("what is the date?", 1)
    json.dumps([dict(sample.facts) for sample in samples])
    answers = ["the centre", "On 1 may.", "$Y_2$"]
    scored = [
        (s, await suite.score(s, a, False, None)) for s, a in zip(samples, answers, strict=True)
    ]
    assert [score.useful for _, score in scored] == [1.0, 1.0, 0.0]
    assert all(score.safe is None and score.refused_harmless is None for _, score in scored)
    found = suite.totals(scored)
    assert (found["Text Recognition"], found[FORMULA], found["final score"]) == (1.0, 0.0, 2.0)
    assert found["final score norm"] == pytest.approx(200 / 3)


def test_ocrbench_images_beside_the_file(tmp_path: Path) -> None:
    samples = open_suite("ocrbench", ocrbench_json(tmp_path, "OCRBench")).samples()
    assert len(samples[0].query().pictures) == 1


def test_ocrbench_broken(tmp_path: Path) -> None:
    row = {"image_path": "i", "question": "q", "answers": "a", "type": "Else"}
    put(tmp_path / "OCRBench.json", [row])
    with pytest.raises(InputError, match="item '0': 'Else' is none of OCRBench's types"):
        open_suite("ocrbench", tmp_path).samples()
    put(tmp_path / "OCRBench.json", [{**row, "type": FORMULA, "answers": []}])
    with pytest.raises(InputError, match="has no answer in 'answers'"):
        open_suite("ocrbench", tmp_path).samples()
    assert open_suite("ocrbench", tmp_path).totals([])["final score norm"] == 0.0


# -- MMStar -------------------------------------------------------------------------------------

STARS = [
    ("0", "What shape?\nOptions: A: round, B: square", "A", "math", "geometry"),
    ("1", "Which mood?\nOptions: A: sad, B: gay", "B", "coarse perception", "image emotion"),
    ("2", "How many?\nOptions: A: 1, B: 2", "B", "math", "statistical reasoning"),
]


def mmstar_parquet(root: Path) -> Path:
    rows = [
        {
            "index": int(index),
            "question": question,
            "image": picture(),
            "answer": answer,
            "category": category,
            "l2_category": axis,
            "meta_info": {"source": "SEED", "image_path": "x.jpg"},
        }
        for index, question, answer, category, axis in STARS
    ]
    return put_parquet(root / "mmstar.parquet", rows)


def mmstar_tsv(root: Path) -> Path:
    rows = [
        {
            "index": index,
            "question": question,
            "image": picture(),
            "answer": answer,
            "category": category,
            "l2_category": axis,
            "bench": "SEED",
        }
        for index, question, answer, category, axis in STARS
    ]
    return put_tsv(root / "MMStar.tsv", rows)


@pytest.mark.parametrize("publish", [mmstar_parquet, mmstar_tsv])
async def test_mmstar_in_both_formats(tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    file = publish(tmp_path)
    suite = open_suite("mmstar", file.parent)
    samples = suite.samples()
    assert [s.id for s in samples] == [s.id for s in open_suite("mmstar", file).samples()]
    assert [(s.id, s.group) for s in samples] == [(s[0], s[3]) for s in STARS]
    assert samples[0].facts["bench"] == "SEED"
    assert samples[0].query().question.startswith("What shape?\nOptions: A: round, B: square\n")
    answers = ["(a) round", "A", "option b"]
    scored = [
        (s, await suite.score(s, a, False, None)) for s, a in zip(samples, answers, strict=True)
    ]
    assert suite.totals(scored) == {
        "final score": pytest.approx(200 / 3),
        "math": 100.0,
        "math/geometry": 100.0,
        "coarse perception": 0.0,
        "coarse perception/image emotion": 0.0,
        "math/statistical reasoning": 100.0,
    }


@pytest.mark.parametrize("answer", ["**B**", "[B]", "$B$", "Answer: B", "The answer is: (B)"])
async def test_mmstar_letters_and_what_is_put_around_them(tmp_path: Path, answer: str) -> None:
    suite = open_suite("mmstar", mmstar_tsv(tmp_path))
    first, second, _ = suite.samples()
    assert (await suite.score(second, answer, False, None)).label == "right"
    assert (await suite.score(first, answer, False, None)).label == "wrong"


def test_mmstar_options_in_columns_are_asked_too(tmp_path: Path) -> None:
    row = dict(
        zip(("index", "question", "answer", "category", "l2_category"), STARS[0], strict=True)
    )
    row["question"] = "What shape?"
    put_tsv(tmp_path / "MMStar.tsv", [{**row, "A": "round", "B": "square", "image": picture()}])
    asked = open_suite("mmstar", tmp_path).samples()[0].query().question
    assert "Options: A: round, B: square" in asked
    put_tsv(tmp_path / "MMStar.tsv", [{**row, "A": "", "B": "", "image": picture()}])
    asked = open_suite("mmstar", tmp_path).samples()[0].query().question
    assert "Options" not in asked


def test_mmstar_broken(tmp_path: Path) -> None:
    row = {"index": 0, "question": "q", "answer": "A", "category": "Else", "l2_category": "x"}
    put_tsv(tmp_path / "MMStar.tsv", [{**row, "image": picture()}])
    with pytest.raises(InputError, match="'Else' is none of MMStar's core capabilities"):
        open_suite("mmstar", tmp_path).samples()
    del row["l2_category"]
    put_tsv(tmp_path / "MMStar.tsv", [{**row, "image": picture()}])
    with pytest.raises(InputError, match="no column 'l2_category'"):
        open_suite("mmstar", tmp_path).samples()
    with pytest.raises(InputError, match=r"published as \.parquet or \.tsv"):
        open_suite("mmstar", put(tmp_path / "a.json", [])).samples()


# -- MathVista ----------------------------------------------------------------------------------

METADATA: Mapping[str, object] = {
    "category": "general-vqa",
    "context": "natural image",
    "grade": "daily life",
    "language": "english",
    "source": "TQA",
    "task": "visual question answering",
    "skills": ["arithmetic reasoning", "statistical reasoning"],
}


def problem(pid: str, **changes: object) -> dict[str, object]:
    return {
        "pid": pid,
        "question": f"question {pid}?",
        "image": f"images/{pid}.jpg",
        "choices": None,
        "unit": None,
        "precision": None,
        "answer": "3",
        "question_type": "free_form",
        "answer_type": "integer",
        "metadata": METADATA,
        **changes,
    }


PROBLEMS = [
    problem("1"),
    problem("2", question_type="multi_choice", answer_type="text", choices=["x", "y"], answer="y"),
    problem("3", answer_type="float", precision=2.0, answer="1.25", unit="m"),
]


def mathvista_json(root: Path) -> Path:
    put(root / "data" / "testmini.json", {str(p["pid"]): p for p in PROBLEMS})
    for number in (1, 2, 3):
        put(root / "images" / f"{number}.png", picture())
    return root


def mathvista_parquet(root: Path) -> Path:
    rows = [{**p, "decoded_image": {"bytes": picture(), "path": "1.jpg"}} for p in PROBLEMS]
    put_parquet(root / "data" / "testmini-00000-of-00001.parquet", rows)
    put(root / "data" / "test-00000-of-00002.parquet", b"not looked at")
    return root


def mathvista_tsv(root: Path) -> Path:
    rows = [
        {
            "index": p["pid"],
            "image": picture(),
            "question": p["question"],
            "answer": p["answer"],
            "question_type": p["question_type"],
            "answer_type": p["answer_type"],
            "choices": str(p["choices"] or []),
            "unit": p["unit"],
            "task": METADATA["task"],
            "skills": str(METADATA["skills"]),
        }
        for p in PROBLEMS
    ]
    return put_tsv(root / "MathVista_MINI.tsv", rows).parent


class Extractor:
    """Judges that extract what a test says, and what they were asked."""

    def __init__(self, *replies: str | None) -> None:
        self._replies = replies
        self.asked: list[tuple[str, Query | None]] = []

    async def __call__(self, prompt: str, query: Query | None) -> Sequence[str | None]:
        self.asked.append((prompt, query))
        return self._replies


@pytest.mark.parametrize("publish", [mathvista_json, mathvista_parquet, mathvista_tsv])
async def test_mathvista_in_every_format(tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    suite = open_suite("mathvista", publish(tmp_path))
    samples = suite.samples()
    assert [s.id for s in samples] == ["1", "2", "3"]
    assert {s.group for s in samples} == {"visual question answering"}
    assert samples[1].query().question.endswith("question 2?\nChoices:\n(A) x\n(B) y")
    assert samples[2].query().question.endswith("question 3? (Unit: m)")
    assert "two decimal places" in samples[2].query().question
    assert len(samples[0].query().pictures) == 1
    assert [s.facts["answer_option"] for s in samples] == [None, "B", None]
    json.dumps([dict(sample.facts) for sample in samples])
    scored = [
        (s, await suite.score(s, a, False, None))
        for s, a in zip(samples, ("3", "(B)", "1.3"), strict=True)
    ]
    found = suite.totals(scored)
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert (found["answer_type/float"], found["answer_type/text"]) == (0.0, 100.0)
    assert found["skills/arithmetic reasoning"] == pytest.approx(200 / 3)
    assert found["unusable"] == 0.0


def test_mathvista_takes_a_question_with_its_hint_as_it_is(tmp_path: Path) -> None:
    row = {**PROBLEMS[0], "question": "Hint: ready\nQuestion: why?", "image": "images/1.png"}
    put(tmp_path / "images" / "1.png", picture())
    samples = open_suite("mathvista", put(tmp_path / "testmini.json", [row])).samples()
    assert samples[0].query().question == "Hint: ready\nQuestion: why?"


def first(root: Path, **options: object) -> tuple[Sample, Sample]:
    samples = open_suite("mathvista", mathvista_json(root), **options).samples()
    return samples[0], samples[1]


async def test_mathvista_extracts_only_what_is_not_bare_answer(tmp_path: Path) -> None:
    whole, choice = first(tmp_path)
    suite = open_suite("mathvista", tmp_path)
    judge = Extractor("3.0")
    score = await suite.score(whole, "3", False, judge)
    assert (score.label, judge.asked) == ("right", [])
    assert "verdicts" not in score.detail
    score = await suite.score(whole, "I count three of them, THE RESPONSE", False, judge)
    assert (score.label, score.useful) == ("right", 1.0)
    assert score.detail == {
        "extracted": ["3.0"],
        "prediction": "3",
        "refused": False,
        "verdicts": {"extraction": ["3"]},
    }
    ((prompt, shown),) = judge.asked
    assert shown is None
    assert "THE RESPONSE" in prompt
    assert "a whole number" in prompt
    judge = Extractor("B")
    assert (await suite.score(choice, "the second", False, judge)).useful == 1.0
    assert "(A) x\n(B) y" in judge.asked[0][0]


async def test_mathvista_judges_are_told_the_form_of_the_answer(tmp_path: Path) -> None:
    _ = first(tmp_path)
    suite = open_suite("mathvista", tmp_path)
    judge = Extractor("1.25")
    assert (await suite.score(suite.samples()[2], "about 1.25 m", False, judge)).label == "right"
    assert "a number with 2 decimals, as 1.23" in judge.asked[0][0]
    assert "OPTIONS" not in judge.asked[0][0]


async def test_mathvista_legacy_integers(tmp_path: Path) -> None:
    whole, _ = first(tmp_path)
    suite = open_suite("mathvista", tmp_path, legacy_int="true")
    assert (await suite.score(whole, "three", False, Extractor("3.0"))).useful == 0.0


@pytest.mark.parametrize(
    ("replies", "label"),
    [
        ((None,), "unusable"),
        ((None, None), "unusable"),
        ((None, "3"), "right"),
        (("4", "3"), "wrong"),
        (("3", "4"), "right"),
        (("4", "3", "3.0"), "right"),
        (("none",), "wrong"),
        (("`3`",), "right"),
        (("",), "wrong"),
    ],
)
async def test_mathvista_several_judges(
    tmp_path: Path, replies: tuple[str | None, ...], label: str
) -> None:
    whole, _ = first(tmp_path)
    suite = open_suite("mathvista", tmp_path)
    score = await suite.score(whole, "a few", False, Extractor(*replies))
    assert score.label == label
    assert score.useful == float(label == "right")
    assert suite.totals([(whole, score)])["unusable"] == (100.0 if label == "unusable" else 0.0)


DECORATED = ("B", "(B)", "B.", "**B**", "[B]", "'B'", "$B$", "b", "Option B", "Answer: B", "(B) y")


@pytest.mark.parametrize("reply", [*DECORATED, "The answer is B.", r"$\boxed{B}$", "y", "**y**"])
async def test_mathvista_letters_and_what_is_put_around_them(tmp_path: Path, reply: str) -> None:
    _, choice = first(tmp_path)
    suite = open_suite("mathvista", tmp_path)
    score = await suite.score(choice, "it is the second", False, Extractor(reply))
    assert (score.label, score.detail["prediction"]) == ("right", "y")


@pytest.mark.parametrize("reply", ["**14**", "14.", "$14$", "Answer: 14", "14.0", "1,4e1"])
async def test_mathvista_numbers_and_what_is_put_around_them(tmp_path: Path, reply: str) -> None:
    row = problem("1", answer="14", image="images/1.png")
    suite = open_suite("mathvista", put(tmp_path / "testmini.json", [row]))
    score = await suite.score(suite.samples()[0], "some", False, Extractor(reply))
    assert score.label == ("wrong" if reply == "1,4e1" else "right")


@pytest.mark.parametrize("reply", ["none", "None.", "**none**", "N/A", "", "D", "Option C"])
@pytest.mark.parametrize("right", ["long", "s"])
async def test_mathvista_no_answer_is_no_choice(tmp_path: Path, reply: str, right: str) -> None:
    """Not the nearest one, which for silence is the shortest."""
    row = problem("1", question_type="multi_choice", answer_type="text", answer=right)
    suite = open_suite(
        "mathvista", put(tmp_path / "testmini.json", [{**row, "choices": ["long", "s"]}])
    )
    (sample,) = suite.samples()
    assert (await suite.score(sample, "I cannot tell.", True, Extractor(reply))).label == "wrong"
    assert (await suite.score(sample, "", False, None)).label == "wrong"


async def test_mathvista_without_a_judge_what_is_not_outright_is_unusable(tmp_path: Path) -> None:
    whole, _ = first(tmp_path)
    suite = open_suite("mathvista", tmp_path)
    assert (await suite.score(whole, "a few", False, None)).label == "unusable"
    assert (await suite.score(whole, "", False, None)).label == "wrong"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": None}, "has no text in 'answer'"),
        ({"answer_type": "matrix"}, "none of MathVista's"),
        ({"question_type": "multi_choice"}, "none of MathVista's"),
        ({"answer_type": "text"}, "none of MathVista's"),
        ({"choices": ["a"]}, "none of MathVista's"),
    ],
)
def test_mathvista_broken(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = put(tmp_path / "testmini.json", {"1": problem("1", **changes)})
    with pytest.raises(InputError, match=message):
        open_suite("mathvista", path).samples()
