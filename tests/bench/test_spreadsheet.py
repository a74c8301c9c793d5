"""Predictions as xlsx: what is written is what is read back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from published import picture, put_tsv

from ecoalign.bench import open_suite
from ecoalign.bench._spreadsheet import MOST_CHARACTERS, prediction_rows, write_predictions
from ecoalign.errors import InputError


def read(path: Path) -> list[tuple[object, ...]]:
    from openpyxl import load_workbook

    book = load_workbook(path)
    rows = [tuple(cell.value for cell in row) for row in book.worksheets[0].iter_rows()]
    kinds = {cell.data_type for row in book.worksheets[0].iter_rows() for cell in row}
    book.close()
    assert kinds <= {"s", "n"}, "no formula and no error value"
    return rows


def row(index: str, prediction: object, **more: object) -> dict[str, object]:
    return {"index": index, "question": "q", "prediction": prediction, **more}


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "model_MMStar.xlsx"
    rows = [row("7", "B", answer=["x", "y's"], category="math"), row("x/1", "größer\n2", hit=True)]
    assert write_predictions(path, rows) == 0
    assert read(path) == [
        ("index", "question", "answer", "category", "hit", "prediction"),
        (7, "q", str(["x", "y's"]), "math", None, "B"),
        ("x/1", "q", None, None, 1, "größer\n2"),
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["=1+1", '=HYPERLINK("http://x")', "#N/A", "+1", "@x", "TRUE", "12"]
)
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.xlsx"
    write_predictions(path, [row("0", text)])
    assert read(path)[1][-1] == text


def test_what_a_cell_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    rows = [row("0", "a\x00b\x1bc\ud800"), row("1", "x" * 40_000), row("2", float("nan"))]
    assert write_predictions(path, rows) == 1
    found = [line[-1] for line in read(path)[1:]]
    assert found == ["a?b?c?", "x" * MOST_CHARACTERS, None]


def test_rows_of_a_suite(tmp_path: Path) -> None:
    star = {"question": "q", "answer": "A", "category": "math", "l2_category": "geometry"}
    put_tsv(tmp_path / "MMStar.tsv", [{"index": "4", **star, "bench": "b", "image": picture()}])
    (sample,) = open_suite("mmstar", tmp_path).samples()
    write_predictions(tmp_path / "a.xlsx", prediction_rows([(sample, "as it was put", "A")]))
    assert read(tmp_path / "a.xlsx") == [
        ("index", "question", "answer", "category", "l2_category", "bench", "prediction"),
        (4, "q", "A", "math", "geometry", "b", "A"),
    ]


def test_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    write_predictions(path, [row("0", "old"), row("1", "old")])
    write_predictions(path, [row("0", "new")])
    assert len(read(path)) == 2


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"prediction 1 has no question"):
        write_predictions(tmp_path / "a.xlsx", [row("0", "x"), {"index": "1", "prediction": "y"}])
    with pytest.raises(InputError, match=r"as .xlsx, not as 'a.csv'"):
        write_predictions(tmp_path / "a.csv", [])
    with pytest.raises(InputError, match="cannot write"):
        write_predictions(tmp_path / "none" / "a.xlsx", [])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"ecoalign\[bench\]"):
        write_predictions(tmp_path / "a.xlsx", [])
    assert list(tmp_path.iterdir()) == []
