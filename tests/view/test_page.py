"""The page of a run in a real browser, with no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from browser import Tab, tab
from stories import grown

from ecoalign.trace import Story, read_trace
from ecoalign.trace.events import RunFailed, RunStarted, ThoughtAdded, to_json
from ecoalign.view import page, pictures

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

THING = Path(__file__).parents[2] / "examples" / "thing.png"

SHOWN = (
    "() => [...document.querySelectorAll('.eco-nodes .eco-node:not(.eco-gone)')]"
    ".map(g => g.dataset.id)"
)

HOSTILE = (
    '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1"> & "\' {{7*7}}'
)


def story_of(path: Path) -> dict[str, Any]:
    return Story.of(read_trace(path)).to_json()


def load(at: Tab, folder: Path, *stories: Mapping[str, Any], images: tuple[Path, ...] = ()) -> None:
    """Open the page of these runs from a file."""
    file = folder / "run.html"
    file.write_text(page(stories, images=pictures(images, stories)), encoding="utf-8")
    at.page.goto(file.as_uri())
    at.page.wait_for_selector(".eco-result")


def slide(at: Tab, to: int) -> None:
    """Move the slider, as a user does, and wait until it is drawn."""
    at.page.locator(".eco-slider").first.evaluate(
        "(s, to) => { s.value = to; s.dispatchEvent(new Event('input')); }", to
    )
    settle(at)


def settle(at: Tab) -> None:
    at.page.evaluate(
        "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
    )


# -- what it says ----------------------------------------------------------------------------------


def test_the_answer_stands_first_in_words(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    story = story_of(runs["feed"])
    with tab(chromium) as at:
        load(at, tmp_path, story, images=(THING,))
        page = at.page
        assert page.locator(".eco-answer").inner_text() == "to feed it, add blue salt."
        assert page.locator(".eco-status").inner_text() == "Answered"
        how = page.locator(".eco-how").inner_text()
        assert how.startswith("Found by a search over 6 thoughts, of which 1 was cut.")
        facts = page.locator(".eco-facts").inner_text()
        spent = story["frames"][-1].get("gauges", {}).get("tokens")
        assert spent is None or f"{spent:,}" in facts
        assert "of a budget of 8,000" in facts
        assert page.locator(".eco-thumbs img").count() == 1
        assert page.evaluate(SHOWN) == ["t0", "t1", "t2", "t3", "t4", "t5"]


def test_a_thought_says_all_that_is_known_of_it(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]), images=(THING,))
        at.page.locator("[data-id=t2]").click()
        panel = at.page.locator(".eco-panel")
        words = panel.inner_text()
        assert re.search(r"Closer look\s+t2", words)
        assert "right sign says owl" in words
        assert "forecast" in words
        assert "outcome" in words
        assert "Scored by self:embedded" in words
        assert "Valued at V =" in words
        assert re.search(r"Chosen in round \d", words)
        assert panel.locator(".eco-picture image").count() == 1
        region = panel.locator(".eco-region").bounding_box()
        frame = panel.locator(".eco-picture").bounding_box()
        assert region is not None
        assert frame is not None
        assert region["x"] > frame["x"] + frame["width"] / 2  # it looked to the right
        panel.get_by_role("button", name="t3").first.click()
        assert "Judged 2 times, independently" in panel.inner_text()
        panel.get_by_role("button", name="t2").first.click()
        assert re.search(r"Closer look\s+t2", panel.inner_text())


def test_what_became_of_a_thought_is_told_without_colour(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        name = at.page.locator("[data-id=t1]").get_attribute("aria-label") or ""
        assert "Draft, unsafe, pruned" in name
        assert "Safety −0.33" in name
        assert "draft · pruned" in (at.page.locator("[data-id=t1]").text_content() or "")
        style = "(g) => getComputedStyle(g.querySelector('.eco-card')).strokeDasharray"
        plain = at.page.locator("[data-id=t5]").evaluate(style)
        assert at.page.locator("[data-id=t1]").evaluate(style) != plain
        wide = "(g) => parseFloat(getComputedStyle(g.querySelector('.eco-card')).strokeWidth)"
        assert at.page.locator("[data-id=t3]").evaluate(wide) > at.page.locator(
            "[data-id=t5]"
        ).evaluate(wide)
        shapes = at.page.evaluate(
            "() => ['t0', 't2', 't3', 't4'].map(i => document"
            ".querySelector(`[data-id=${i}] .eco-shape`)"
            ".getAttribute('d').replace(/[-\\d. ]+/g, ''))"
        )
        assert len(set(shapes)) == 4


def test_without_the_image_the_region_is_drawn_in_its_frame(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        at.page.locator("[data-id=t2]").click()
        assert at.page.locator(".eco-picture image").count() == 0
        assert at.page.locator(".eco-picture .eco-region").count() == 1
        assert "--image" in at.page.locator(".eco-panel figcaption").inner_text()


def test_money_frontier_and_stages(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    story = story_of(runs["feed"])
    with tab(chromium) as at:
        load(at, tmp_path, story)
        assert at.page.locator(".eco-plot").count() == 3
        budget = at.page.locator(".eco-plot").first
        assert (budget.get_attribute("aria-label") or "").startswith("Budget left over")
        assert "chosen" in at.page.locator(".eco-frontier").inner_text()
        stages = at.page.locator(".eco-stages").inner_text()
        assert "scan" in stages
        assert re.search(r"16 calls, at most \d+ of them in line", stages)


# -- by hand and by key ----------------------------------------------------------------------------


def test_every_thought_is_reached_by_keyboard(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    focused = "() => document.activeElement.dataset.id || document.activeElement.tagName"
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        page = at.page
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == "t0":
                break
        assert page.evaluate(focused) == "t0"
        assert page.locator(".eco-nodes .eco-node[tabindex='0']").count() == 1
        reached, todo = {"t0"}, ["t0"]
        while todo:
            start = todo.pop()
            for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
                page.locator(f"[data-id={start}]").focus()
                page.keyboard.press(key)
                found = page.evaluate(focused)
                if found not in reached:
                    reached.add(found)
                    todo.append(found)
        assert reached == {"t0", "t1", "t2", "t3", "t4", "t5"}
        page.keyboard.press("End")
        assert page.evaluate(focused) == "t3"
        page.keyboard.press("Enter")
        assert page.locator(".eco-panel").is_visible()
        assert page.evaluate("() => document.activeElement.closest('.eco-panel') !== null")
        page.keyboard.press("Escape")
        assert not page.locator(".eco-panel").is_visible()
        assert page.evaluate(focused) == "t3"
        ring = page.locator("[data-id=t3] .eco-focus").evaluate("(r) => getComputedStyle(r).stroke")
        assert ring != "none"


def test_it_is_moved_and_enlarged_by_mouse_wheel_and_key(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    place = "() => document.querySelector('.eco-world').getAttribute('transform')"
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        settle(at)
        box = at.page.locator(".eco-stage").bounding_box()
        assert box is not None
        x, y = box["x"] + 30, box["y"] + box["height"] - 40
        seen = {at.page.evaluate(place)}
        at.page.mouse.move(x, y)
        at.page.mouse.down()
        at.page.mouse.move(x + 60, y - 30, steps=4)
        at.page.mouse.up()
        settle(at)
        seen.add(at.page.evaluate(place))
        assert not at.page.locator(".eco-panel").is_visible()
        at.page.keyboard.down("Control")
        at.page.mouse.wheel(0, -240)
        at.page.keyboard.up("Control")
        settle(at)
        seen.add(at.page.evaluate(place))
        at.page.locator("[data-id=t0]").focus()
        at.page.keyboard.press("Shift+ArrowDown")
        settle(at)
        seen.add(at.page.evaluate(place))
        assert len(seen) == 4
        at.page.get_by_role("button", name="Fit").click()
        settle(at)
        inside = at.page.evaluate(
            "() => { const s = document.querySelector('.eco-stage').getBoundingClientRect();"
            "return [...document.querySelectorAll('.eco-nodes .eco-card')].every(c => { const r ="
            "c.getBoundingClientRect(); return r.left >= s.left && r.right <= s.right && r.top >="
            "s.top && r.bottom <= s.bottom; }); }"
        )
        assert inside


def test_the_wheel_alone_scrolls_the_page(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium, height=600) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        at.page.locator(".eco-stage").scroll_into_view_if_needed()
        before = at.page.evaluate("scrollY")
        box = at.page.locator(".eco-stage").bounding_box()
        assert box is not None
        at.page.mouse.move(box["x"] + 40, box["y"] + 40)
        at.page.mouse.wheel(0, 200)
        at.page.wait_for_function("(y) => scrollY > y", arg=before)


# -- the slider ------------------------------------------------------------------------------------


SNAPSHOT = """() => ({
  nodes: [...document.querySelectorAll('.eco-nodes .eco-node:not(.eco-gone)')].map(g =>
    [g.dataset.id, g.getAttribute('class'), g.textContent, g.getAttribute('aria-label')]),
  edges: [...document.querySelectorAll('.eco-edges path')].map(e => e.getAttribute('class')),
  said: document.querySelector('.eco-said').textContent,
  budget: document.querySelector('.eco-chart strong').textContent,
  frontier: document.querySelector('.eco-frontier').textContent,
})"""


def test_the_slider_replays_event_by_event_both_ways(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    story = story_of(runs["feed"])
    frames = story["frames"]
    with tab(chromium) as at:
        load(at, tmp_path, story)
        forth = []
        slide(at, 0)
        assert at.page.evaluate(SHOWN) == []
        for k in range(len(frames) + 1):
            slide(at, k)
            forth.append(at.page.evaluate(SNAPSHOT))
        for k, frame in enumerate(frames, 1):
            assert forth[k]["said"] == frame["text"]
        counts = [len(one["nodes"]) for one in forth]
        assert counts == sorted(counts)
        assert counts[-1] == 6
        for k in reversed(range(len(frames) + 1)):
            slide(at, k)
            assert at.page.evaluate(SNAPSHOT) == forth[k]
        for k in (7, 31, 2, len(frames), 0, 20):
            slide(at, k)
            assert at.page.evaluate(SNAPSHOT) == forth[k]


def test_the_slider_goes_by_key_and_says_where_it_is(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    story = story_of(runs["feed"])
    with tab(chromium) as at:
        load(at, tmp_path, story)
        slider = at.page.locator(".eco-slider")
        slider.focus()
        at.page.keyboard.press("Home")
        at.page.keyboard.press("ArrowRight")
        at.page.keyboard.press("ArrowRight")
        settle(at)
        said = slider.get_attribute("aria-valuetext") or ""
        assert said.startswith(f"Event 2 of {len(story['frames'])}: ")


def test_play_runs_to_the_end_and_pauses(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        at.page.locator(".eco-play").click()
        at.page.wait_for_function("() => ecoViews[0].cursor >= 2 && ecoViews[0].cursor < 30")
        at.page.get_by_role("button", name="Pause").click()
        at.page.get_by_role("button", name="One event on").click()
        held = at.page.evaluate("ecoViews[0].cursor")
        settle(at)
        assert at.page.evaluate("ecoViews[0].cursor") == held


# -- a run that grows ------------------------------------------------------------------------------


def test_a_run_grows_and_follows_until_the_user_looks_back(
    chromium: Browser, tmp_path: Path
) -> None:
    story = Story()
    lines = list(grown(60))
    for event in lines[:40]:
        story.see(event)
    told = len(story.frames)
    grow = "([frames, layout, run]) => ecoViews[0].append(frames, layout, run)"
    with tab(chromium) as at:
        load(at, tmp_path, story.to_json())
        at.page.evaluate("ecoViews[0].live(true)")
        assert at.page.locator(".eco-status").inner_text() == "Searching"
        few = len(at.page.evaluate(SHOWN))
        for event in lines[40:60]:
            story.see(event)
        at.page.evaluate(grow, [story.frames[told:], story.layout(), story.run])
        settle(at)
        more = len(at.page.evaluate(SHOWN))
        assert more == len(story.nodes) > few
        slide(at, 20)
        told = len(story.frames)
        for event in lines[60:]:
            story.see(event)
        at.page.evaluate(grow, [story.frames[told:], story.layout(), story.run])
        settle(at)
        assert at.page.evaluate("ecoViews[0].cursor") == 20
        assert at.page.locator(".eco-status").inner_text() == "Answered"
        slide(at, len(story.frames))
        assert len(at.page.evaluate(SHOWN)) == 60
        at.page.evaluate("ecoViews[0].reset()")
        settle(at)
        assert at.page.evaluate(SHOWN) == []


# -- hostile text ----------------------------------------------------------------------------------


def hostile_story() -> dict[str, Any]:
    story = Story.of(grown(12, texts=[HOSTILE], question=HOSTILE, answer=HOSTILE))
    body: dict[str, Any] = json.loads(json.dumps(story.to_json()))
    for name in ("model", "evaluator", "method", "preset", "instructions", "version"):
        body["run"][name] = HOSTILE
    body["run"]["context"] = [HOSTILE]
    body["run"]["images"][0]["notes"] = [HOSTILE]
    for frame in body["frames"]:
        frame["text"] = HOSTILE
        for node in frame.get("nodes", {}).values():
            node |= {"scorer": HOSTILE, "why": [HOSTILE]}
            for option in node.get("options", []):
                option |= {"text": HOSTILE, "note": HOSTILE, "state": HOSTILE}
    body["frames"][-1]["result"]["hint"] = HOSTILE
    return body


def test_text_that_is_markup_stays_text(chromium: Browser, tmp_path: Path) -> None:
    with tab(chromium) as at:
        load(at, tmp_path, hostile_story())
        for summary in at.page.locator("summary").all():
            summary.click()
        at.page.locator("[data-id=t2]").click()
        for k in range(0, 30, 3):
            slide(at, k)
        slide(at, 10_000)
        assert at.page.evaluate("window.pwned") is None
        assert at.page.locator(".eco script, .eco img[src='x']").count() == 0
        assert at.page.locator(".eco-answer").text_content() == HOSTILE
        assert at.page.locator(".eco-question").text_content() == HOSTILE
        assert HOSTILE in (at.page.locator(".eco-panel").text_content() or "")
        assert at.page.title().endswith("· EcoAlign")
        assert at.overflow() == 0


def test_marks_that_reorder_text_are_shown_as_what_they_are(
    chromium: Browser, tmp_path: Path
) -> None:
    text = "safe\u202egnihton\u2066 \x1b[2J \ud800 end"
    story = Story.of(grown(4, texts=[text], question=text, answer=text)).to_json()
    with tab(chromium) as at:
        load(at, tmp_path, story)
        shown = at.page.locator(".eco-answer").text_content() or ""
        assert shown == "safe\ufffdgnihton\ufffd \ufffd[2J \ufffd end"
        at.page.locator("[data-id=t1]").click()
        inside = at.page.locator("body").evaluate("(b) => b.innerText")
        assert not set("\u202e\u2066\x1b") & set(inside)


def test_a_script_that_got_in_all_the_same_is_not_run(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    html = page([story_of(runs["feed"])])
    bad = (
        "<script>window.pwned=1</script><img src='data:,' onerror='window.pwned=1'>"
        "<style>body{display:none}</style>"
        "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>"
        "<img src='http://192.0.2.1/leak.png'><link rel=stylesheet href='http://192.0.2.1/x.css'>"
    )
    file = tmp_path / "injected.html"
    file.write_text(html.replace("</main>", bad + "</main>"), encoding="utf-8")
    with tab(chromium, strict=False) as at:
        at.page.goto(file.as_uri())
        at.page.wait_for_selector(".eco-result")
        assert at.page.evaluate("window.pwned") is None
        assert at.page.locator("body").evaluate("(b) => getComputedStyle(b).display") == "block"
        assert at.refused == []  # the policy stopped it before it was asked for
        assert any("Content Security Policy" in error for error in at.errors)
        # What our own script could be talked into is forbidden, too.
        told = at.page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return 'set'; }"
            "catch (error) { return error.name; } }"
        )
        assert told == "TypeError"


def test_the_page_speaks_to_nobody(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    with tab(chromium, strict=False) as at:
        load(at, tmp_path, story_of(runs["feed"]), images=(THING,))
        said = at.page.evaluate(
            "() => fetch('http://127.0.0.1:9/').then(() => 'reached', error => error.name)"
        )
        assert said == "TypeError"
        assert any("Content Security Policy" in error for error in at.errors)


# -- widths and themes -----------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_it_fits_every_window(
    chromium: Browser,
    runs: dict[str, Path],
    tmp_path: Path,
    width: int,
    theme: Literal["light", "dark"],
) -> None:
    with tab(chromium, width=width, theme=theme) as at:
        load(at, tmp_path, story_of(runs["feed"]), images=(THING,))
        settle(at)
        assert at.overflow() == 0
        at.shoot(f"view-harmless-{width}-{theme}")
        at.page.locator("[data-id=t2]").click()
        settle(at)
        assert at.overflow() == 0
        assert at.page.locator(".eco-panel").is_visible()
        at.shoot(f"view-thought-{width}-{theme}")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_two_runs_stand_side_by_side_where_there_is_room(
    chromium: Browser,
    runs: dict[str, Path],
    tmp_path: Path,
    width: int,
    theme: Literal["light", "dark"],
) -> None:
    with tab(chromium, width=width, theme=theme) as at:
        load(at, tmp_path, story_of(runs["base"]), story_of(runs["refused"]), images=(THING,))
        settle(at)
        boxes = [one.bounding_box() for one in at.page.locator(".eco-result").all()]
        assert len(boxes) == 2
        assert boxes[0] is not None
        assert boxes[1] is not None
        beside = boxes[1]["x"] > boxes[0]["x"]
        assert beside == (width == 1280)
        methods = at.page.locator(".eco-method").all_inner_texts()
        assert methods == ["Plain model", "EcoAlign"]
        assert at.page.locator(".eco-status").all_inner_texts() == [
            "Answered, unchecked",
            "Refused",
        ]
        assert at.page.locator(".eco-graph").first.is_hidden()  # a plain answer has no search
        assert "1 call" in at.page.locator(".eco-stages").first.inner_text()
        assert at.overflow() == 0
        at.shoot(f"view-forbidden-{width}-{theme}")


def test_the_theme_is_the_systems_until_it_is_chosen(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    with tab(chromium, theme="dark") as at:
        load(at, tmp_path, story_of(runs["feed"]))
        dark = at.page.evaluate(ground)
        button = at.page.get_by_role("button", name="Theme")
        button.click()
        assert button.inner_text() == "Theme: light"
        assert at.page.evaluate(ground) != dark
        at.page.reload()
        at.page.wait_for_selector(".eco-result")
        assert at.page.evaluate(ground) != dark
        button.click()
        assert at.page.evaluate(ground) == dark


CONTRAST = """() => {
  const lum = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c =
    getComputedStyle(e).backgroundColor; if (!/, 0\\)|transparent/.test(c)) return c; }
    return 'rgb(255,255,255)'; };
  const out = [];
  for (const e of document.querySelectorAll('.eco *, .eco-top *, .eco-foot')) {
    if (e.namespaceURI.endsWith('svg') || !e.offsetParent || e.disabled) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(getComputedStyle(e).color), lum(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) out.push(`${e.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(out)];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path, theme: Literal["light", "dark"]
) -> None:
    with tab(chromium, theme=theme) as at:
        load(at, tmp_path, story_of(runs["base"]), story_of(runs["refused"]))
        at.page.locator("[data-id=t1]").click()
        assert at.page.evaluate(CONTRAST) == []


def test_a_run_that_was_cut_off_says_so(chromium: Browser, tmp_path: Path) -> None:
    cut = list(grown(8))[:20]
    with tab(chromium) as at:
        load(at, tmp_path, Story.of(cut).to_json())
        assert at.page.locator(".eco-status").inner_text() == "Stopped early"
        assert "ends before the run did" in at.page.locator(".eco-how").inner_text()


def test_a_run_that_failed_says_why(chromium: Browser, tmp_path: Path) -> None:
    failed = [*list(grown(8))[:20], RunFailed("ModelError", "the server said <b>no</b>", at=9.0)]
    with tab(chromium) as at:
        load(at, tmp_path, Story.of(failed).to_json())
        assert at.page.locator(".eco-status").inner_text() == "Failed"
        assert at.page.locator(".eco-answer").text_content() == (
            "ModelError: the server said <b>no</b>"
        )
        assert len(at.page.evaluate(SHOWN)) > 2


def test_fingers_move_and_enlarge_it(
    chromium: Browser, runs: dict[str, Path], tmp_path: Path
) -> None:
    place = "() => document.querySelector('.eco-world').getAttribute('transform')"
    with tab(chromium, width=360, height=800, has_touch=True, is_mobile=True) as at:
        load(at, tmp_path, story_of(runs["feed"]))
        settle(at)
        stage = at.page.locator(".eco-stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert box is not None
        client = at.page.context.new_cdp_session(at.page)
        x, y = box["x"] + 60, box["y"] + 120

        def touch(kind: str, *points: tuple[float, float]) -> None:
            touches = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(points)]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        before = at.page.evaluate(place)
        touch("touchStart", (x, y))
        touch("touchMove", (x + 20, y + 10))
        touch("touchMove", (x + 60, y + 30))
        touch("touchEnd")
        settle(at)
        moved = at.page.evaluate(place)
        assert moved != before
        touch("touchStart", (x, y), (x + 40, y))
        touch("touchMove", (x - 20, y), (x + 80, y))
        touch("touchMove", (x - 40, y), (x + 120, y))
        touch("touchEnd")
        settle(at)
        scale = re.compile(r"scale\(([\d.]+)\)")
        grown_to, was = (float(scale.findall(t)[0]) for t in (at.page.evaluate(place), moved))
        assert grown_to > was
        enlarged = at.page.evaluate(place)
        for _ in range(5):  # Chromium may take a tap just after two fingers for a part of that.
            at.page.get_by_role("button", name="Fit").tap()
            settle(at)
            if at.page.evaluate(place) != enlarged:
                break
        at.page.locator("[data-id=t0]").tap()
        assert at.page.locator(".eco-panel").is_visible()


# -- speed -----------------------------------------------------------------------------------------

FRAMES = """async (kind) => {
  const svg = document.querySelector('.eco-svg'), slider = document.querySelector('.eco-slider');
  const box = document.querySelector('.eco-stage').getBoundingClientRect();
  const point = (type, i) => svg.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerId: 1,
    button: 0, clientX: box.left + 300 + 200 * Math.sin(i / 12),
    clientY: box.top + 200 + 300 * Math.sin(i / 17)}));
  svg.setPointerCapture = () => {};
  svg.hasPointerCapture = () => true;
  if (kind === 'pan') point('pointerdown', 0);
  const gaps = [];
  let last = null;
  for (let i = 0; i < 120; i += 1) {
    const now = await new Promise(requestAnimationFrame);
    if (last !== null) gaps.push(now - last);
    last = now;
    if (kind === 'pan') point('pointermove', i);
    else {
      slider.value = String(Math.round(Number(slider.max) * i / 119));
      slider.dispatchEvent(new Event('input'));
    }
  }
  if (kind === 'pan') point('pointerup', 0);
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length * 0.95)];
}"""


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("kind", ["pan", "slide"])
def test_five_hundred_thoughts_stay_smooth(
    chromium: Browser, tmp_path: Path, kind: str, fitted: bool
) -> None:
    story = Story.of(grown(500)).to_json()
    with tab(chromium) as at:
        load(at, tmp_path, story)
        assert len(at.page.evaluate(SHOWN)) == 500
        if fitted:
            at.page.get_by_role("button", name="Fit").click()
        settle(at)
        # What else this machine does is not measured: the best of some tries counts.
        figures = []
        for _ in range(10):
            figures.append(at.page.evaluate(FRAMES, kind))
            if figures[-1] <= 60:
                break
        print(f"95th percentile of a frame, {kind}, fitted {fitted}: {min(figures):.1f} ms")
        assert min(figures) <= 60


def test_events_of_a_run_are_all_it_needs(tmp_path: Path) -> None:
    lines = [to_json(event) for event in grown(5)]
    (tmp_path / "run.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    events = read_trace(tmp_path / "run.jsonl")
    assert isinstance(events[0], RunStarted)
    assert sum(isinstance(event, ThoughtAdded) for event in events) == 4
    text = page([Story.of(events).to_json()])
    assert len(text) < 200_000
    assert "http-equiv" in text
