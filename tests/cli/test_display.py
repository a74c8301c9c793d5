from __future__ import annotations

import pytest

from ecoalign.budget import Budget
from ecoalign.cli._display import display
from ecoalign.graph import ROOT, Thought, ThoughtKind
from ecoalign.trace.events import RootScanned


@pytest.mark.parametrize(
    ("cost", "said"),
    [(0, "no scan: the draft is good enough"), (426, "scanned; the search may use 75% of the")],
)
def test_a_scan_is_told_only_where_there_was_one(
    cost: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Thought(ROOT, ThoughtKind.ROOT, "", 1.0, 0.0, cost, ())
    shown = display(Budget(tokens=8000), "lines")
    shown.see(RootScanned(root, None, 0.75))
    assert said in capsys.readouterr().err
