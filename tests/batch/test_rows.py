"""Inputs of every format, good and bad, and what is asked of their rows."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from command import SIGNS
from PIL import Image

from ecoalign.batch._items import Item, items_of
from ecoalign.batch._rows import read_source
from ecoalign.budget import Budget
from ecoalign.cli._app import run as run_here
from ecoalign.errors import InputError


def items(source: object, ask: str | None = None, **columns: str) -> list[Item]:
    read = read_source(source, columns.get("image"))  # type: ignore[arg-type]
    return items_of(read, ask, "ecoalign", "", columns)


def png(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [
        {"question": "one\u2028two", "image": "a.png", "n": [1, {"x": None}]},
        {"question": "three", "images": ["not the column"], "budget": 900, "method": "base"},
        {"question": "four", "image": ["a.png", "/b.png"], "budget": "$0.5,3s", "system": " Be. "},
        {"question": "five", "context": [{"role": "user", "content": "hi"}, "and then"]},
    ]
    path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n")
    one, three, four, five = items(path)
    assert (one.question, one.images) == ("one\u2028two", (str(tmp_path / "a.png"),))
    assert (three.images, three.budget, three.method) == ((), Budget(tokens=900), "base")
    assert four.images == (str(tmp_path / "a.png"), "/b.png")
    assert (four.budget, four.system) == (Budget(usd=0.5, seconds=3.0), "Be.")
    assert five.context == ("user: hi", "and then")
    assert read_source(path).rows[0].values == rows[0]
    assert len({one.id, three.id, four.id, five.id}) == 4


def test_tables_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(
        b'prompt,picture,budget,rest\r\n"What, now?",a.png,,x\r\n'
        b'Two,"[""b.png"", ""c.png""]",80,\r\n'
    )
    first, second = items(path, question="prompt", image="picture")
    assert (first.question, first.images) == ("What, now?", (str(tmp_path / "a.png"),))
    assert first.budget is None
    assert second.images == (str(tmp_path / "b.png"), str(tmp_path / "c.png"))
    assert second.budget == Budget(tokens=80)
    tsv = tmp_path / "in.tsv"
    tsv.write_text("Prompt\timage_path\nWhat?\t\nAnd?\tb.png | c.png\n")
    one, two = items(tsv)
    assert (one.question, one.images) == ("What?", ())
    assert two.images == (str(tmp_path / "b.png"), str(tmp_path / "c.png"))


def test_the_example_of_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    """What `ecoalign bench init` writes is a batch, too."""
    assert run_here(["bench", "init", str(tmp_path / "mine")]) == 0
    asked = items(tmp_path / "mine" / "data.jsonl")
    assert len(asked) == 10
    for one in asked:
        assert not one.wrong
        assert one.query().question
    assert [one.id for one in items(tmp_path / "mine")] == [one.id for one in asked]


def test_images_as_base64() -> None:
    text = base64.b64encode(png()).decode()
    for column in ("image", "image_base64"):
        (item,) = items([{"question": "a", column: text}])
        assert item.query().pictures[0].width == 4


def test_one_question_for_all_and_rows_with_their_own() -> None:
    read = items([{"image": "a"}, {"image": "b", "question": "Mine?"}], "For all?")
    assert [one.question for one in read] == ["For all?", "Mine?"]


def test_equal_rows_are_items_of_their_own_and_keep_their_names() -> None:
    rows = [{"question": "a"}, {"question": "b"}, {"question": "a"}, {"question": "a"}]
    first = [one.id for one in items(rows)]
    assert len(set(first)) == 4
    # A row that was put in before them changes no other row.
    again = [one.id for one in items([{"question": "new"}, *rows])]
    assert again[1:] == first
    # What is not asked does not count; all that is asked does.
    assert items([{"question": "a", "note": 1}])[0].id == first[0]
    for change in (
        {"image": "x.png"},
        {"budget": "9"},
        {"method": "base"},
        {"system": "s"},
        {"context": "c"},
    ):
        assert items([{"question": "a", **change}])[0].id not in first


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": " "}, "no question"),
        ({"question": None}, "no question"),
        ({"question": ["a"]}, "is a text, not list"),
        ({"question": "a", "budget": "much"}, "cannot read 'much'"),
        ({"question": "a", "budget": 0}, "from 1"),
        ({"question": "a", "image": 7}, "path or bytes, not int"),
        ({"question": "a", "image": "[a"}, "not JSON"),
        ({"question": "a", "context": 7}, "list of texts"),
        ({"question": "a", "context": [{"role": "tool", "content": "x"}]}, "list of texts"),
    ],
)
def test_a_bad_row_is_no_end_of_the_batch(row: dict[str, object], why: str) -> None:
    bad, good = items([row, {"question": "fine"}])
    assert why in bad.wrong
    assert not good.wrong


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.jsonl", '{"question": "a"}\n{"question": \n', "line 2, is not JSON"),
        ("a.jsonl", "[1]\n", "line 1, is no object but list"),
        ("a.json", '{"question": "a"}', "not a list of rows"),
        ("a.csv", "question,n\na\n", "line 2: 1 cells, but the first line names 2"),
        ("a.csv", "n,n\n1,2\n", "two columns have the same name"),
        ("a.csv", 'question\n"a\n', "as a table"),
        ("a.csv", "text\na\n", "no column 'question' (its columns: text): name it"),
        ("a.csv", "question\n", "no rows"),
        ("a.jsonl", "", "no rows"),
        ("a.txt", "a", "a batch is a .jsonl"),
        ("a.parquet", "PAR1 it is not", "cannot read the parquet file"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        items(tmp_path / name)
    assert why in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        items(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("question\nGr\u00fc\u00dfe\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 text"):
        items(tmp_path / "latin.csv")
    (tmp_path / "a.csv").write_text("question\na\n")
    with pytest.raises(InputError, match="has no column 'prompt'; it has question"):
        items(tmp_path / "a.csv", question="prompt")
    with pytest.raises(InputError, match="for all rows is empty"):
        items(tmp_path / "a.csv", " ")
    with pytest.raises(InputError, match="no role 'answer'"):
        items(tmp_path / "a.csv", answer="question")


def test_parquet_with_images_in_it(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    image = [{"bytes": png(n), "path": f"{n}.png"} for n in range(3)]
    table = pyarrow.table({"question": ["a", "b", "b"], "image": image, "n": [1, None, 3]})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    read = items(path)
    assert [one.loaded().images for one in read] == [(png(n),) for n in range(3)]
    assert len({one.id for one in read}) == 3
    assert read[1].query().pictures[0].width == 4
    # What is sent elsewhere has the image with it.
    sent = pickle.loads(pickle.dumps(read[2].loaded()))  # noqa: S301
    assert sent.query().pictures[0].sha256 == read[2].query().pictures[0].sha256
    assert read_source(path).rows[1].values == {"question": "b", "n": None}


def test_parquet_with_paths_and_several_images(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = pyarrow.table({"question": ["a", "b"], "images": [["x.png", "y.png"], None]})
    pyarrow.parquet.write_table(table, path)
    first, second = items(path)
    assert first.images == (str(tmp_path / "x.png"), str(tmp_path / "y.png"))
    assert second.images == ()


def test_a_folder_of_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden.png", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    (tmp_path / "a.txt").write_text("Only of this one?\n")
    read = read_source(tmp_path)
    assert [row.values["image"] for row in read.rows] == ["a.jpg", "b.PNG", "sub/c.webp"]
    asked = items(tmp_path, "What is this?")
    assert [one.question for one in asked] == ["Only of this one?", *["What is this?"] * 2]
    assert asked[2].images == (str(tmp_path / "sub" / "c.webp"),)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in the folder"):
        items(tmp_path / "empty", "What?")


@pytest.mark.parametrize("column", ["image", "file_name"])
def test_a_folder_with_a_sidecar(tmp_path: Path, column: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "metadata.csv").write_text(f"{column},question\nb.png,One?\nb.png,Two?\na.png,\n")
    read = read_source(tmp_path)
    assert "1 images" in read.notes[0]
    asked = items(tmp_path, "Else?")
    assert [(Path(str(one.images[0])).name, one.question) for one in asked] == [
        ("b.png", "One?"),
        ("b.png", "Two?"),
        ("a.png", "Else?"),
    ]


def test_an_image_that_was_changed_is_noticed_and_one_that_was_touched_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    (item,) = items([{"question": "a", "image": str(path)}])
    files = item.files(item.query())
    assert item.same_files(files)
    path.touch()
    path.write_bytes(png(1))
    assert item.same_files([(size, time + 1, digest) for size, time, digest in files])
    path.write_bytes(png(2))
    assert not item.same_files([(size, time + 1, digest) for size, time, digest in files])
    path.unlink()
    assert not item.same_files(files)
    assert item.same_files(item.files())


def test_addresses_are_not_fetched() -> None:
    (item,) = items([{"question": "a", "image": "https://example.com/a.png"}])
    with pytest.raises(InputError, match="does not fetch"):
        item.query()
    (item,) = items([{"question": "a", "image": SIGNS}])
    assert item.query().pictures
