from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from bench_doubles import row
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.bench._metrics import Estimate, summarise
from ecoalign.bench._rows import Failure, Row, Store, check_manifest
from ecoalign.bench._score import Score
from ecoalign.bench.report import RunData, load_runs, write_report
from ecoalign.bench.report._figures import (
    Series,
    curves,
    estimate_bars,
    frontier,
    placed,
    scatter,
    stage_bars,
)
from ecoalign.bench.report._page import STYLE, csv_text, html_page, markdown_page
from ecoalign.bench.report._svg import SERIES, Scale, label_width, log_ticks, nice_ticks
from ecoalign.bench.report._tables import number, numbers, signed, tables
from ecoalign.errors import InputError

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>|`*\u202e\x1b[31m\ud800 =1+1"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that every element is closed, and keeps what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows(experiment: str = "main") -> list[Row]:
    made = []
    for i in range(8):
        small = "read/small" if i % 2 else "read/legible"
        for variant, tokens, method in (("base", 50, "base"), ("ecoalign", 400, "ecoalign")):
            made.append(
                row(
                    f"s{i}",
                    variant,
                    method=method,
                    experiment=experiment,
                    safe=i % 3 > 0 or variant == "ecoalign",
                    useful=float(i % 2),
                    refused_harmless=i == 7,
                    tokens=tokens,
                    stages={"scan": tokens // 2, "score": tokens // 2},
                    group=small,
                    calls=i + 1,
                    seconds=0.5 * (i + 1),
                )
            )
    return made


def evil_rows() -> list[Row]:
    return [
        row(
            f"s{i} {EVIL}",
            variant,
            safe=False,
            useful=0.5,
            refused_harmless=True,
            answer=EVIL,
            question=EVIL,
            group=f"g{i} {EVIL}",
            stop=EVIL,
            stages={f"{EVIL}{i}": 10},
            failure=Failure(EVIL, EVIL) if i else None,
        )
        for i in range(2)
        for variant in ("base", EVIL)
    ]


def evil_run() -> RunData:
    manifest = {
        "experiment": "budget",
        "suite": EVIL,
        "split": EVIL,
        "model": EVIL,
        "command": EVIL,
        "variants": [
            {"name": EVIL, "axis": EVIL, "at": 1},
            {"name": "base", "axis": EVIL, "at": 0},
        ],
        "totals": {EVIL: {EVIL: 1.0}},
    }
    return RunData(tuple(evil_rows()), manifest)


def test_nothing_that_a_model_says_is_obeyed() -> None:
    for run in (evil_run(), RunData(tuple(evil_rows()), {})):
        text = html_page([run, run], EVIL)
        page = Page(text)
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
        for _, attributes in page.tags:
            assert not any(name.startswith("on") for name in attributes)
            assert not {"src", "srcset", "xlink:href", "action"} & attributes.keys()
            assert (attributes.get("href") or "#").startswith("#")
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "alert(1)" in "".join(page.words)
        text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "</pre></dd></dl></details></section><script>x</script>",
        "<!-- ",
        "]]>",
        "&lt;script&gt;",
        "</style><style>*{}</style>",
        "\x00\x7f\u2028",
    ],
)
def test_hostile_text_stays_text(text: str) -> None:
    said = row(answer=text, question=text, safe=False)
    page = Page(html_page([RunData((said,), {})], "1"))
    assert not {"script", "img", "iframe"} & {tag for tag, _ in page.tags}


def test_the_page_needs_nothing_else() -> None:
    text = html_page([RunData(tuple(rows()), {})], "1.0")
    assert "://" not in text
    assert "@import" not in text
    assert "url(" not in text
    page = Page(text)
    policies = [a["content"] or "" for t, a in page.tags if "http-equiv" in a]
    assert policies[0].startswith("default-src 'none'")
    assert "script-src" not in policies[0]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)


def test_every_figure_says_its_command() -> None:
    run = RunData(tuple(rows()), {"command": "ecoalign bench run main --limit 8"})
    text = html_page([run], "1")
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) == 6
    assert all("ecoalign bench run main --limit 8" in figure for figure in figures)
    for figure in figures:
        svg = re.search(r"<svg.*</svg>", figure, re.DOTALL)
        assert svg is not None
        drawn = ET.fromstring(svg[0])  # noqa: S314 - our own
        assert drawn.get("aria-label")
        _, _, width, height = map(float, str(drawn.get("viewBox")).split())
        for shape in drawn.iter("rect"):
            assert 0 <= float(shape.get("x", "nan")) <= width
            assert float(shape.get("x", "nan")) + float(shape.get("width", "nan")) <= width + 1
            assert 0 <= float(shape.get("y", "nan")) <= height
    assert "nan" not in text.lower().replace("nance", "")


@pytest.mark.parametrize(
    ("experiment", "variants"),
    [
        ("budget", [("base", "", 0), ("ecoalign", "budget", 0), ("b", "budget", 1)]),
        ("horizon", [("ecoalign", "delta", 0.5), ("b", "delta", 0.95)]),
        ("latency", []),
        ("ablation", []),
        ("mixed-safety", []),
        ("unknown", []),
    ],
)
def test_every_experiment_has_figures(
    experiment: str, variants: list[tuple[str, str, float]]
) -> None:
    more = [row(f"s{i}", "b", useful=1.0, safe=True, stop="budget") for i in range(8)]
    manifest = {
        "experiment": experiment,
        "variants": [{"name": n, "axis": a, "at": at} for n, a, at in variants],
    }
    text = html_page([RunData((*rows(experiment), *more), manifest)], "1")
    Page(text)
    assert text.count("<svg") >= 2
    if variants:
        assert "<polyline" in text


def test_the_tables_say_what_the_rows_say() -> None:
    run = RunData(tuple(rows()), {})
    found = {table.name: table for table in tables(run)}
    assert set(found) >= {"results", "costs", "differences", "stages", "stops", "groups-utility"}
    results = {line[0]: line for line in found["results"].rows}
    assert results["ecoalign"][1].startswith("100.0 [63.1, 100.0] n=8")
    assert results["base"][4] == "1.00 [1.00, 1.00]"
    assert results["ecoalign"][4] == "8.00 [8.00, 8.00]"
    assert found["differences"].rows[0][0] == "base"
    assert found["differences"].rows[0][4].startswith("−350 [−350, −350] *")
    assert found["groups-utility"].rows[0][0] == "read/legible"
    assert found["results"].marked == {"ecoalign"}


def test_the_agreement_of_several_judges_is_told() -> None:
    said = {"safety": ["safe", "safe"]}, {"safety": ["unsafe", "safe"]}, {"safety": ["safe", None]}
    scored = [
        replace(row(f"s{i}"), score=Score("safe", safe=True, detail={"verdicts": verdicts}))
        for i, verdicts in enumerate(said)
    ]
    run = RunData(tuple(scored), {"judges": ["a", "b"]})
    (table,) = [table for table in tables(run) if table.name == "judges"]
    assert table.rows == (("safety: a, b", "50.0", "0.00", "2", "1"),)
    assert not [t for t in tables(RunData(tuple(scored), {})) if t.name == "judges"]


def test_a_run_without_base_or_scores_still_has_a_report() -> None:
    for one in (
        row(pending=True, variant="x"),
        row(variant="x", label="failed", failure=Failure("ModelError", "down", 3), stages={}),
    ):
        text = html_page([RunData((one,), {})], "1")
        Page(text)
        assert "–" in text


def test_files_are_written_for_one_run_and_for_several(tmp_path: Path) -> None:
    for name in ("main", "ablation"):
        check_manifest(tmp_path / name, {"experiment": name, "variants": []}, [])
        with Store(tmp_path / name) as store:
            for one in rows(name):
                store.append(one)
    (tmp_path / "empty").mkdir()
    Store(tmp_path / "empty").close()
    assert [run.experiment for run in load_runs(tmp_path)] == ["main", "ablation"]
    files = write_report(tmp_path)
    assert files.html.read_text().count("<section") == 2
    assert files.markdown.read_text().count("\n## ") == 2
    lines = list(csv.DictReader(io.StringIO(files.csv.read_text())))
    assert {line["experiment"] for line in lines} == {"main", "ablation"}
    ratios = [
        float(line["value"])
        for line in lines
        if (line["measure"], line["variant"]) == ("tokens_ratio", "ecoalign")
    ]
    assert ratios == [8.0, 8.0]
    elsewhere = write_report(tmp_path / "main", tmp_path / "out")
    assert elsewhere.html.parent == tmp_path / "out"
    assert elsewhere.html.read_text().count("<section") == 1


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no rows"):
        write_report(tmp_path)


def test_markdown_cannot_be_broken_from_within() -> None:
    text = markdown_page([evil_run()])
    widths: list[int] = []
    for line in text.splitlines():
        assert "<script" not in line.replace("\\<script", "") or line.startswith("    ")
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
        elif widths:
            assert len(set(widths)) == 1
            widths = []


def test_no_cell_is_a_formula() -> None:
    lines = [("a", "b"), ("=1+1", "-2.5"), ("@x", "+cmd"), ("a", "b"), ("x", "1e-3")]
    read = list(csv.reader(io.StringIO(csv_text(lines))))
    assert read == [["a", "b"], ["'=1+1", "-2.5"], ["'@x", "'+cmd"], ["x", "1e-3"]]
    heads = list(numbers(RunData(tuple(rows()), {})))
    assert all(len(line) == len(heads[0]) == 10 for line in heads)


# -- drawing --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_round_few_and_inside(low: float, wide: float) -> None:
    ticks = nice_ticks(low, low + wide)
    assert 1 <= len(ticks) <= 13
    assert all(low - wide * 1e-6 <= tick <= low + wide * (1 + 1e-6) for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(step == pytest.approx(steps[0]) for step in steps)


def test_ticks_of_nothing_and_of_decades() -> None:
    assert nice_ticks(3.0, 3.0) == [3.0]
    assert log_ticks(0.9, 12.0) == pytest.approx([1, 2, 5, 10])
    assert log_ticks(1.0, 1e6) == pytest.approx([10.0**i for i in range(7)])


def test_a_scale_stays_in_its_place() -> None:
    scale = Scale(0.0, 2.0, 10.0, 110.0)
    assert [scale(v) for v in (0, 1, 2, -5, 9)] == [10, 60, 110, 10, 110]
    assert Scale(1.0, 100.0, 0.0, 10.0, log=True)(10.0) == pytest.approx(5.0)
    assert Scale(1.0, 1.0, 0.0, 10.0)(1.0) == 5.0
    assert Scale(1.0, 100.0, 0.0, 10.0, log=True)(0.0) == 0.0


def test_labels_do_not_hide_each_other() -> None:
    points = [(300.0, 200.0, 8.0), (300.0, 200.0, 8.0), (310.0, 205.0, 6.0), (600.0, 30.0, 8.0)]
    labels = ["one variant", "another one", "a third", "at the right edge"]
    boxes = []
    for (x, y), label in zip(placed(points, labels, 378.0), labels, strict=True):
        assert x >= 0
        assert x + label_width(label) <= 640
        boxes.append((x, y - 11, x + label_width(label), y + 3))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart


def test_without_safety_the_frontier_is_utility_over_cost() -> None:
    made = [
        row(f"s{i}", variant, tokens=tokens, useful=useful)
        for i in range(4)
        for variant, tokens, useful in (("base", 50, 0.5), ("good", 400, 1.0), ("bad", 500, 0.25))
    ]
    drawn = frontier(summarise(made))
    assert drawn is not None
    assert "cost in tokens, Base = 1" in drawn
    circles = ET.fromstring(drawn).findall("circle")  # noqa: S314 - our own
    full = {str(c.findtext("title")).split(":")[0] for c in circles if "c0" in str(c.get("class"))}
    assert full == {"base", "good"}
    assert len(circles) == 3


def test_figures_of_nothing_are_left_out() -> None:
    assert estimate_bars([], "safety", None) is None
    assert stage_bars([]) is None
    assert frontier([]) is None
    assert curves([], ["1", "2"], "x", share=True) is None
    assert curves([Series("a", (None, None))], ["1", "2"], "x", share=True) is None
    one = Estimate(0.0, 0.0, 0.0, 3)
    assert curves([Series("a", (one,))], ["1"], "x", share=True) is None
    assert curves([Series("a", (one, one))], ["1", "2"], "x", share=False) is not None
    assert scatter([], "x", "y") is None
    assert scatter([("a", [(0.0, 0.0)])], "x", "y") is not None


def test_numbers_are_short_and_say_what_they_are() -> None:
    told = {0: "0", 0.0123: "0.0123", 1.234: "1.23", 12.34: "12.3", 12345.6: "12,346"}
    assert {value: number(value) for value in told} == told
    assert (signed(-0.125, share=True), signed(0.5), signed(0.0)) == ("−12.5", "+0.5", "+0")


def _luminance(colour: str) -> float:
    if len(colour) == 4:
        colour = "#" + "".join(2 * char for char in colour[1:])
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_seen_in_light_and_in_dark(dark: bool) -> None:
    light_part, _, dark_part = STYLE.partition("prefers-color-scheme: dark")
    found = re.findall(
        r"--([a-z0-9]+): (#[0-9a-f]{3,6})", dark_part.partition("* {")[0] if dark else light_part
    )
    colours = dict(found)
    for text in ("ink", "quiet", "link"):
        for ground in ("page", "panel", "mark"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for i in range(SERIES):
        assert _contrast(colours[f"c{i}"], colours["page"]) >= 3.0, i
    assert len({colours[f"c{i}"] for i in range(SERIES)}) == SERIES


def test_the_manifest_is_read_with_care() -> None:
    odd = {"variants": ["x", {"axis": "a", "name": "base", "at": 1}], "totals": [1], "model": 3}
    run = RunData(tuple(rows()), json.loads(json.dumps(odd)))
    assert run.axes == {"a": {"base": 1.0}}
    assert run.totals == {}
    assert run.model == "fake"
