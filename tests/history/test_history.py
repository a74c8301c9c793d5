"""The history: whole lines from many writers, nothing lost to a broken one, and no pictures."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Script, action, actions, align, asking

import ecoalign
from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.errors import BudgetTooSmall, InputError
from ecoalign.history import Entry, History
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings

MODEL = Script(propose=lambda p: actions(action("answer", "x")), write=lambda p: "no.").model


async def test_a_run_is_noted_as_it_was(tmp_path: Path) -> None:
    history = History.open(tmp_path / "state" / "history.jsonl")
    assert (history.last(), history.entries()) == (None, [])
    query = asking(2, "What does it say?")
    result = await align(MODEL(), query=query)
    made = history.add(result, query, "run.jsonl", files=["a.png", "-"])
    (found,) = History.open(history.path).entries()
    assert found == made == history.last() == history.find(made.id[:5]) == history.find("last")
    assert found.question == "What does it say?"
    assert (found.outcome, found.answer, found.model) == ("answered", result.answer, "fake")
    assert (found.tokens, found.calls) == (result.spent.tokens.total, result.spent.calls)
    assert (found.safety, found.utility) == (result.safety, result.utility)
    assert found.images == tuple(picture.sha256 for picture in query.pictures)
    assert found.files == (str(Path.cwd() / "a.png"), "")
    assert found.trace == str(Path.cwd() / "run.jsonl")
    assert Budget.parse(found.budget) == Budget(tokens=100_000)


async def test_a_refusal_a_failure_and_an_interrupt_are_told_apart(tmp_path: Path) -> None:
    history, query = History.open(tmp_path / "h"), asking(1)
    unsafe = Script(score=lambda prompt: (0, 5)).model()
    refused = await align(unsafe, query=query)
    assert history.add(refused, query).outcome == "refused"
    with pytest.raises(BudgetTooSmall) as caught:
        await align(MODEL(), 900, query)
    failed = history.add(caught.value, query)
    assert (failed.outcome, failed.model, failed.budget) == ("failed", "fake", "900")
    assert failed.error.startswith("BudgetTooSmall: ")
    assert history.add(KeyboardInterrupt(), query).outcome == "interrupted"
    assert [entry.outcome for entry in history.entries()] == ["refused", "failed", "interrupted"]


async def test_what_a_failed_run_has_spent_is_noted(tmp_path: Path) -> None:
    query = asking(1)
    model = Script(scan=lambda prompt: "no scan at all").model()
    aligner = Aligner(model, Settings(draft=False, retries=0))
    with pytest.raises(ecoalign.EcoAlignError) as caught:
        await aligner.align(query, Budget(tokens=1_400))
    spent = History.open(tmp_path / "h").add(caught.value, query)
    assert spent.tokens == caught.value.trace.events[-1].spent["tokens"]["total"]


@given(
    st.lists(
        st.builds(
            Entry,
            id=st.text("0123456789abcdef", min_size=8, max_size=8),
            at=st.text(max_size=20),
            question=st.text(),
            outcome=st.sampled_from(["answered", "refused", "failed", "interrupted"]),
            answer=st.text(),
            context=st.lists(st.text(), max_size=2).map(tuple),
            safety=st.none() | st.floats(-1, 1),
        ),
        max_size=4,
    )
)
def test_any_text_comes_back_as_it_was(entries: list[Entry]) -> None:
    lines = [json.dumps(entry.to_json()) for entry in entries]
    assert [Entry.from_json(json.loads(line)) for line in lines] == entries


def test_it_is_opt_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert History.of(Settings()) is None
    history = History.of(Settings.load(env={"ECOALIGN_HISTORY": "1"}))
    assert history is not None
    if sys.platform == "linux":
        assert history.path == tmp_path / "ecoalign" / "history.jsonl"
    assert not history.path.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_it_is_its_owners_alone_even_if_it_was_not(tmp_path: Path) -> None:
    history = History.open(tmp_path / "state" / "h.jsonl")
    note(history, "one")
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700
    history.path.chmod(0o644)
    note(history, "two")
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600


def note(history: History, question: str) -> Entry:
    return history.add(KeyboardInterrupt(), Query.of(None, question))


def test_what_is_broken_is_skipped_and_counted(tmp_path: Path) -> None:
    history = History.open(tmp_path / "h.jsonl")
    note(history, "one")
    with history.path.open("ab") as file:
        file.write(b'not json\n[1]\n"x"\n{"id": 3}\n\xff\xfe\n' + b"[" * 100_000 + b"\n\n")
        file.write(b'{"id":"cut off, wi')  # killed in the middle
    later = note(history, "two")
    again = History.open(history.path)
    assert [entry.question for entry in again.entries()] == ["one", "two"]
    assert again.skipped == 7
    assert again.last() == later
    assert [entry.question for entry in again.entries(1)] == ["two"]
    assert again.entries(0) == []


def test_a_field_of_a_later_version_is_no_harm(tmp_path: Path) -> None:
    history = History.open(tmp_path / "h.jsonl")
    body = note(history, "one").to_json() | {"schema": 9, "mood": "good"}
    history.path.write_text(json.dumps(body) + "\n")
    assert [entry.question for entry in history.entries()] == ["one"]


_WRITER = """
import sys
from ecoalign.history import History
from ecoalign.query import Query
history = History.open(sys.argv[1])
for number in range(40):
    history.add(KeyboardInterrupt(), Query.of(None, f"{sys.argv[2]} {number} " + "x" * 20_000))
"""


def test_writers_at_once_add_whole_lines(tmp_path: Path) -> None:
    path, source = tmp_path / "h.jsonl", str(Path(ecoalign.__file__).parents[1])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), f"writer{n}"],
            env=os.environ | {"PYTHONPATH": source},
        )
        for n in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    history = History.open(path)
    entries = history.entries()
    assert history.skipped == 0
    assert len({entry.id for entry in entries}) == 160
    for n in range(4):
        own = [e.question.split()[1] for e in entries if e.question.startswith(f"writer{n} ")]
        assert own == [str(number) for number in range(40)]


def test_clearing_leaves_a_file_that_can_be_added_to(tmp_path: Path) -> None:
    history = History.open(tmp_path / "h.jsonl")
    assert history.clear() == 0
    assert not history.path.exists()
    note(history, "one")
    note(history, "two")
    assert history.clear() == 2
    assert history.entries() == []
    note(history, "three")
    assert [entry.question for entry in history.entries()] == ["three"]


def test_an_entry_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    history = History.open(tmp_path / "h.jsonl")
    for name in ("missing", "", "last"):
        with pytest.raises(InputError, match="no entry"):
            history.find(name)
    made = note(history, "one")
    assert history.find(made.id.upper()) == made
    twin = made.to_json() | {"id": made.id[:4] + "zzzz"}
    with history.path.open("a") as file:
        file.write(json.dumps(twin) + "\n")
    with pytest.raises(InputError, match="several"):
        history.find(made.id[:4])


def test_a_place_that_cannot_be_written_or_read_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write the history"):
        note(History.open(tmp_path / "file" / "h.jsonl"), "one")
    with pytest.raises(InputError, match="cannot read the history"):
        History.open(tmp_path).entries()
    with pytest.raises(InputError, match="cannot clear the history"):
        History.open(tmp_path).clear()


async def test_no_picture_and_no_part_of_one_is_in_it(tmp_path: Path) -> None:
    history, query = History.open(tmp_path / "h.jsonl"), asking(1)
    model = FakeModel(Script())
    result = await asyncio.wait_for(align(model, query=query), 30)
    history.add(result, query, files=["a.png"])
    assert history.path.stat().st_size < 3_000
    body = json.loads(history.path.read_text())
    assert set(body) == {"schema", *Entry.__dataclass_fields__}
