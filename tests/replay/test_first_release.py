"""Traces that the first release wrote: they had no schema and no method, and are still read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecoalign.errors import InputError
from ecoalign.models.fake import FakeModel
from ecoalign.query import Picture
from ecoalign.replay import replay
from ecoalign.trace import Alignment, read_trace
from ecoalign.trace.events import (
    Called,
    RootScanned,
    RunFailed,
    RunStarted,
    ThoughtAdded,
    ThoughtMerged,
    to_json,
)

FOLDER = Path(__file__).parent / "first_release"
SCRIPTED = ["failed", "fused", "merged", "paper", "refused"]


def lines(name: str) -> list[dict[str, Any]]:
    text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.parametrize("name", [*SCRIPTED, "sign"])
def test_every_record_is_read_as_it_was_written(name: str) -> None:
    events = read_trace(FOLDER / f"{name}.jsonl")
    first, *rest = [json.loads(to_json(event)) for event in events]
    old, *others = lines(name)
    assert [record.pop("seen", 0) for record in rest] == [0] * len(rest)
    assert [record.pop("waited", None) for record in rest] == [None] * len(rest)
    assert [record.pop("ended", "") for record in rest] == [""] * len(rest)
    assert rest == others
    assert "schema" not in old
    assert (first.pop("schema"), first.pop("method")) == (1, "ecoalign")
    assert (first.pop("instructions"), first.pop("profile"), first.pop("known")) == ("", {}, {})
    assert first.pop("profile_hash") == ""
    assert [image.pop("detail") for image in first["images"]] == [None] * len(old["images"])
    assert first == old


@pytest.mark.parametrize("name", SCRIPTED)
async def test_a_run_that_asked_in_other_words_is_not_run_again(name: str) -> None:
    events = read_trace(FOLDER / f"{name}.jsonl")
    with pytest.raises(InputError, match=r"version 0\.1\.0, .* other words"):
        await replay(events, (), bound=FakeModel(lambda request: "").bound)


@pytest.mark.parametrize("schema", [1, 3])
async def test_nor_is_one_that_drafted_before_it_scanned(schema: int) -> None:
    """The embedded model was asked in the same words up to schema 3, but in another order."""
    events = read_trace(FOLDER / "sign.jsonl")
    assert isinstance(events[0], RunStarted)
    shown = Picture.load(Path(__file__).parents[2] / "examples" / "signs.png")
    with pytest.raises(InputError, match="another order: it can be read and shown"):
        await replay([replace(events[0], schema=schema), *events[1:]], [shown])


def test_what_these_runs_were_about() -> None:
    def kinds(name: str) -> set[str]:
        events = read_trace(FOLDER / f"{name}.jsonl")
        return {e.thought.kind.value for e in events if isinstance(e, ThoughtAdded)}

    def types(name: str) -> list[type]:
        return [type(event) for event in read_trace(FOLDER / f"{name}.jsonl")]

    assert "fuse" in kinds("fused")
    # A draft that did not stand: it was tried before the scan, which there would not be else.
    assert types("fused").index(Called) < types("fused").index(RootScanned)
    assert ThoughtMerged in types("merged")
    # An unsafe draft, and a refusal in its place.
    assert sorted(kinds("refused")) == ["answer", "refusal"]
    assert types("failed")[-1] is RunFailed
    assert "strategy" in kinds("paper")
    refused = Alignment.from_events(read_trace(FOLDER / "refused.jsonl"))
    assert refused.refused
    assert refused.path[-1].kind == "refusal"
    sign = Alignment.from_events(read_trace(FOLDER / "sign.jsonl"))
    assert (sign.answer, sign.method, sign.model) == ("42.", "ecoalign", "embedded")


async def test_an_image_is_still_asked_for() -> None:
    with pytest.raises(InputError, match="SHA-256"):
        await replay(read_trace(FOLDER / "sign.jsonl"), ())
    events = read_trace(FOLDER / "sign.jsonl")
    assert isinstance(events[0], RunStarted)
    shown = Picture.load(Path(__file__).parents[2] / "examples" / "signs.png")
    assert [image.sha256 for image in events[0].images] == [shown.sha256]


@pytest.mark.parametrize("schema", [99, 0, "2", None])
def test_a_schema_of_nobody_knows_what_is_a_clear_error(schema: object, tmp_path: Path) -> None:
    old, *others = lines("failed")
    path = tmp_path / "later.jsonl"
    changed = [old | {"schema": schema, "version": "9.1"}, *others]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")
    with pytest.raises(InputError, match=f"schema {schema!r}.*reads schemas 1 to 4.*'9.1'"):
        read_trace(path)
