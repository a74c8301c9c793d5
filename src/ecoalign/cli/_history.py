"""`ecoalign history`: what was asked, decided and spent on this machine, where it was wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ecoalign._text import short
from ecoalign.cli._options import Json
from ecoalign.cli._text import amount, print_json, rich_console, rich_table, say, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.history import Entry

_USUAL = 20


def history(
    words: Annotated[
        list[str] | None,
        Argument(
            metavar="show ID",
            help="Show one entry whole: its id, the beginning of it, or last.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Option("--limit", "-n", min=0, help=f"How many, the latest; {_USUAL} if not said."),
    ] = None,
    clear: Annotated[bool, Option("--clear", help="Remove all entries.")] = False,
    as_json: Json = False,
) -> None:
    """List what was asked, how it was decided and what it cost: the latest last.

    Nothing is noted unless the setting history is on: ECOALIGN_HISTORY=1, or history = true in
    ecoalign.toml. It is a file of your own on this machine, with questions and answers, without
    pictures.

    [bold]Examples[/bold]

    ecoalign history

    ecoalign history show last

    ecoalign history --clear
    """
    from ecoalign.history import History

    kept = History.open()
    if words and (len(words) != 2 or words[0] != "show"):
        raise InputError(f'say "show ID", not {" ".join(words)!r}; without it all are listed')
    if clear and (words or limit is not None):
        raise InputError("--clear removes all entries: it goes with no other option than --json")
    if clear:
        removed = kept.clear()
        if as_json:
            print_json({"removed": removed, "file": str(kept.path)})
        else:
            tell(f"{removed} {'entry' if removed == 1 else 'entries'} removed from {kept.path}")
        return
    if words:
        entry = kept.find(words[1])
        if as_json:
            print_json(entry.to_json())
        else:
            _show(entry)
        return
    entries = kept.entries(_USUAL if limit is None else limit)
    if as_json:
        print_json(
            {
                "file": str(kept.path),
                "kept": _is_kept(),
                "entries": [entry.to_json() for entry in entries],
                "skipped": kept.skipped,
            }
        )
        return
    if entries:
        heads = ("id", "when", "question", "decided", "safety", "spent", "model")
        rich_console().print(rich_table(heads, [_row(entry) for entry in entries]))
    if kept.skipped:
        say(f"note: {kept.skipped} unreadable line(s) of {kept.path} are left out")
    if not _is_kept():
        say(
            ("" if entries else "nothing was noted. ")
            + "No history is kept: turn it on with ECOALIGN_HISTORY=1, or history = true in "
            f"ecoalign.toml. It stays on this machine, in {kept.path}, and holds no pictures."
        )
    elif not entries:
        say(f"nothing was noted yet in {kept.path}")


def _is_kept() -> bool:
    from ecoalign.settings import Settings

    return Settings.load().history


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.id,
        _when(entry),
        short(entry.question, 60),
        _decided(entry),
        "" if entry.safety is None else f"{entry.safety:.2f}",
        amount(entry.tokens, entry.usd or None),
        entry.model,
    )


def _when(entry: Entry) -> str:
    """Here and to the minute; as it is written where it is no time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(entry.at).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return entry.at


def _decided(entry: Entry) -> str:
    """How it was decided: "answered (drafted)", "refused", "failed" ..."""
    more = entry.ended if entry.ended not in {"", "refused"} else ""
    way = "" if entry.method == "ecoalign" else entry.method
    notes = ", ".join(filter(None, (more, way)))
    return entry.outcome + (f" ({notes})" if notes else "")


def _show(entry: Entry) -> None:
    """One entry, line by line; what it lacks is left out."""
    spent = amount(entry.tokens, entry.usd or None, entry.seconds)
    scores = [
        f"{name} {value:.3f}"
        for name, value in (("safety", entry.safety), ("utility", entry.utility))
        if value is not None
    ]
    where = entry.files or ("",) * len(entry.images)
    images = [
        f"{file or 'image'} (SHA-256 {digest[:12]})"
        for file, digest in zip(where, entry.images, strict=False)
    ]
    for name, value in (
        ("id", entry.id),
        ("when", _when(entry)),
        *(("earlier", text) for text in entry.context),
        ("system", entry.instructions),
        ("question", entry.question),
        *(("image", image) for image in images),
        ("decided", _decided(entry)),
        ("answer", entry.answer),
        ("error", entry.error),
        ("scores", ", ".join(scores)),
        ("spent", f"{spent}, {entry.calls} calls; budget {entry.budget or 'none'}"),
        ("stopped", entry.stop_reason),
        ("hint", entry.hint),
        ("model", entry.model),
        ("preset", entry.preset),
        ("trace", entry.trace),
    ):
        if value:
            tell(f"{name}: {value}")
