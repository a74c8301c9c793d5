"""`ecoalign replay`: the same run again from its trace, or as other settings would have had it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ecoalign._text import short
from ecoalign.cli._options import Json, split_pair
from ecoalign.cli._text import print_json, say, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.query import Picture
    from ecoalign.replay import WhatIf
    from ecoalign.trace.events import Event, RunStarted

_PAGE_SIDE = 1024
"""Pixels of the longest side of an image on a page."""

_HEAD = 4096


def replay(
    trace: Annotated[Path, Argument(help="A file that --trace has written.")],
    images: Annotated[
        list[str] | None,
        Argument(
            help="The images of the run, in the same order. Without them those are taken that your "
            "history knows, if they are as they were."
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="What if this setting had been another? May be repeated; preset is one, too.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        Option(help="With --set: write a page with both runs side by side to this file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the search again on the recorded answers: no model, no network, not a token.

    As it was, the events are compared byte for byte: it exits with 0 if they are the same and 1 if
    they differ. With --set it says where other settings would have decided otherwise, as far as
    nothing is asked that was not asked then; without the images only the recorded scores are held
    against them.

    [bold]Examples[/bold]

    ecoalign replay run.jsonl photo.jpg

    ecoalign replay run.jsonl photo.jpg --set safety_threshold=0.5

    ecoalign replay run.jsonl photo.jpg --set preset=paper --set batch=1
    """
    import asyncio

    from ecoalign.replay import replay as replay_events
    from ecoalign.replay import what_if
    from ecoalign.trace import read_trace
    from ecoalign.trace.events import to_json

    recorded = read_trace(trace)
    started = _started(recorded, trace)
    pictures = _pictures(images or (), started)
    if pairs:
        changes: dict[str, object] = {}
        for pair in pairs:
            name, value = split_pair(pair, "--set takes name=value, as in --set batch=2")
            if name in changes:
                raise InputError(f"{name} is set twice on the command line")
            changes[name] = value
        found = asyncio.run(what_if(recorded, pictures, changes))
        if html is not None:
            _write_page(html, recorded, found, pictures or ())
        if as_json:
            print_json(found.to_json())
        else:
            _tell(found)
        return
    if html is not None:
        raise InputError("--html shows two runs side by side: say what is to differ with --set")
    _check_whole(recorded, trace)
    fresh = asyncio.run(replay_events(recorded, pictures or ()))
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


def _tell(found: WhatIf) -> None:
    """The differences, a line each."""
    changes = [f"{name} {now} (was {was})" for name, (was, now) in found.changes.items()]
    tell(f"what if: {', '.join(changes) or 'nothing is changed, the run had these settings'}")
    for one in found.decisions:
        tell(f"- {one.text}")
    if found.reached:
        if not found.decisions:
            tell("- no decision differs, to the end of the run")
        return
    if not found.decisions:
        tell("- no decision differs, as far as the trace reaches")
    tell(found.beyond)


def _write_page(
    path: Path, recorded: Sequence[Event], found: WhatIf, pictures: Sequence[Picture]
) -> None:
    """Both runs, each as a story, on one page.

    Raises:
        InputError: it cannot be written, or another file is there.
    """
    import base64

    from ecoalign.trace import Story
    from ecoalign.view import is_own_page, page

    images = {}
    for picture in pictures:
        view = picture.view(_PAGE_SIDE)
        data = base64.b64encode(view.data).decode("ascii")
        images[picture.sha256] = f"data:{view.media_type};base64,{data}"
    names = ["preset"] if "preset" in found.changes else list(found.changes)
    changed = short(", ".join(f"{name} {found.changes[name][1]}" for name in names), 60)
    old, new = (Story.of(events) for events in (recorded, found.events))
    new.run["method"] = f"{new.run['method']}, if {changed or 'nothing changed'}"
    runs = [old.to_json(), new.to_json()]
    html = page(runs, images=images, title=f"What if: {changed or 'nothing changed'}")
    try:
        if path.exists() and not is_own_page(path.read_text("utf-8", "replace")[:_HEAD]):
            raise InputError(
                f"{path} is there and is no page of ours, so it is not overwritten; name another"
            )
        path.write_text(html, "utf-8")
    except OSError as error:
        raise InputError(f"cannot write the page to {path}: {error.strerror}") from None
    say(f"page: {path}")


def _started(recorded: Sequence[Event], path: Path) -> RunStarted:
    """The first event.

    Raises:
        InputError: the events do not begin as a run does.
    """
    from ecoalign.trace.events import RunStarted

    if not (recorded and isinstance(recorded[0], RunStarted)):
        raise InputError(f"{path} is not a trace: it does not begin with the start of a run")
    return recorded[0]


def _check_whole(recorded: Sequence[Event], path: Path) -> None:
    from ecoalign.trace.events import RunFailed

    last = recorded[-1]
    if isinstance(last, RunFailed) and last.error == "Cancelled":
        raise InputError(f"the run in {path} was interrupted, so it cannot be replayed to its end")


def _pictures(images: Sequence[str], started: RunStarted) -> tuple[Picture, ...] | None:
    """The images that are given, or those that the history knows by their digests; None if they
    are not known.

    Raises:
        InputError: one that is given cannot be read.
    """
    from ecoalign.cli._options import load_query
    from ecoalign.history import History
    from ecoalign.query import Picture

    if images or not started.images:
        return load_query(images, started.question).pictures
    files: dict[str, str] = {}
    for entry in History.open().entries():
        files.update(zip(entry.images, entry.files, strict=False))
    found = []
    for image in started.images:
        path = files.get(image.sha256, "")
        try:
            picture = Picture.load(path) if path and Path(path).is_file() else None
        except InputError:
            picture = None
        if picture is None or picture.sha256 != image.sha256:
            return None
        found.append(picture)
    say(f"images, by your history: {', '.join(files[image.sha256] for image in started.images)}")
    return tuple(found)


def _first_difference(old: Sequence[str], new: Sequence[str]) -> int:
    """The number of the first line, from 1, that is not the same."""
    for number, (one, two) in enumerate(zip(old, new, strict=False), 1):
        if one != two:
            return number
    return min(len(old), len(new)) + 1
