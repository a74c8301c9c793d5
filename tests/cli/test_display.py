from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from ecoalign.budget import Budget, Called
from ecoalign.cli._display import chosen_mode, display, tree
from ecoalign.graph import (
    ROOT,
    ActionKind,
    Candidate,
    Region,
    Thought,
    ThoughtId,
    ThoughtKind,
)
from ecoalign.models import Usage
from ecoalign.trace import Story
from ecoalign.trace.events import (
    ActionsChosen,
    Event,
    Proposed,
    RootScanned,
    RunStarted,
    ThoughtAdded,
)

STARTED = RunStarted("1", "q", (), (), "embedded", "self", "default", {}, "8000", "n")


def _thought(number: int, parent: int, safety: float = 1.0, text: str = "words") -> ThoughtAdded:
    kind = ThoughtKind.ANSWER if safety < 0 else ThoughtKind.THINK
    utility = number / 1000
    thought = Thought(ThoughtId(number), kind, text, safety, utility, 100.0, (ThoughtId(parent),))
    return ThoughtAdded(thought, -1, safety < 0, "verdict")


def _root(safety: float = 1.0) -> RootScanned:
    return RootScanned(
        Thought(ROOT, ThoughtKind.ROOT, "a caption", safety, 0.0, 400.0, ()), None, 1
    )


def _drawn(events: Sequence[Event], most: int = 50, width: int = 100, **how: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(Group(*tree(Story.of([STARTED, *events]), most, width, **how)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_tree_shows_scores_and_the_strongest_path_without_colour() -> None:
    rows = _drawn(
        [_root(0.5), _thought(1, 0), _thought(2, 1, text="the best"), _thought(3, 0, -0.6)]
    )
    assert rows == [
        "request  judged +0.50",
        "├ * thought  safety +1.00  utility 0.00  100 tokens  words",
        "│ └ * thought  safety +1.00  utility 0.00  100 tokens  the best",
        "└ answer  safety -0.60  utility 0.00  100 tokens  [unsafe, pruned]",
    ]


def test_what_is_judged_unsafe_is_shown_without_its_words() -> None:
    rows = _drawn([_root(), _thought(1, 0, -1.0, "how it is done")])
    assert not any("how it is done" in row for row in rows)
    # The caption has no score of its own.
    assert not any("a caption" in row for row in rows)


def test_a_step_under_way_is_a_row() -> None:
    look = Candidate(ActionKind.LOOK, "the\nsign", (), Region(0, 0, 0.5, 0.5))
    rows = _drawn([_root(), Proposed(ROOT, 0, (look,)), ActionsChosen(1, (0,))])
    assert rows[-1] == "└ closer look the sign ... under way"


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "[bold]x[/bold]", "a\nb\nc", "\u202eabc"])
def test_what_a_model_says_can_neither_steer_nor_style_nor_break_a_row(text: str) -> None:
    rows = _drawn([_root(), _thought(1, 0, text=text)])
    assert len(rows) == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(rows[1])
    if "bold" in text:
        assert text in rows[1]


@given(
    parents=st.lists(st.integers(0, 10**6), max_size=60),
    most=st.integers(1, 30),
    width=st.integers(20, 140),
)
def test_a_tree_is_no_higher_and_no_wider_than_there_is_room(
    parents: list[int], most: int, width: int
) -> None:
    grown = [_thought(n, parent % n) for n, parent in enumerate(parents, 1)]
    events: list[Event] = [_root(), *grown]
    rows = _drawn(events, most, width)
    assert len(rows) <= most
    assert all(len(row) <= width for row in rows)
    story = Story.of([STARTED, *events])
    if len(story.nodes) > most:
        hidden = int(rows[-1].strip("(").split()[0].replace(",", ""))
        assert hidden == len(story.nodes) - (len(rows) - 1)


def test_of_many_thoughts_the_strongest_path_and_the_newest_are_kept() -> None:
    many = [_thought(n, 0, text=f"number {n}.") for n in range(1, 200)]
    rows = _drawn([_root(), *many, _thought(200, 3, text="the best")], 8)
    kept = "\n".join(rows)
    assert len(rows) == 8
    for words in ("number 3.", "the best", "number 199.", "more thoughts"):
        assert words in kept
    assert "number 100." not in kept


def test_ascii_is_enough() -> None:
    long = _thought(3, 0, text="één " * 100)
    events: list[Event] = [_root(), _thought(1, 0), _thought(2, 1), long]
    assert all(row.isascii() for row in _drawn(events, ascii_only=True))


def test_a_narrow_terminal_shows_the_words_and_not_the_cost() -> None:
    rows = _drawn([_root(), _thought(1, 0)], width=60)
    assert rows[1] == "└ * thought  safety +1.00  utility 0.00  words"


@pytest.mark.parametrize(("term", "mode"), [("xterm", "live"), ("dumb", "none")])
def test_only_a_terminal_that_can_is_drawn_on(
    term: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    assert chosen_mode(None) == mode
    assert chosen_mode(False) == "none"


def test_progress_in_a_pipe_is_a_line_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    look = Candidate(ActionKind.LOOK, "", (), Region(0, 0, 0.5, 0.5))
    called = Called("scan", "embedded", "k", 1, Usage(48, 29), 0.0, 0.1, "text")
    with display(Budget(tokens=8000), ["base", "ecoalign"], "lines") as shown:
        for event in (
            *(STARTED, called, _root(), Proposed(ROOT, 0, (look,))),
            *(ActionsChosen(1, (0,)), _thought(1, 0)),
        ):
            shown.see("ecoalign", event)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ecoalign: The image is scanned; the request is judged +1.00.",
        "ecoalign: step 1: executing look; 1 thought; 77 of 8,000 tokens",
        "ecoalign: t1, think, is scored safe (+1.00) with utility 0.00.",
    ]
