"""The reader of users' tables by itself; what a batch and a benchmark make of it is in tests/batch
and tests/bench."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import base64_of, picture, put, put_parquet

from ecoalign.errors import InputError
from ecoalign.query.tables import (
    ImageFolder,
    Mistakes,
    Record,
    find_source,
    images_in,
    is_empty,
    read_records,
)

RED = picture("red")


def records(path: Path, *, bare: bool = False, **options: Any) -> list[Record]:
    source = find_source(path, bare=bare)
    mistakes = Mistakes(str(path))
    found = list(read_records(source, mistakes, **options))
    mistakes.check()
    return found


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_every_row_of_a_table_is_read_twice_alike(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    ending: str,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(["question", "more"])
    writer.writerows(rows)
    path = put(tmp_path_factory.mktemp("t") / "a.csv", text.getvalue().encode())
    limit = csv.field_size_limit()
    found = records(path)
    wanted = [row for row in rows if any(cell.strip() for cell in row)]
    assert [tuple(one.values.values()) for one in found] == wanted
    assert [one.reread() for one in found] == [one.values for one in found]
    assert csv.field_size_limit() == limit


def test_rows_are_read_again_from_every_format(tmp_path: Path) -> None:
    rows = [{"question": "größer\u2028?", "n": 1}, {"question": "b", "n": 2}]
    lines = "# mine\n" + "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for path in (
        put(tmp_path / "a.jsonl", lines),
        put(tmp_path / "b.json", rows),
        put(tmp_path / "c.jsonl", lines.encode("utf-16")),
        put_parquet(tmp_path / "d.parquet", rows, group_size=1),
    ):
        found = records(path)
        assert [one.values for one in found] == rows
        assert [one.reread() for one in reversed(found)] == rows[::-1]
    # A file that was changed since is no crash.
    path = put(tmp_path / "e.csv", 'question,n\na,"b"\n')
    (one,) = records(path)
    for text in ("", 'question,n\na,"b""', "x\n"):
        put(path, text)
        assert one.reread() == {}


def test_columns_with_bytes_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{"question": "a", "image": {"bytes": RED, "path": None}, "n": 1}]
    (one,) = records(put_parquet(tmp_path / "a.parquet", rows))
    assert one.values == {"question": "a", "n": 1}
    assert one.heavy == frozenset({"image"})
    assert images_in(one.reread()["image"]) == [RED]


@pytest.mark.parametrize(
    ("cell", "flat", "images"),
    [
        (None, True, []),
        (" ", True, []),
        (float("nan"), False, []),
        ({"bytes": None, "path": None}, False, []),
        ("a.png | b.png |", True, ["a.png", "b.png"]),
        ("a | b.png", False, ["a | b.png"]),
        ('["a.png", "b|c.png"]', True, ["a.png", "b|c.png"]),
        ("['a.png']", True, ["a.png"]),
        ("data:,a|b", True, ["data:,a|b"]),
        ([{"path": "a.png"}, RED, bytearray(RED), ""], False, ["a.png", RED, RED]),
    ],
)
def test_images_of_a_cell(cell: object, flat: bool, images: list[object]) -> None:
    assert images_in(cell, flat=flat) == images
    assert images or is_empty(cell) or isinstance(cell, dict)


@pytest.mark.parametrize("cell", [7, True, "[a", [["a.png"]], {"bytes": 3}, "[" * 9999])
def test_what_is_no_image(cell: object) -> None:
    with pytest.raises(InputError, match=r"an image is|is no list"):
        images_in(cell)


def test_a_folder_of_images_with_texts_of_some(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.png", "sub/.hidden.png"):
        put(tmp_path / name, RED)
    put(tmp_path / "sub" / "a.txt", "question: What?\nanswer: 3\n")
    (one,) = records(tmp_path)
    assert one.values == {"image": "sub/a.png", "question": "What?", "answer": "3"}
    assert [each.image for each in records(tmp_path, bare=True)] == ["b.png", "sub/a.png"]
    assert find_source(tmp_path).lonely() == ["b.png"]


def test_a_text_that_is_a_link_out_of_the_folder_is_not_asked(tmp_path: Path) -> None:
    put(tmp_path / "secret", "a key")
    put(tmp_path / "in" / "a.png", RED)
    (tmp_path / "in" / "a.txt").symlink_to(tmp_path / "secret")
    for bare in (False, True):
        with pytest.raises(InputError, match=r"a\.txt: a link out of the folder"):
            records(tmp_path / "in", bare=bare)


def test_where_images_are_looked_for(tmp_path: Path) -> None:
    put(tmp_path / "in" / "red.png", RED)
    put(tmp_path / "out.png", RED)
    bounded, free = ImageFolder(tmp_path / "in"), ImageFolder(tmp_path / "in", bounded=False)
    for name in ("red.png", "red", "./x/../red.png", "../in/red.png"):
        assert bounded.place(name) == tmp_path / "in" / "red.png"
    assert bounded.place(base64_of(RED)) == f"data:;base64,{base64_of(RED)}"
    long = "x" * 70
    put(tmp_path / "in" / f"{long}.png", RED)
    assert bounded.place(long) == tmp_path / "in" / f"{long}.png"
    assert free.place("../out.png") == tmp_path / "out.png"
    for name in ("../out.png", str(tmp_path / "out.png"), "/etc/hostname"):
        assert not bounded.has(name)
        with pytest.raises(InputError, match="outside the folder"):
            bounded.place(name)
    for name in ("a\0b", "y" * 2000 + ".", "..\0", "."):
        with pytest.raises(InputError, match=r"no image|outside"):
            bounded.place(name)
    for folder in (bounded, free):
        with pytest.raises(InputError, match="not fetched"):
            folder.place("http://127.0.0.1/a.png")
    with pytest.raises(InputError, match="no folder"):
        ImageFolder(tmp_path / "none")
