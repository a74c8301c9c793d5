"""Published files as users have them: whole, cut short, in the wrong folder, with wrong names."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
from published import base64_of, picture, put, put_parquet, put_tsv

from ecoalign.bench._files import (
    Entry,
    entries_of,
    find_file,
    find_folder,
    find_image,
    read_json,
    read_parquet,
    read_tsv,
    table_files,
)
from ecoalign.errors import InputError


def entry(**values: object) -> Entry:
    return Entry(values, "questions.json, item '7'")


def test_entries_read_texts_and_numbers() -> None:
    row = entry(a="x", b=3, c=2.0, d=2.5, e=math.nan, f=None, g=True, h="")
    assert [row.maybe(name) for name in "abcdefgh"] == [
        "x", "3", "2", "2.5", None, None, None, "",
    ]  # fmt: skip
    assert row.whole("c") == 2
    assert row.whole("f") is None
    assert row.whole("h") is None
    with pytest.raises(InputError, match=r"item '7'.*'missing'"):
        row.text("missing")
    with pytest.raises(InputError, match="no whole number"):
        row.whole("d")


def test_entries_read_lists_written_or_not() -> None:
    assert entry(a=["x", "y"]).texts("a") == ("x", "y")
    assert entry(a="x").texts("a") == ("x",)
    assert entry(a="['x', \"y's\"]").texts("a", written=True) == ("x", "y's")
    assert entry(a="['x']").texts("a") == ("['x']",)
    assert entry(a="").texts("a") == ()
    assert entry(a=math.nan).texts("a") == ()
    assert entry().texts("a") == ()
    for wrong in (["x", 1], 7):
        with pytest.raises(InputError, match="no list of texts"):
            entry(a=wrong).texts("a")
    # What opens with a bracket and is no list of texts is a text.
    for text in ("[x", "[1] see note", "[1]", "[__import__('os')]"):
        assert entry(a=text).texts("a", written=True) == (text,)


def test_json_that_is_none_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="cut short"):
        read_json(put(tmp_path / "x.json", '[{"a": 1}, {"b'))
    with pytest.raises(InputError, match="is not JSON"):
        read_json(put(tmp_path / "y.json", b"\xff\xfe\xff"))
    with pytest.raises(InputError, match="cannot read"):
        read_json(tmp_path)
    assert read_json(put(tmp_path / "z.json", "\ufeff[1]")) == [1]


def test_items_of_lists_and_objects() -> None:
    assert list(entries_of([{"a": 1}, {"a": 2}], "f")) == ["0", "1"]
    assert entries_of({"x": {"a": 1}}, "f")["x"].where == "f, item 'x'"
    with pytest.raises(InputError, match="no list of items"):
        entries_of("text", "f")
    with pytest.raises(InputError, match="item '1' is no object"):
        entries_of([{}, 3], "f")


def test_images_are_found_under_any_ending_and_folder(tmp_path: Path) -> None:
    put(tmp_path / "two" / "images" / "1.png", picture())
    folders = [tmp_path / "one", tmp_path / "two"]
    assert find_image(folders, "images/1.jpg", "b") == tmp_path / "two" / "images" / "1.png"
    with pytest.raises(InputError, match=r"b: there is no image 'images/2.jpg' in .*one.* or "):
        find_image(folders, "images/2.jpg", "b")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "..\\b.png", ""])
def test_image_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    put(tmp_path / "secret.png", picture())
    put(tmp_path / "b.png", picture())
    with pytest.raises(InputError, match="no image name inside"):
        find_image([tmp_path / "images"], name, "b")


def test_folders_and_files_that_are_not_there(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", [])
    with pytest.raises(InputError, match="Nothing is downloaded"):
        find_folder(tmp_path / "none", "images/")
    with pytest.raises(InputError, match="is a file"):
        find_folder(file, "images/")
    with pytest.raises(InputError, match=r"has no b.json and no c.json \(the questions\)"):
        find_file(tmp_path, ("b.json", "c.json"), "the questions")


def test_which_file_a_table_is_read_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        table_files(tmp_path / "none", "MMStar", ())
    with pytest.raises(InputError, match=r"has no MMStar.tsv or \*.parquet"):
        table_files(tmp_path, "MMStar", ())
    shards = [put(tmp_path / "data" / f"test-{i}.parquet", b"x") for i in (0, 1)]
    assert table_files(tmp_path, "MMStar", ()) == ("parquet", shards)
    assert table_files(shards[1], "MMStar", ()) == ("parquet", [shards[1]])
    mini = put(tmp_path / "MMStar_MINI.tsv", "x")
    assert table_files(tmp_path, "MMStar", ()) == ("tsv", [mini])
    whole = put(tmp_path / "a.json", [])
    assert table_files(tmp_path, "MMStar", ("a.json",)) == ("json", [whole])
    with pytest.raises(InputError, match=r"no .json, .parquet or .tsv"):
        table_files(put(tmp_path / "a.zip", b"PK"), "MMStar", ())


def test_parquet_images_come_row_by_row(tmp_path: Path) -> None:
    colours = ["red", "green", "blue", "white", "black"]
    rows = [{"q": c, "image": {"bytes": picture(c), "path": f"{c}.jpg"}} for c in colours]
    first = put_parquet(tmp_path / "1.parquet", rows[:3], group_size=2)
    second = put_parquet(tmp_path / "2.parquet", rows[3:], group_size=2)
    found = read_parquet([first, second], ["q"], "image")
    assert [row.values for row in found] == [{"q": colour} for colour in colours]
    for index in (4, 0, 2, 1, 0):
        images = found[index].images
        assert images is not None
        assert images() == (picture(colours[index]),)
    assert found[3].where.endswith("2.parquet', row 0")


def test_parquet_with_plain_bytes_and_with_none(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "a.parquet", [{"image": picture()}, {"image": None}])
    whole, empty = read_parquet([path], [], "image")
    assert whole.images is not None
    assert empty.images is not None
    assert whole.images() == (picture(),)
    with pytest.raises(InputError, match="row 1 has no image in 'image'"):
        empty.images()


def test_parquet_without_a_column_or_cut_short(tmp_path: Path) -> None:
    path = put_parquet(tmp_path / "a.parquet", [{"q": "x"}])
    with pytest.raises(InputError, match=r"no column 'answer', 'image' \(it has 'q'\)"):
        read_parquet([path], ["q", "answer"], "image")
    cut = put(tmp_path / "b.parquet", path.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot read the parquet file"):
        read_parquet([cut], [], "image")


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"ecoalign\[bench\]"):
        read_parquet([tmp_path / "a.parquet"], [], "image")


def test_tsv_images_stay_in_the_file_until_asked_for(tmp_path: Path) -> None:
    large = picture() + b"\0" * 300_000  # longer than the csv module reads by default
    two = repr([base64_of(picture(colour)) for colour in ("red", "blue")])
    rows: list[dict[str, object]] = [
        {"index": "0", "question": 'says "hi"\n\tthere', "image": picture("green")},
        {"index": "1", "question": "größer\u2028?", "image": large},
        {"index": "2", "question": "as before", "image": "0"},
        {"index": "3", "question": "two", "image": two},
    ]
    limit = csv.field_size_limit()
    found = read_tsv(put_tsv(tmp_path / "a.tsv", rows), ["question"])
    assert [row.values["question"] for row in found] == [row["question"] for row in rows]
    assert "image" not in found[0].values
    images = [row.images() for row in found if row.images is not None]
    assert images == [
        (picture("green"),),
        (large,),
        (picture("green"),),
        (picture("red"), picture("blue")),
    ]
    assert csv.field_size_limit() == limit


def test_tsv_with_a_mark_and_with_windows_lines(tmp_path: Path) -> None:
    lines = ["\ufeffindex\timage\tquestion", f"7\t{base64_of(picture())}\twhat?", ""]
    path = put(tmp_path / "a.tsv", "\r\n".join(lines).encode())
    (row,) = read_tsv(path, ["question"])
    assert row.values == {"index": "7", "question": "what?"}
    assert row.images is not None
    assert row.images() == (picture(),)


@pytest.mark.parametrize("text", ["one\rtwo?", "\rone", "one\r", "a\r\rb", 'say "hi"\rthere'])
def test_tsv_with_carriage_returns_that_nothing_quotes(tmp_path: Path, text: str) -> None:
    """As Python's own csv module writes them, up to 3.12."""
    said = text.replace('"', '""') if '"' in text else text
    quoted = f'"{said}"' if '"' in text else said
    cells = f"0\t{quoted}\tx\t{base64_of(picture())}\n"
    path = put(tmp_path / "a.tsv", f"index\tquestion\tb\timage\n{cells}".encode())
    (row,) = read_tsv(path, ["question"])
    assert row.values["question"] == text
    assert row.images is not None
    assert row.images() == (picture(),)


def test_tsv_that_is_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read_tsv(tmp_path / "none.tsv", [])
    with pytest.raises(InputError, match="has no rows"):
        read_tsv(put(tmp_path / "empty.tsv", b""), [])
    with pytest.raises(InputError, match="no column 'index', 'image'"):
        read_tsv(put(tmp_path / "other.tsv", "q\nx\n"), [])
    with pytest.raises(InputError, match="line 2: 2 cells, but the first line has 3 columns"):
        read_tsv(put(tmp_path / "cut.tsv", "index\timage\tq\n0\tabc\n"), ["q"])
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_tsv(put(tmp_path / "latin.tsv", b"index\timage\n0\t\xff\n"), [])
    for wrong in ("not base64!", "", "QUJ"):
        rows = [{"index": "0", "image": wrong}]
        (row,) = read_tsv(put_tsv(tmp_path / "wrong.tsv", rows), [])
        assert row.images is not None
        with pytest.raises(InputError, match="line 2 has no image in base64"):
            row.images()
