"""`ecoalign replay`: the same run again from its trace, compared byte for byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from ecoalign.cli._options import load_query
from ecoalign.cli._text import print_json, tell
from ecoalign.errors import InputError
from ecoalign.replay import replay
from ecoalign.trace import read_trace
from ecoalign.trace.events import RunFailed, RunStarted, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ecoalign.trace.events import Event

__all__ = ["replay_trace"]


def replay_trace(path: Path, images: Sequence[str], *, as_json: bool) -> None:
    """Replay a trace and say whether the events are the same.

    Raises:
        InputError: see `ecoalign.replay`; also for the trace of an interrupted run.
        typer.Exit: with 1, where the events differ.
    """
    recorded = read_trace(path)
    question = _question(recorded, path)
    fresh = asyncio.run(replay(recorded, load_query(images, question).pictures))
    old, new = [to_json(e) for e in recorded], [to_json(e) for e in fresh]
    same = old == new
    where = None if same else _first_difference(old, new)
    if as_json:
        body = {"same": same, "events": len(old), "replayed": len(new), "first_difference": where}
        print_json(body)
    elif same:
        tell(f"the same: {len(old)} events, byte for byte")
    else:
        tell(f"not the same: line {where} differs ({len(old)} events recorded, {len(new)} now)")
    if not same:
        raise typer.Exit(1)


def _question(recorded: Sequence[Event], path: Path) -> str:
    if not (recorded and isinstance(recorded[0], RunStarted)):
        raise InputError(f"{path} is not a trace: it does not begin with the start of a run")
    last = recorded[-1]
    if isinstance(last, RunFailed) and last.error == "Cancelled":
        raise InputError(f"the run in {path} was interrupted, so it cannot be replayed to its end")
    return recorded[0].question


def _first_difference(old: Sequence[str], new: Sequence[str]) -> int:
    """The number of the first line, from 1, that is not the same."""
    for number, (one, two) in enumerate(zip(old, new, strict=False), 1):
        if one != two:
            return number
    return min(len(old), len(new)) + 1
