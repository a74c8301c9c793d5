"""The journal of a batch: nothing in it is lost, and nothing is believed that is not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.batch import _journal
from ecoalign.batch._journal import Journal
from ecoalign.batch._work import COLUMNS
from ecoalign.budget.pacing import PacingState, Sum
from ecoalign.errors import InputError

ROW = {**dict.fromkeys(COLUMNS), "status": "answered", "tokens": 9, "usd": None, "calls": 2}


def test_what_ended_is_kept(tmp_path: Path) -> None:
    pace = PacingState(price=2.5, tokens=10.0)
    with Journal(tmp_path / "j", {"method": "base"}) as journal:
        assert not journal.found
        journal.begin("a", 100, None)
        journal.cost("a", Sum(60, 5))
        branch = {"text": "é\ud800\u2028", "unsafe": True}
        journal.end("a", Sum(40, 4), ROW, files=[(1, 2, "x")], branches=[branch], pace=pace)
    with Journal(tmp_path / "j", {"method": "base"}) as journal:
        assert journal.found
        assert journal.spent == Sum(40, 4)
        assert journal.pace == pace
        assert journal.lost == {}
        done = journal.done["a"]
        assert (done.status, done.files, done.tokens, done.usd) == (
            "answered",
            ((1, 2, "x"),),
            9,
            None,
        )
        assert journal.read("a")["branches"] == [branch]
        assert journal.read("a")["row"] == ROW


def test_what_was_under_way_is_charged_what_it_may_have_cost_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.begin("a", 100, 1000)
        journal.cost("a", Sum(60, 5))
        journal.cost("a", Sum(30, 3))
        journal.cost("a", Sum(70, 6))
        journal.begin("b", 100, 1000)
        journal.begin("of another machine", 500, None, told=False)
    for lost in ({"a": Sum(70, 6), "b": Sum(), "of another machine": Sum(500, 0)}, {}):
        with Journal(tmp_path / "j", {}) as journal:
            assert journal.lost == lost
            assert journal.spent == Sum(570, 6)
            assert journal.done == {}


def test_after_a_crash_of_the_machine_it_is_charged_its_whole_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.begin("a", 100, 1000)
        journal.cost("a", Sum(60, 5))
    monkeypatch.setattr(_journal, "BOOT", "another start of the machine")
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.spent == Sum(100, 1000)


@given(cut=st.integers(0, 2000))
def test_cut_off_anywhere_it_reads_what_is_whole_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "j"
    with Journal(path, {"x": 1}) as journal:
        for item in "abc":
            journal.begin(item, 100, None)
            journal.cost(item, Sum(50))
            journal.end(item, Sum(40), ROW)
    data = path.read_bytes()
    cut = min(cut, len(data))
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    with Journal(path, {"x": 1}) as journal:
        # Three lines an item, after the header.
        ended = max(0, whole - 1) // 3
        assert set(journal.done) == set("abc"[:ended])
        left = max(0, whole - 1) % 3
        assert journal.spent.tokens == 40 * ended + (50 if left == 2 else 0)
        journal.begin("d", 100, None)
        journal.end("d", Sum(1), ROW)
    with Journal(path, {"x": 1}) as journal:
        assert set(journal.done) == {*"abc"[:ended], "d"}


def test_answers_under_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "j"
    header = {"version": "1", "settings": {"model": "embedded", "seed": 1}, "method": "base"}
    with Journal(path, header) as journal:
        journal.begin("a", 100, None)
        journal.end("a", Sum(40), ROW)
    other = {**header, "version": "2", "settings": {"model": "openai:gpt-4o", "seed": 1}}
    with pytest.raises(InputError, match='model was "embedded" and is now "openai:gpt-4o"'):
        Journal(path, other)
    Journal(path, {**header, "version": "2"}).close()
    with Journal(path, other, fresh=True) as journal:
        assert journal.done == {}
        assert journal.spent == Sum()
    with Journal(tmp_path / "j.old", header) as journal:
        assert set(journal.done) == {"a"}


def test_a_journal_in_which_nothing_was_begun_may_be_anybodys(tmp_path: Path) -> None:
    Journal(tmp_path / "j", {"method": "base"}).close()
    with Journal(tmp_path / "j", {"method": "cot"}) as journal:
        journal.begin("a", 1, None)
    with pytest.raises(InputError, match="method was"):
        Journal(tmp_path / "j", {"method": "base"})


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", {}),
        pytest.raises(InputError, match="another process is running this batch"),
    ):
        Journal(tmp_path / "j", {})
    Journal(tmp_path / "j", {}).close()


@pytest.mark.parametrize("text", ["hello\n", "[]\n", '{"journal": 99}\n', '{"row": 1}\n', "\x00\n"])
def test_another_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "j").write_text(text)
    with pytest.raises(InputError, match="line 1, is not of the journal of a batch"):
        Journal(tmp_path / "j", {})
    assert (tmp_path / "j").read_text() == text


def test_rows_that_do_not_count(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        for item in "ab":
            journal.begin(item, 100, None)
            journal.end(item, Sum(40), ROW)
        journal.again(["a"])
        assert set(journal.done) == {"b"}
    with Journal(tmp_path / "j", {}) as journal:
        assert set(journal.done) == {"b"}
        assert journal.spent == Sum(80)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "no" / "j", {})


@pytest.mark.parametrize("text", [b"my only notes", b'{"question": "a"}', b"{}"])
def test_a_text_without_an_end_of_line_that_is_no_journal_is_left_alone(
    tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "j").write_bytes(text)
    with pytest.raises(InputError, match="no journal of a batch"):
        Journal(tmp_path / "j", {"method": "base"})
    assert (tmp_path / "j").read_bytes() == text
