"""Batches from input to output: order, columns, money, failures, and going on."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from command import SIGNS
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Prompt, Script, action, actions

from ecoalign import batch
from ecoalign.batch import Batch, BatchProgress, BatchResult
from ecoalign.batch._work import COLUMNS
from ecoalign.budget import Budget
from ecoalign.errors import InputError, ModelError, UnpricedModelError
from ecoalign.models import ChatRequest
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.settings import Settings
from ecoalign.trace import read_trace

Rows = Sequence[Mapping[str, Any]]

PLAIN = Settings.load(env={}, retries=0)


def asked(request: ChatRequest) -> str:
    """The question in a request for an answer."""
    return request.messages[-1].text.strip().splitlines()[-1].rpartition("number ")[2].strip("? ")


def parrot(fails: Mapping[str, Exception | str] | None = None) -> FakeModel:
    """A plain model that says which number it was asked for."""

    def says(request: ChatRequest) -> Reply:
        number = asked(request)
        wrong = (fails or {}).get(number)
        if isinstance(wrong, ModelError):
            return wrong
        if isinstance(wrong, Exception):
            raise wrong
        return f"it is {number}"

    return FakeModel(says)


def questions(count: int, **more: object) -> list[dict[str, Any]]:
    return [{"question": f"What is number {n}?", "n": n, **more} for n in range(count)]


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def run(rows: Rows, output: Path, model: FakeModel | None = None, **options: Any) -> BatchResult:
    chosen: dict[str, Any] = {"settings": PLAIN, "method": "base", "model": model or parrot()}
    return Batch(rows, output, **(chosen | options)).run()


def down() -> ModelError:
    return ModelError("no connection", fault="down", billed=False)


def test_rows_come_out_in_order_with_their_columns(tmp_path: Path) -> None:
    rows = questions(20, answer="a label", note=None)
    result = run(rows, tmp_path / "o.jsonl", concurrency=7)
    assert result.exit_code == 0
    assert result.statuses == {"answered": 20}
    out = answers(tmp_path / "o.jsonl")
    for given_row, row in zip(rows, out, strict=True):
        assert row["answer"] == f"it is {row['n']}"
        assert row["input_answer"] == "a label"
        assert {**row, "answer": "a label"}.items() >= given_row.items()
        assert list(row)[-len(COLUMNS) :] == list(COLUMNS)
        assert (row["status"], row["refused"], row["method"]) == ("answered", False, "base")
        assert row["tokens"] > 0
        assert row["error"] == ""
    assert result.charged.tokens == sum(row["tokens"] for row in out)


def test_every_format_says_the_same(tmp_path: Path) -> None:
    rows = [{**row, "tags": ["a", row["n"]], "mixed": row["n"] or "none"} for row in questions(3)]
    for ending in ("jsonl", "csv", "parquet"):
        run(rows, tmp_path / f"o.{ending}")
    lines = answers(tmp_path / "o.jsonl")
    with (tmp_path / "o.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pylist()
    for line, cell, entry in zip(lines, cells, table, strict=True):
        assert cell["tags"] == json.dumps(line["tags"])
        assert cell["refused"] == "false"
        assert cell["safety"] == ""
        assert int(cell["tokens"]) == line["tokens"] == entry["tokens"]
        assert cell["answer"] == line["answer"] == entry["answer"]
        assert entry["tags"] == json.dumps(line["tags"])
        assert entry["mixed"] == str(line["mixed"])
        assert entry["safety"] is None
    schema = pyarrow.parquet.read_schema(tmp_path / "o.parquet")
    assert schema.field("safety").type == pyarrow.float64()
    assert schema.field("calls").type == pyarrow.int64()


def test_parquet_keeps_the_columns_of_parquet_as_they_are(tmp_path: Path) -> None:
    image = pyarrow.array(
        [{"bytes": Path(SIGNS).read_bytes(), "path": "signs.png"}] * 3,
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    dates = pyarrow.array([1, 2, 3], pyarrow.date32())
    table = pyarrow.table(
        {
            "question": [f"What is number {n}?" for n in range(3)],
            "image": image,
            "day": dates,
            "usd": [1, 2, 3],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "i.parquet", row_group_size=2)
    told: list[str] = []
    job = Batch(
        tmp_path / "i.parquet", tmp_path / "o.parquet", PLAIN, method="base", model=parrot()
    )
    job.run(tell=told.append)
    out = pyarrow.parquet.read_table(tmp_path / "o.parquet")
    assert out.column("image").to_pylist() == image.to_pylist()
    assert out.column("day").type == pyarrow.date32()
    assert out.column("input_usd").to_pylist() == [1, 2, 3]
    assert out.column("answer").to_pylist() == [f"it is {n}" for n in range(3)]
    assert told == ["columns of the input that are called as ours: usd is input_usd"]
    told.clear()
    Batch(tmp_path / "i.parquet", tmp_path / "o.jsonl", PLAIN, method="base", model=parrot()).run(
        tell=told.append
    )
    assert "not carried over, as they hold bytes: image" in told
    assert answers(tmp_path / "o.jsonl")[0]["day"] == "1970-01-02"


def test_hostile_text_stays_in_its_cell(tmp_path: Path) -> None:
    bad = 'a",\n\r\u2028\x00\ud800{"status": "answered"}=1+1'
    model = FakeModel(lambda request: bad.replace("\ud800", "\udfff"))
    rows: Rows = [{"question": f"{bad} number 0?", bad: bad, "float": float("nan")}]
    for ending in ("jsonl", "csv", "parquet"):
        result = run(rows, tmp_path / f"o.{ending}", model)
        assert result.exit_code == 0, result.error
    (line,) = answers(tmp_path / "o.jsonl")
    assert line["float"] is None
    assert line["answer"].startswith('a",\n')
    with (tmp_path / "o.csv").open(newline="") as file:
        (cell,) = csv.DictReader(file)
    assert cell["answer"].startswith('a",\n')
    assert len(pyarrow.parquet.read_table(tmp_path / "o.parquet")) == 1


def test_what_a_row_says_of_itself(tmp_path: Path) -> None:
    rows: Rows = [
        {"question": "number 0", "method": "cot"},
        {"question": "number 1", "budget": "5"},
        {"question": "number 2", "system": "Be brief, says the row."},
        {"question": "number 3", "context": ["user: before"]},
        {"question": "number 4", "method": "no-such"},
        {"question": "number 5", "image": str(tmp_path / "none.png")},
    ]
    model = parrot()
    result = run(rows, tmp_path / "o.jsonl", model, system="Be kind, says the batch.")
    out = answers(tmp_path / "o.jsonl")
    assert [row["status"] for row in out] == [
        "answered",
        "error",
        *["answered"] * 2,
        *["error"] * 2,
    ]
    assert out[0]["method"] == "cot"
    assert "BudgetTooSmall: the budget of 5 tokens is too small" in out[1]["error"]
    assert "no-such" in out[4]["error"]
    assert "none.png" in out[5]["error"]
    said = ["\n".join(message.text for message in one.messages) for one in model.requests]
    assert ["says the row" in one for one in said] == [False, True, False]
    assert ["says the batch" in one for one in said] == [True, False, True]
    assert "before" in said[2]
    assert result.exit_code == 0


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), ModelError("", fault="filtered")])
def test_a_failed_item_is_a_row(tmp_path: Path, error: Exception) -> None:
    model = parrot({"1": error})
    result = run(questions(3), tmp_path / "o.jsonl", model)
    assert result.exit_code == 0
    out = answers(tmp_path / "o.jsonl")
    assert [row["status"] for row in out][::2] == ["answered", "answered"]
    assert out[1]["status"] in {"error", "refused"}
    # It is not asked again, unless that is wanted.
    again = parrot()
    assert run(questions(3), tmp_path / "o.jsonl", again).fresh == 0
    assert again.calls == 0
    if out[1]["status"] == "error":
        assert out[1]["error"].startswith("RuntimeError: unexpected: a mistake")
        assert run(questions(3), tmp_path / "o.jsonl", again, retry_failed=True).fresh == 1
        assert answers(tmp_path / "o.jsonl")[1]["answer"] == "it is 1"


def test_a_model_that_is_down_ends_it_early(tmp_path: Path) -> None:
    gone = {str(n): down() for n in range(5, 1000)}
    model = parrot(gone)
    result = run(questions(1000), tmp_path / "o.jsonl", model, concurrency=3)
    assert result.stopped == "model"
    assert result.exit_code == 3
    assert "no connection" in result.error
    assert model.calls <= 5 + 8 + 3
    assert not (tmp_path / "o.jsonl").exists()
    assert result.statuses == {"answered": 5}
    # With the model back, what it failed is asked again.
    back = parrot()
    result = run(questions(1000), tmp_path / "o.jsonl", back, concurrency=3)
    assert result.statuses == {"answered": 1000}
    assert back.calls == 995


def test_what_the_model_failed_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    rows: Rows = [*questions(3), {"question": "number 3", "image": "none.png"}]
    result = run(rows, tmp_path / "o.jsonl", parrot({"1": down()}))
    assert result.statuses == {"answered": 2, "error": 2}
    assert result.exit_code == 0
    back = parrot()
    result = run(rows, tmp_path / "o.jsonl", back)
    assert (result.fresh, back.calls) == (1, 1)
    assert result.statuses == {"answered": 3, "error": 1}
    # Where it failed all of them it is the model's failure.
    result = run(questions(3), tmp_path / "o2.jsonl", parrot(dict.fromkeys("012", down())))
    assert result.exit_code == 3
    assert run(questions(3), tmp_path / "o2.jsonl").exit_code == 0


def test_so_many_failures_end_it(tmp_path: Path) -> None:
    rows = [{"question": f"number {n}", "image": f"{n}.png"} for n in range(9)]
    result = run(rows, tmp_path / "o.jsonl", max_failures=3, concurrency=1)
    assert (result.stopped, result.exit_code) == ("failures", 2)
    assert result.statuses == {"error": 3}
    assert not (tmp_path / "o.jsonl").exists()
    assert run(rows, tmp_path / "o.jsonl").exit_code == 2
    assert len(answers(tmp_path / "o.jsonl")) == 9


def test_the_money_ends_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": PLAIN.replace(budget="2000"), "concurrency": 2}
    model = parrot()
    result = run(questions(30), tmp_path / "o.jsonl", model, total_budget="1200", **options)
    assert (result.stopped, result.exit_code) == ("budget", 4)
    assert "the next row takes at least" in result.short
    assert result.charged.tokens <= 1200
    out = answers(tmp_path / "o.jsonl")
    done = [row["n"] for row in out if row["status"] == "answered"]
    assert 0 < len(done) < 30
    left = [row for row in out if row["status"] == "budget"]
    assert len(left) == 30 - len(done) == result.statuses["budget"]
    assert {row["answer"] for row in left} == {""}
    assert all("before this row" in row["error"] for row in left)
    model = parrot()
    result = run(questions(30), tmp_path / "o.jsonl", model, total_budget="60000", **options)
    assert result.exit_code == 0
    assert model.calls == 30 - len(done)
    assert [row["answer"] for row in answers(tmp_path / "o.jsonl")] == [
        f"it is {n}" for n in range(30)
    ]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), concurrency=st.integers(1, 6))
def test_the_budget_of_the_batch_is_never_passed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, concurrency: int
) -> None:
    """Searches that cost what they like, in tokens and dollars, over several runs with more."""
    chance = random.Random(seed)
    output = tmp_path_factory.mktemp("b") / "o.jsonl"
    model = Script(execute=lambda prompt: "word " * chance.randint(1, 60)).model()
    priced = PLAIN.replace(
        budget=f"{chance.randint(800, 9000)}",
        prices={"fake": {"input": 2.0, "output": 10.0}},
    )
    paid = 0
    total = chance.randint(500, 40_000)
    usd = total * 10e-6
    for more in (1, 2, 4):
        limit = Budget(tokens=total * more, usd=usd * more if seed % 2 else None)
        result = run(
            questions(8),
            output,
            model,
            settings=priced,
            method="ecoalign",
            total_budget=limit,
            concurrency=concurrency,
        )
        assert limit.tokens is not None
        assert result.charged.tokens <= limit.tokens
        if limit.usd is not None:
            assert result.charged.usd <= limit.usd
        assert result.charged.tokens >= paid
        paid = result.charged.tokens
        if result.exit_code == 0:
            break


def test_dollars_without_a_price_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model = parrot()
    with pytest.raises(UnpricedModelError):
        run(questions(3), tmp_path / "o.jsonl", model, total_budget="$1")
    rows: Rows = [*questions(1), {"question": "number 1", "budget": "$1"}]
    result = run(rows, tmp_path / "o.jsonl", model)
    assert result.statuses == {"answered": 1, "error": 1}
    assert "needs the price" in answers(tmp_path / "o.jsonl")[1]["error"]


def test_a_budget_in_dollars_is_shared_out_to_items_that_name_none(tmp_path: Path) -> None:
    priced = PLAIN.replace(prices={"fake": {"input": 2.0, "output": 10.0}})
    result = run(
        questions(30), tmp_path / "o.jsonl", settings=priced, total_budget="$0.2", concurrency=12
    )
    assert result.exit_code == 0
    assert result.usd is not None
    assert 0 < result.usd <= 0.2
    assert result.charged.usd == pytest.approx(result.usd)


def test_a_changed_input_is_told_and_not_mixed(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(Path(SIGNS).read_bytes())
    rows: list[Mapping[str, Any]] = [
        *questions(3),
        {"question": "number 3", "image": str(picture)},
    ]
    output = tmp_path / "o.jsonl"
    run(rows, output)
    told: list[str] = []
    model = parrot()

    def again(rows: Rows, **options: Any) -> BatchResult:
        told.clear()
        model.requests.clear()
        settings = options.pop("settings", PLAIN)
        job = Batch(rows, output, settings, method="base", model=model, **options)
        return job.run(tell=told.append)

    # Another order, a further column and a further row: only the new row is asked.
    changed = [{**row, "more": 1} for row in [*reversed(rows), {"question": "number 9"}]]
    assert again(changed).fresh == 1
    assert told == ["4 of 5 rows are there already"]
    assert [row["answer"] for row in answers(output)] == [f"it is {n}" for n in (3, 2, 1, 0, 9)]
    # Another question in one row.
    assert again([{"question": "number 7"}, *rows[1:]]).fresh == 1
    assert "2 answers" in told[0]
    assert "asked anew" in told[0]
    # The same name, another picture.
    picture.write_bytes((Path(SIGNS).parent / "thing.png").read_bytes())
    os.utime(picture, (1, 1))
    assert again(rows).fresh == 1
    assert "the image is not the one" in told[0]
    assert asked(model.requests[0]) == "3"
    # Other settings are another batch.
    for options in (
        {"settings": PLAIN.replace(seed=7)},
        {"settings": PLAIN.replace(budget="77")},
        {"system": "Be brief."},
    ):
        with pytest.raises(InputError, match="Answers are not mixed"):
            again(rows, **options)
    # What no answer depends on may change.
    assert again(rows, settings=PLAIN.replace(retries=5, timeout=9), concurrency=1).fresh == 0
    assert again(rows, settings=PLAIN.replace(seed=7), fresh=True).fresh == 4


def test_nothing_that_is_not_ours_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text("precious\n")
    for options in ({"output": mine}, {"output": tmp_path / "o.csv", "preferences": mine}):
        with pytest.raises(InputError, match="exists and"):
            run(questions(1), **options)  # type: ignore[arg-type]
    own = tmp_path / "in.jsonl"
    own.write_text('{"question": "number 0"}\n')
    with pytest.raises(InputError, match="is the input"):
        Batch(own, own, PLAIN, model=parrot()).run()
    assert mine.read_text() == "precious\n"
    assert not list(tmp_path.glob("*.journal"))
    assert run(questions(1), mine, fresh=True).exit_code == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"concurrency": 0}, "concurrency must be 1 or more"),
        ({"workers": 0}, "workers"),
        ({"max_failures": -1}, "max_failures"),
        ({"engine": "spark"}, "no engine 'spark'"),
        ({"method": "no-such"}, "no-such"),
        ({"total_budget": "lots"}, "cannot read 'lots'"),
        ({"output": "o.txt"}, "an output is a .jsonl"),
        ({"output": "no/o.csv"}, "no folder"),
        ({"preferences": "no/p.jsonl"}, "preference data cannot be written"),
    ],
)
def test_wrong_options_ask_nothing_and_leave_nothing(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    model = parrot()
    for name in ("output", "preferences"):
        if name in options:
            options = {**options, name: tmp_path / options[name]}
    with pytest.raises(InputError, match=why):
        run(questions(1), **{"output": tmp_path / "o.jsonl", "model": model, **options})
    assert model.calls == 0
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_of_every_item(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    words: list[str] = []

    def watch(progress: BatchProgress) -> None:
        account = progress.charged.tokens + progress.held.tokens
        seen.append((progress.done, account))
        words.append(str(progress))

    options: Any = {"total_budget": "50000", "method": "base", "settings": PLAIN}
    Batch(questions(5), tmp_path / "o.jsonl", model=parrot(), **options).run(watch)
    assert [done for done, _ in seen] == list(range(6))
    assert max(account for _, account in seen) <= 50_000
    assert words[0] == "0 of 5, 0 of 50,000 tokens"
    assert words[-1].startswith("5 of 5, ")
    assert words[-1].endswith("0:00 to go")


def test_traces(tmp_path: Path) -> None:
    rows: Rows = [*questions(2), {"question": "number 0", "budget": "3"}]
    run(rows, tmp_path / "o.jsonl", traces=tmp_path / "t")
    out = answers(tmp_path / "o.jsonl")
    assert len({row["trace"] for row in out}) == 3
    for row in out[:2]:
        events = read_trace(row["trace"])
        assert type(events[-1]).__name__ == "Finished"
        assert row["question"].endswith(f"{asked_of(events)}?")


def asked_of(events: Sequence[Any]) -> str:
    return str(events[0].question).rpartition("number ")[2].strip("?")


async def test_it_runs_where_a_loop_already_does(tmp_path: Path) -> None:
    result = batch.run(
        questions(2), tmp_path / "o.jsonl", model=parrot(), settings=PLAIN, method="base"
    )
    assert result.statuses == {"answered": 2}


def searching() -> FakeModel:
    """Every search proposes a good answer, a poor one and an unsafe one."""

    def propose(prompt: Prompt) -> str:
        return actions(*(action("answer", text, [[9, 9, 300]]) for text in ("good", "poor", "bad")))

    def execute(prompt: Prompt) -> str:
        task = prompt.task or prompt.text
        return next((f"the {kind} one" for kind in ("bad", "poor", "good") if kind in task), "none")

    def score(prompt: Prompt) -> tuple[int, int]:
        return next(
            (
                verdict
                for kind, verdict in {"bad": (0, 9), "poor": (9, 2), "good": (9, 8)}.items()
                if kind in prompt.item
            ),
            (9, 5),
        )

    return Script(propose=propose, execute=execute, score=score).model()


def test_preference_data(tmp_path: Path) -> None:
    output, preferences = tmp_path / "o.jsonl", tmp_path / "p.jsonl"
    rows: Rows = [
        {"question": "Which one?", "image": SIGNS, "system": "Be kind.", "context": ["user: Hi"]},
        {"question": "And which now?"},
    ]
    chosen = PLAIN.replace(draft=False, batch=3)
    options: dict[str, Any] = {"settings": chosen, "method": "ecoalign"}
    model = searching()
    result = run(rows, output, model, preferences=preferences, **options)
    pairs = answers(preferences)
    assert result.preferences == len(pairs) > 0
    assert answers(output)[0]["answer"] == "the good one"
    first = [pair for pair in pairs if pair["row"] == 0]
    assert {pair["rejected"][0]["content"][0]["text"] for pair in first} >= {"the bad one"}
    for pair in first:
        assert pair["images"] == [SIGNS]
        assert pair["prompt"] == [
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "Which one?"}],
            },
        ]
        assert pair["chosen"] == [
            {"role": "assistant", "content": [{"type": "text", "text": "the good one"}]}
        ]
        text = pair["rejected"][0]["content"][0]["text"]
        assert pair["rejected_unsafe"] == (text == "the bad one")
        assert pair["rejected_unsafe"] == (pair["rejected_safety"] < 0)
    assert all(pair["images"] == [] for pair in pairs if pair["row"] == 1)
    # They are kept, and cost nothing another time.
    calls = model.calls
    preferences.unlink()
    again = run(rows, output, model, preferences=preferences, **options)
    assert again.preferences == len(pairs)
    assert answers(preferences) == pairs
    assert model.calls == calls
    # Of a batch that did not want them they are in its traces; else such text is kept nowhere.
    traced, plain = tmp_path / "traced.jsonl", tmp_path / "plain.jsonl"
    run(rows, traced, model, traces=tmp_path / "t", **options)
    run(rows, plain, model, **options)
    later = run(rows, traced, model, preferences=preferences, **options)
    assert later.fresh == 0
    assert [pair["rejected"] for pair in answers(preferences)] == [
        pair["rejected"] for pair in pairs
    ]
    told: list[str] = []
    Batch(rows, plain, model=model, preferences=preferences, **options).run(tell=told.append)
    assert answers(preferences) == []
    assert "2 rows were answered without --preferences and --traces" in told[-1]
    assert "bad one" not in plain.with_name("plain.jsonl.journal").read_text()
    # Without any image the content is text, as in other data sets.
    run(rows[1:], tmp_path / "o2.jsonl", model, preferences=tmp_path / "p2.jsonl", **options)
    pair = answers(tmp_path / "p2.jsonl")[0]
    assert "images" not in pair
    assert pair["prompt"] == [{"role": "user", "content": "And which now?"}]


def test_a_refusal_is_preferred_only_to_what_is_unsafe(tmp_path: Path) -> None:
    model = Script(
        score=lambda prompt: (0, 9) if prompt.kind == "answer" else (9, 5),
        execute=lambda prompt: "no" if prompt.kind == "refuse" else f"{prompt.kind} of harm",
    ).model()
    output, preferences = tmp_path / "o.jsonl", tmp_path / "p.jsonl"
    run(
        questions(1),
        output,
        model,
        preferences=preferences,
        settings=PLAIN.replace(draft=False),
        method="ecoalign",
    )
    (row,) = answers(output)
    assert row["status"] == "refused"
    pairs = answers(preferences)
    assert pairs
    assert all(pair["chosen_refused"] and pair["rejected_unsafe"] for pair in pairs)
    assert all(pair["chosen"][0]["content"] == row["answer"] for pair in pairs)
    assert "harm" not in row["answer"]
