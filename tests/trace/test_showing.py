"""A result as it shows itself: in one line, to rich, in a notebook; and it survives a file."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from scripted import Script, action, actions, align, asking

from ecoalign.budget import Spending, StageSpending
from ecoalign.errors import BudgetTooSmall, InputError
from ecoalign.models import Usage
from ecoalign.query import Query
from ecoalign.trace import Alignment, Trace, TraceWriter
from ecoalign.trace.events import RunFailed

HOSTILE = (
    '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;\x1b[31mred\x1b[0m '
    "[bold red]markup[/] [link=https://evil.example]click[/link] \u202egnp.\u202c '\"`"
)


def hostile() -> Script:
    """All that a model writes is meant to break out."""
    return Script(
        caption=HOSTILE,
        propose=lambda prompt: actions(action("think", HOSTILE), action("answer", HOSTILE)),
        execute=lambda prompt: HOSTILE + prompt.kind,
        write=lambda prompt: HOSTILE,
    )


def rich(result: object, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system="truecolor").print(result)
    return out.getvalue()


class Reader(HTMLParser):
    """The elements and attributes of a page, its text, and whether it is well formed."""

    VOID = frozenset({"br", "hr", "img", "input", "meta", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.values: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.remove(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


async def test_the_repr_is_one_short_line_without_the_trace() -> None:
    result = await align(hostile().model())
    line = repr(result)
    assert len(line) < 300
    assert line.isprintable()
    assert "RunStarted" not in line
    for part in (
        "refused=False",
        "safety=1.0",
        "utility=",
        f"{result.spent.tokens.total:,} tokens",
    ):
        assert part in line
    assert line == repr(copy.copy(result))
    assert repr(result.trace) == f"Trace({len(result.trace)} events, the last one Finished)"
    assert repr(Trace(())) == "Trace(0 events, the last one nothing)"
    assert "method='base'" in repr(replace(result, method="base"))


@pytest.mark.parametrize(
    ("usd", "told"), [(None, "dollars unknown"), (0.0, "12 tokens, 0.5 s"), (0.25, "$0.2500")]
)
def test_what_it_cost_is_told_as_far_as_it_is_known(usd: float | None, told: str) -> None:
    stages = {"scan": StageSpending(12, 1, 0.5, usd)}
    result = Alignment("yes", False, Spending(Usage(10, 2), stages, usd, 0.5, 1))
    assert told in repr(result)
    assert told in rich(result)
    assert ("unknown" in result._repr_html_()) == (usd is None)
    assert "not scored" in rich(result)


async def test_rich_shows_the_answer_and_obeys_nothing_in_it() -> None:
    result = await align(hostile().model())
    for shown in (rich(result), rich([result]), rich(Panel(result)), rich(columns(result))):
        assert "\x1b[31m" not in shown
        assert "\u202e" not in shown
        assert "evil.example" not in shown or "[link=https://evil.example]" in shown
        assert "\x1b]8;" not in shown  # a link
    words = " ".join(rich(result).split())
    assert "[bold red]markup[/]" in words
    assert f"{result.spent.tokens.total:,} tokens" in words
    assert "RunStarted" not in words
    refused = replace(result, refused=True)
    assert rich(refused) != rich(result)


def columns(result: Alignment) -> Table:
    table = Table("one", "other")
    table.add_row("ask", result)
    return table


async def test_a_notebook_sees_the_search_and_the_money_and_text_stays_text() -> None:
    query = Query.of(asking().pictures[0], HOSTILE)
    result = await align(hostile().model(), query=query)
    page = read(result._repr_html_())
    assert not page.tags & {"script", "img", "iframe", "a", "object", "foreignobject", "link"}
    assert not any(name.startswith("on") for name in page.attributes)
    assert not any("javascript" in value for value in page.values)
    assert "svg" in page.tags
    assert '<script>alert("x")</script>' in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert "http" not in " ".join(page.values).replace("http://www.w3.org/2000/svg", "")
    for stage, spent in result.spent.by_stage.items():
        assert f"{stage}{spent.calls}{spent.tokens:,}" in page.text
    assert f"{result.spent.tokens.total:,}" in page.text
    assert "budget100,000" in page.text


def test_without_a_search_there_is_no_picture() -> None:
    page = read(Alignment("<b>yes</b>", False, Spending())._repr_html_())
    assert "svg" not in page.tags
    assert "b" not in page.tags
    assert "<b>yes</b>" in page.text


# -- files


async def test_a_result_is_loaded_from_its_trace(tmp_path: Path) -> None:
    result = await align(hostile().model())
    file = tmp_path / "run.jsonl"
    result.trace.save(file)
    assert Trace.load(file) == result.trace
    assert Trace.load(str(file)) == result.trace
    assert Alignment.load(file) == result
    assert Alignment.load(file).to_json() == result.to_json()


async def test_the_trace_of_a_run_that_failed_is_loaded_and_has_no_result(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with pytest.raises(BudgetTooSmall) as failed:
        await align(hostile().model(), budget=50)
    with TraceWriter(file) as writer:
        for event in failed.value.trace:
            writer.write(event)
    assert isinstance(Trace.load(file).events[-1], RunFailed)
    with pytest.raises(InputError, match="not one of a finished run"):
        Alignment.load(file)
    with pytest.raises(InputError, match="cannot read the trace"):
        Trace.load(tmp_path / "missing.jsonl")
    file.write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="not a line of a trace"):
        Trace.load(file)


async def test_a_result_is_copied_and_pickled() -> None:
    result = await align(hostile().model())
    for other in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):  # noqa: S301
        assert other == result
        assert repr(other) == repr(result)
        assert other.to_json() == result.to_json()
        assert other._repr_html_() == result._repr_html_()
    assert replace(result, answer="other").answer == "other"


async def test_the_keys_of_the_json_object_stay() -> None:
    body = (await align(hostile().model())).to_json()
    assert list(body) == [
        *("answer", "refused", "safety", "utility", "path", "spent", "budget", "stop_reason"),
        *("ended", "hint", "model", "preset", "profile", "trace"),
    ]
