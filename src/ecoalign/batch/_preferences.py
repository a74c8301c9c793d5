"""Preference data from the branches of runs: the answer given, and those that were not.

The format is the conversational preference format of TRL, with images: a line of JSON holds
`prompt` (system, user), `chosen` and `rejected` (one turn of the assistant each) and `images`, and
beside them what the evaluator thought of both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecoalign.batch._items import Item
from ecoalign.batch._rows import Picture
from ecoalign.errors import InputError
from ecoalign.graph import ENDS, Thought, ThoughtId
from ecoalign.trace import Alignment, read_trace
from ecoalign.trace.events import ThoughtAdded, ThoughtMerged


def branches_of(result: Alignment) -> list[dict[str, Any]]:
    """The answers of a run that were worse than the one that it gave.

    Of a run that answered these are the ones scored unsafe or worth less (S·u); of one that
    refused only the unsafe ones: a refusal is better than those, whatever they were worth.

    Args:
        result: of EcoAlign; other methods have no branches.

    Returns:
        text, safety, utility and unsafe of each, the most useful first.
    """
    if not result.path:
        return []
    ends: dict[ThoughtId, Thought] = {}
    pruned = set()
    for event in result.trace:
        if isinstance(event, ThoughtAdded) and event.thought.kind in ENDS:
            ends[event.thought.id] = event.thought
            if event.pruned:
                pruned.add(event.thought.id)
        elif isinstance(event, ThoughtMerged):
            ends.pop(event.merged, None)
            if event.kept in ends:
                ends[event.kept] = event.thought
    best = _worth(result.path[-1])
    seen = {_plain(result.answer)}
    found = []
    for thought in sorted(ends.values(), key=lambda one: (-one.utility, one.id)):
        unsafe = thought.id in pruned
        worse = unsafe or (not result.refused and _worth(thought) < best)
        if worse and _plain(thought.text) not in seen:
            seen.add(_plain(thought.text))
            found.append(
                {
                    "text": thought.text,
                    "safety": thought.safety,
                    "utility": thought.utility,
                    "unsafe": unsafe,
                }
            )
    return found


def traced_branches(trace: str) -> list[dict[str, Any]] | None:
    """The same from the trace of a run; None if it is not there."""
    try:
        return branches_of(Alignment.from_events(read_trace(trace))) if trace else None
    except InputError:
        return None


def _worth(thought: Thought) -> float:
    return max(0.0, thought.safety) * thought.utility


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def pairs(
    items: Iterable[tuple[Item, Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    folder: Path,
    *,
    images: bool,
) -> Iterable[dict[str, Any]]:
    """The lines of a preference file.

    Args:
        items: with the row and the branches of each.
        folder: where images are written that have no file of their own.
        images: whether any item has images: all lines of a data set have the same form.
    """
    for item, row, branches in items:
        if not branches:
            continue
        pictures = [_file(one, folder) for one in item.loaded().images]

        def turn(role: str, text: str, shown: int = 0) -> dict[str, Any]:
            if not images:
                return {"role": role, "content": text}
            parts: list[dict[str, str]] = [{"type": "image"} for _ in range(shown)]
            return {"role": role, "content": [*parts, {"type": "text", "text": text}]}

        prompt = [turn("system", item.system)] if item.system else []
        asked = []
        for earlier in item.context:
            role, colon, text = earlier.partition(": ")
            if colon and role in {"user", "assistant"}:
                prompt.append(turn(role, text))
            else:
                asked.append(earlier)
        prompt.append(turn("user", "\n\n".join((*asked, item.question)), len(pictures)))
        for branch in branches:
            yield {
                **({"images": pictures} if images else {}),
                "prompt": prompt,
                "chosen": [turn("assistant", str(row["answer"]))],
                "rejected": [turn("assistant", str(branch["text"]))],
                "chosen_refused": row["refused"],
                "chosen_safety": row["safety"],
                "chosen_utility": row["utility"],
                "rejected_unsafe": branch["unsafe"],
                "rejected_safety": branch["safety"],
                "rejected_utility": branch["utility"],
                "row": item.number,
            }


_MARKS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}


def _file(image: Picture, folder: Path) -> str:
    """The path of an image; one that has none is written to `folder`."""
    if isinstance(image, str) and not image.startswith("data:"):
        return image
    from ecoalign.query import read_source

    data, _ = read_source(image)
    ending = next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), "bin")
    path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.{ending}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(path)


def line(pair: Mapping[str, Any]) -> str:
    """One line of JSON, without its newline."""
    return json.dumps(pair, ensure_ascii=True)
