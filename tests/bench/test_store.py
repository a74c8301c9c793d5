from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bench_doubles import row
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.bench._rows import (
    ROWS,
    Failure,
    Row,
    Store,
    check_manifest,
    in_order,
    read_manifest,
    read_rows,
)
from ecoalign.errors import InputError


@settings(max_examples=40, deadline=None)
@given(
    answer=st.text(st.characters(codec=None)),
    useful=st.none() | st.floats(0, 1),
    failed=st.booleans(),
    pending=st.booleans(),
)
def test_a_row_comes_back_as_it_was(
    answer: str, useful: float | None, failed: bool, pending: bool
) -> None:
    failure = Failure("ModelError", answer, 3) if failed else None
    one = row(answer=answer, useful=useful, failure=failure, pending=pending, usd=None)
    line = one.to_line()
    assert "\n" not in line
    assert Row.from_line(line.encode()) == one


def test_rows_of_the_first_release_are_read() -> None:
    one = row(critical_path=3)
    line = one.to_line()
    assert json.loads(line)["critical_path"] == 3
    assert Row.from_line(line.replace('"critical_path"', '"calls_in_line"')) == one


def test_rows_that_do_not_say_how_they_ended_are_read() -> None:
    assert Row.from_line(row(ended="drafted").to_line()).ended == "drafted"
    body = json.loads(row().to_line())
    del body["ended"]
    assert Row.from_line(json.dumps(body)) == row(ended="")


@pytest.mark.parametrize("line", ["", "{}", "[]", "3", "null", '{"experiment": 1}', "{", "\x00"])
def test_what_is_no_row_is_refused(line: str) -> None:
    with pytest.raises(InputError):
        Row.from_line(line)


def test_rows_that_cost_nothing_do_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    for sync in (False, True):
        folder = tmp_path / str(sync)
        with Store(folder, sync=sync) as store:
            store.append(row("s0"))
            assert [one.key.sample for one in read_rows(folder)] == ["s0"]
        assert len(forced) == sync


def test_a_line_torn_anywhere_costs_that_row_alone(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for i in range(3):
            store.append(row(f"s{i}"))
    path = tmp_path / ROWS
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert [one.key.sample for one in read_rows(tmp_path)] == ["s0", "s1"]
    path.write_bytes(whole[: last + 7])
    with Store(tmp_path) as store:
        assert len(store.rows) == 2
        store.append(row("s9"))
    assert [one.key.sample for one in read_rows(tmp_path)] == ["s0", "s1", "s9"]
    assert path.read_bytes().startswith(whole[:last])


def test_a_broken_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(row("s0"))
    path = tmp_path / ROWS
    path.write_bytes(b"rubbish\n" + path.read_bytes())
    with pytest.raises(InputError, match="line 1"):
        read_rows(tmp_path)
    with pytest.raises(InputError, match="line 1"):
        Store(tmp_path)


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(row("s0", pending=True))
        store.append(row("s1"))
        store.append(row("s0", useful=1.0))
        assert len(store.rows) == 2
    first, second = read_rows(tmp_path)
    assert first.score is not None
    assert (first.score.useful, second.key.sample) == (1.0, "s1")


def test_a_row_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(row("s0"))
        assert len(read_rows(tmp_path)) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(InputError, match="another process"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    check_manifest(out, {"model": "a", "limit": 3}, ["model"])
    check_manifest(out, {"model": "a", "limit": 9}, ["model"])
    assert read_manifest(out) == {"model": "a", "limit": 9}
    with pytest.raises(InputError, match=r"model 'a', not 'b'.*--out"):
        check_manifest(out, {"model": "b", "limit": 9}, ["model"])
    assert read_manifest(out)["model"] == "a"


def test_rows_without_a_manifest_are_not_taken_over(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append(row())
    with pytest.raises(InputError, match=r"no run\.json"):
        check_manifest(tmp_path, {"model": "a"}, ["model"])


def test_an_unreadable_manifest_says_where(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match=r"run\.json"):
        read_manifest(tmp_path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        read_rows(tmp_path / "nowhere")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(blocked)


def test_rows_come_in_the_order_of_the_variants() -> None:
    rows = [row("s0", "b"), row("s0", "x"), row("s0", "a"), row("s1", "b")]
    names = [(one.key.variant, one.key.sample) for one in in_order(rows, ["a", "b"])]
    assert names == [("a", "s0"), ("b", "s0"), ("b", "s1"), ("x", "s0")]
