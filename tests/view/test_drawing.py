"""The still drawing of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

import pytest
from browser import Tab, tab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import grown

from ecoalign.trace import Story, drawing, look, read_trace
from ecoalign.view import pictures

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SPACE = "{http://www.w3.org/2000/svg}"
EXAMPLES = Path(__file__).parents[2] / "examples"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - it is made here


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=60), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_it_is_well_formed_whatever_a_model_wrote(said: list[str]) -> None:
    story = Story.of(grown(9, texts=said, question=said[0] or "?", answer=said[-1]))
    element = parsed(drawing(story, note=said[0]))
    allowed = {"svg", "title", "desc", "style", "g", "rect", "path", "text"}
    assert {one.tag.removeprefix(SPACE) for one in element.iter()} <= allowed
    assert not any(name.startswith("on") for one in element.iter() for name in one.attrib)


def test_it_shows_each_thought_with_cost_shape_and_fate() -> None:
    story = Story.of(grown(40))
    element = parsed(drawing(story))
    cards = [
        one
        for one in element.iter(f"{SPACE}g")
        if one.find(f"{SPACE}rect[@class='card']") is not None
    ]
    drawn = [one for one in cards if one.get("transform")]
    assert len(drawn) == 40
    text = drawing(story)
    for node in story.nodes.values():
        assert f"{node.cost:,.0f} tok" in text
    pruned = [one for one in drawn if "pruned" in (one.get("class") or "").split()]
    assert len(pruned) == sum("pruned" in node.marks for node in story.nodes.values()) > 0
    assert all(one.find(f".//{SPACE}path[@class='cross']") is not None for one in pruned)
    assert sum("edge on" in (one.get("class") or "") for one in element.iter(f"{SPACE}path")) == (
        len(story.path) - 1
    )


def test_its_style_reaches_nothing_beside_it() -> None:
    one, other = drawing(Story.of(grown(5))), drawing(Story.of(grown(6)), theme="dark")
    names = [parsed(svg).get("id") for svg in (one, other)]
    assert names[0] != names[1]
    for svg, name in zip((one, other), names, strict=True):
        style = re.search(r"<style>(.*)</style>", svg)
        assert style is not None
        rules = re.sub(r"@media \([\w:-]+\)", "", style[1])
        for selectors in re.findall(r"([^{}]+)\{", rules):
            assert all(part.strip().startswith(f"#{name}") for part in selectors.split(","))
        assert all(i.startswith(f"{name}") for i in re.findall(r' id="([^"]*)"', svg))


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_themes(theme: Literal["light", "dark", "auto"]) -> None:
    svg = drawing(Story.of(grown(5)), theme=theme)
    assert (look.LIGHT["rule"] in svg) == (theme != "dark")
    assert (look.DARK["rule"] in svg) == (theme != "light")
    assert ("prefers-color-scheme" in svg) == (theme == "auto")


def test_a_run_without_thoughts_and_one_that_has_not_begun() -> None:
    assert parsed(drawing(Story())) is not None
    started = list(grown(5))[:1]
    assert parsed(drawing(Story.of(started))) is not None
    assert parsed(drawing(Story.of(started), title=False)) is not None


def test_images_are_drawn_with_the_regions_that_were_looked_at(runs: dict[str, Path]) -> None:
    story = Story.of(read_trace(runs["feed"]))
    found = pictures([EXAMPLES / "thing.png"], [story.to_json()])
    with_image = parsed(drawing(story, images=found))
    assert len(list(with_image.iter(f"{SPACE}image"))) == 1
    assert len([r for r in with_image.iter(f"{SPACE}rect") if r.get("class") == "region"]) == 1
    assert not list(parsed(drawing(story)).iter(f"{SPACE}image"))
    foreign = dict.fromkeys(found, "https://192.0.2.1/x.png")
    assert "192.0.2.1" not in drawing(story, images=foreign)


@pytest.mark.slow
def test_two_in_one_page_and_hostile_text_in_a_browser(chromium: Browser, tmp_path: Path) -> None:
    bad = "</text></svg><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    one = drawing(Story.of(grown(9, texts=[bad], question=bad, answer=bad)), theme="light")
    other = drawing(Story.of(grown(5)), theme="dark")
    (tmp_path / "two.html").write_text(f"<p id=p>text</p>{one}{other}", encoding="utf-8")
    with tab(chromium) as at:
        at.page.goto((tmp_path / "two.html").as_uri())
        assert at.page.evaluate("window.pwned") is None
        assert at.page.locator("svg").count() == 2
        grounds = at.page.locator("svg .page").evaluate_all(
            "(a) => a.map(e => getComputedStyle(e).fill)"
        )
        assert len(set(grounds)) == 2
        assert _fits(at)


def _fits(at: Tab) -> bool:
    """Whether no text runs out of its drawing."""
    return bool(
        at.page.evaluate(
            "() => [...document.querySelectorAll('svg')].every(s => { const b ="
            "s.getBoundingClientRect(); return [...s.querySelectorAll('text')].every(t => {"
            "const r = t.getBoundingClientRect(); return r.right <= b.right + 1; }); })"
        )
    )
