"""`ecoalign replay`: the same run again from its trace, compared byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument

from ecoalign.cli._options import Json, load_query
from ecoalign.cli._text import print_json, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.trace.events import Event


def replay(
    trace: Annotated[Path, Argument(help="A file that --trace has written.")],
    images: Annotated[
        list[str] | None, Argument(help="The images of the run, in the same order.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the search again on the recorded answers and compare the events, byte for byte.

    Needs no model and no network. Exits with 0 if the events are the same and 1 if they differ.
    """
    import asyncio

    from ecoalign.replay import replay as replay_events
    from ecoalign.trace import read_trace
    from ecoalign.trace.events import to_json

    recorded = read_trace(trace)
    query = load_query(images or (), _question(recorded, trace))
    fresh = asyncio.run(replay_events(recorded, query.pictures))
    old, new = [to_json(e) for e in recorded], [to_json(e) for e in fresh]
    same = old == new
    where = None if same else _first_difference(old, new)
    if as_json:
        body = {"same": same, "events": len(old), "replayed": len(new), "first_difference": where}
        print_json(body)
    elif same:
        tell(f"identical: {len(old)} events")
    else:
        tell(f"different: first at line {where} ({len(old)} events recorded, {len(new)} now)")
    if not same:
        raise typer.Exit(1)


def _question(recorded: Sequence[Event], path: Path) -> str:
    """The question of a run.

    Raises:
        InputError: the events do not begin as a run does, or the run was interrupted.
    """
    from ecoalign.trace.events import RunFailed, RunStarted

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
